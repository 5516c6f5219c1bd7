//! I14: replicas agree.

use std::collections::BTreeMap;

use super::{Invariant, Violation};
use crate::history::Name;

/// What one replica holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replica {
    pub name: Name,
    /// The newest block that its views know.
    pub applied: u64,
    /// Every row of its views, as text.
    pub views: String,
    /// The committed blocks it holds, by index.
    pub log: BTreeMap<u64, Block>,
}

/// Where a block is, and what is in it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Position in the log, in bytes.
    pub lsn: u64,
    pub digest: u64,
}

/// I14: what two replicas both hold is the same, and so are the views of those that applied the same.
pub fn agree(replicas: &[Replica]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (nth, one) in replicas.iter().enumerate() {
        for other in &replicas[nth + 1..] {
            found.extend(log_differs(one, other));
            if one.applied == other.applied {
                found.extend(views_differ(one, other));
            }
        }
        found.extend(hole(one));
    }
    found
}

fn log_differs(one: &Replica, other: &Replica) -> Option<Violation> {
    let common = one.log.iter().filter_map(|(index, block)| Some((index, block, other.log.get(index)?)));
    let (index, block, others) = common.into_iter().find(|(_, block, others)| block != others)?;
    let (one, other) = (&one.name, &other.name);
    Some(Invariant::I14.broken(format!("block {index} is {block:x?} on {one} and {others:x?} on {other}")))
}

fn views_differ(one: &Replica, other: &Replica) -> Option<Violation> {
    if one.views == other.views {
        return None;
    }
    let mut lines = one.views.lines().zip(other.views.lines());
    let (row, others) = lines.find(|(row, others)| row != others).unwrap_or(("one row more or less", "the other"));
    let (applied, one, other) = (one.applied, &one.name, &other.name);
    Some(
        Invariant::I14
            .broken(format!("the views of {one} and {other} at block {applied} differ: {row:?} against {others:?}")),
    )
}

/// A log without holes: what a replica holds is one run of blocks.
fn hole(replica: &Replica) -> Option<Violation> {
    let mut pairs = replica.log.keys().zip(replica.log.keys().skip(1));
    let (index, next) = pairs.find(|(index, next)| **index + 1 != **next)?;
    Some(Invariant::I14.broken(format!("the log of {} goes from block {index} to {next}", replica.name)))
}
