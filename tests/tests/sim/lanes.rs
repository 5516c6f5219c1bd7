//! Calls of proxies: the network carries the number of a call, and what was asked waits on a desk.
//!
//! So the fate of the bytes is simulated, and no codec is needed. What was asked and not fetched yet is taken off the
//! desk when the asker gives up, except sends: those may arrive late, as they may in a real network.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_engine::Engine;
use apogee_model::ReplicaId;
use apogee_model::store::StoreError;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::kernel::{Port, connect};

type Job = Box<dyn FnOnce(Engine) -> BoxFuture<'static, ()> + Send>;

/// A question to an engine.
pub(crate) type Question<T> = Box<dyn FnOnce(Engine) -> BoxFuture<'static, Result<T, StoreError>> + Send>;

/// See the module. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Mutex<Papers>>);

#[derive(Default)]
struct Papers {
    next: u64,
    jobs: BTreeMap<u64, Job>,
}

/// What becomes of a question whose asker has given up.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Late {
    IsDropped,
    /// It is carried out when it arrives, however late.
    Counts,
}

/// What came of one try.
pub(crate) enum Reply<T> {
    Answered(Result<T, StoreError>),
    /// Nobody was there to ask.
    NotSent,
    /// No answer came: it may have been carried out.
    Lost,
}

/// A question on the desk.
struct Posted<'a> {
    desk: &'a Desk,
    number: u64,
    late: Late,
}

impl Desk {
    fn post(&self, job: Job, late: Late) -> Posted<'_> {
        let mut papers = self.papers();
        papers.next += 1;
        let number = papers.next;
        papers.jobs.insert(number, job);
        Posted { desk: self, number, late }
    }

    fn take(&self, number: u64) -> Option<Job> {
        self.papers().jobs.remove(&number)
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        if self.late == Late::IsDropped {
            self.desk.take(self.number);
        }
    }
}

/// Asks one replica once. Dropping it is giving up: the connection ends.
pub(crate) async fn ask<T: Send + 'static>(desk: &Desk, to: ReplicaId, late: Late, question: Question<T>) -> Reply<T> {
    let Ok(mut stream) = connect(to, Port::Lanes).await else { return Reply::NotSent };
    let answer = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&answer);
    let job = move |engine| -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let answer = question(engine).await;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        })
    };
    let posted = desk.post(Box::new(job), late);
    let came_back = async {
        stream.write_u64(posted.number).await?;
        stream.read_u64().await
    };
    if came_back.await.ok() != Some(posted.number) {
        return Reply::Lost;
    }
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer.map_or(Reply::Lost, Reply::Answered)
}

/// Answers the call that comes over one connection. When the asker hangs up first, the call is dropped.
pub(crate) async fn answer(engine: Engine, desk: Desk, stream: impl AsyncRead + AsyncWrite + Send) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let number = reader.read_u64().await?;
    let Some(job) = desk.take(number) else { return Ok(()) };
    tokio::select! {
        biased;
        _hung_up = reader.read_u8() => Ok(()),
        () = job(engine) => writer.write_u64(number).await,
    }
}
