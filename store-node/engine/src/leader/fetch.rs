//! Finding messages for somebody who only reads.

use std::ops::ControlFlow;

use apogee_model::QueueOffset;
use apogee_model::store::{Fetch, FetchFrom};

use super::Leader;
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
    /// Committed messages only: what is on its way to the log is no part of the applied view.
    pub(super) fn locate(&self, fetch: &Fetch) -> Located {
        let (topic, queue) = (fetch.topic, fetch.queue);
        let state = self.state.queue(topic, queue);
        let (min, max) = (state.min, state.next);
        let from = match fetch.from {
            FetchFrom::Offset(offset) => offset.clamp(min, max),
            FetchFrom::Time(at) => self.first_stored(topic, queue, min..max, at),
            FetchFrom::End => max,
        };
        let (messages, mut room) = (fetch.messages.min(Fetch::MESSAGES_MAX), fetch.bytes.min(Fetch::BYTES_MAX));
        let (mut places, mut next) = (Vec::new(), from);
        self.state.places(topic, queue, from, max, |offset, place| {
            let len = usize::try_from(place.len).unwrap_or(usize::MAX);
            if places.len() >= messages || (len > room && !places.is_empty()) {
                return ControlFlow::Break(());
            }
            room = room.saturating_sub(len);
            places.push((offset, place));
            next = offset.next();
            ControlFlow::Continue(())
        });
        Located { min, max, next, places }
    }
}
