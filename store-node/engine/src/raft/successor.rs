//! Who may lead instead of this leader, as far as it knows.

use std::time::Duration;

use apogee_model::ReplicaId;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, Raft};

use super::HEARTBEAT;
use super::machine::Machine;
use super::types::Types;
use crate::replica::Member;

/// A replica that answered this long ago is taken to be there. It is asked with every heartbeat.
const IN_TOUCH: Duration = HEARTBEAT.saturating_mul(3);
/// Blocks a successor may lack: it gets them within the moment in which the leader finishes what it has begun. A follower
/// that keeps up with a busy leader lacks a few.
const NEARLY: u64 = 16;

/// The voter that has most of the log, whether or not it is there; never `me`.
pub(super) fn furthest(raft: &Raft<Types, Machine>, me: Member) -> Option<Member> {
    let metrics = raft.data_metrics();
    let metrics = metrics.borrow_watched();
    let voters: Vec<Member> = raft.voter_ids().collect();
    let others = metrics.replication.iter().flatten().filter(|(id, _)| **id != me && voters.contains(id));
    others.max_by_key(|(id, matched)| (**matched, **id)).map(|(id, _)| *id)
}

/// The member that `replica` is, if it votes, answered a moment ago and has nearly all of the log; never `me`.
pub(super) fn successor(raft: &Raft<Types, Machine>, me: Member, replica: ReplicaId) -> Option<Member> {
    let metrics = raft.data_metrics();
    let metrics = metrics.borrow_watched();
    let end = metrics.last_log.as_ref().map_or(0, |last| last.index);
    let (heard, have) = (metrics.heartbeat.as_ref()?, metrics.replication.as_ref()?);
    let in_touch = |id: &Member| heard.get(id).copied().flatten().is_some_and(|at| at.elapsed() < IN_TOUCH);
    let has = |id: &Member| have.get(id).cloned().flatten().map_or(0, |matched| matched.index);
    raft.voter_ids().find(|id| id.replica == replica && *id != me && in_touch(id) && end <= has(id) + NEARLY)
}
