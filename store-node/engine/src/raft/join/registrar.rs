//! The leader takes in who asks: as a learner, then as a voter in the place of the life before.
//!
//! Nothing is remembered between two looks: what is to be done next follows from the membership and from who asks, so
//! it does not matter which leader did the step before, or whether it could finish.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use apogee_model::ReplicaId;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{ChangeMembers, Instant as _, Raft, ServerState};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Wanted;
use crate::raft::machine::Machine;
use crate::raft::types::{RaftMembership, Types};
use crate::raft::{ELECTION_MAX, seeded};
use crate::replica::{Instance, Member, spaced};

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
    pub(crate) configured: BTreeSet<ReplicaId>,
    pub(crate) wanted: Wanted,
}

/// What the leader sees.
struct View<'a> {
    me: Member,
    configured: &'a BTreeSet<ReplicaId>,
    membership: &'a RaftMembership,
    wanted: BTreeMap<ReplicaId, Instance>,
    /// Who answered within an election timeout.
    heard: BTreeSet<Member>,
    /// Who has nearly all of the log.
    up_to_date: BTreeSet<Member>,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    /// An earlier leader left two configurations at once.
    EndJoint,
    TakeIn {
        learner: Member,
        /// Learners of the same replica that came to nothing.
        instead_of: BTreeSet<Member>,
    },
    Promote {
        learner: Member,
        voters: BTreeSet<Member>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndJoint => f.write_str("end of an earlier change"),
            Self::TakeIn { learner, instead_of } if instead_of.is_empty() => write!(f, "{learner} learns"),
            Self::TakeIn { learner, instead_of } => write!(f, "{learner} learns instead of {}", spaced(instead_of)),
            Self::Promote { learner, voters } => write!(f, "{learner} votes, of {}", spaced(voters)),
        }
    }
}

impl Registrar {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        stop.run_until_cancelled(self.work()).await;
        Ok(())
    }

    async fn work(self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Some(change) = self.next() {
                self.make(change).await;
            }
        }
    }

    fn next(&self) -> Option<Change> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let stored = &metrics.membership_config;
        if stored.log_id().as_ref() > metrics.local_committed.as_ref() {
            return None;
        }
        let heard = metrics.heartbeat.iter().flatten();
        let heard = heard.filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() < ELECTION_MAX));
        let last = metrics.last_log_index.unwrap_or_default();
        let replication = metrics.replication.iter().flatten();
        let up_to_date =
            replication.filter(|(_, matched)| matched.as_ref().is_some_and(|id| id.index + NEARLY >= last));
        let view = View {
            me: self.me,
            configured: &self.configured,
            membership: stored.membership(),
            wanted: self.wanted.now(),
            heard: heard.map(|(member, _)| *member).collect(),
            up_to_date: up_to_date.map(|(member, _)| *member).collect(),
        };
        view.next()
    }

    async fn make(&self, change: Change) {
        let asked: ChangeMembers<Member, ()> = match change.clone() {
            Change::EndJoint => ChangeMembers::AddVoterIds(BTreeSet::new()),
            Change::TakeIn { learner, instead_of } => ChangeMembers::Batch(vec![
                ChangeMembers::RemoveNodes(instead_of),
                ChangeMembers::AddNodes(BTreeMap::from([(learner, ())])),
            ]),
            Change::Promote { voters, .. } => ChangeMembers::ReplaceAllVoters(voters),
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

impl View<'_> {
    fn next(&self) -> Option<Change> {
        let configs = self.membership.get_joint_config();
        if configs.len() > 1 {
            return Some(Change::EndJoint);
        }
        let voters = configs.first()?;
        let learners: BTreeSet<Member> = self.membership.learner_ids().collect();
        let others = self.configured.iter().copied().filter(|replica| *replica != self.me.replica);
        // Somebody who does what this replica's voter should do must not be replaced by a namesake.
        let mut replaceable = others.filter(|replica| {
            let voter = voters.iter().find(|voter| voter.replica == *replica);
            voter.is_none_or(|voter| !self.heard.contains(voter))
        });
        replaceable.find_map(|replica| {
            let of_replica = |members: &BTreeSet<Member>| -> BTreeSet<Member> {
                members.iter().copied().filter(|member| member.replica == replica).collect()
            };
            let lives = of_replica(&learners);
            let wanted = self.wanted.get(&replica).map(|instance| Member { replica, instance: *instance });
            if let Some(learner) = wanted.filter(|wanted| !lives.contains(wanted) && !voters.contains(wanted)) {
                return Some(Change::TakeIn { learner, instead_of: lives });
            }
            let learner = *lives.iter().find(|life| self.up_to_date.contains(life) && self.heard.contains(life))?;
            let voters = voters.difference(&of_replica(voters)).copied().chain([learner]).collect();
            Some(Change::Promote { learner, voters })
        })
    }
}

#[cfg(test)]
mod tests {
    use openraft::Membership;

    use super::*;

    fn life(replica: u64, instance: u64) -> Member {
        Member { replica: ReplicaId(replica), instance: Instance(instance) }
    }

    fn lives(members: &[(u64, u64)]) -> BTreeSet<Member> {
        members.iter().map(|(replica, instance)| life(*replica, *instance)).collect()
    }

    struct Case {
        configs: &'static [&'static [(u64, u64)]],
        learners: &'static [(u64, u64)],
        wanted: &'static [(u64, u64)],
        heard: &'static [(u64, u64)],
        up_to_date: &'static [(u64, u64)],
    }

    const CALM: Case = Case {
        configs: &[&[(1, 10), (2, 20), (3, 30)]],
        learners: &[],
        wanted: &[],
        heard: &[(2, 20)],
        up_to_date: &[(2, 20)],
    };

    /// What replica 1, which leads, does next; replicas 1 to 3 are configured.
    fn next(case: &Case) -> Option<Change> {
        let configs: Vec<_> = case.configs.iter().map(|config| lives(config)).collect();
        let nodes = configs.iter().flatten().copied().chain(lives(case.learners)).map(|member| (member, ()));
        let membership = Membership::new(configs.clone(), nodes.collect::<BTreeMap<_, _>>()).unwrap();
        let view = View {
            me: life(1, 10),
            configured: &[1, 2, 3].map(ReplicaId).into(),
            membership: &membership,
            wanted: case.wanted.iter().map(|(replica, instance)| (ReplicaId(*replica), Instance(*instance))).collect(),
            heard: lives(case.heard),
            up_to_date: lives(case.up_to_date),
        };
        view.next()
    }

    #[test]
    fn whoever_asks_becomes_a_learner_and_then_a_voter() {
        assert_eq!(next(&CALM), None);
        let asks = Case { wanted: &[(3, 31)], ..CALM };
        let taken_in = Change::TakeIn { learner: life(3, 31), instead_of: BTreeSet::new() };
        assert_eq!(next(&asks), Some(taken_in));
        let behind = Case { learners: &[(3, 31)], heard: &[(2, 20), (3, 31)], ..asks };
        assert_eq!(next(&behind), None);
        let there = Case { up_to_date: &[(2, 20), (3, 31)], wanted: &[], ..behind };
        let voters = lives(&[(1, 10), (2, 20), (3, 31)]);
        assert_eq!(next(&there), Some(Change::Promote { learner: life(3, 31), voters }));
        let silent = Case { heard: &[(2, 20)], ..there };
        assert_eq!(next(&silent), None);
    }

    #[test]
    fn a_life_that_ended_as_a_learner_makes_room_for_the_next() {
        let again = Case { learners: &[(3, 31)], wanted: &[(3, 32)], ..CALM };
        let change = Change::TakeIn { learner: life(3, 32), instead_of: lives(&[(3, 31)]) };
        assert_eq!(next(&again), Some(change));
    }

    #[test]
    fn what_an_earlier_leader_left_is_ended_first() {
        let joint: &[&[(u64, u64)]] = &[&[(1, 10), (2, 20), (3, 30)], &[(1, 10), (2, 20), (3, 31)]];
        let left = Case { configs: joint, wanted: &[(2, 21)], ..CALM };
        assert_eq!(next(&left), Some(Change::EndJoint));
    }

    #[test]
    fn nobody_replaces_a_voter_that_answers_or_the_leader_or_comes_uninvited() {
        assert_eq!(next(&Case { wanted: &[(2, 21)], ..CALM }), None);
        assert_eq!(next(&Case { wanted: &[(1, 11)], ..CALM }), None);
        assert_eq!(next(&Case { wanted: &[(4, 40)], ..CALM }), None);
    }

    #[test]
    fn a_group_of_one_grows_to_what_is_configured() {
        let grows = Case { configs: &[&[(1, 10)]], wanted: &[(2, 20), (3, 30)], heard: &[], up_to_date: &[], ..CALM };
        let change = Change::TakeIn { learner: life(2, 20), instead_of: BTreeSet::new() };
        assert_eq!(next(&grows), Some(change));
    }
}
