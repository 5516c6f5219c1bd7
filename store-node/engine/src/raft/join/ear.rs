//! What other replicas reach of this one, from before its store is open.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use openraft::Raft;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::{mpsc, watch};

use super::frames::{self, Standing};
use super::{Committed, Wanted};
use crate::peers::NotAFrame;
use crate::raft::machine::Machine;
use crate::raft::seeded;
use crate::raft::transfer::{self, Receiver};
use crate::raft::types::Types;
use crate::raft::wire::{self, Question};
use crate::replica::Member;
use crate::seating::Seating;

/// This replica has told its leader of a base that only its next life has.
const SILENT: NotAFrame = NotAFrame { why: "this replica begins again" };
/// Answers of a pipeline that wait to be sent.
const PIPELINE: usize = 64;

/// Answers what other replicas ask: nothing while the store is being opened; what it takes to join while this replica
/// is outside of its group; then whatever consensus asks. Clones are the same. Made before the engine, so that the
/// network can serve it while the engine opens.
#[derive(Clone)]
pub struct Ear(Arc<Shared>);

struct Shared {
    place: Mutex<Place>,
    waits: watch::Sender<Option<String>>,
}

/// Where this replica is.
enum Place {
    /// Nobody knows yet what is on the disk.
    Opening,
    Outside {
        me: Member,
        /// How often it was said that this replica is fresh; `None` when that is not said any more.
        said_fresh: Option<u64>,
    },
    /// Outside, and not fresh: it was a member.
    Lost,
    Inside(Arc<Inside>),
}

/// What a replica without a log was before.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Past {
    /// No member of the group, in no life that it knows of. It may be one of those who found it.
    Fresh,
    /// No member either, and it takes the place of another in a group that others found. It does not say that it is fresh.
    Comes,
    /// It was a member. One that was does not found another group.
    Lost,
}

/// A replica that takes part.
pub(crate) struct Inside {
    pub(crate) raft: Raft<Types, Machine>,
    pub(crate) seed: u64,
    pub(crate) me: Member,
    /// If this is one of them.
    pub(crate) founders: Option<BTreeSet<Member>>,
    pub(crate) seating: watch::Receiver<Seating>,
    pub(crate) committed: Committed,
    pub(crate) wanted: Wanted,
    pub(crate) receiver: Receiver,
}

impl Default for Ear {
    fn default() -> Self {
        Self(Arc::new(Shared { place: Mutex::new(Place::Opening), waits: watch::Sender::new(None) }))
    }
}

impl Ear {
    /// Why this replica does not take part yet, while it is open enough to know; and every change of it.
    pub fn waits(&self) -> watch::Receiver<Option<String>> {
        self.0.waits.subscribe()
    }

    /// Answers one frame of another replica.
    ///
    /// # Errors
    /// [`NotAFrame`].
    pub async fn answer(&self, frame: Bytes) -> Result<Bytes, NotAFrame> {
        let (meant, question) = wire::who_is_meant(&frame)?;
        if let Some(asker) = frames::read_join(&question)? {
            return Ok(self.standing_of(asker).as_ref().map_or_else(wire::not_meant, frames::standing));
        }
        match self.inside() {
            Some(inside) if inside.me.instance == meant => seeded(inside.seed, inside.hear(question)).await,
            Some(_) | None => Ok(wire::not_meant()),
        }
    }

    /// Answers the frames of a pipeline in their order. Ends with `frames`, or at the first that cannot be read or is
    /// not meant for this instance.
    pub fn answer_pipeline(&self, frames: BoxStream<'static, Bytes>) -> BoxStream<'static, Bytes> {
        match self.inside() {
            Some(inside) => inside.answer_pipeline(frames),
            None => frames.take(1).map(|_| wire::not_meant()).boxed(),
        }
    }

    /// The store is being opened, perhaps again.
    pub(crate) fn is_opening(&self) {
        *self.place() = Place::Opening;
    }

    /// This replica has no log, and wants to join.
    pub(crate) fn is_outside(&self, me: Member, past: Past) {
        *self.place() = match past {
            Past::Fresh => Place::Outside { me, said_fresh: Some(0) },
            Past::Comes => Place::Outside { me, said_fresh: None },
            Past::Lost => Place::Lost,
        };
    }

    /// How often it was said that this replica is fresh.
    pub(super) fn said_fresh(&self) -> u64 {
        match &*self.place() {
            Place::Outside { said_fresh: Some(count), .. } => *count,
            Place::Opening | Place::Outside { .. } | Place::Lost | Place::Inside(_) => 0,
        }
    }

    /// Nobody hears that this replica is fresh any more, unless somebody did since [`Ear::said_fresh`] was `count`. Says
    /// whether that is so.
    pub(super) fn says_fresh_no_more(&self, count: u64) -> bool {
        match &mut *self.place() {
            Place::Outside { said_fresh, .. } if *said_fresh == Some(count) => {
                *said_fresh = None;
                true
            }
            Place::Opening | Place::Outside { .. } | Place::Lost | Place::Inside(_) => false,
        }
    }

    pub(super) fn waits_for(&self, why: Option<String>) {
        self.0.waits.send_if_modified(|waits| std::mem::replace(waits, why.clone()) != why);
    }

    pub(crate) fn is_inside(&self, inside: Inside) {
        *self.place() = Place::Inside(Arc::new(inside));
        self.waits_for(None);
    }

    fn standing_of(&self, asker: Member) -> Option<Standing> {
        let inside = match &mut *self.place() {
            Place::Outside { me, said_fresh: Some(count) } => {
                *count += 1;
                return Some(Standing::Fresh(me.instance));
            }
            Place::Opening | Place::Outside { said_fresh: None, .. } => return None,
            Place::Lost => return Some(Standing::Unknown { leader: None }),
            Place::Inside(inside) => Arc::clone(inside),
        };
        Some(inside.standing_of(asker))
    }

    fn inside(&self) -> Option<Arc<Inside>> {
        match &*self.place() {
            Place::Inside(inside) => Some(Arc::clone(inside)),
            Place::Opening | Place::Outside { .. } | Place::Lost => None,
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn standing_of(&self, asker: Member) -> Standing {
        let committed = self.committed.get();
        if committed.membership().get_node(&asker).is_some() {
            return Standing::Member;
        }
        if committed.log_id().is_none()
            && let Some(founders) = &self.founders
        {
            return Standing::Founded(founders.clone());
        }
        if asker.replica != self.me.replica && self.seating.borrow().knows(asker.replica) {
            self.wanted.note(asker);
        }
        let leader = self.raft.server_metrics().borrow_watched().current_leader;
        Standing::Unknown { leader: leader.map(|leader| leader.replica) }
    }

    /// Answers what is meant for this instance.
    async fn hear(&self, question: Bytes) -> Result<Bytes, NotAFrame> {
        if let Some((attempt, question)) = transfer::read_question(&question)? {
            return Ok(transfer::answer(&self.receiver.answer(&self.raft, attempt, question).await));
        }
        let (question, silence) = (Question::read(&question)?, self.receiver.silence());
        let answer = if silence.is_kept() { Err(SILENT) } else { self.answer(question).await };
        if silence.is_kept() { Err(SILENT) } else { answer }
    }

    async fn answer(&self, question: Question) -> Result<Bytes, NotAFrame> {
        const ENDED: NotAFrame = NotAFrame { why: "this replica has stopped" };
        match question {
            Question::Append(request) => {
                let (prev, last) = (request.prev_log_id, request.entries.last().map(|entry| entry.log_id));
                let answer = self.raft.append_entries(request).await.map_err(|_| ENDED)?;
                Ok(wire::appended(&answer.into_stream_result(prev, last.or(prev))))
            }
            Question::Vote(request) => Ok(wire::voted(&self.raft.vote(request).await.map_err(|_| ENDED)?)),
            Question::PreVote(request) => Ok(wire::voted(&self.raft.pre_vote(request).await.map_err(|_| ENDED)?)),
            Question::Transfer(request) => {
                let taken = self.raft.handle_transfer_leader(request).await;
                Ok(wire::transferred(taken.is_ok_and(|taken| taken.is_ok())))
            }
        }
    }

    fn answer_pipeline(&self, frames: BoxStream<'static, Bytes>) -> BoxStream<'static, Bytes> {
        let (sender, answers) = mpsc::channel(PIPELINE);
        let (me, refusal) = (self.me, sender.clone());
        let silence = self.receiver.silence().clone();
        let frames = frames.take_while(move |_| std::future::ready(!silence.is_kept()));
        let requests = frames.map(move |frame| match wire::who_is_meant(&frame) {
            Ok((meant, _)) if meant != me.instance => {
                let _nobody_listens = refusal.try_send(wire::not_meant());
                None
            }
            meant => match meant.and_then(|(_, question)| Question::read(&question)) {
                Ok(Question::Append(request)) => Some(request),
                Ok(_) | Err(_) => {
                    tracing::warn!(
                        event = "pipeline_broken",
                        "another replica sent what is no append; its pipeline ends"
                    );
                    None
                }
            },
        });
        let requests =
            requests.take_while(|request| std::future::ready(request.is_some())).filter_map(std::future::ready);
        let (raft, silence) = (self.raft.clone(), self.receiver.silence().clone());
        let work = async move {
            let mut answers = pin!(raft.stream_append(requests.boxed()));
            while let Some(Ok(answer)) = answers.next().await {
                if silence.is_kept() {
                    return;
                }
                if sender.send(wire::appended(&answer)).await.is_err() {
                    return;
                }
            }
        };
        let work = stream::once(seeded(self.seed, work)).filter_map(|()| std::future::ready(None));
        let answers = stream::unfold(answers, |mut answers| async move { Some((answers.recv().await?, answers)) });
        stream::select(work, answers).boxed()
    }
}
