//! Replicas leave store-nodes that drain: for each one another comes, and leaves only when that one has its vote.
//!
//! Namesrv says what is to be, the leader of the replica group does it, and reports. A move has two stages. In the first
//! the replica that comes has no vote, and no leader gives it one; so the move can be given up at any time, and what it
//! brought can be thrown away. The leader reports that it has nearly everything, and from the moment on when namesrv has
//! written that down, any leader may swap the two, so nothing but the end of the move can follow. The leader reports that
//! too, when it is committed. Reports may come late, twice, or from a leader that leads no more: none of that matters,
//! because they name the replica that comes, whose number belongs to one move only.

use std::collections::BTreeMap;
use std::sync::Arc;

use apogee_model::{
    Cluster, MetadataError, MoveStage, NodeName, NodeStanding, ReplicaGroup, ReplicaGroupId, ReplicaId, ReplicaMove,
};

use super::Change;
use super::placement::{Loads, loads, replacement};

/// Moves that a store-node takes part in at a time, giving or taking: each reads, sends and writes a whole CommitLog.
const AT_ONCE: usize = 2;

/// Whether [`Command::BeginMoves`](super::Command::BeginMoves) would change anything.
pub(crate) fn are_due(cluster: &Cluster) -> bool {
    !due(cluster).is_empty()
}

/// Gives up the moves that nobody wants any more, and begins those that are due.
pub(super) fn begin(cluster: &Cluster) -> Change {
    let groups = due(cluster);
    if groups.is_empty() { Change::Nothing } else { Change::ReplicasMoved(groups) }
}

/// The replica that comes has nearly all that the others have.
pub(super) fn ready(cluster: &Cluster, group: ReplicaGroupId, comes: ReplicaId) -> Change {
    match current(cluster, group, comes) {
        Some((group, moving)) if moving.stage == MoveStage::Joins && is_wanted(cluster, group, moving) => {
            let moving = ReplicaMove { stage: MoveStage::Swaps, ..moving.clone() };
            Change::ReplicasMoved(vec![Arc::new(ReplicaGroup { moving: Some(moving), ..group.clone() })])
        }
        Some(_) | None => Change::Nothing,
    }
}

/// The replica that comes has its vote and the one that leaves has none, by a membership that is committed.
///
/// # Errors
/// [`MetadataError::Refused`] when nobody was allowed to do that yet.
pub(super) fn done(cluster: &Cluster, group: ReplicaGroupId, comes: ReplicaId) -> Result<Change, MetadataError> {
    match current(cluster, group, comes) {
        Some((group, moving)) if moving.stage == MoveStage::Swaps => {
            Ok(Change::ReplicasMoved(vec![Arc::new(swapped(group, moving))]))
        }
        Some(_) => {
            let why = format!("replica {comes} of broker-{group} is not to vote yet");
            Err(MetadataError::Refused { why })
        }
        None => Ok(Change::Nothing),
    }
}

/// The move that brings this replica, if it is under way.
fn current(cluster: &Cluster, group: ReplicaGroupId, comes: ReplicaId) -> Option<(&ReplicaGroup, &ReplicaMove)> {
    let group = cluster.replica_groups.get(&group)?;
    let moving = group.moving.as_ref().filter(|moving| moving.comes == comes)?;
    Some((group, moving))
}

/// The replica groups that are to be otherwise, as they are to be.
fn due(cluster: &Cluster) -> Vec<Arc<ReplicaGroup>> {
    let groups: Vec<ReplicaGroup> =
        cluster.replica_groups.values().map(|group| without_unwanted(cluster, group)).collect();
    let mut hands = Hands { cluster, loads: loads(&groups), busy: busy(&groups) };
    let moved = groups.into_iter().map(|group| match hands.next_move(&group) {
        Some(moving) => ReplicaGroup { moving: Some(moving), ..group },
        None => group,
    });
    let changed = moved.filter(|group| cluster.replica_groups.get(&group.id).is_none_or(|before| **before != *group));
    changed.map(Arc::new).collect()
}

/// Who has how much in hand, while moves are dealt out.
struct Hands<'a> {
    cluster: &'a Cluster,
    loads: Loads,
    busy: BTreeMap<NodeName, usize>,
}

impl Hands<'_> {
    /// The next move of a replica group, if one is due and can begin now. When the best store-node to take the replica
    /// has its hands full, it is waited for.
    fn next_move(&mut self, group: &ReplicaGroup) -> Option<ReplicaMove> {
        if group.moving.is_some() {
            return None;
        }
        let (leaves, from) = group.replicas.iter().find(|(_, host)| drains(self.cluster, host))?;
        let to = replacement(self.cluster, group, *leaves, &self.loads)?;
        let is_free = |node: &NodeName| self.busy.get(node).is_none_or(|moves| *moves < AT_ONCE);
        if !is_free(from) || !is_free(&to) {
            return None;
        }
        let comes = ReplicaId(group.last_replica().0.checked_add(1)?);
        for node in [from, &to] {
            *self.busy.entry(node.clone()).or_default() += 1;
        }
        *self.loads.entry(to.clone()).or_default() += 1;
        Some(ReplicaMove { leaves: *leaves, comes, to, stage: MoveStage::Joins })
    }
}

fn busy(groups: &[ReplicaGroup]) -> BTreeMap<NodeName, usize> {
    let mut busy = BTreeMap::new();
    for group in groups {
        let Some(moving) = &group.moving else { continue };
        for node in group.replicas.get(&moving.leaves).into_iter().chain([&moving.to]) {
            *busy.entry(node.clone()).or_default() += 1;
        }
    }
    busy
}

/// The group as it is, or without its move, when that has become pointless and can still be given up.
fn without_unwanted(cluster: &Cluster, group: &ReplicaGroup) -> ReplicaGroup {
    match &group.moving {
        Some(moving) if moving.stage == MoveStage::Joins && !is_wanted(cluster, group, moving) => {
            ReplicaGroup { moving: None, last_gone: group.last_gone.max(moving.comes), ..group.clone() }
        }
        Some(_) | None => group.clone(),
    }
}

/// Whether the one side still drains, and the other one stays.
fn is_wanted(cluster: &Cluster, group: &ReplicaGroup, moving: &ReplicaMove) -> bool {
    let leaves = group.replicas.get(&moving.leaves).is_some_and(|host| drains(cluster, host));
    leaves && cluster.nodes.contains_key(&moving.to) && !drains(cluster, &moving.to)
}

fn drains(cluster: &Cluster, node: &NodeName) -> bool {
    cluster.nodes.get(node).is_some_and(|node| node.standing == NodeStanding::Draining)
}

/// The group when the move is over. The place of the preferred replica is taken, too.
fn swapped(group: &ReplicaGroup, moving: &ReplicaMove) -> ReplicaGroup {
    let ReplicaMove { leaves, comes, to, .. } = moving.clone();
    let mut replicas = group.replicas.clone();
    replicas.remove(&leaves);
    replicas.insert(comes, to);
    let preferred = if group.preferred == leaves { comes } else { group.preferred };
    ReplicaGroup { id: group.id, replicas, preferred, moving: None, last_gone: group.last_gone.max(leaves) }
}
