//! Messages whose lease ended and that nobody took since, found by place and by tag.

use std::collections::{BTreeMap, BTreeSet};

use apogee_model::{QueueId, QueueOffset, TagFilter};

type Place = (QueueId, QueueOffset);

/// Of one group on one topic. Indexed by tag, so that a filter never looks at what it does not want.
#[derive(Debug, Default)]
pub(super) struct Ready {
    tags: BTreeMap<Place, u32>,
    by_tag: BTreeMap<u32, BTreeSet<Place>>,
}

impl Ready {
    pub(super) fn insert(&mut self, place: Place, tag_hash: u32) {
        self.remove(place);
        self.tags.insert(place, tag_hash);
        self.by_tag.entry(tag_hash).or_default().insert(place);
    }

    pub(super) fn remove(&mut self, place: Place) {
        let Some(tag_hash) = self.tags.remove(&place) else { return };
        if let Some(places) = self.by_tag.get_mut(&tag_hash) {
            places.remove(&place);
            if places.is_empty() {
                self.by_tag.remove(&tag_hash);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// The message at the lowest place that the filter may want.
    pub(super) fn first(&self, filter: &TagFilter) -> Option<Place> {
        match filter {
            TagFilter::All => self.tags.keys().next().copied(),
            TagFilter::AnyOf(_) => {
                let wanted = self.by_tag.iter().filter(|(tag_hash, _)| filter.may_want(**tag_hash));
                wanted.filter_map(|(_, places)| places.first().copied()).min()
            }
        }
    }
}
