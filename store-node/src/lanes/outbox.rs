//! Answers on their way out: they wait until the transport asks, and then all of them go in one frame.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use apogee_model::store::{CheckBack, DeliveryKey};
use apogee_proto::store::v1::lane_answer::Result as Answered;
use apogee_proto::store::v1::{self, Edge, LaneAnswer, LaneAnswers, LaneWelcome, Standing};
use futures::Stream;
use tokio::sync::Notify;
use tonic::Status;

/// Items of one frame.
const ITEMS_MAX: usize = 512;
/// Bytes of one frame, unless one answer is larger.
const BYTES_MAX: usize = 256 << 10;
/// Bytes that may wait; then the driver waits.
const ROOM: usize = 4 << 20;

/// An answer and about how large it is.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) answer: LaneAnswer,
    pub(super) bytes: usize,
}

/// Filled by the driver, emptied by the transport.
#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    /// Something was taken, or the transport is gone.
    taken: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    welcome: Option<LaneWelcome>,
    standing: Option<Standing>,
    edges: BTreeMap<u64, u64>,
    answers: VecDeque<Parcel>,
    checks: VecDeque<(v1::CheckBack, usize)>,
    bytes: usize,
    /// Why there will be no more; `Ok` for a regular end.
    end: Option<Result<(), Status>>,
    transport_gone: bool,
    waker: Option<Waker>,
}

impl Outbox {
    pub(super) fn new(welcome: LaneWelcome, standing: Standing) -> Self {
        let inner = Inner { welcome: Some(welcome), standing: Some(standing), ..Inner::default() };
        Self { inner: Mutex::new(inner), taken: Notify::new() }
    }

    /// Adds answers; the transport is woken once.
    pub(super) fn push(&self, answers: impl IntoIterator<Item = Parcel>) {
        self.change(|inner| {
            for parcel in answers {
                inner.bytes += parcel.bytes;
                inner.answers.push_back(parcel);
            }
        });
    }

    /// Adds to what is ready for a watch.
    pub(super) fn edge(&self, watch: u64, ready: u64) {
        self.change(|inner| {
            let edge = inner.edges.entry(watch).or_default();
            *edge = edge.saturating_add(ready);
        });
    }

    /// Adds something that a producer is to be asked.
    pub(super) fn check(&self, check: &CheckBack) {
        let (check, bytes) = (check.into(), check.message.len());
        self.change(|inner| {
            inner.bytes += bytes;
            inner.checks.push_back((check, bytes));
        });
    }

    /// Replaces what was to be told about the replica.
    pub(super) fn standing(&self, standing: Standing) {
        self.change(|inner| inner.standing = Some(standing));
    }

    /// Nothing more comes: the stream ends after what is there.
    pub(super) fn end(&self, outcome: Result<(), Status>) {
        self.change(|inner| {
            inner.end.get_or_insert(outcome);
        });
    }

    /// Whether more answers may be added.
    pub(super) fn has_room(&self) -> bool {
        self.inner().bytes < ROOM
    }

    pub(super) fn transport_gone(&self) -> bool {
        self.inner().transport_gone
    }

    /// Waits until the transport took something, or went away. Cancel safe.
    pub(super) async fn taken(&self) {
        self.taken.notified().await;
    }

    /// Waits until the transport took everything, or went away.
    pub(super) async fn emptied(&self) {
        while !self.inner().is_done() {
            self.taken().await;
        }
    }

    /// Takes back the deliveries that the transport did not take.
    pub(super) fn unsent(&self) -> Vec<DeliveryKey> {
        let mut inner = self.inner();
        inner.bytes = 0;
        let keys = inner.answers.drain(..).filter_map(|parcel| match parcel.answer.result {
            Some(Answered::Popped(part)) => Some(part.messages),
            _ => None,
        });
        keys.flatten().filter_map(|delivery| delivery.key?.try_into().ok()).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let waker = {
            let mut inner = self.inner();
            change(&mut inner);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_done(&self) -> bool {
        let told = self.edges.is_empty() && self.checks.is_empty() && self.standing.is_none();
        self.transport_gone || self.answers.is_empty() && told
    }

    /// Everything that waits, as far as it fits.
    fn frame(&mut self) -> Option<LaneAnswers> {
        let (welcome, standing) = (self.welcome.take(), self.standing.take());
        let mut bytes = 0;
        let mut answers = Vec::with_capacity(self.answers.len().min(ITEMS_MAX));
        while let Some(next) = self.answers.front()
            && answers.len() < ITEMS_MAX
            && (answers.is_empty() || bytes + next.bytes <= BYTES_MAX)
            && let Some(parcel) = self.answers.pop_front()
        {
            bytes += parcel.bytes;
            self.bytes -= parcel.bytes;
            answers.push(parcel.answer);
        }
        let mut edges = Vec::new();
        while answers.len() + edges.len() < ITEMS_MAX
            && let Some((watch, ready)) = self.edges.pop_first()
        {
            edges.push(Edge { watch, ready });
        }
        let mut checks = Vec::new();
        while let Some((_, next)) = self.checks.front()
            && answers.len() + edges.len() + checks.len() < ITEMS_MAX
            && (answers.is_empty() && checks.is_empty() || bytes + next <= BYTES_MAX)
            && let Some((check, len)) = self.checks.pop_front()
        {
            bytes += len;
            self.bytes -= len;
            checks.push(check);
        }
        let told = standing.is_some() || !edges.is_empty() || !checks.is_empty();
        let empty = welcome.is_none() && answers.is_empty() && !told;
        (!empty).then_some(LaneAnswers { welcome, standing, answers, edges, checks })
    }
}

/// The outbox as the transport sees it.
#[derive(Debug)]
pub struct Outgoing {
    outbox: Arc<Outbox>,
}

impl Outgoing {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox }
    }
}

impl Stream for Outgoing {
    type Item = Result<LaneAnswers, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut inner = self.outbox.inner();
        if let Some(frame) = inner.frame() {
            drop(inner);
            self.outbox.taken.notify_one();
            return Poll::Ready(Some(Ok(frame)));
        }
        match inner.end.take() {
            None => {
                inner.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(outcome) => {
                inner.end = Some(Ok(()));
                Poll::Ready(outcome.err().map(Err))
            }
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.outbox.inner().transport_gone = true;
        self.outbox.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use apogee_proto::store::v1::Done;
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    fn done(id: u64, bytes: usize) -> Parcel {
        Parcel { answer: LaneAnswer { id, result: Some(Answered::Done(Done {})) }, bytes }
    }

    fn next(outgoing: &mut Outgoing) -> Option<LaneAnswers> {
        outgoing.next().now_or_never().flatten().map(|frame| frame.expect("no failure was told"))
    }

    #[test]
    fn whatever_waits_goes_in_one_frame_within_bounds() {
        let outbox = Arc::new(Outbox::new(LaneWelcome::default(), Standing::default()));
        let mut outgoing = Outgoing::new(Arc::clone(&outbox));
        outbox.push((0..600).map(|id| done(id, 10)));
        let first = next(&mut outgoing).unwrap();
        assert!(first.welcome.is_some() && first.standing.is_some());
        assert_eq!(first.answers.len(), ITEMS_MAX);
        outbox.edge(7, 1);
        outbox.edge(7, 2);
        let second = next(&mut outgoing).unwrap();
        assert_eq!((second.answers.len(), second.edges), (88, vec![Edge { watch: 7, ready: 3 }]));
        assert_eq!(next(&mut outgoing), None);

        outbox.push([done(1, 1), done(2, BYTES_MAX), done(3, BYTES_MAX * 20), done(4, 1)]);
        assert!(!outbox.has_room());
        let ids = |frame: LaneAnswers| frame.answers.into_iter().map(|answer| answer.id).collect::<Vec<_>>();
        let frames: Vec<_> = std::iter::from_fn(|| next(&mut outgoing).map(ids)).collect();
        assert_eq!(frames, [vec![1], vec![2], vec![3], vec![4]]);
        assert!(outbox.has_room());
    }

    #[test]
    fn the_end_comes_after_the_last_answer() {
        let outbox = Arc::new(Outbox::new(LaneWelcome::default(), Standing::default()));
        let mut outgoing = Outgoing::new(Arc::clone(&outbox));
        outbox.end(Err(Status::invalid_argument("rubbish")));
        assert!(next(&mut outgoing).is_some());
        let told = outgoing.next().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(told.message(), "rubbish");
        assert!(outgoing.next().now_or_never().unwrap().is_none());
    }
}
