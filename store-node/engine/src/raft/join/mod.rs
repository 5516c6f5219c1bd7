//! How a replica comes into its replica group: as a founder, or taken in by those who are there.
//!
//! A replica that lost its log has forgotten whom it voted for and which blocks it said it has. Were it to go on under
//! its old name, a majority could be counted that never was. So a member of consensus is one life of a replica
//! ([`crate::replica::Member`]): the instance is drawn when the data folder is first used, and every question of
//! consensus says which instance it is meant for. A replica with a new instance is a new member and the old one is a
//! dead voter, whatever the two have in common. An instance for each replica beside consensus would not do: whoever
//! reads the log from its beginning passes through the memberships of the past, and would take part in them.
//!
//! A replica whose folder holds no [`crate::commitlog::Admission`] has no log and has promised nothing. It is
//! **outside**: it answers no question of consensus, and asks all the others "what am I to you?" ([`frames`]) until one
//! of these holds ([`ask`]):
//!
//! - Somebody says *member*: the committed membership has this instance. It writes `taken in` and takes part.
//! - Somebody says *founded*, with founders among whom is this instance. It writes them down and begins with them.
//! - It has the smallest number of all, and **all** others said *fresh*: it writes down everybody's instance and begins
//!   with them. Only this one makes founders, the others take theirs from whoever has them.
//!
//! There is one set of founders, however often replicas crash or lose their disks meanwhile:
//!
//! - A founder set that was written down is never forgotten but with the disk, and whoever has one is not fresh.
//! - Let the smallest replica write down M1, lose its disk, and write down M2 in its next life. Everybody said *fresh*
//!   to the next life. If somebody got M1 later, the first such got it by a question it asked before, because the old
//!   life was over by then and nobody else had M1. So an answer *founded* is dropped when this replica said *fresh* to
//!   anybody after it asked ([`Ear::says_fresh_no_more`]); it asks again.
//! - A crash between writing founders down and the first block: the file is there, so the replica begins with the
//!   same founders. openraft refuses that when there is a vote or a block already, and then there is nothing to do.
//! - A crash before: the replica is fresh, or somebody tells it.
//!
//! The leader takes in who asks with an instance that is not a member ([`registrar`], [`view`]), one change at a time: first
//! as a learner; then, when it has nearly all of the log, as a voter in the place of the old instance, by joint consensus,
//! which needs a majority of the others, because the old instance never answers. Nothing of it is kept in memory only:
//! whoever is outside asks all the time, and who is a learner is in the log. A voter that was heard a moment ago is
//! not replaced: somebody started a second process with its number.
//!
//! Who may be a member at all is said from outside ([`Seating`]), and so is it when one replica takes the place of another
//! ([`crate::Exchange`]): whoever comes is outside like any other, but founds nothing; it learns, and gets the vote of the one
//! that leaves in one joint change, once that is allowed. Leaders may know an older seating than the log does. That one of
//! the exchanges is over is in the log, too, and a number that is larger than all that a leader knows tells it that it
//! knows too little, so an old seating makes a leader do less than it may, and never more.

pub(crate) mod ask;
pub(crate) mod ear;
pub(super) mod frames;
pub(crate) mod registrar;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use apogee_model::ReplicaId;
use tokio::time::Instant;

use super::types::StoredMembership;
use crate::replica::{Instance, Member};
#[cfg(doc)]
use crate::seating::Seating;

/// Whoever has not asked for this long does not want to be taken in any more; it asks every half second.
const WANTED: Duration = Duration::from_secs(3);

/// The newest membership that was applied. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Committed(Arc<RwLock<StoredMembership>>);

impl Committed {
    pub(crate) fn set(&self, membership: StoredMembership) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = membership;
    }

    pub(crate) fn get(&self) -> StoredMembership {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who asked to be taken in, and when. Clones share it; there is one entry for each replica of the seating.
#[derive(Clone, Default)]
pub(crate) struct Wanted(Arc<Mutex<BTreeMap<ReplicaId, (Instance, Instant)>>>);

impl Wanted {
    fn note(&self, asker: Member) {
        self.lock().insert(asker.replica, (asker.instance, Instant::now()));
    }

    fn now(&self) -> BTreeMap<ReplicaId, Instance> {
        let mut wanted = self.lock();
        wanted.retain(|_, (_, at)| at.elapsed() < WANTED);
        wanted.iter().map(|(replica, (instance, _))| (*replica, *instance)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, (Instance, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
