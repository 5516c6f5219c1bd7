//! Frames between replicas, over any connection: a length in four bytes, then the frame.
//!
//! A connection carries one call or one pipeline; its first byte says which.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use apogee_engine::{Answers, Ear, FRAME_MAX, Peers, Unreachable};
use apogee_model::ReplicaId;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use crate::kernel::Net;

/// A peer that does not answer by then is out of reach. What a partition swallowed never comes, because nobody repeats
/// it in this network.
const ANSWER_MAX: Duration = Duration::from_millis(1500);
const CALL: u8 = 1;
const PIPELINE: u8 = 2;
/// In place of a length: the last frame of a pipeline was sent.
const END: u32 = u32::MAX;

/// The other replicas, as the engine asks for them.
pub(crate) struct Carrier(pub(crate) Net);

impl Peers for Carrier {
    fn call(&self, to: ReplicaId, frame: Bytes) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        let stream = self.0.connect(to);
        async move {
            let answer = timeout(ANSWER_MAX, ask(stream, frame)).await.unwrap_or_else(|_| Err(silent()));
            answer.map_err(|error| Unreachable { to, why: error.to_string() })
        }
        .boxed()
    }

    fn pipeline(&self, to: ReplicaId, frames: BoxStream<'static, Bytes>) -> Answers {
        let answers = pipeline(self.0.connect(to), frames);
        answers.map(move |answer| answer.map_err(|error| Unreachable { to, why: error.to_string() })).boxed()
    }
}

/// Answers what comes over one connection, until it ends.
pub(crate) async fn answer(ear: Ear, mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    match stream.read_u8().await {
        Ok(CALL) => {
            if let Ok(Some(frame)) = read(&mut stream).await
                && let Ok(answer) = ear.answer(frame).await
            {
                let _asker_is_gone = write(&mut stream, &answer).await;
            }
        }
        Ok(PIPELINE) => {
            let (reader, mut writer) = tokio::io::split(stream);
            let frames = stream::unfold(reader, |mut reader| async move {
                let frame = read(&mut reader).await.ok()??;
                Some((frame, reader))
            });
            let mut answers = ear.answer_pipeline(frames.boxed());
            while let Some(answer) = answers.next().await {
                if write(&mut writer, &answer).await.is_err() {
                    return;
                }
            }
        }
        _ => {}
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, frame: Bytes) -> io::Result<Bytes> {
    stream.write_u8(CALL).await?;
    write(&mut stream, &frame).await?;
    read(&mut stream).await?.ok_or_else(silent)
}

/// The frames of a pipeline that wait for an answer. Clones share it.
#[derive(Clone, Default)]
struct Waiting(Arc<(Mutex<Frames>, Notify)>);

#[derive(Default)]
struct Frames {
    /// When they were sent.
    sent: VecDeque<Instant>,
    /// There will be no more.
    all_sent: bool,
}

impl Waiting {
    fn sent(&self) {
        self.frames().sent.push_back(Instant::now());
        self.0.1.notify_one();
    }

    fn all_sent(&self) {
        self.frames().all_sent = true;
        self.0.1.notify_one();
    }

    fn answered(&self) {
        self.frames().sent.pop_front();
    }

    /// Returns when all were answered and no more come, or with an error when the oldest has waited for too long.
    async fn end(&self) -> io::Result<()> {
        loop {
            let (oldest, all_sent) = {
                let frames = self.frames();
                (frames.sent.front().copied(), frames.all_sent)
            };
            match oldest {
                None if all_sent => return Ok(()),
                None => self.0.1.notified().await,
                Some(sent) if sent.elapsed() >= ANSWER_MAX => return Err(silent()),
                Some(sent) => drop(timeout_at(sent + ANSWER_MAX, self.0.1.notified()).await),
            }
        }
    }

    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends frames and yields answers, each side at its own pace.
fn pipeline(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    mut frames: BoxStream<'static, Bytes>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (reader, mut writer) = tokio::io::split(stream);
    let waiting = Waiting::default();
    let sent = waiting.clone();
    let sending = async move {
        writer.write_u8(PIPELINE).await?;
        while let Some(frame) = frames.next().await {
            sent.sent();
            write(&mut writer, &frame).await?;
        }
        sent.all_sent();
        writer.write_u32(END).await?;
        // Closing it now would cut off the answers.
        std::future::pending::<io::Result<()>>().await
    };
    let answers = stream::unfold(Some((reader, waiting)), |state| async move {
        let (mut reader, waiting) = state?;
        let answer = tokio::select! {
            biased;
            end = waiting.end() => Err(end.err()?),
            answer = read(&mut reader) => answer.and_then(|answer| answer.ok_or(io::ErrorKind::ConnectionReset.into())),
        };
        waiting.answered();
        let next = answer.is_ok().then_some((reader, waiting));
        Some((answer, next))
    });
    let (mut sending, mut answers) = (sending.boxed().fuse(), answers.boxed());
    let both = stream::poll_fn(move |context| match sending.poll_unpin(context) {
        Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
        Poll::Ready(Ok(())) | Poll::Pending => answers.poll_next_unpin(context),
    });
    // An error is the last thing it says.
    both.scan(false, |failed, answer| {
        let go_on = !std::mem::replace(failed, answer.is_err());
        std::future::ready(go_on.then_some(answer))
    })
    .boxed()
}

/// `None` at the end: the other side closed the connection between two frames, or said that there are no more.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let len = match stream.read_u32().await {
        Ok(END) => return Ok(None),
        Ok(len) => usize::try_from(len).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if len > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut frame = vec![0; len];
    stream.read_exact(&mut frame).await?;
    Ok(Some(frame.into()))
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &Bytes) -> io::Result<()> {
    let len = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= FRAME_MAX);
    stream.write_u32(len.ok_or(io::ErrorKind::InvalidInput)?).await?;
    stream.write_all(frame).await
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer")
}
