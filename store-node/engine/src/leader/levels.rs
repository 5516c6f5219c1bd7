//! Pops from a PRIORITY topic, whose queues are levels: the most urgent messages first.
//!
//! What comes again keeps its level, so it comes before everything that is less urgent, new or not.

use std::cmp::Reverse;

use apogee_model::QueueId;
use apogee_model::store::Pop;

use super::pop::{Picking, RETRY_FIRST_EVERY};
use super::{Grant, Leader};

impl Leader {
    /// From the highest level down. Nothing of a level is taken while somebody has to look at messages of a higher one.
    pub(super) fn pick_by_level(&mut self, picking: &mut Picking<'_>, turn: u64) {
        for level in (0..picking.pop.topic.queues.max(1)).rev().map(QueueId) {
            if turn.is_multiple_of(RETRY_FIRST_EVERY) {
                self.pick_ready(picking, (level, level));
                self.pick_new_in(picking, level);
            } else {
                self.pick_new_in(picking, level);
                self.pick_ready(picking, (level, level));
            }
            if picking.full() || picking.budget == 0 || picking.burials.full() || !picking.unseen.is_empty() {
                return;
            }
        }
    }
}

/// A batch has the most urgent messages first, whichever way they were found.
pub(super) fn sort(pop: &Pop, grants: &mut [Grant]) {
    if pop.priority.is_some() {
        grants.sort_by_key(|grant| (Reverse(grant.key.queue), grant.key.offset));
    }
}
