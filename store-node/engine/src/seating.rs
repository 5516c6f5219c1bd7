//! Who a replica group is to be, and how far it has come with that.

use std::collections::BTreeSet;

use apogee_model::ReplicaId;
use tokio::sync::watch;

use crate::again::Again;

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

    /// Who may be a member.
    pub(crate) fn known(&self) -> impl Iterator<Item = ReplicaId> {
        self.replicas.iter().copied().chain(self.exchange.map(|exchange| exchange.comes))
    }

    pub(crate) fn knows(&self, replica: ReplicaId) -> bool {
        self.known().any(|known| known == replica)
    }

    /// Whether this replica is to take the place of another.
    pub(crate) fn is_to_come(&self, replica: ReplicaId) -> bool {
        self.exchange.is_some_and(|exchange| exchange.comes == replica)
    }

    /// Whom this replica has beside it.
    pub(crate) fn company_of(&self, me: ReplicaId) -> Company {
        match self.exchange {
            _ if !self.replicas.iter().eq([&me]) => Company::Others,
            None => Company::Nobody,
            Some(_) => Company::Successor,
        }
    }
}

/// Whom a replica has beside it. It is opened for that and stays so until it begins again.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Company {
    /// All that is on its disk is committed.
    Nobody,
    /// Whoever takes its place, and may lack what it has.
    Successor,
    /// They have what it has.
    Others,
}

impl Company {
    pub(crate) fn is_alone(self) -> bool {
        self == Company::Nobody
    }

    /// Waits until a replica that was opened alone is so no more, or the other way round, and lets it begin again.
    pub(crate) async fn watch(self, me: ReplicaId, mut seating: watch::Receiver<Seating>, again: Again) {
        let alone = |seating: &Seating| seating.company_of(me).is_alone();
        // Without a sender it stays as it is.
        if seating.wait_for(|now| alone(now) != self.is_alone()).await.is_ok() {
            again.because(if self.is_alone() { "it is alone no more" } else { "it is alone now" });
        }
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
        assert_eq!(seating(&[1], None).company_of(ReplicaId(1)), Company::Nobody);
        assert_eq!(seating(&[1], None).company_of(ReplicaId(2)), Company::Others);
        assert_eq!(seating(&[1, 2], None).company_of(ReplicaId(1)), Company::Others);
        let moving = seating(&[1], Some((1, 4)));
        assert_eq!(moving.company_of(ReplicaId(1)), Company::Successor);
        assert_eq!(moving.company_of(ReplicaId(4)), Company::Others);
        assert!(moving.is_to_come(ReplicaId(4)) && !moving.is_to_come(ReplicaId(1)));
        assert_eq!(moving.known().collect::<Vec<_>>(), [1, 4].map(ReplicaId));
    }

    #[test]
    fn a_fixed_seating_is_there_without_a_sender() {
        let seating = Seating::of([ReplicaId(1)]).fixed();
        assert_eq!(seating.borrow().last, ReplicaId(1));
    }

    #[tokio::test]
    async fn a_replica_begins_again_when_it_is_alone_no_more_and_when_it_is_alone() {
        let (one, two) = (ReplicaId(1), ReplicaId(2));
        let (apart, together) = (seating(&[1], None), seating(&[1], Some((1, 2))));
        for (before, after, me) in
            [(&apart, &together, one), (&together, &apart, one), (&together, &seating(&[2], None), two)]
        {
            let (sender, seated) = watch::channel(before.clone());
            let (company, again) = (before.company_of(me), Again::new());
            let mut watch = Box::pin(company.watch(me, seated, again.clone()));
            assert_eq!(futures::poll!(&mut watch), std::task::Poll::Pending);
            sender.send_replace(before.clone());
            assert_eq!(futures::poll!(&mut watch), std::task::Poll::Pending);
            sender.send_replace(after.clone());
            watch.await;
            assert!(again.said().await.why.contains("alone"));
        }
    }
}
