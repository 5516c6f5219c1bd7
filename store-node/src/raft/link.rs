//! The way to one other replica: two connections, one for calls and one for pipelines, so that a large block does not
//! hold up a vote. Both are made when first used, and again after they broke.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use apogee_engine::{Answers, Unreachable};
use apogee_model::ReplicaId;
use apogee_proto::reach::Patience;
use apogee_proto::store::v1::replication_client::ReplicationClient;
use apogee_proto::store::v1::{Frame, Wiring};
use apogee_proto::token::TokenShown;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::MESSAGE_MAX;

/// Longest wait for the answer to a call, and for the beginning of a pipeline.
const CALL_MAX: Duration = Duration::from_secs(5);
pub(super) const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(1), ping_every: Duration::from_secs(1), ping: Duration::from_secs(3) };
/// Bytes on their way before the other side read them.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// After a failure everybody waits for this long, twice as long after the next one.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// A connection that shows the cluster token, if there is one.
type Shown = InterceptedService<Channel, TokenShown>;

/// The way to one replica.
pub(super) struct Link {
    to: ReplicaId,
    wiring: Wiring,
    calls: ReplicationClient<Shown>,
    pipelines: ReplicationClient<Shown>,
    backoff: Mutex<Backoff>,
}

/// When the next try is due.
#[derive(Debug, Default)]
struct Backoff {
    pause: Duration,
    until: Option<Instant>,
}

impl Link {
    /// Connects to nobody yet.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(to: ReplicaId, wiring: Wiring, endpoint: Endpoint, token: &TokenShown) -> Self {
        let endpoint =
            endpoint.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let client = || {
            ReplicationClient::with_interceptor(endpoint.connect_lazy(), token.clone())
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX)
        };
        Self { to, wiring, calls: client(), pipelines: client(), backoff: Mutex::default() }
    }

    pub(super) async fn call(&self, payload: Bytes) -> Result<Bytes, Unreachable> {
        self.turn().await;
        let frame = Frame { wiring: Some(self.wiring), payload };
        let answer = self.unless_failed(timeout(CALL_MAX, self.calls.clone().call(frame)).await)?;
        self.reached();
        Ok(answer.into_inner().payload)
    }

    pub(super) fn pipeline(
        self: Arc<Self>,
        frames: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Answers, Unreachable>> {
        let frames = Outgoing { wiring: Some(self.wiring), frames };
        Box::pin(async move {
            self.turn().await;
            let mut client = self.pipelines.clone();
            let answers = self.unless_failed(timeout(CALL_MAX, client.pipeline(frames)).await)?;
            Ok(Incoming { link: self, answers: answers.into_inner(), heard: false }.boxed())
        })
    }

    /// Waits for the end of the pause after a failure: callers may try again at once and for ever.
    async fn turn(&self) {
        let until = self.backoff().until;
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    /// Remembers a failure.
    fn unless_failed<T>(&self, outcome: Result<Result<T, Status>, Elapsed>) -> Result<T, Unreachable> {
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(self.failed(&Status::unavailable(format!("no answer within {CALL_MAX:?}")))),
        }
    }

    fn failed(&self, failure: &Status) -> Unreachable {
        let (to, why) = (self.to, failure.message().to_owned());
        if matches!(failure.code(), Code::FailedPrecondition | Code::Unauthenticated) {
            tracing::error!(event = "wrong_wiring", replica = %to, %why, "another replica refuses to listen");
        }
        self.backoff().failed();
        Unreachable { to, why }
    }

    fn reached(&self) {
        *self.backoff() = Backoff::default();
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frames of a pipeline behind one that says whom they are for.
struct Outgoing {
    wiring: Option<Wiring>,
    frames: BoxStream<'static, Bytes>,
}

impl Stream for Outgoing {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        if let Some(wiring) = self.wiring.take() {
            return Poll::Ready(Some(Frame { wiring: Some(wiring), payload: Bytes::new() }));
        }
        let next = self.frames.poll_next_unpin(context);
        next.map(|payload| payload.map(|payload| Frame { wiring: None, payload }))
    }
}

/// The answers of a pipeline. One that ends before the first answer has failed, whatever it says.
struct Incoming {
    link: Arc<Link>,
    answers: Streaming<Frame>,
    heard: bool,
}

impl Stream for Incoming {
    type Item = Result<Bytes, Unreachable>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(self.answers.poll_next_unpin(context));
        Poll::Ready(match answer {
            Some(Ok(frame)) => {
                if !std::mem::replace(&mut self.heard, true) {
                    self.link.reached();
                }
                Some(Ok(frame.payload))
            }
            Some(Err(status)) => Some(Err(self.link.failed(&status))),
            None => {
                if !self.heard {
                    self.link.backoff().failed();
                }
                None
            }
        })
    }
}

impl Backoff {
    /// Calls that failed together count once.
    fn failed(&mut self) {
        let now = Instant::now();
        if self.until.is_none_or(|until| until <= now) {
            self.pause = (self.pause * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
            self.until = Some(now + self.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_half_a_second() {
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            backoff.failed();
            backoff.failed();
            pauses.push(backoff.pause.as_millis());
            tokio::time::advance(backoff.pause).await;
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 500, 500]);
    }
}
