//! Finding messages for somebody who only reads.

use std::ops::ControlFlow;

use apogee_model::store::{Fetch, FetchFrom};
use apogee_model::{Filter, QueueOffset, TagFilter};

use super::Leader;
use super::pop::SCAN_BUDGET;
use crate::views::Place;

/// Where the messages of a fetch are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Located {
    pub(crate) min: QueueOffset,
    pub(crate) max: QueueOffset,
    pub(crate) next: QueueOffset,
    pub(crate) places: Vec<(QueueOffset, Place)>,
}

impl Leader {
    /// Committed messages only: what is on its way to the log is no part of the applied view. Those that are named still
    /// have to be looked at when the fetch is particular; those with another tag are not among them.
    pub(super) fn locate(&self, fetch: &Fetch) -> Located {
        let (topic, queue) = (fetch.topic, fetch.queue);
        let state = self.state.queue(topic, queue);
        let (min, max) = (state.min, state.next);
        let from = match fetch.from {
            FetchFrom::Offset(offset) => offset.clamp(min, max),
            FetchFrom::Time(at) => self.first_stored(topic, queue, min..max, at),
            FetchFrom::End => max,
        };
        let (messages, mut room) = (most(fetch), fetch.bytes.min(Fetch::BYTES_MAX));
        let (mut places, mut next, mut budget) = (Vec::new(), from, SCAN_BUDGET);
        self.state.places(topic, queue, from, max, |offset, place| {
            let len = usize::try_from(place.len).unwrap_or(usize::MAX);
            if places.len() >= messages || budget == 0 {
                return ControlFlow::Break(());
            }
            if fetch.filter.may_want(place.tag_hash) {
                if len > room && !places.is_empty() {
                    return ControlFlow::Break(());
                }
                room = room.saturating_sub(len);
                places.push((offset, place));
            }
            budget -= 1;
            next = offset.next();
            ControlFlow::Continue(())
        });
        Located { min, max, next, places }
    }
}

/// Messages that are to be read, at most: as many as shall be found, unless reading decides which these are.
fn most(fetch: &Fetch) -> usize {
    let all = matches!(fetch.filter, Filter::Tags(TagFilter::All)) && fetch.message_id.is_none();
    if all || fetch.messages == 0 { fetch.messages.min(Fetch::MESSAGES_MAX) } else { Fetch::MESSAGES_MAX }
}
