//! One lane to one store-node, as the proxy sees it: requests go out in batches, answers find who waits for them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use apogee_model::store::{Delivery, Popped, StoreError};
use apogee_proto::Malformed;
use apogee_proto::store::v1::lane_answer::Result as Answered;
use apogee_proto::store::v1::lane_request::Ask;
use apogee_proto::store::v1::{LaneAnswer, LaneHello, LaneRequest, LaneRequests, PoppedPart};
use futures::Stream;
use prost::Message as _;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::notes::{Note, Notes};

/// Items and bytes of one frame, unless one item is larger.
const FRAME_ITEMS: usize = 512;
const FRAME_BYTES: usize = 256 << 10;
/// Requests that wait for the transport, and those that wait for an answer.
const WAITING_MAX: usize = 4096;
const ASKED_MAX: usize = 32_768;
/// Bytes of messages that wait for their answer.
const BYTES_MAX: usize = 32 << 20;

/// The lanes to one store-node, while they last.
pub(super) struct Lanes {
    pub(super) append: Lane,
    pub(super) pop: Lane,
    pub(super) control: Lane,
}

/// One lane.
pub(super) struct Lane {
    requests: mpsc::Sender<LaneRequest>,
    bytes: Arc<Semaphore>,
    asked: Mutex<Asked>,
    notes: Notes,
}

struct Asked {
    open: bool,
    next_id: u64,
    waiting: BTreeMap<u64, Waiting>,
}

/// Somebody who waits for an answer.
struct Waiting {
    reply: oneshot::Sender<Result<Reply, Malformed>>,
    /// What came of a batch.
    batch: Vec<Delivery>,
    _room: Option<OwnedSemaphorePermit>,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Reply {
    Popped(Popped),
    Other(Answered),
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The lane ended first; whether the request was carried out is unknown.
    Broken,
    Failed(StoreError),
}

impl Lanes {
    /// All pending requests end with [`Fault::Broken`], and so do later ones.
    pub(super) fn close(&self) {
        [&self.append, &self.pop, &self.control].into_iter().for_each(Lane::close);
    }

    #[cfg(test)]
    pub(super) fn closed() -> Self {
        let lane = || {
            let (lane, _) = Lane::new(LaneHello::default(), Notes::nowhere());
            lane.close();
            lane
        };
        Self { append: lane(), pop: lane(), control: lane() }
    }
}

impl Lane {
    /// A lane, and what it has to say.
    pub(super) fn new(hello: LaneHello, notes: Notes) -> (Self, Frames) {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let asked = Mutex::new(Asked { open: true, next_id: 1, waiting: BTreeMap::new() });
        let lane = Self { requests, bytes: Arc::new(Semaphore::new(BYTES_MAX)), asked, notes };
        (lane, Frames { hello: Some(hello), requests: waiting, held: None })
    }

    /// Asks, and waits for the answer. `weight` are the bytes of its messages. A batch that comes when the future was
    /// dropped goes back to the store-node.
    ///
    /// # Errors
    /// [`StoreError::Busy`] at once when too much waits already.
    pub(super) async fn ask(&self, ask: Ask, weight: usize, deadline: Instant) -> Result<Reply, Fault> {
        let busy = || Fault::Failed(StoreError::Busy { what: "the lane to the store-node" });
        let room = match u32::try_from(weight).map_err(|_| busy())? {
            0 => None,
            weight => Some(Arc::clone(&self.bytes).try_acquire_many_owned(weight).map_err(|_| busy())?),
        };
        let place = self.requests.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => busy(),
            TrySendError::Closed(()) => Fault::Broken,
        })?;
        let (reply, answer) = oneshot::channel();
        let id = {
            let mut asked = self.asked();
            if !asked.open {
                return Err(Fault::Broken);
            }
            if asked.waiting.len() >= ASKED_MAX {
                return Err(busy());
            }
            let id = asked.next_id;
            asked.next_id += 1;
            asked.waiting.insert(id, Waiting { reply, batch: Vec::new(), _room: room });
            id
        };
        let mut interest = Interest { lane: self, id, answer };
        let left = deadline.saturating_duration_since(Instant::now());
        place.send(LaneRequest {
            id,
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            ask: Some(ask),
        });
        match (&mut interest.answer).await {
            Ok(Ok(Reply::Other(Answered::Error(error)))) => {
                Err(Fault::Failed(error.try_into().unwrap_or_else(unreadable)))
            }
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(malformed)) => Err(Fault::Failed(unreadable(malformed))),
            Err(_) => Err(Fault::Broken),
        }
    }

    /// Sends what has no answer, as soon as there is room. Cancel safe: it is sent or not.
    pub(super) async fn tell(&self, ask: Ask) {
        let _a_broken_lane_is_noticed_elsewhere =
            self.requests.send(LaneRequest { id: 0, deadline_ms: 0, ask: Some(ask) }).await;
    }

    /// Takes the answers of one frame.
    pub(super) fn answered(&self, answers: Vec<LaneAnswer>) {
        let mut homeless = Vec::new();
        {
            let mut asked = self.asked();
            for LaneAnswer { id, result } in answers {
                let result = result.ok_or(Malformed { what: "an answer" });
                match asked.take(id, result) {
                    Taken::Home => {}
                    Taken::Homeless(part) => homeless.extend(part.messages),
                }
            }
        }
        let keys: Vec<_> = homeless.into_iter().filter_map(|delivery| delivery.key?.try_into().ok()).collect();
        if !keys.is_empty() {
            self.notes.take(Note::Release(keys));
        }
    }

    /// Pending requests end with [`Fault::Broken`], and so do later ones.
    pub(super) fn close(&self) {
        let waiting = {
            let mut asked = self.asked();
            asked.open = false;
            std::mem::take(&mut asked.waiting)
        };
        drop(waiting); // wakes them
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Taken {
    Home,
    /// Messages nobody waits for.
    Homeless(PoppedPart),
}

impl Asked {
    fn take(&mut self, id: u64, result: Result<Answered, Malformed>) -> Taken {
        let reply = match result {
            Ok(Answered::Popped(part)) => match self.waiting.get_mut(&id) {
                None => return Taken::Homeless(part),
                Some(waiting) => match add(&mut waiting.batch, part) {
                    Ok(None) => return Taken::Home,
                    Ok(Some(popped)) => {
                        Ok(Reply::Popped(Popped { messages: std::mem::take(&mut waiting.batch), ..popped }))
                    }
                    Err(malformed) => Err(malformed),
                },
            },
            Ok(other) => Ok(Reply::Other(other)),
            Err(malformed) => Err(malformed),
        };
        if let Some(waiting) = self.waiting.remove(&id) {
            let _gone_in_this_moment = waiting.reply.send(reply);
        }
        Taken::Home
    }
}

/// Adds a part to its batch. When that is complete, says what else there is to say.
fn add(batch: &mut Vec<Delivery>, part: PoppedPart) -> Result<Option<Popped>, Malformed> {
    for delivery in part.messages {
        batch.push(delivery.try_into()?);
    }
    let unsettled = part.unsettled.map(|unsettled| usize::try_from(unsettled).unwrap_or(usize::MAX));
    let evicted = part.evicted.into_iter().map(Into::into).collect();
    Ok(part.last.then_some(Popped { messages: Vec::new(), more: part.more, unsettled, evicted }))
}

fn unreadable(malformed: Malformed) -> StoreError {
    StoreError::Unreadable { why: format!("the answer of the store-node: {malformed}") }
}

/// Somebody waits for an answer. Dropped, nobody does, and a batch that came already goes back.
struct Interest<'a> {
    lane: &'a Lane,
    id: u64,
    answer: oneshot::Receiver<Result<Reply, Malformed>>,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        let gone = self.lane.asked().waiting.remove(&self.id);
        let came = match self.answer.try_recv() {
            Ok(Ok(Reply::Popped(popped))) => popped.messages,
            _ => gone.map(|waiting| waiting.batch).unwrap_or_default(),
        };
        if !came.is_empty() {
            self.lane.notes.take(Note::Release(came.into_iter().map(|delivery| delivery.key).collect()));
        }
    }
}

/// What a lane has to say: whatever waits when the transport asks, in one frame.
pub(super) struct Frames {
    hello: Option<LaneHello>,
    requests: mpsc::Receiver<LaneRequest>,
    /// The first of the next frame.
    held: Option<LaneRequest>,
}

impl Stream for Frames {
    type Item = LaneRequests;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<LaneRequests>> {
        let hello = self.hello.take();
        let (mut requests, mut bytes, mut ended) = (Vec::new(), 0, false);
        while requests.len() < FRAME_ITEMS {
            let next = match self.held.take() {
                Some(held) => Poll::Ready(Some(held)),
                None => self.requests.poll_recv(context),
            };
            let Poll::Ready(Some(request)) = next else {
                ended = next.is_ready();
                break;
            };
            bytes += request.encoded_len();
            if bytes > FRAME_BYTES && !requests.is_empty() {
                self.held = Some(request);
                break;
            }
            requests.push(request);
        }
        match (hello.is_some() || !requests.is_empty(), ended) {
            (true, _) => Poll::Ready(Some(LaneRequests { hello, requests })),
            (false, true) => Poll::Ready(None),
            (false, false) => Poll::Pending,
        }
    }
}
