//! Consensus of one or three members: openraft behind the few words namesrv needs.
//!
//! Reading order: this file (the words), `types`, `store` (the journal as its log), `machine` (what it commits), `frames`
//! and `network` (how members talk), `founding` (how a member without a journal comes in).

mod founding;
mod frames;
mod machine;
mod network;
mod store;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apogee_host::consensus::{self, Pace, seeded};
use apogee_model::{Cluster, MetadataError};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::{Config, Instant as _, Raft, ServerState, SnapshotPolicy};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use self::founding::Gate;
pub(crate) use self::founding::{Founding, found};
pub(crate) use self::frames::{Answer, Question, Standing};
use self::machine::Machine;
use self::network::Network;
pub(crate) use self::network::{Peers, Unreachable};
use self::store::LogStore;
use self::types::{LogId, Snapshot, SnapshotMeta, Types, log_id, place, stored_membership, to_vote};
use crate::journal::{Book, Journal};
use crate::state::{Command, Outcome};

/// A leader says that it lives this often…
const HEARTBEAT: Duration = Duration::from_millis(100);
/// …and is replaced when it did not for at least this long…
const ELECTION_MIN: Duration = Duration::from_millis(500);
/// …and at most this long.
const ELECTION_MAX: Duration = Duration::from_millis(1000);
/// A member that heard no leader for this long knows nothing that others should rely on.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Entries after which the log is cut, and entries that stay for members that are a little behind.
const SNAPSHOT_EVERY: u64 = 1000;
const ENTRIES_KEPT: u64 = 500;
/// Longest wait for a majority to take a command.
const COMMIT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for another member to take the lead over.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);

/// Consensus has ended; the process can do nothing more until it starts again.
#[derive(Debug, thiserror::Error)]
#[error("consensus has stopped: {0}")]
pub(crate) struct Stopped(pub(crate) String);

/// What consensus begins with.
pub(crate) struct ConsensusParts {
    pub(crate) me: u64,
    pub(crate) members: BTreeSet<u64>,
    pub(crate) journal: Journal,
    pub(crate) book: Book,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) published: watch::Sender<Option<Arc<Cluster>>>,
    pub(crate) seed: u64,
    /// Whether to make the members a group; only on a group that has none.
    pub(crate) founds: bool,
}

/// Consensus, seen from one member. Clones are the same member.
#[derive(Clone)]
pub(crate) struct Consensus {
    raft: Raft<Types, Machine>,
    me: u64,
    alone: bool,
    seed: u64,
    gate: Gate,
    /// When this member heard a leader last.
    heard: Arc<Mutex<Option<Instant>>>,
}

impl Consensus {
    /// Takes part from now on.
    pub(crate) async fn begin(parts: ConsensusParts) -> Result<Self, Stopped> {
        let ConsensusParts { me, members, journal, book, peers, published, seed, founds } = parts;
        let gate = Gate::of(&book);
        let alone = members.len() == 1;
        let config = Arc::new(config(alone).validate().map_err(stopped)?);
        let store = LogStore::new(journal.clone(), &book);
        let machine = Machine::new(book.applied, journal, published);
        let raft = seeded(seed, Raft::new(me, config, Network(peers), store, machine)).await.map_err(stopped)?;
        raft.runtime_config().elect(gate.is_open());
        if founds {
            let voters: BTreeMap<u64, ()> = members.into_iter().map(|member| (member, ())).collect();
            match raft.initialize(voters).await {
                // Another member was faster, and this one has heard of it.
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(why) => return Err(stopped(why)),
            }
        }
        if alone {
            raft.trigger().elect(false).await.map_err(stopped)?;
        }
        Ok(Self { raft, me, alone, seed, gate, heard: Arc::default() })
    }

    /// The member that leads, as far as this one knows. A follower that has heard nothing for long knows nothing.
    pub(crate) fn leader(&self) -> Option<u64> {
        if self.leads() {
            return Some(self.me);
        }
        let leader = self.raft.server_metrics().borrow_watched().current_leader;
        leader.filter(|leader| *leader != self.me && self.heard_lately())
    }

    pub(crate) fn leads(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.state == ServerState::Leader && metrics.vote.committed && metrics.vote.leader_id.voted_for == self.me
    }

    /// The term this member is in.
    pub(crate) fn term(&self) -> u64 {
        self.raft.server_metrics().borrow_watched().vote.leader_id.term
    }

    /// The index of the last entry whose command is in the state.
    pub(crate) fn applied(&self) -> u64 {
        self.raft.data_metrics().borrow_watched().last_applied.as_ref().map_or(0, |at| place(at).index)
    }

    /// Whether what this member knows is what the others know: it leads a majority, or hears who does.
    pub(crate) fn is_in_touch(&self) -> bool {
        if !self.leads() {
            return self.heard_lately() && self.gate.is_open();
        }
        let metrics = self.raft.data_metrics();
        let acked = metrics.borrow_watched().last_quorum_acked;
        self.alone || acked.is_some_and(|acked| acked.elapsed() < SILENCE_MAX)
    }

    fn heard_lately(&self) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|heard| heard.elapsed() < SILENCE_MAX)
    }

    /// Waits until this member leads, or does not.
    ///
    /// Cancel safe.
    pub(crate) async fn until_leads(&self, wanted: bool) -> Result<(), Stopped> {
        let mut roles = self.raft.server_metrics();
        while self.leads() != wanted {
            roles.changed().await.map_err(stopped)?;
        }
        Ok(())
    }

    /// Returns when everything that any leader before told anybody is in the state of this one.
    ///
    /// # Errors
    /// Those of [`Consensus::propose`].
    pub(crate) async fn catch_up(&self) -> Result<(), MetadataError> {
        let written = timeout(COMMIT_MAX, self.raft.write_blank()).await.map_err(|_| no_majority())?;
        written.map(|_| ()).map_err(refused)
    }

    /// Returns what became of a command, once it is committed and in the state.
    ///
    /// # Errors
    /// [`MetadataError::NotLeader`] without the address of the leader: it was not taken; [`MetadataError::Unreachable`]
    /// when no majority took it in time, or the lead was lost meanwhile; [`MetadataError::Stopped`].
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, MetadataError> {
        let written = timeout(COMMIT_MAX, self.raft.client_write(command)).await.map_err(|_| no_majority())?;
        written.map_err(refused)?.data.ok_or(MetadataError::Stopped)
    }

    /// Answers another member.
    pub(crate) async fn answer(&self, question: Question) -> Result<Answer, Stopped> {
        seeded(self.seed, self.hear(question)).await
    }

    async fn hear(&self, question: Question) -> Result<Answer, Stopped> {
        match question {
            Question::Vote(_) | Question::PreVote(_) | Question::TakeOver { .. } if !self.gate.is_open() => {
                Err(Stopped("it has lost its journal and does not vote before it has caught up".to_owned()))
            }
            Question::Vote(ballot) => Ok(Answer::voted(&self.raft.vote(ballot.request()).await.map_err(stopped)?)),
            Question::PreVote(ballot) => {
                Ok(Answer::voted(&self.raft.pre_vote(ballot.request()).await.map_err(stopped)?))
            }
            Question::Append { vote, after, committed, entries } => {
                let request = frames::append_request(vote, after, committed, &entries);
                let request = request.ok_or_else(|| Stopped("an entry names members that cannot be".to_owned()))?;
                let sent: Option<LogId> = entries.last().map(|entry| entry.at).or(after).map(log_id);
                let answer = self.raft.append_entries(request).await.map_err(stopped)?;
                let answer = Answer::appended(answer.into_stream_result(after.map(log_id), sent));
                if !matches!(answer, Answer::HigherVote { .. }) {
                    self.note_heard();
                }
                if let Answer::Appended { last: Some(last) } = &answer {
                    self.note_entries(last.index);
                }
                Ok(answer)
            }
            Question::Snapshot { vote, applied } => {
                let meta =
                    SnapshotMeta { last_log_id: applied.at.map(log_id), last_membership: stored_membership(&applied) };
                let at = applied.at;
                if at.is_none() {
                    return Err(Stopped("a snapshot of nothing".to_owned()));
                }
                let snapshot = Snapshot { meta, snapshot: applied };
                let installed = self.raft.install_full_snapshot(to_vote(vote), snapshot).await.map_err(stopped)?;
                if let Some(at) = at {
                    self.note_entries(at.index);
                }
                Ok(Answer::Installed { vote: types::of_vote(&installed.vote) })
            }
            Question::TakeOver { vote, to, last } => {
                let request = openraft::raft::TransferLeaderRequest::new(to_vote(vote), to, last.map(log_id));
                let taken = self.raft.handle_transfer_leader(request).await;
                Ok(Answer::TakesOver(taken.is_ok_and(|taken| taken.is_ok())))
            }
            Question::Standing => {
                let vote = self.raft.server_metrics().borrow_watched().vote;
                let last = self.raft.data_metrics().borrow_watched().last_log.as_ref().map(place);
                Ok(Answer::Standing(Standing::Used { vote: Some(types::of_vote(&vote)), last }))
            }
        }
    }

    /// Stands for election again when it has what it may have had before.
    fn note_entries(&self, index: u64) {
        if self.gate.has(index) {
            self.raft.runtime_config().elect(true);
        }
    }

    fn note_heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Hands the lead over if this member has it and another one can take it.
    pub(crate) async fn hand_over(&self) {
        if self.leads() && !self.alone {
            let next = {
                let metrics = self.raft.data_metrics();
                let metrics = metrics.borrow_watched();
                let others = metrics.replication.iter().flatten().filter(|(id, _)| **id != self.me);
                others.max_by_key(|(id, matched)| (**matched, **id)).map(|(id, _)| *id)
            };
            if let Some(next) = next
                && self.raft.trigger().transfer_leader(next).await.is_ok()
            {
                let _it_goes_anyway = timeout(HAND_OVER_MAX, self.until_leads(false)).await;
            }
        }
    }

    /// Nothing is appended or committed by this member after it returns.
    pub(crate) async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(event = "consensus_shutdown", %error, "consensus did not stop cleanly");
        }
    }
}

fn config(alone: bool) -> Config {
    let pace = Pace { heartbeat: HEARTBEAT, election_min: ELECTION_MIN, election_max: ELECTION_MAX };
    Config {
        // A member that lost its disk comes back with less than it had said; see `founding`.
        allow_log_reversion: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        ..consensus::config(pace, alone)
    }
}

fn refused(why: RaftError<Types, ClientWriteError<Types>>) -> MetadataError {
    match why {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => MetadataError::NotLeader { leader: None },
        RaftError::APIError(why) => MetadataError::Unreachable { why: why.to_string() },
        RaftError::Fatal(_) => MetadataError::Stopped,
    }
}

fn no_majority() -> MetadataError {
    MetadataError::Unreachable { why: format!("no majority of them within {COMMIT_MAX:?}") }
}

fn stopped(why: impl std::fmt::Display) -> Stopped {
    Stopped(why.to_string())
}
