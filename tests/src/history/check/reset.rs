//! Resets: what they excuse, and what they promise.
//!
//! Of a reset only its span is known. Whatever may have happened before and after it, as far as spans say, is judged as if
//! it did: a promise is broken only when no moment inside the span explains what was seen.

use super::index::{Event, Fact, Group, Index};
use super::{Invariant, Violation};
use crate::history::{Delivered, Outcome, ResetTo, Span};

/// One reset that was not refused.
pub(super) struct Reset {
    /// When it may have taken effect.
    pub(super) span: Span,
    pub(super) to: ResetTo,
    pub(super) outcome: Outcome,
}

impl Reset {
    fn may_be_within(&self, from: u64, to: u64) -> bool {
        self.span.start.order < to && self.span.end.order > from
    }
}

impl Group<'_> {
    /// Whether a reset may have taken effect between two points.
    pub(super) fn may_be_reset(&self, from: u64, to: u64) -> bool {
        self.resets.iter().any(|reset| reset.may_be_within(from, to))
    }

    /// As [`Group::may_be_reset`], by a reset to this place.
    pub(super) fn may_be_reset_to(&self, place: ResetTo, from: u64, to: u64) -> bool {
        self.resets.iter().filter(|reset| reset.to == place).any(|reset| reset.may_be_within(from, to))
    }
}

/// I01: after a reset to the past everything comes again, what was acked, too.
pub(super) fn again(index: &Index<'_>, found: &mut Vec<Violation>) {
    for ((name, topic), group) in &index.groups {
        let certain = |reset: &&Reset| reset.outcome == Outcome::Ok && reset.to == ResetTo::Earliest;
        // What comes after the last one has come after all.
        let Some(reset) = group.resets.iter().filter(certain).max_by_key(|reset| reset.span.start.order) else {
            continue;
        };
        let since = reset.span.start.order;
        if group.may_be_reset_to(ResetTo::Latest, since, u64::MAX) {
            continue;
        }
        for (message, sent) in &index.sends {
            let Some(place) = sent.place.filter(|_| sent.topic == *topic && sent.outcome == Outcome::Ok) else {
                continue;
            };
            let gone = place.offset < index.min_of(topic, place.queue) || group.may_be_dead(*message);
            if sent.span.end.order > since || gone {
                continue;
            }
            let life = group.lives.get(message).map_or(&[][..], Vec::as_slice);
            if !life.iter().any(|event| delivered(event).is_some() && event.span.end.order > since) {
                found.push(Invariant::I01.broken(format!(
                    "{message} ({place}) was sent {} and did not come again to group {name} after the reset {}",
                    sent.span, reset.span
                )));
            }
        }
    }
}

/// I06: what a reset to the end skipped does not come.
pub(super) fn skipped(index: &Index<'_>, found: &mut Vec<Violation>) {
    for ((name, _), group) in &index.groups {
        let certain = |reset: &&Reset| reset.outcome == Outcome::Ok && reset.to == ResetTo::Latest;
        for reset in group.resets.iter().filter(certain) {
            for (message, life) in &group.lives {
                // Where it was when the group was reset, nobody knows of a message that comes late.
                let sent_before = !index.comes_late(*message)
                    && index.sends.get(message).is_some_and(|sent| {
                        sent.outcome == Outcome::Ok && sent.span.end.order < reset.span.start.order
                    });
                let later = life.iter().filter(|event| event.span.start.order > reset.span.end.order);
                let Some(event) = later.filter(|_| sent_before).find(|event| delivered(event).is_some()) else {
                    continue;
                };
                if !group.may_be_reset_to(ResetTo::Earliest, reset.span.start.order, event.span.end.order) {
                    found.push(Invariant::I06.broken(format!(
                        "{message} was skipped by the reset {} of group {name} and came {}",
                        reset.span, event.span
                    )));
                }
            }
        }
    }
}

fn delivered<'a>(event: &Event<'a>) -> Option<&'a Delivered> {
    match event.what {
        Fact::Delivered { delivery, .. } => Some(delivery),
        Fact::Acked { .. } | Fact::GaveUp { .. } | Fact::Changed { .. } | Fact::Released { .. } => None,
    }
}
