//! I07: a group that wants it gets the messages of a message group in order, each when those before are settled.

use std::collections::BTreeMap;

use super::index::{Fact, Group, Index};
use super::{Invariant, Violation};
use crate::history::{Call, MessageId, Name, Outcome, Place, Span, What};

/// The messages of one message group in one queue, by offset.
type Line = BTreeMap<u64, MessageId>;

pub(super) fn overtaken(index: &Index<'_>, calls: &[Call], found: &mut Vec<Violation>) {
    for call in calls {
        batch(index, call, found);
    }
    for ((name, topic), group) in &index.groups {
        // A reset lets a group begin anew with messages it had settled.
        if !index.in_order.contains(name) || !group.resets.is_empty() {
            continue;
        }
        for ((queue, _), line) in lines(index, topic) {
            of_line(index, (*name, *topic, queue), group, &line, found);
        }
    }
}

/// One answer holds the messages of a message group in order.
fn batch(index: &Index<'_>, call: &Call, found: &mut Vec<Violation>) {
    let What::Receive { group, deliveries, .. } = &call.what else { return };
    if !index.in_order.contains(group) {
        return;
    }
    let mut last: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    for delivery in deliveries {
        let Place { queue, offset, .. } = delivery.place;
        if let Some(before) = last.insert((queue, delivery.message.message_group()), offset)
            && before > offset
        {
            found.push(Invariant::I07.broken(format!(
                "a receive of group {group} {} holds offset {offset} of queue {queue} behind {before}",
                call.span
            )));
        }
    }
}

/// Everything whose place somebody knows.
fn lines(index: &Index<'_>, topic: &Name) -> BTreeMap<(u32, u64), Line> {
    let mut lines: BTreeMap<(u32, u64), Line> = BTreeMap::new();
    let sent = index.sends.iter().filter_map(|(message, sent)| Some((*message, sent.place?)));
    let seen = index.groups.values().flat_map(|group| &group.lives).flat_map(|(message, life)| {
        life.iter().filter_map(|event| match &event.what {
            Fact::Delivered { delivery, .. } => Some((*message, &delivery.place)),
            Fact::Acked { .. } | Fact::GaveUp { .. } | Fact::Changed { .. } | Fact::Released { .. } => None,
        })
    });
    for (message, place) in sent.chain(seen).filter(|(_, place)| place.topic == *topic) {
        lines.entry((place.queue, message.message_group())).or_default().insert(place.offset, message);
    }
    lines
}

fn of_line(
    index: &Index<'_>,
    (name, topic, queue): (&Name, &Name, u32),
    group: &Group<'_>,
    line: &Line,
    found: &mut Vec<Violation>,
) {
    let min = index.min_of(topic, queue);
    // Messages that hold back those behind them, and until when.
    let mut before: Vec<(MessageId, u64, u64)> = Vec::new();
    let mut latest = 0;
    for (offset, message) in line {
        for span in deliveries(group, *message).filter(|span| latest >= span.end.order) {
            let in_the_way = before.iter().find(|(earlier, _, until)| {
                *until >= span.end.order && !deliveries(group, *earlier).any(|other| other == span)
            });
            if let Some((earlier, at, _)) = in_the_way {
                found.push(Invariant::I07.broken(format!(
                    "group {name} received {message} ({topic}/{queue}@{offset}) {span}, before {earlier} ({topic}/{queue}@{at}) \
                     of the same message group was settled"
                )));
            }
        }
        let place = Place { topic: topic.clone(), queue, offset: *offset };
        let skipped = index.sends.get(message).is_some_and(|sent| index.may_be_skipped(group, &place, sent.span));
        if *offset >= min && !skipped {
            let until = settled(group, *message);
            latest = latest.max(until);
            before.push((*message, *offset, until));
        }
    }
}

fn deliveries(group: &Group<'_>, message: MessageId) -> impl Iterator<Item = Span> {
    let life = group.lives.get(&message).into_iter().flatten();
    life.filter(|event| matches!(event.what, Fact::Delivered { .. })).map(|event| event.span)
}

/// When the message was settled, at the earliest; never, if nobody acked it.
fn settled(group: &Group<'_>, message: MessageId) -> u64 {
    if group.may_be_dead(message) {
        // It was buried after it was delivered last, and nobody hears of that.
        return deliveries(group, message).map(|span| span.start.order).max().unwrap_or_default();
    }
    let life = group.lives.get(&message).into_iter().flatten();
    let acks =
        life.filter(|event| matches!(event.what, Fact::Acked { outcome: Outcome::Ok | Outcome::Indeterminate, .. }));
    acks.map(|event| event.span.start.order).min().unwrap_or(u64::MAX)
}
