//! The leader looks who is to be a member, makes one change after the other, and tells how far an exchange is.
//!
//! Nothing is remembered between two looks: what is to be done next ([`View`]) follows from the membership, from the
//! seating and from who asks, so it does not matter which leader did the step before, or whether it could finish.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{ChangeMembers, Instant as _, Raft, ServerState};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Wanted;
use super::view::{Change, View};
use crate::raft::machine::Machine;
use crate::raft::types::Types;
use crate::raft::{ELECTION_MAX, seeded};
use crate::replica::Member;
use crate::seating::{Reached, Seating};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(200);
/// Longest wait for a change to be committed; it may be committed later all the same.
const CHANGE_MAX: Duration = Duration::from_secs(5);
/// A learner that misses no more blocks than this has nearly all of the log.
const NEARLY: u64 = 64;

/// See the module.
pub(crate) struct Registrar {
    pub(crate) raft: Raft<Types, Machine>,
    pub(crate) seed: u64,
    pub(crate) me: Member,
    /// Nobody else is ever taken in.
    pub(crate) seating: watch::Receiver<Seating>,
    pub(crate) wanted: Wanted,
    /// Where it tells how far an exchange is.
    pub(crate) reached: watch::Sender<Option<Reached>>,
}

/// What one look at a leader leads to; nothing where nobody leads.
#[derive(Default)]
struct Look {
    next: Option<Change>,
    reached: Option<Reached>,
}

impl Registrar {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        stop.run_until_cancelled(self.work()).await;
        self.reached.send_replace(None);
        Ok(())
    }

    async fn work(&self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let Look { next, reached } = self.look();
            self.reached.send_if_modified(|told| std::mem::replace(told, reached) != reached);
            if let Some(change) = next {
                self.make(change).await;
            }
        }
    }

    fn look(&self) -> Look {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let stored = &metrics.membership_config;
        if metrics.state != ServerState::Leader || stored.log_id().as_ref() > metrics.local_committed.as_ref() {
            return Look::default();
        }
        let heard = metrics.heartbeat.iter().flatten();
        let heard = heard.filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() < ELECTION_MAX));
        let last = metrics.last_log_index.unwrap_or_default();
        let replication = metrics.replication.iter().flatten();
        let up_to_date =
            replication.filter(|(_, matched)| matched.as_ref().is_some_and(|id| id.index + NEARLY >= last));
        let view = View {
            me: self.me,
            seating: &self.seating.borrow(),
            membership: stored.membership(),
            wanted: self.wanted.now(),
            heard: heard.map(|(member, _)| *member).collect(),
            up_to_date: up_to_date.map(|(member, _)| *member).collect(),
        };
        Look { next: view.next(), reached: view.reached() }
    }

    async fn make(&self, change: Change) {
        let asked: ChangeMembers<Member, ()> = match change.clone() {
            Change::EndJoint => ChangeMembers::AddVoterIds(BTreeSet::new()),
            Change::TakeIn { learner, instead_of } => ChangeMembers::Batch(vec![
                ChangeMembers::RemoveNodes(instead_of),
                ChangeMembers::AddNodes(BTreeMap::from([(learner, ())])),
            ]),
            Change::Forget { strangers } => ChangeMembers::RemoveNodes(strangers),
            Change::Promote { voters, .. } | Change::Swap { voters, .. } => ChangeMembers::ReplaceAllVoters(voters),
        };
        // Whoever is a voter no more is a member no more.
        let made = seeded(self.seed, self.raft.change_membership(asked, false));
        match timeout(CHANGE_MAX, made).await {
            Ok(Ok(_)) => {
                tracing::info!(event = "membership_changed", %change, "the members of the replica group change")
            }
            Ok(Err(why)) => tracing::warn!(event = "membership_not_changed", %change, %why, "tried again soon"),
            Err(_) => tracing::warn!(event = "membership_not_changed", %change, "it takes long; looked at again soon"),
        }
    }
}
