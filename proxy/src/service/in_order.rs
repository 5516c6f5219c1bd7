//! Sends of message groups. One whose outcome nobody knows holds back those behind it, because it may still be stored:
//! its caller went away, or was told that it is unknown. It is sent again until the store says what became of it.
//!
//! Sends that are under way at the same time have no order, here as upstream: a producer that wants one waits for each
//! answer before it sends the next message of the same message group.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use apogee_host::{OnError, Tasks};
use apogee_model::TopicId;
use apogee_model::store::{Appended, StoreError};
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::ServiceError;

/// The store knows a send again for 60 s of log time. A send that is not settled by then is given up.
const SETTLE_MAX: Duration = Duration::from_secs(45);
/// Before a send is sent again whose outcome is unknown.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of all sends whose outcome is unknown; while there are more, no message group begins another one.
const UNKNOWN_BYTES_MAX: usize = 64 << 20;
/// The same for message groups.
const UNKNOWN_LINES_MAX: usize = 10_000;

type Answer = Result<Vec<Appended>, StoreError>;
type Tries = Box<dyn Fn() -> BoxFuture<'static, Answer> + Send + Sync>;

/// A message group of a topic.
pub(crate) type Line = (TopicId, Box<str>);

/// See the module.
#[derive(Clone)]
pub(crate) struct InOrder {
    unknown: Arc<Mutex<Unknown>>,
    tasks: Tasks,
}

/// Sends whose outcome is unknown.
#[derive(Default)]
struct Unknown {
    lines: BTreeMap<Line, Held>,
    bytes: usize,
}

impl Unknown {
    fn check(&self) -> Result<(), ServiceError> {
        let too_many = |what, limit| Err(ServiceError::TooMany { what, limit });
        if self.bytes > UNKNOWN_BYTES_MAX {
            return too_many("bytes of sends whose outcome is unknown", UNKNOWN_BYTES_MAX);
        }
        if self.lines.len() > UNKNOWN_LINES_MAX {
            return too_many("message groups with sends whose outcome is unknown", UNKNOWN_LINES_MAX);
        }
        Ok(())
    }
}

/// A message group that waits.
#[derive(Default)]
struct Held {
    sends: usize,
    settled: Arc<Notify>,
}

impl InOrder {
    pub(crate) fn new(tasks: Tasks) -> Self {
        Self { unknown: Arc::default(), tasks }
    }

    /// Appends messages of one message group, which take so many bytes, behind every earlier send of it whose outcome is
    /// unknown. Whatever `tries` does again has the same result as the first time.
    ///
    /// # Errors
    /// Those of `tries`; [`StoreError::NotLeader`] when the message group still waited at `until`, and nothing was done;
    /// [`ServiceError::TooMany`] when too much is unknown.
    pub(crate) async fn append(
        &self,
        line: Line,
        bytes: usize,
        tries: impl Fn() -> BoxFuture<'static, Answer> + Send + Sync + 'static,
        until: Instant,
    ) -> Result<Vec<Appended>, ServiceError> {
        self.turn(&line, until).await?;
        let send = Sending { line, bytes, tries: Box::new(tries), begun: Instant::now(), in_order: self.clone() };
        Ok(Trying { answer: Some((send.tries)()), send: Some(send) }.await?)
    }

    /// Waits until nothing is unknown of the message group. Cancel safe.
    async fn turn(&self, line: &Line, until: Instant) -> Result<(), ServiceError> {
        self.lock().check()?;
        loop {
            let Some(settled) = self.lock().lines.get(line).map(|held| Arc::clone(&held.settled)) else {
                return Ok(());
            };
            let woken = settled.notified();
            if !self.lock().lines.contains_key(line) {
                return Ok(());
            }
            timeout_at(until, woken).await.map_err(|_| StoreError::NotLeader { leader: None })?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Unknown> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the message group waits for this send.
    fn hold(&self, send: Sending, answer: Option<BoxFuture<'static, Answer>>) {
        if self.tasks.token().is_cancelled() || tokio::runtime::Handle::try_current().is_err() {
            return; // the process ends
        }
        let mut unknown = self.lock();
        unknown.bytes += send.bytes;
        unknown.lines.entry(send.line.clone()).or_default().sends += 1;
        drop(unknown);
        let (in_order, stop) = (self.clone(), self.tasks.token());
        self.tasks.spawn("sends-in-order", OnError::StopProcess, async move {
            tokio::select! {
                () = send.settle(answer) => {}
                () = stop.cancelled() => {}
            }
            in_order.settled(&send);
            Ok::<(), Infallible>(())
        });
    }

    fn settled(&self, send: &Sending) {
        let mut unknown = self.lock();
        unknown.bytes -= send.bytes;
        let Some(held) = unknown.lines.get_mut(&send.line) else { return };
        held.sends -= 1;
        if held.sends == 0
            && let Some(held) = unknown.lines.remove(&send.line)
        {
            held.settled.notify_waiters();
        }
    }
}

/// One request of a producer.
struct Sending {
    line: Line,
    bytes: usize,
    tries: Tries,
    begun: Instant,
    in_order: InOrder,
}

impl Sending {
    /// Sends again until the store says what became of it. Whatever a later try is refused for says nothing about the
    /// first.
    async fn settle(&self, first: Option<BoxFuture<'static, Answer>>) {
        let until = self.begun + SETTLE_MAX;
        if let Some(first) = first
            && let Ok(answer) = timeout_at(until, first).await
            && is_known(&answer)
        {
            return;
        }
        while Instant::now() < until {
            tokio::time::sleep(PAUSE).await;
            if let Ok(Ok(_)) = timeout_at(until, (self.tries)()).await {
                return;
            }
        }
        let topic = self.line.0;
        tracing::warn!(
            event = "send_never_settled",
            %topic,
            "nobody knows whether messages of a message group were stored; those behind them go on"
        );
    }
}

fn is_known(answer: &Answer) -> bool {
    match answer {
        Ok(_)
        | Err(
            StoreError::NotLeader { .. }
            | StoreError::Busy { .. }
            | StoreError::TooLarge { .. }
            | StoreError::TooManyLiteTopics { .. }
            | StoreError::Sealed { .. }
            | StoreError::NoSuchQueue { .. },
        ) => true,
        Err(
            StoreError::Timeout { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Stopped
            | StoreError::LeaderLost
            | StoreError::CannotLead { .. },
        ) => false,
    }
}

/// The first try of a send, while its caller waits.
struct Trying {
    answer: Option<BoxFuture<'static, Answer>>,
    /// Taken when the outcome is known, or somebody else goes on with it.
    send: Option<Sending>,
}

impl Future for Trying {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let Some(trying) = &mut self.answer else { return Poll::Pending };
        let answer = ready!(trying.as_mut().poll(context));
        self.answer = None;
        if let Some(send) = self.send.take().filter(|_| !is_known(&answer)) {
            send.in_order.clone().hold(send, None);
        }
        Poll::Ready(answer)
    }
}

impl Drop for Trying {
    /// The caller went away.
    fn drop(&mut self) {
        if let Some(send) = self.send.take() {
            send.in_order.clone().hold(send, self.answer.take());
        }
    }
}

#[cfg(test)]
mod tests;
