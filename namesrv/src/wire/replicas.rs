//! Replica groups, and the moves of their replicas.

use apogee_model::{MoveStage, ReplicaGroup, ReplicaGroupId, ReplicaId, ReplicaMove};
use apogee_proto::namesrv::v1;

use super::{Read, bad, read_node_name};

pub(super) fn replica_group(group: &ReplicaGroup) -> v1::ReplicaGroup {
    let replicas = group.replicas.iter().map(|(replica, node)| (replica.0, node.as_str().to_owned())).collect();
    v1::ReplicaGroup {
        id: group.id.0,
        replicas,
        preferred: group.preferred.0,
        moving: group.moving.as_ref().map(replica_move),
        last_gone: group.last_gone.0,
    }
}

pub(super) fn read_replica_group(group: v1::ReplicaGroup) -> Read<ReplicaGroup> {
    let replica = |(replica, node): (u64, String)| Ok((ReplicaId(replica), read_node_name(&node)?));
    Ok(ReplicaGroup {
        id: ReplicaGroupId(group.id),
        replicas: group.replicas.into_iter().map(replica).collect::<Read<_>>()?,
        preferred: ReplicaId(group.preferred),
        moving: group.moving.map(read_replica_move).transpose()?,
        last_gone: ReplicaId(group.last_gone),
    })
}

fn replica_move(moving: &ReplicaMove) -> v1::ReplicaMove {
    let stage = match moving.stage {
        MoveStage::Joins => v1::MoveStage::Joins,
        MoveStage::Swaps => v1::MoveStage::Swaps,
    };
    let (leaves, comes, to) = (moving.leaves.0, moving.comes.0, moving.to.as_str().to_owned());
    v1::ReplicaMove { leaves, comes, to, stage: stage.into() }
}

fn read_replica_move(moving: v1::ReplicaMove) -> Read<ReplicaMove> {
    let stage = match moving.stage() {
        v1::MoveStage::Unspecified => return Err(bad("the stage of a move")),
        v1::MoveStage::Joins => MoveStage::Joins,
        v1::MoveStage::Swaps => MoveStage::Swaps,
    };
    let (leaves, comes, to) = (ReplicaId(moving.leaves), ReplicaId(moving.comes), read_node_name(&moving.to)?);
    Ok(ReplicaMove { leaves, comes, to, stage })
}

#[cfg(test)]
mod tests {
    use apogee_model::NodeName;

    use super::*;

    #[test]
    fn a_move_arrives_as_it_was_told() {
        let name = |name| NodeName::parse(name).unwrap();
        let replicas = [(ReplicaId(2), name("n2")), (ReplicaId(3), name("n3"))].into();
        let group = ReplicaGroup::new(ReplicaGroupId(7), replicas, ReplicaId(3));
        assert_eq!(read_replica_group(replica_group(&group)).unwrap(), group);
        for stage in [MoveStage::Joins, MoveStage::Swaps] {
            let moving = ReplicaMove { leaves: ReplicaId(2), comes: ReplicaId(5), to: name("n5"), stage };
            let group = ReplicaGroup { moving: Some(moving), last_gone: ReplicaId(4), ..group.clone() };
            assert_eq!(read_replica_group(replica_group(&group)).unwrap(), group);
        }
        let mut nowhere = replica_group(&group);
        nowhere.moving = Some(v1::ReplicaMove { leaves: 2, comes: 5, to: "n5".to_owned(), stage: 0 });
        assert!(read_replica_group(nowhere).is_err());
    }
}
