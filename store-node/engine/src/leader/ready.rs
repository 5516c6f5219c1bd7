//! Messages whose lease ended and that nobody took since, found by place, by tag, and by what expressions made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use apogee_model::{QueueId, QueueOffset, Sql, TagFilter};

type Place = (QueueId, QueueOffset);

/// The first and the last of some queues.
pub(super) type Queues = (QueueId, QueueId);

pub(super) const ALL_QUEUES: Queues = (QueueId(0), QueueId(u16::MAX));

/// Expressions of which the verdicts are remembered; a group has one, or two while its consumers are replaced.
const EXPRESSIONS_MAX: usize = 4;

/// Of one group on one topic. Indexed by tag, so that a filter never looks at what it does not want.
#[derive(Debug, Default)]
pub(super) struct Ready {
    tags: BTreeMap<Place, u32>,
    by_tag: BTreeMap<u32, BTreeSet<Place>>,
    /// Oldest first; of each the messages that it does not refuse, and whether it is known to want them.
    by_expression: Vec<(Arc<Sql>, BTreeMap<Place, bool>)>,
}

impl Ready {
    pub(super) fn insert(&mut self, place: Place, tag_hash: u32) {
        self.remove(place);
        self.tags.insert(place, tag_hash);
        self.by_tag.entry(tag_hash).or_default().insert(place);
        for (_, open) in &mut self.by_expression {
            open.insert(place, false);
        }
    }

    pub(super) fn remove(&mut self, place: Place) {
        let Some(tag_hash) = self.tags.remove(&place) else { return };
        for (_, open) in &mut self.by_expression {
            open.remove(&place);
        }
        if let Some(places) = self.by_tag.get_mut(&tag_hash) {
            places.remove(&place);
            if places.is_empty() {
                self.by_tag.remove(&tag_hash);
            }
        }
    }

    pub(super) fn contains(&self, place: Place) -> bool {
        self.tags.contains_key(&place)
    }

    /// The first messages of some queues that an expression does not refuse, at most so many, and whether it is known to
    /// want them.
    pub(super) fn open(&mut self, sql: &Arc<Sql>, queues: Queues, count: usize) -> Vec<(Place, bool)> {
        let known = self.by_expression.iter().position(|(known, _)| known == sql);
        let at = known.unwrap_or_else(|| {
            if self.by_expression.len() >= EXPRESSIONS_MAX {
                self.by_expression.remove(0);
            }
            let open = self.tags.keys().map(|place| (*place, false)).collect();
            self.by_expression.push((Arc::clone(sql), open));
            self.by_expression.len() - 1
        });
        self.by_expression[at].1.range(places(queues)).take(count).map(|(place, wanted)| (*place, *wanted)).collect()
    }

    /// What an expression makes of a message.
    pub(super) fn learn(&mut self, sql: &Sql, place: Place, wanted: bool) {
        let Some((_, open)) = self.by_expression.iter_mut().find(|(known, _)| **known == *sql) else { return };
        if !wanted {
            open.remove(&place);
        } else if let Some(known) = open.get_mut(&place) {
            *known = true;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// The message at the lowest place in some queues that the filter may want.
    pub(super) fn first(&self, filter: &TagFilter, queues: Queues) -> Option<Place> {
        let within = places(queues);
        match filter {
            TagFilter::All => self.tags.range(within).next().map(|(place, _)| *place),
            TagFilter::AnyOf(_) => {
                let wanted = self.by_tag.iter().filter(|(tag_hash, _)| filter.may_want(**tag_hash));
                wanted.filter_map(|(_, places)| places.range(within.clone()).next().copied()).min()
            }
        }
    }
}

fn places((first, last): Queues) -> RangeInclusive<Place> {
    (first, QueueOffset(0))..=(last, QueueOffset(u64::MAX))
}
