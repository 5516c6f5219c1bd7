//! One replica among others: who it is, and what it is doing.

use std::fmt;

use apogee_model::{Epoch, ReplicaGroupId, ReplicaId};
use tokio::sync::watch;

use crate::seating::{Company, Seating};

/// A replica and those it forms a replica group with.
#[derive(Clone, Debug)]
pub struct Members {
    pub me: ReplicaId,
    /// Its replica group, for people: several share a process.
    pub group: ReplicaGroupId,
    /// Who votes when the replica group is born, and whom a leader may take in later; the log says who votes. Nobody has to
    /// keep the sender.
    pub seating: watch::Receiver<Seating>,
    /// The cluster this replica group belongs to, fixed in the data folder when it is first used.
    pub cluster_id: u64,
}

impl Members {
    /// Whom this replica has beside it now.
    pub(crate) fn company(&self) -> Company {
        self.seating.borrow().company_of(self.me)
    }

    /// The only replica of the first replica group.
    pub fn alone() -> Self {
        let me = ReplicaId(1);
        Self { me, group: ReplicaGroupId(0), seating: Seating::of([me]).fixed(), cluster_id: 0 }
    }
}

/// Which life of a replica this is: drawn when its data folder is first used, and again when what it held is lost. A
/// replica that lost its log has forgotten what it promised, so it must not be taken for the one it was.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub(crate) struct Instance(pub(crate) u64);

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who votes: one life of a replica. Consensus takes two lives of a replica for two members, of which one is gone.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub(crate) struct Member {
    pub(crate) replica: ReplicaId,
    pub(crate) instance: Instance,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.replica, self.instance)
    }
}

/// For people, and for files.
pub(crate) fn spaced<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    members.into_iter().map(Member::to_string).collect::<Vec<_>>().join(" ")
}

/// What a replica is doing.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Follows, as far as it knows this one, or nobody.
    Follower { leader: Option<ReplicaId> },
    /// Decides, in this epoch.
    Leader { epoch: Epoch },
}

/// When the result of a send is told. Everything else is told after commit, in every mode; and a message is visible
/// after commit, in every mode.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum AckMode {
    /// A majority has it on disk.
    #[default]
    QuorumFsync,
    /// The leader has it on disk.
    LeaderFsync,
    /// The leader wrote it.
    Memory,
}
