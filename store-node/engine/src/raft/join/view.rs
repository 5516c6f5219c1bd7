//! What a leader sees of its group, and what follows from that: the next change, and how far an exchange is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use apogee_model::ReplicaId;

use crate::raft::types::RaftMembership;
use crate::replica::{Instance, Member, spaced};
use crate::seating::{Exchange, Reached, ReachedHow, Seating};

/// What the leader sees. Its membership is committed.
pub(super) struct View<'a> {
    pub(super) me: Member,
    pub(super) seating: &'a Seating,
    pub(super) membership: &'a RaftMembership,
    pub(super) wanted: BTreeMap<ReplicaId, Instance>,
    /// Who answered within an election timeout.
    pub(super) heard: BTreeSet<Member>,
    /// Who has nearly all of the log.
    pub(super) up_to_date: BTreeSet<Member>,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// An earlier leader left two configurations at once.
    EndJoint,
    /// Learners that nobody wants any more.
    Forget { strangers: BTreeSet<Member> },
    TakeIn {
        learner: Member,
        /// Learners of the same replica that came to nothing.
        instead_of: BTreeSet<Member>,
    },
    /// In the place of an earlier life of the same replica.
    Promote { learner: Member, voters: BTreeSet<Member> },
    /// In the place of another replica.
    Swap { learner: Member, voters: BTreeSet<Member> },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndJoint => f.write_str("end of an earlier change"),
            Self::Forget { strangers } => write!(f, "{} are to learn no more", spaced(strangers)),
            Self::TakeIn { learner, instead_of } if instead_of.is_empty() => write!(f, "{learner} learns"),
            Self::TakeIn { learner, instead_of } => write!(f, "{learner} learns instead of {}", spaced(instead_of)),
            Self::Promote { learner, voters } => write!(f, "{learner} votes, of {}", spaced(voters)),
            Self::Swap { learner, voters } => write!(f, "{learner} votes for another replica, of {}", spaced(voters)),
        }
    }
}

impl View<'_> {
    /// The next step; at most one at a time.
    pub(super) fn next(&self) -> Option<Change> {
        // Whatever the seating is: of two configurations there is only one way out.
        if self.membership.get_joint_config().len() > 1 {
            return Some(Change::EndJoint);
        }
        if self.is_outdated() {
            return None;
        }
        let voters = self.voters()?;
        let learners = self.learners();
        self.forget(voters, &learners)
            .or_else(|| self.take_in_or_promote(voters, &learners))
            .or_else(|| self.swap(voters, &learners))
    }

    /// How far the exchange is.
    pub(super) fn reached(&self) -> Option<Reached> {
        let (voters, Exchange { leaves, comes, swaps }) = (self.voters()?, self.seating.exchange?);
        if self.is_outdated() {
            return None;
        }
        if has(voters, comes) {
            return (!has(voters, leaves)).then_some(Reached { comes, how: ReachedHow::Done });
        }
        let ready = !swaps && self.ready(&self.learners(), comes).is_some();
        ready.then_some(Reached { comes, how: ReachedHow::Ready })
    }

    /// Who votes, unless two configurations are in force.
    fn voters(&self) -> Option<&BTreeSet<Member>> {
        match self.membership.get_joint_config().as_slice() {
            [voters] => Some(voters),
            _ => None,
        }
    }

    fn learners(&self) -> BTreeSet<Member> {
        self.membership.learner_ids().collect()
    }

    /// Whether the log has a number that the metadata of this leader do not know.
    fn is_outdated(&self) -> bool {
        self.membership.nodes().any(|(member, ())| member.replica > self.seating.last)
    }

    /// The replica that has given its vote away, and is to have none again.
    fn gone(&self, voters: &BTreeSet<Member>) -> Option<ReplicaId> {
        self.seating.exchange.filter(|exchange| has(voters, exchange.comes)).map(|exchange| exchange.leaves)
    }

    fn forget(&self, voters: &BTreeSet<Member>, learners: &BTreeSet<Member>) -> Option<Change> {
        let gone = self.gone(voters);
        let stranger = |learner: &&Member| !self.seating.knows(learner.replica) || Some(learner.replica) == gone;
        let strangers: BTreeSet<_> = learners.iter().filter(stranger).copied().collect();
        (!strangers.is_empty()).then_some(Change::Forget { strangers })
    }

    fn take_in_or_promote(&self, voters: &BTreeSet<Member>, learners: &BTreeSet<Member>) -> Option<Change> {
        let gone = self.gone(voters);
        let others = self.seating.known().filter(|replica| *replica != self.me.replica && Some(*replica) != gone);
        // Somebody who does what this replica's voter should do must not be replaced by a namesake.
        let answers =
            |replica: ReplicaId| voters.iter().any(|voter| voter.replica == replica && self.heard.contains(voter));
        let mut replaceable = others.filter(|replica| !answers(*replica));
        replaceable.find_map(|replica| {
            let take_in = self.take_in(replica, voters, learners);
            // Who comes gets its vote from another, and not before that is allowed.
            take_in.or_else(|| {
                self.seating.replicas.contains(&replica).then(|| self.promote(replica, voters, learners))?
            })
        })
    }

    fn take_in(&self, replica: ReplicaId, voters: &BTreeSet<Member>, learners: &BTreeSet<Member>) -> Option<Change> {
        let learner = Member { replica, instance: *self.wanted.get(&replica)? };
        let is_in = learners.contains(&learner) || voters.contains(&learner);
        (!is_in).then(|| Change::TakeIn { learner, instead_of: lives(learners, replica) })
    }

    fn promote(&self, replica: ReplicaId, voters: &BTreeSet<Member>, learners: &BTreeSet<Member>) -> Option<Change> {
        let learner = self.ready(learners, replica)?;
        let voters = voters.difference(&lives(voters, replica)).copied().chain([learner]).collect();
        Some(Change::Promote { learner, voters })
    }

    fn swap(&self, voters: &BTreeSet<Member>, learners: &BTreeSet<Member>) -> Option<Change> {
        let Exchange { leaves, comes, .. } = self.seating.exchange.filter(|exchange| exchange.swaps)?;
        if !has(voters, leaves) || has(voters, comes) {
            return None;
        }
        // A leader lets another one lead first, if there is one.
        if self.me.replica == leaves && voters.len() > 1 {
            return None;
        }
        let learner = self.ready(learners, comes)?;
        let voters: BTreeSet<_> = voters.difference(&lives(voters, leaves)).copied().chain([learner]).collect();
        let there = voters.iter().filter(|voter| **voter == self.me || self.heard.contains(voter)).count();
        (2 * there > voters.len()).then_some(Change::Swap { learner, voters })
    }

    /// The life of a replica that is there, and has nearly all of the log.
    fn ready(&self, learners: &BTreeSet<Member>, replica: ReplicaId) -> Option<Member> {
        let mut lives = learners.iter().filter(|learner| learner.replica == replica);
        lives.find(|life| self.up_to_date.contains(life) && self.heard.contains(life)).copied()
    }
}

fn has(members: &BTreeSet<Member>, replica: ReplicaId) -> bool {
    members.iter().any(|member| member.replica == replica)
}

fn lives(members: &BTreeSet<Member>, replica: ReplicaId) -> BTreeSet<Member> {
    members.iter().copied().filter(|member| member.replica == replica).collect()
}

#[cfg(test)]
mod tests;
