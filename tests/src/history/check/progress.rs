//! I11 and I12: progress never goes back, and attempts are counted one by one.

use std::collections::BTreeMap;

use super::index::{Event, Fact, Group, Index};
use super::{Invariant, Violation};
use crate::history::{Call, Handle, MessageId, Name, Outcome, What};

/// How often the system may have counted a message as delivered.
#[derive(Default)]
struct Count {
    low: u32,
    high: u32,
    handle: Option<Handle>,
    /// Where the call began that delivered it last.
    since: u64,
}

/// I12: attempts grow by one with each delivery, and begin anew with a reset. One that was released is not counted, and receives without an answer may
/// have counted without anybody seeing it.
pub(super) fn attempts(index: &Index<'_>, found: &mut Vec<Violation>) {
    for ((name, _), group) in &index.groups {
        let unanswered = Unanswered::of(group);
        for (message, life) in &group.lives {
            of_one(name, *message, life, group, &unanswered, found);
        }
    }
}

fn of_one(
    name: &Name,
    message: MessageId,
    life: &[Event<'_>],
    group: &Group<'_>,
    unanswered: &Unanswered,
    found: &mut Vec<Violation>,
) {
    let mut count = Count::default();
    for Event { span, what } in life {
        match what {
            Fact::Delivered { delivery, outcome, .. } => {
                let again = count.handle == Some(delivery.handle);
                let unseen = if again { 0 } else { unanswered.between(count.since, span.end.order) };
                let step = u32::from(!again);
                if !again && group.may_be_reset(count.since, span.end.order) {
                    count.low = 0;
                }
                if !(count.low + step..=count.high + step + unseen).contains(&delivery.attempt) {
                    found.push(Invariant::I12.broken(format!(
                        "{message} ({}) came to group {name} {span} as attempt {}, after attempt {}",
                        delivery.place, delivery.attempt, count.high
                    )));
                }
                let low = delivery.attempt - u32::from(*outcome != Outcome::Ok).min(delivery.attempt);
                let (high, handle, since) = (delivery.attempt, Some(delivery.handle), span.start.order);
                count = Count { low, high, handle, since };
            }
            Fact::Released { handle } if count.handle == Some(*handle) => count.low = count.low.saturating_sub(1),
            Fact::Released { .. } | Fact::Acked { .. } | Fact::GaveUp { .. } | Fact::Changed { .. } => {}
        }
    }
}

/// Starts and ends of receives without an answer, each sorted.
struct Unanswered {
    starts: Vec<u64>,
    ends: Vec<u64>,
}

impl Unanswered {
    fn of(group: &Group<'_>) -> Self {
        let mut starts: Vec<_> = group.unanswered.iter().map(|lost| lost.span.start.order).collect();
        let mut ends: Vec<_> = group.unanswered.iter().map(|lost| lost.span.end.order).collect();
        starts.sort_unstable();
        ends.sort_unstable();
        Self { starts, ends }
    }

    /// How many may have had their effect between two points.
    fn between(&self, from: u64, to: u64) -> u32 {
        let begun = self.starts.partition_point(|start| *start < to);
        let over = self.ends.partition_point(|end| *end < from);
        u32::try_from(begun - over.min(begun)).unwrap_or(u32::MAX)
    }
}

/// I11: floor and cursor of a queue never go back from one report to a later one, but by a reset.
pub(super) fn reports(index: &Index<'_>, calls: &[Call], found: &mut Vec<Violation>) {
    let mut last: BTreeMap<(&Name, &Name, u32), (u64, u64, &Call)> = BTreeMap::new();
    for call in calls {
        let What::Progress { group, topic, queue, floor, cursor } = &call.what else { continue };
        let key = (group, topic, *queue);
        if let Some((old_floor, old_cursor, earlier)) = last.get(&key)
            && earlier.span.end.order < call.span.start.order
            && (floor < old_floor || cursor < old_cursor)
            && !index
                .groups
                .get(&(group, topic))
                .is_some_and(|of| of.may_be_reset(earlier.span.start.order, call.span.end.order))
        {
            found.push(Invariant::I11.broken(format!(
                "group {group} on {topic}/{queue} went back from floor {old_floor} and cursor {old_cursor} {} to floor \
                 {floor} and cursor {cursor} {}",
                earlier.span, call.span
            )));
        }
        last.insert(key, (*floor, *cursor, call));
    }
}
