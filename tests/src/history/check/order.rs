//! I02, I03 and I10: what is delivered was sent, as it was sent, and every message has a place of its own.

use std::collections::BTreeMap;

use super::index::{Fact, Index};
use super::{Invariant, Violation};
use crate::history::{Delivered, MessageId, Name, Outcome, Place, Span};

/// I02 and I03, for every delivery.
pub(super) fn sends(index: &Index<'_>, found: &mut Vec<Violation>) {
    for (message, delivery, span, name) in deliveries(index) {
        let Some(sent) = index.sends.get(&message) else {
            found.push(
                Invariant::I02
                    .broken(format!("group {name} received {message} ({}) {span}, which nobody sent", delivery.place)),
            );
            continue;
        };
        if sent.outcome == Outcome::Failed || span.end.order < sent.span.start.order {
            found.push(Invariant::I02.broken(format!(
                "group {name} received {message} ({}) {span}, whose send {} {}",
                delivery.place,
                sent.span,
                if sent.outcome == Outcome::Failed { "was refused" } else { "had not begun" }
            )));
        }
        if sent.digest != delivery.digest || *sent.topic != delivery.place.topic {
            found.push(Invariant::I03.broken(format!(
                "{message} ({}) was sent to {} with digest {:016x} and reached group {name} with {:016x}",
                delivery.place, sent.topic, sent.digest, delivery.digest
            )));
        }
    }
}

/// I10: of all places anybody saw, each holds one message, none is left out, and they grow with time.
pub(super) fn places(index: &Index<'_>, found: &mut Vec<Violation>) {
    let mut seen: BTreeMap<&Place, MessageId> = BTreeMap::new();
    let mut homes: BTreeMap<MessageId, &Place> = BTreeMap::new();
    let sent = index.sends.iter().filter_map(|(message, sent)| Some((*message, sent.place?)));
    let all = sent.chain(deliveries(index).map(|(message, delivery, ..)| (message, &delivery.place)));
    for (message, place) in all {
        let other = *seen.entry(place).or_insert(message);
        if other != message {
            found.push(Invariant::I10.broken(format!("{place} holds {other} and {message}")));
        }
        let home = *homes.entry(message).or_insert(place);
        if home != place {
            found.push(Invariant::I10.broken(format!("{message} is at {home} and at {place}")));
        }
    }
    dense(index, &seen, found);
    growing(index, found);
}

/// The drain has shown every message that is stored, so that an offset nobody saw is a hole, unless it was trimmed, or
/// every group begins behind it.
fn dense(index: &Index<'_>, seen: &BTreeMap<&Place, MessageId>, found: &mut Vec<Violation>) {
    let mut next: Option<(&Name, u32, u64)> = None;
    for Place { topic, queue, offset } in seen.keys().copied() {
        let expected = next.filter(|(t, q, _)| (*t, q) == (topic, queue)).map_or(0, |(_, _, expected)| expected);
        let first = expected.max(index.min_of(topic, *queue));
        if *offset > first && !index.may_be_unheard(topic, *queue, offset - first) {
            found.push(
                Invariant::I10
                    .broken(format!("{topic}/{queue} has no message at offset {expected}, but one at {offset}")),
            );
        }
        next = Some((topic, *queue, offset + 1));
    }
}

type ByOffset = BTreeMap<u64, (MessageId, Span)>;

/// A send that began after another one returned gets the higher offset of the same queue.
fn growing(index: &Index<'_>, found: &mut Vec<Violation>) {
    let mut queues: BTreeMap<(&Name, u32), ByOffset> = BTreeMap::new();
    for (message, sent) in &index.sends {
        if let Some(place) = sent.place {
            queues.entry((&place.topic, place.queue)).or_default().insert(place.offset, (*message, sent.span));
        }
    }
    for sends in queues.values() {
        // The latest start among all lower offsets must not lie behind this end.
        let mut latest: Option<(MessageId, u64)> = None;
        for (offset, (message, span)) in sends {
            if let Some((earlier, _)) = latest.filter(|(_, start)| *start > span.end.order) {
                found.push(Invariant::I10.broken(format!(
                    "{message} got offset {offset}, above that of {earlier}, whose send began after it returned"
                )));
            }
            let start = span.start.order;
            latest = Some(latest.filter(|(_, latest)| *latest >= start).unwrap_or((*message, start)));
        }
    }
}

fn deliveries<'a>(index: &'a Index<'a>) -> impl Iterator<Item = (MessageId, &'a Delivered, Span, &'a Name)> {
    index.groups.iter().flat_map(|((name, _), group)| {
        let events = group.lives.iter().flat_map(|(message, life)| life.iter().map(move |event| (*message, event)));
        events.filter_map(move |(message, event)| match &event.what {
            Fact::Delivered { delivery, .. } => Some((message, *delivery, event.span, *name)),
            _ => None,
        })
    })
}
