//! One replica among others: who it is, and what it is doing.

use std::collections::BTreeSet;

use apogee_model::{Epoch, ReplicaId};

/// A replica and those it forms a replica group with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    pub me: ReplicaId,
    /// Who votes when the replica group is born; later the log says who does.
    pub voters: BTreeSet<ReplicaId>,
    /// The cluster this replica group belongs to, fixed in the data folder when it is first used.
    pub cluster_id: u64,
}

impl Members {
    /// The only replica of its group.
    pub fn alone() -> Self {
        Self { me: ReplicaId(1), voters: BTreeSet::from([ReplicaId(1)]), cluster_id: 0 }
    }
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
