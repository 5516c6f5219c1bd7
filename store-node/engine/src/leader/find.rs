//! Where messages are that somebody looks for, and what became of one.

use std::ops::ControlFlow;

use apogee_model::store::{
    Delivered, Find, FindBy, GroupTrace, HalfId, KeptId, Progress, Resolution, Trace, Whereabouts,
};
use apogee_model::{QueueId, QueueOffset, Timestamp, TopicId};

use super::Leader;
use crate::block::Lsn;
use crate::pop::Entry;
use crate::record::QueueOf;
use crate::state::Term;

/// Rows of the index that one search looks at.
const ROWS: usize = 4096;
/// Rows of a queue that are looked at for a message that came late to it.
const PLACES: usize = 16_384;

/// Where a message may be that is looked for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Track {
    pub(crate) lsn: Lsn,
    pub(crate) len: u32,
    pub(crate) stored_at: Timestamp,
}

/// What the record of a message says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Spoor {
    pub(crate) track: Track,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) was: Was,
}

/// What a message was when it was written.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Was {
    At(QueueOffset),
    Kept(KeptId),
    Half(HalfId),
}

impl Term<'_> {
    /// What a search is by.
    pub(crate) fn of(by: &FindBy) -> Term<'_> {
        match by {
            FindBy::Key(key) => Term::Key(key),
            FindBy::MessageId(id) => Term::MessageId(id),
        }
    }
}

impl Leader {
    /// The newest first.
    pub(super) fn tracks(&self, find: &Find) -> Vec<Track> {
        let rows = self.state.under(find.topic, Term::of(&find.by), Lsn(u64::MAX), ROWS);
        let tracks = rows.into_iter().map(|(lsn, row)| Track { lsn, len: row.len, stored_at: row.stored_at });
        tracks.filter(|track| find.from <= track.stored_at && track.stored_at <= find.until).collect()
    }

    /// Nothing of those that are gone, or elsewhere in the log.
    pub(super) fn follow(&self, spoors: &[Spoor]) -> Vec<Option<Whereabouts>> {
        spoors.iter().map(|spoor| self.whereabouts(spoor)).collect()
    }

    fn whereabouts(&self, spoor: &Spoor) -> Option<Whereabouts> {
        let Spoor { track, topic, queue, was } = *spoor;
        match was {
            Was::At(offset) => {
                let held = self.state.queue(topic, queue);
                let is_there = held.min <= offset && offset < held.next;
                is_there.then_some(Whereabouts::Queued { offset: Some(offset) })
            }
            Was::Kept(id) => match self.state.waits(id) {
                Some(row) => (row.lsn == track.lsn).then_some(Whereabouts::Waits { due: id.due }),
                None => {
                    let offset = self.came_late((topic, queue), track.lsn, id.due)?;
                    Some(Whereabouts::Queued { offset: Some(offset) })
                }
            },
            Was::Half(id) => match self.state.half(id) {
                Some(row) => (row.kept.lsn == track.lsn).then_some(Whereabouts::Half { id, checks: row.checks }),
                None => match self.state.half_end(id) {
                    Some(Resolution::Rollback) => None,
                    ended => {
                        let offset = self.came_late((topic, queue), track.lsn, track.stored_at);
                        (ended.is_some() || offset.is_some()).then_some(Whereabouts::Queued { offset })
                    }
                },
            },
        }
    }

    /// The offset of a message that came to its queue at this time or a little later.
    fn came_late(&self, (topic, queue): (TopicId, QueueId), lsn: Lsn, at: Timestamp) -> Option<QueueOffset> {
        let held = self.state.queue(topic, queue);
        let from = self.first_stored(topic, queue, held.min..held.next, at);
        let (mut found, mut budget) = (None, PLACES);
        self.state.places(topic, queue, from, held.next, |offset, place| {
            budget -= 1;
            if place.lsn == lsn {
                found = Some(offset);
            }
            if found.is_some() || budget == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// What became of a message in the groups that read its topic, in the order of their ids.
    pub(super) fn trace(&self, trace: Trace, now: Timestamp) -> Vec<GroupTrace> {
        let Trace { topic, queue, offset } = trace;
        let held = self.state.queue(topic, queue);
        if offset < held.min || held.next <= offset {
            return Vec::new();
        }
        let readers = self.state.pops.of_topic(topic).filter_map(|(group, _)| {
            let name = self.state.group_name(group)?.clone();
            let of = QueueOf { group, topic, queue };
            Some(GroupTrace { group, name, progress: self.progress(of, offset, now) })
        });
        let mut groups: Vec<_> = readers.collect();
        groups.sort_by_key(|trace| trace.group);
        groups
    }

    /// Committed deliveries only.
    fn progress(&self, of: QueueOf, offset: QueueOffset, now: Timestamp) -> Progress {
        use crate::pop::PopStore as _;
        let cursor = self.state.pops.get(&(of.group, of.topic)).map_or(QueueOffset(0), |pop| pop.cursor(of.queue));
        match self.state.entry(of, offset) {
            Some(entry) if entry.is_waiting() => Progress::Waits,
            Some(Entry { attempt, granted_at: at, lease_from, duration_ms, auto_renew, client, .. }) => {
                let until = Timestamp(lease_from.0.saturating_add(duration_ms));
                Progress::Delivered(Delivered { attempt, at, until, ready: until <= now, auto_renew, client })
            }
            None if offset < cursor => Progress::Settled,
            None => Progress::Ahead,
        }
    }
}
