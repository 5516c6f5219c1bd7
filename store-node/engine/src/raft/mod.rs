//! Consensus: openraft behind the few words the engine needs, so that another engine could take its place.
//!
//! Reading order: this file (the words), `types`, `store` (the CommitLog as its log), `machine` (what it commits),
//! `network` and `wire` (how replicas talk), `join` (how a replica comes in), `successor` (who may lead next), `snapshot`,
//! `let_go` and `transfer` (bases instead of blocks).

pub(crate) mod fuzz;
mod join;
mod let_go;
mod machine;
mod network;
mod snapshot;
mod store;
mod successor;
mod transfer;
mod types;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apogee_model::{BlockIndex, Epoch, ReplicaId};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _, OptionFuture};
use futures::stream::FuturesUnordered;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{InitializeError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::{Config, Instant as _, Raft, ServerState, SnapshotPolicy};
use tokio::sync::{mpsc, watch};

pub(crate) use apogee_host::consensus::seeded;
use apogee_host::consensus::{self, Pace};

pub(crate) use self::join::ask::Asker;
pub use self::join::ear::Ear;
use self::join::ear::Inside;
pub(crate) use self::join::ear::Past;
use self::join::registrar::Registrar;
use self::join::{Committed, Wanted};
use self::let_go::LettingGo;
use self::machine::Machine;
use self::network::Network;
use self::store::LogStore;
use self::successor::{furthest, successor};
use self::transfer::Source;
pub(crate) use self::transfer::{Receiver, ReceiverParts};
use self::types::{Payload, StoredMembership, Types, committed_leader, log_id, membership_of_bytes};
use crate::block::Block;
use crate::commitlog::{Admission, Log, Proposal};
use crate::leader::{Ask, Draft, Ticket};
use crate::peers::Peers;
use crate::replica::{Member, Role};
use crate::seating::{Company, Seating};
use crate::views::ViewStore;

/// Committed blocks that wait to be applied.
const APPLY_QUEUE: usize = 64;
/// A leader says that it lives this often…
const HEARTBEAT: Duration = Duration::from_millis(100);
/// …and is replaced when it did not for [`ELECTION_MAX`] and, by chance, a time between these two. Both are what callers
/// wait for when a leader dies; a leader that only pauses for so long loses the lead for nothing.
const ELECTION_MIN: Duration = Duration::from_millis(400);
pub(crate) const ELECTION_MAX: Duration = Duration::from_millis(800);

/// Consensus has ended; the replica can do nothing more until it starts again.
#[derive(Debug, thiserror::Error)]
#[error("consensus has stopped: {0}")]
pub(crate) struct Stopped(String);

/// Where the state of a replica came to before consensus starts.
pub(crate) struct AppliedUpTo {
    pub(crate) term: Epoch,
    pub(crate) index: BlockIndex,
    /// The newest membership and the block it is from.
    pub(crate) membership: Option<(Epoch, BlockIndex, Bytes)>,
}

/// Who this replica is among the others.
pub(crate) struct Identity {
    pub(crate) me: Member,
    pub(crate) company: Company,
    pub(crate) seating: watch::Receiver<Seating>,
    pub(crate) admission: Admission,
}

/// What this replica has to do with the others.
pub(crate) struct Dealings {
    pub(crate) peers: Arc<dyn Peers>,
    /// Where bases are that others may need.
    pub(crate) views: Arc<dyn ViewStore>,
    /// Where a base is asked for.
    pub(crate) inbox: mpsc::WeakSender<Ask>,
    /// Takes a base in.
    pub(crate) receiver: Receiver,
}

/// A proposal was not taken into the log.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    pub(crate) ticket: Ticket,
}

type Outcome = BoxFuture<'static, Option<Refused>>;

/// The consensus of one replica group, seen from one replica.
pub(crate) struct Consensus {
    raft: Raft<Types, Machine>,
    me: Member,
    alone: bool,
    roles: openraft::alias::WatchReceiverOf<Types, openraft::metrics::RaftServerMetrics<Types>>,
    outcomes: FuturesUnordered<Outcome>,
    letting_go: Option<LettingGo>,
}

impl Consensus {
    /// Takes part from now on, and lets `ear` say so. Committed blocks come out of the channel, in order, each once, from
    /// the one after `applied` on.
    pub(crate) async fn begin(
        identity: Identity,
        log: &Log,
        applied: AppliedUpTo,
        dealings: Dealings,
        seed: u64,
        ear: &Ear,
    ) -> Result<(Self, Registrar, mpsc::Receiver<Block>), Stopped> {
        let Identity { me, company, seating, admission } = identity;
        let alone = company.is_alone();
        let config = Arc::new(config(alone).validate().map_err(stopped)?);
        let (blocks, committed) = mpsc::channel(APPLY_QUEUE);
        let membership = applied.membership.and_then(|(term, index, bytes)| {
            Some(StoredMembership::new(log_id(term, index), membership_of_bytes(&bytes)?))
        });
        let last = log_id(applied.term, applied.index);
        let Dealings { peers, views, inbox, receiver } = dealings;
        let members = Committed::default();
        members.set(membership.unwrap_or_default());
        let machine = Machine::new(log.clone(), blocks, last, members.clone(), Arc::clone(&views));
        let source = Arc::new(Source::new(log.clone(), views, inbox));
        let fresh = log.layout().index == BlockIndex(0) && log.vote().is_none();
        let raft = Raft::new(me, config, Network { peers, source }, LogStore(log.clone()), machine);
        let raft = seeded(seed, raft).await.map_err(stopped)?;
        let founders = match admission {
            Admission::Founder(founders) => Some(founders),
            Admission::TakenIn => None,
        };
        if let Some(founders) = founders.as_ref().filter(|_| fresh) {
            // Every founder does the same, so it does not matter who is first.
            let voters: BTreeMap<Member, ()> = founders.iter().map(|founder| (*founder, ())).collect();
            match raft.initialize(voters).await {
                // Another voter was faster, and this one has heard of it.
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(why) => return Err(stopped(why)),
            }
        }
        if alone {
            raft.trigger().elect(false).await.map_err(stopped)?;
        }
        let roles = raft.server_metrics();
        let wanted = Wanted::default();
        let registrar = Registrar {
            raft: raft.clone(),
            seed,
            me,
            seating: seating.clone(),
            wanted: wanted.clone(),
            reached: watch::Sender::new(None),
        };
        let inside = Inside { raft: raft.clone(), seed, me, founders, seating, committed: members, wanted, receiver };
        ear.is_inside(inside);
        let consensus = Self { raft, me, alone, roles, outcomes: FuturesUnordered::new(), letting_go: None };
        Ok((consensus, registrar, committed))
    }

    /// What this replica is now, as far as consensus knows.
    pub(crate) fn role(&self) -> Role {
        let metrics = self.roles.borrow_watched();
        let leads = metrics.state == ServerState::Leader && metrics.vote.committed;
        if leads && metrics.vote.leader_id.voted_for == self.me {
            return Role::Leader { epoch: Epoch(metrics.vote.leader_id.term) };
        }
        let leader = metrics.current_leader.filter(|leader| *leader != self.me);
        Role::Follower { leader: leader.map(|leader| leader.replica) }
    }

    /// Whether this was opened as the only replica of its group.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether a majority was heard within an election timeout. One that was not may have elected another leader.
    pub(crate) fn has_majority(&self) -> bool {
        let metrics = self.raft.data_metrics();
        let heard = metrics.borrow_watched().last_quorum_acked;
        self.alone || heard.is_some_and(|heard| heard.elapsed() < ELECTION_MAX) || self.is_only_voter()
    }

    /// Whether nobody else has a vote, as far as the log goes. Then nobody gets one without this replica. It hears nobody,
    /// and consensus counts its own word only together with an answer.
    fn is_only_voter(&self) -> bool {
        let metrics = self.roles.borrow_watched();
        matches!(metrics.membership_config.membership().get_joint_config().as_slice(), [voters] if voters.iter().eq([&self.me]))
    }

    /// Hands a block to the log, if this replica still leads in `epoch`. What is refused later comes out of
    /// [`Consensus::refused`].
    pub(crate) async fn propose(&mut self, epoch: Epoch, proposal: Proposal, draft: Draft) -> Result<(), Stopped> {
        let Draft { bytes, records, log_time } = draft;
        let payload = Payload { bytes: Bytes::from(bytes), records, log_time, proposal: Some(proposal) };
        let ticket = Ticket(proposal.number);
        let (responder, outcome) = ProgressResponder::complete_only();
        self.raft.write(payload).with_leader(committed_leader(epoch)).responder(responder).await.map_err(stopped)?;
        let outcome = outcome.map(move |outcome| match outcome {
            Ok(Ok(_)) => None,
            Ok(Err(why)) => {
                tracing::info!(event = "proposal_refused", %epoch, ticket = ticket.0, %why, "consensus refused a block");
                Some(Refused { ticket })
            }
            Err(_) => Some(Refused { ticket }),
        });
        self.outcomes.push(outcome.boxed());
        Ok(())
    }

    /// Waits until the role may have changed, or a proposal was refused.
    ///
    /// Cancel safe.
    pub(crate) async fn changed(&mut self) -> Result<Option<Refused>, Stopped> {
        tokio::select! {
            biased;
            Some(outcome) = self.outcomes.next() => Ok(outcome),
            Some(()) = OptionFuture::from(self.letting_go.as_mut()) => {
                self.letting_go = None;
                Ok(None)
            }
            changed = self.roles.changed() => changed.map(|()| None).map_err(stopped),
        }
    }

    /// Nobody needs to be sent blocks up to here any more, because a base covers them. Takes effect when openraft knows of
    /// that base and no follower is about to be sent them; on this disk, it is [`Log::give_up`].
    #[expect(clippy::unused_async, reason = "not every consensus could do it without asking")]
    pub(crate) async fn let_go(&mut self, upto: BlockIndex) -> Result<(), Stopped> {
        self.letting_go = Some(let_go::let_go(self.raft.clone(), upto));
        Ok(())
    }

    /// Whether everything that was proposed is decided.
    pub(crate) fn is_settled(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Whether this replica could lead at once instead of this leader.
    pub(crate) fn may_lead(&self, replica: ReplicaId) -> bool {
        successor(&self.raft, self.me, replica).is_some()
    }

    /// Asks `to` to lead if it still can, or else the voter that is furthest; says who was asked.
    pub(crate) async fn hand_over(&mut self, to: Option<ReplicaId>) -> Result<Option<ReplicaId>, Stopped> {
        let next = match to {
            Some(to) => successor(&self.raft, self.me, to),
            None => furthest(&self.raft, self.me),
        };
        let Some(next) = next else { return Ok(None) };
        self.raft.trigger().transfer_leader(next).await.map_err(stopped)?;
        Ok(Some(next.replica))
    }

    /// Leaves. No block is appended or committed by this replica after it returns.
    pub(crate) async fn leave(self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(event = "consensus_shutdown", %error, "consensus did not stop cleanly");
        }
    }
}

fn config(alone: bool) -> Config {
    let pace = Pace { heartbeat: HEARTBEAT, election_min: ELECTION_MIN, election_max: ELECTION_MAX };
    Config {
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..consensus::config(pace, alone)
    }
}

fn stopped(why: impl std::fmt::Display) -> Stopped {
    Stopped(why.to_string())
}
