//! Who a replica group is to be, and how far it has come with that.

use std::collections::BTreeSet;

use apogee_model::ReplicaId;
use tokio::sync::watch;

/// Who a replica group is to be, as the metadata say. It may be older than what the log says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seating {
    /// Who has a vote, or had one until the exchange was made.
    pub replicas: BTreeSet<ReplicaId>,
    /// One replica takes the place of another.
    pub exchange: Option<Exchange>,
    /// The largest number that a replica of this group was ever given, as far as these metadata know.
    pub last: ReplicaId,
}

/// A replica takes the place of another.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Is one of [`Seating::replicas`].
    pub leaves: ReplicaId,
    /// Is none of them yet.
    pub comes: ReplicaId,
    /// The vote may be given to the one that comes; until then it only learns.
    pub swaps: bool,
}

/// What the leader sees of an exchange.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    /// Which exchange: no number is given twice.
    pub comes: ReplicaId,
    pub how: ReachedHow,
}

/// See [`Reached`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ReachedHow {
    /// The replica that comes has nearly all of the log.
    Ready,
    /// It has the vote of the one that leaves, and that is committed.
    Done,
}

impl Seating {
    /// These replicas and no exchange. No number above theirs was ever given.
    pub fn of(replicas: impl IntoIterator<Item = ReplicaId>) -> Self {
        let replicas: BTreeSet<_> = replicas.into_iter().collect();
        let last = replicas.last().copied().unwrap_or(ReplicaId(0));
        Self { replicas, exchange: None, last }
    }

    /// A watch of a seating that stays as it is.
    pub fn fixed(self) -> watch::Receiver<Self> {
        watch::channel(self).1
    }

    /// Who may be a member, in the order of their numbers.
    pub(crate) fn known(&self) -> BTreeSet<ReplicaId> {
        let comes = self.exchange.map(|exchange| exchange.comes);
        self.replicas.iter().copied().chain(comes).collect()
    }

    /// Whether this replica is to take the place of another.
    pub(crate) fn is_to_come(&self, replica: ReplicaId) -> bool {
        self.exchange.is_some_and(|exchange| exchange.comes == replica)
    }

    /// Whether this replica is the only one, and stays so.
    pub(crate) fn is_alone(&self, me: ReplicaId) -> bool {
        self.exchange.is_none() && self.replicas.iter().eq([&me])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seating(replicas: &[u64], exchange: Option<(u64, u64)>) -> Seating {
        let exchange = exchange.map(|(leaves, comes)| Exchange {
            leaves: ReplicaId(leaves),
            comes: ReplicaId(comes),
            swaps: false,
        });
        Seating { exchange, ..Seating::of(replicas.iter().copied().map(ReplicaId)) }
    }

    #[test]
    fn who_comes_is_known_and_nobody_is_alone_with_it() {
        assert_eq!(seating(&[1, 2, 3], None).last, ReplicaId(3));
        assert!(seating(&[1], None).is_alone(ReplicaId(1)));
        assert!(!seating(&[1], None).is_alone(ReplicaId(2)));
        assert!(!seating(&[1, 2], None).is_alone(ReplicaId(1)));
        let moving = seating(&[1], Some((1, 4)));
        assert!(!moving.is_alone(ReplicaId(1)) && !moving.is_alone(ReplicaId(4)));
        assert!(moving.is_to_come(ReplicaId(4)) && !moving.is_to_come(ReplicaId(1)));
        assert_eq!(moving.known(), [1, 4].map(ReplicaId).into());
    }

    #[test]
    fn a_fixed_seating_is_there_without_a_sender() {
        let seating = Seating::of([ReplicaId(1)]).fixed();
        assert_eq!(seating.borrow().last, ReplicaId(1));
    }
}
