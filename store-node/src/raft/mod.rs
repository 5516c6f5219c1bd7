//! The way between the replicas of a replica group. The frames are the engine's; here they are carried to the right
//! replica, and only there. Replicas of several groups share a port.

mod link;
mod peers;
mod server;

pub use peers::{BadAddress, TonicPeers};
pub use server::Replication;

use apogee_engine::FRAME_MAX;
use apogee_model::{ReplicaGroupId, ReplicaId};
use apogee_proto::store::v1;

/// Largest message on the wire: a frame and who it is for.
const MESSAGE_MAX: usize = FRAME_MAX + 1024;

/// A replica of a cluster, as the wiring is checked by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub cluster_id: u64,
    pub group: ReplicaGroupId,
    pub replica: ReplicaId,
}

/// Frames that were meant for somebody else, or come from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum WrongWiring {
    #[error("the first frame does not say who it is from and for")]
    Unsaid,
    #[error("this store-node belongs to cluster {ours:016x}, the frame is from cluster {theirs:016x}")]
    Cluster { ours: u64, theirs: u64 },
    #[error("this store-node has no replica of broker-{group}")]
    Group { group: ReplicaGroupId },
    #[error("this is replica {me}, the frame is for replica {meant}; replica {from} has a wrong address of it")]
    Replica { me: ReplicaId, meant: ReplicaId, from: ReplicaId },
    #[error("this is replica {me}, and the frame says it is from replica {me} too; two replicas have the same id")]
    Twin { me: ReplicaId },
}

impl Identity {
    fn wiring_to(self, to: ReplicaId) -> v1::Wiring {
        let Self { cluster_id, group, replica } = self;
        v1::Wiring { cluster_id, from_replica: replica.0, to_replica: to.0, replica_group: group.0 }
    }

    /// Refuses what is not for this replica of its group.
    fn check(self, wiring: &v1::Wiring) -> Result<(), WrongWiring> {
        let Identity { cluster_id: ours, replica: me, .. } = self;
        let (theirs, from, meant) = (wiring.cluster_id, ReplicaId(wiring.from_replica), ReplicaId(wiring.to_replica));
        if theirs != ours {
            return Err(WrongWiring::Cluster { ours, theirs });
        }
        if meant != me {
            return Err(WrongWiring::Replica { me, meant, from });
        }
        if from == me {
            return Err(WrongWiring::Twin { me });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_wiring_is_named() {
        let group = ReplicaGroupId(4);
        let identity = |cluster_id, replica| Identity { cluster_id, group, replica: ReplicaId(replica) };
        let told = |from: Identity, to| {
            let checked = identity(0xa, 1).check(&from.wiring_to(ReplicaId(to)));
            checked.map_or_else(|wrong| wrong.to_string(), |()| "fine".to_owned())
        };
        assert_eq!(told(identity(0xa, 2), 1), "fine");
        assert!(told(identity(0xb, 2), 1).contains("from cluster 000000000000000b"));
        assert!(told(identity(0xa, 2), 3).contains("is for replica 3; replica 2 has a wrong address"));
        assert!(told(identity(0xa, 1), 1).contains("two replicas have the same id"));
    }
}
