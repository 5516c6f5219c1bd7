//! The side of the replica that is too far behind: what it answers. The work is done by a task of its own, because who
//! asks may give up waiting at any moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_host::{Disk, OnError, Tasks};
use openraft::Raft;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::frames::{Answer, Attempt, Offer, Question};
use super::work::{Step, Work, has, newer_vote};
use crate::again::Again;
use crate::commitlog::Log;
use crate::incoming::{Marker, Stage};
use crate::raft::machine::Machine;
use crate::raft::types::{RaftVote, Types};
use crate::views::ViewStore;

/// Who asks is answered within this time, if only that it takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What a base is received with.
#[derive(Clone)]
pub(crate) struct ReceiverParts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) views: Arc<dyn ViewStore>,
    pub(crate) log: Log,
    pub(crate) again: Again,
    pub(crate) tasks: Tasks,
}

/// See the module. Clones are the same.
#[derive(Clone)]
pub(crate) struct Receiver {
    parts: ReceiverParts,
    desk: Arc<Mutex<Option<Desk>>>,
    /// Held by the attempt that may touch the disk.
    bench: Arc<tokio::sync::Mutex<()>>,
    silence: Silence,
}

/// Whether this replica answers consensus no more, because it told its leader of what only its next life has.
#[derive(Clone, Default)]
pub(crate) struct Silence(Arc<AtomicBool>);

/// The newest attempt.
struct Desk {
    attempt: Attempt,
    steps: mpsc::Sender<Step>,
    /// How many steps there were, with the first.
    given: u64,
    progress: watch::Receiver<Progress>,
}

/// How far the work is.
#[derive(Clone, Default)]
pub(super) struct Progress {
    pub(super) done: u64,
    pub(super) end: Option<Answer>,
}

impl Silence {
    pub(crate) fn is_kept(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn keep(&self, silent: bool) {
        self.0.store(silent, Ordering::SeqCst);
    }
}

impl Receiver {
    pub(crate) fn new(parts: ReceiverParts) -> Self {
        Self { parts, desk: Arc::default(), bench: Arc::default(), silence: Silence::default() }
    }

    pub(crate) fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Cancel safe: what was asked happens or not, and can be asked for again.
    pub(crate) async fn answer(&self, raft: &Raft<Types, Machine>, attempt: Attempt, question: Question) -> Answer {
        match question {
            Question::Begin(vote, offer) => self.begin(raft, attempt, vote, offer).await,
            Question::File { name, at, bytes } => self.step(attempt, Step::File { name, at, bytes }).await,
            Question::Segment { at, bytes } => self.step(attempt, Step::Segment { at, bytes }).await,
            Question::End(vote) => self.step(attempt, Step::End(vote)).await,
            Question::Wait => self.wait(attempt).await,
        }
    }

    async fn begin(&self, raft: &Raft<Types, Machine>, attempt: Attempt, vote: RaftVote, offer: Offer) -> Answer {
        let Offer { segment_bytes, position, first, purged } = offer;
        let marker = Marker { segment_bytes, first, position, purged, stage: Stage::Complete };
        if !marker.is_possible() || segment_bytes != self.parts.log.segment_bytes() {
            let ours = self.parts.log.segment_bytes();
            tracing::error!(event = "base_refused", segment_bytes, ours, "another replica offers a log that cannot be");
            return refused("such a log cannot be here");
        }
        match newer_vote(raft, vote).await {
            Ok(None) => {}
            Ok(Some(newer)) => return Answer::HigherVote(newer),
            Err(why) => return Answer::Refused(why),
        }
        match has(&self.parts.log, &marker.position).await {
            Ok(false) => {}
            Ok(true) => return Answer::HasIt,
            Err(why) => return Answer::Refused(why),
        }
        if let Err(why) = self.employ(raft.clone(), attempt, marker) {
            return why;
        }
        self.wait(attempt).await
    }

    /// Starts the work of an attempt, and ends that of the one before.
    fn employ(&self, raft: Raft<Types, Machine>, attempt: Attempt, marker: Marker) -> Result<(), Answer> {
        let mut desk = self.desk();
        if self.silence.is_kept() {
            return Err(refused("it begins again"));
        }
        let later = |desk: &Desk| desk.attempt.term == attempt.term && desk.attempt.number >= attempt.number;
        if desk.as_ref().is_some_and(later) {
            return Err(refused("a later attempt has begun"));
        }
        let ((steps, inbox), (sender, progress)) = (mpsc::channel(1), watch::channel(Progress::default()));
        *desk = Some(Desk { attempt, steps, given: 1, progress });
        let work = Work::new(self.parts.clone(), self.silence.clone(), raft, marker, inbox, sender);
        self.parts.tasks.spawn("base-receiver", OnError::StopProcess, work.run(Arc::clone(&self.bench)));
        Ok(())
    }

    async fn step(&self, attempt: Attempt, step: Step) -> Answer {
        {
            let mut desk = self.desk();
            let Some(desk) = desk.as_mut().filter(|desk| desk.attempt == attempt) else { return unknown() };
            // No room means that the step before is not done, or that the work is over: waiting tells which.
            match desk.steps.try_send(step) {
                Ok(()) => desk.given += 1,
                Err(mpsc::error::TrySendError::Full(_)) => return refused("one question at a time"),
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
        self.wait(attempt).await
    }

    async fn wait(&self, attempt: Attempt) -> Answer {
        let (given, mut progress) = {
            let desk = self.desk();
            let Some(desk) = desk.as_ref().filter(|desk| desk.attempt == attempt) else { return unknown() };
            (desk.given, desk.progress.clone())
        };
        let settled = progress.wait_for(|progress| progress.done >= given || progress.end.is_some());
        match timeout(ANSWER_WITHIN, settled).await {
            Ok(Ok(progress)) => progress.end.clone().unwrap_or(Answer::Taken),
            Ok(Err(_)) => refused("the work has ended"),
            Err(_) => Answer::Working,
        }
    }

    fn desk(&self) -> MutexGuard<'_, Option<Desk>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(why: &str) -> Answer {
    Answer::Refused(why.to_owned())
}

fn unknown() -> Answer {
    refused("this attempt is not known here")
}
