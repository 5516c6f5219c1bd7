//! Of how many store-nodes there are and how many there are to be: what is to be done next. No IO.
//!
//! One step at a time, decided from what is there alone, so that whoever goes on after a crash goes on with the same. A
//! StatefulSet takes and gives pods at its end only. So all store-nodes behind the wanted number drain at once, that nothing
//! moves to one that goes next, and they go one by one, the last one first, each when it keeps nothing.

use std::collections::{BTreeMap, BTreeSet};

/// The number in the name of a pod, and of its store-node.
pub(crate) type Ordinal = u32;

/// What is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) wanted: u32,
    /// Pods that the StatefulSet is to have.
    pub(crate) replicas: u32,
    /// Pods there are, those that are about to go as well.
    pub(crate) pods: BTreeSet<Ordinal>,
    /// Its store-nodes that the cluster knows.
    pub(crate) nodes: BTreeMap<Ordinal, Node>,
    /// Those that drain because of the object, as its status says.
    pub(crate) leaving: BTreeSet<Ordinal>,
    /// Replicas of a replica group.
    pub(crate) factor: u32,
}

/// A store-node, as the cluster shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) standing: Standing,
    /// Replicas it keeps or is about to get.
    pub(crate) keeps: usize,
    /// Why its replicas cannot move, in a sentence that names it.
    pub(crate) stuck: Option<String>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Stays,
    Drains,
    /// Nobody misses it.
    Drained,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is as the object says.
    Nothing,
    /// To be written down, before others drain because of the object.
    Note {
        leaving: BTreeSet<Ordinal>,
    },
    Drain(BTreeSet<Ordinal>),
    /// They stay after all.
    Undrain(BTreeSet<Ordinal>),
    /// Pods from there on are made.
    ScaleOut {
        to: u32,
    },
    /// The pod of this number goes.
    ScaleIn {
        to: u32,
    },
    /// The cluster forgets a store-node whose pod is gone.
    Remove(Ordinal),
    /// Wait until the replicas of this one are elsewhere.
    Moves(Ordinal),
    /// Wait until this pod is gone.
    Leaves(Ordinal),
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "{wanted} store-nodes are too few: every replica group has {factor} replicas, each on a store-node of its own"
    )]
    TooFew { wanted: u32, factor: u32 },
    #[error("there is no StatefulSet {set} in this namespace")]
    NoSet { set: String },
    #[error("StatefulSet {set} counts its pods from {first}, and the operator only knows those that count from 0")]
    OtherOrdinals { set: String, first: i32 },
    #[error("no store-node of the cluster is a pod of StatefulSet {set}, so nobody knows what its pods keep")]
    Strangers { set: String },
    #[error("StatefulSet {set} is scaled by the object {by}")]
    Rival { set: String, by: String },
}

impl Refusal {
    /// For the condition.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refusal::TooFew { .. } => "TooFew",
            Refusal::NoSet { .. } => "NoStatefulSet",
            Refusal::OtherOrdinals { .. } => "OtherOrdinals",
            Refusal::Strangers { .. } => "NoStoreNodes",
            Refusal::Rival { .. } => "KeptByAnother",
        }
    }
}

impl Step {
    /// The store-node of which an old picture of the cluster would be dangerous.
    pub(crate) fn rests_on(&self, wanted: u32) -> Option<Ordinal> {
        match *self {
            Step::ScaleIn { to } => Some(to),
            Step::ScaleOut { to } if to > wanted => Some(to - 1),
            _ => None,
        }
    }
}

impl Seen {
    /// What is to be done next; `set` is the name of the StatefulSet.
    ///
    /// # Errors
    /// [`Refusal`] when nothing can or may be done.
    pub(crate) fn decide(&self, set: &str) -> Result<Step, Refusal> {
        let Seen { wanted, replicas, factor, .. } = *self;
        if wanted < factor {
            return Err(Refusal::TooFew { wanted, factor });
        }
        let stay = self.leaving.range(..wanted).copied().filter(|one| self.drains(*one)).collect::<BTreeSet<_>>();
        if !stay.is_empty() {
            return Ok(Step::Undrain(stay));
        }
        if replicas < wanted {
            return Ok(Step::ScaleOut { to: wanted });
        }
        let leaving = self.to_leave();
        if leaving != self.leaving {
            return Ok(Step::Note { leaving });
        }
        let stand = |one: &Ordinal| self.standing(*one) == Some(Standing::Stays);
        let drain = leaving.into_iter().filter(stand).collect::<BTreeSet<_>>();
        if !drain.is_empty() {
            return Ok(Step::Drain(drain));
        }
        if let Some(step) = self.beyond() {
            return Ok(step);
        }
        if replicas == wanted { Ok(Step::Nothing) } else { self.last(set) }
    }

    /// Who drains because of the object: whoever goes, unless somebody else drained it already.
    fn to_leave(&self) -> BTreeSet<Ordinal> {
        let known = self.nodes.range(self.wanted..).map(|(one, _)| *one);
        let all = (self.wanted..self.replicas).chain(known);
        all.filter(|one| self.leaving.contains(one) || !self.drains(*one)).collect()
    }

    /// What is to be done about store-nodes and pods that the StatefulSet is not to have any more. One that keeps something,
    /// because somebody else scaled the StatefulSet, gets its pod back.
    fn beyond(&self) -> Option<Step> {
        let beyond = || self.nodes.range(self.replicas..).rev();
        if let Some((keeps, _)) = beyond().find(|(_, node)| node.standing == Standing::Drains) {
            return Some(Step::ScaleOut { to: keeps + 1 });
        }
        if let Some(pod) = self.pods.range(self.replicas..).next_back() {
            return Some(Step::Leaves(*pod));
        }
        beyond().next().map(|(gone, _)| Step::Remove(*gone))
    }

    /// The last pod goes when its store-node keeps nothing, or never came.
    fn last(&self, set: &str) -> Result<Step, Refusal> {
        let last = self.replicas - 1;
        match self.standing(last) {
            Some(Standing::Drained) => Ok(Step::ScaleIn { to: last }),
            Some(Standing::Drains | Standing::Stays) => Ok(Step::Moves(last)),
            None if self.nodes.is_empty() => Err(Refusal::Strangers { set: set.to_owned() }),
            None => Ok(Step::ScaleIn { to: last }),
        }
    }

    fn standing(&self, one: Ordinal) -> Option<Standing> {
        self.nodes.get(&one).map(|node| node.standing)
    }

    fn drains(&self, one: Ordinal) -> bool {
        matches!(self.standing(one), Some(Standing::Drains | Standing::Drained))
    }
}

#[cfg(test)]
mod tests;
