//! I01, I05 and I06: acked is durable, unacked comes back.

use std::time::Duration;

use super::index::{Event, Fact, Group, Index};
use super::{Invariant, Rules, Violation};
use crate::history::{MessageId, Name, Outcome, ResetTo, Span};

/// I01: after the drain, what was sent for certain has reached every group.
pub(super) fn lost(index: &Index<'_>, rules: Rules, found: &mut Vec<Violation>) {
    for (message, sent) in index.sends.iter().filter(|(_, sent)| sent.outcome == Outcome::Ok) {
        if sent.place.is_some_and(|place| index.may_be_dropped(place, sent.span.start.at, rules)) {
            continue;
        }
        for ((name, topic), group) in &index.groups {
            let skipped = sent.place.is_some_and(|place| index.may_be_skipped(group, place, sent.span));
            let skipped = skipped || index.may_never_come(*message, topic);
            let skipped = skipped || group.may_be_reset_to(ResetTo::Latest, sent.span.start.order, u64::MAX);
            let skipped = skipped || group.may_be_dead(*message) || index.refused.contains(&(*name, *message));
            if *topic == sent.topic && !group.lives.contains_key(message) && !skipped {
                let place = sent.place.map(ToString::to_string).unwrap_or_default();
                found.push(Invariant::I01.broken(format!(
                    "{message} ({place}) was sent for certain {} and never reached group {name}",
                    sent.span
                )));
            }
        }
    }
}

/// I06: an ack that returned OK is the end.
pub(super) fn acks(index: &Index<'_>, found: &mut Vec<Violation>) {
    for ((name, _), group) in &index.groups {
        for (message, life) in &group.lives {
            let mut acked: Option<&Event<'_>> = None;
            for event in life {
                match (&event.what, acked) {
                    (Fact::Acked { outcome: Outcome::Ok, .. } | Fact::GaveUp { outcome: Outcome::Ok, .. }, None) => {
                        acked = Some(event);
                    }
                    (Fact::Delivered { .. }, Some(ack))
                        if group.may_be_reset_to(ResetTo::Earliest, ack.span.start.order, event.span.end.order) =>
                    {
                        acked = None;
                    }
                    (Fact::Delivered { delivery, .. }, Some(ack)) if event.span.start.order > ack.span.end.order => {
                        found.push(Invariant::I06.broken(format!(
                            "{message} ({}) was acked by group {name} {} and came again, attempt {}, {}",
                            delivery.place, ack.span, delivery.attempt, event.span
                        )));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// I05: a message that is neither acked nor held is found by the next receive.
pub(super) fn returns(index: &Index<'_>, rules: Rules, found: &mut Vec<Violation>) {
    for ((name, _), group) in &index.groups {
        for (message, life) in &group.lives {
            let may_be_acked = |event: &Event<'_>| {
                matches!(
                    event.what,
                    Fact::Acked { outcome: Outcome::Ok | Outcome::Indeterminate, .. }
                        | Fact::GaveUp { outcome: Outcome::Ok | Outcome::Indeterminate, .. }
                )
            };
            if group.may_be_dead(*message) {
                continue;
            }
            let begun = life.first().map_or(0, |event| event.span.start.order);
            // Retention leaves what consumers hold; a reset takes it from them.
            let let_go = group.may_be_reset(begun, u64::MAX);
            if life.iter().any(|event| torn_away(index, event, let_go)) {
                continue;
            }
            if !life.iter().any(may_be_acked) && !group.may_be_reset_to(ResetTo::Latest, begun, u64::MAX) {
                let deliveries = life.iter().filter(|event| matches!(event.what, Fact::Delivered { .. })).count();
                found.push(Invariant::I05.broken(format!(
                    "{message} was delivered to group {name} {deliveries} times, never acked, and is gone"
                )));
            }
            // In an ordered group it may have to wait for others.
            if !index.in_order.contains(name) {
                found.extend(overlooked(name, *message, life, group, rules));
            }
        }
    }
}

/// Whether retention by size, or with `let_go` retention and a reset together, may have taken what was delivered.
pub(super) fn torn_away(index: &Index<'_>, event: &Event<'_>, let_go: bool) -> bool {
    match &event.what {
        Fact::Delivered { delivery, .. } => {
            let place = &delivery.place;
            index.may_be_torn_away(place) || let_go && place.offset < index.min_of(&place.topic, place.queue)
        }
        Fact::Acked { .. } | Fact::GaveUp { .. } | Fact::Changed { .. } | Fact::Released { .. } => false,
    }
}

/// A receive that found nothing although the message was ready for longer than the allowance.
fn overlooked(
    name: &Name,
    message: MessageId,
    life: &[Event<'_>],
    group: &Group<'_>,
    rules: Rules,
) -> Option<Violation> {
    // A reset behind a delivery ends it; what is said about that delivery afterwards changes nothing.
    let (mut hidden_until, mut delivered) = (Duration::ZERO, 0);
    for (position, Event { span, what }) in life.iter().enumerate() {
        match what {
            // It does not come again, and is a dead letter when somebody has looked.
            Fact::Delivered { delivery, .. } if group.is_last(delivery.attempt) => hidden_until = Duration::MAX,
            Fact::Delivered { delivery, .. } => {
                hidden_until = hidden_until.max(span.end.at + delivery.invisible);
                delivered = span.start.order;
            }
            Fact::Changed { outcome: Outcome::Failed, .. }
            | Fact::Acked { outcome: Outcome::Failed, .. }
            | Fact::GaveUp { outcome: Outcome::Failed, .. } => {}
            Fact::Changed { after, outcome, .. } => {
                let late = if *outcome == Outcome::Ok { Duration::ZERO } else { rules.late_effect };
                hidden_until = hidden_until.max(span.end.at + late + *after);
            }
            Fact::Acked { .. } | Fact::GaveUp { .. } => return None,
            Fact::Released { .. } => {}
        }
        let next = life[position + 1..].iter().map(|next| next.span.start.order).min().unwrap_or(u64::MAX);
        let ready = hidden_until.saturating_add(Rules::RETURN_ALLOWANCE);
        let from = group.found_nothing.partition_point(|empty| empty.start.at <= ready);
        let empty = group.found_nothing.get(from).filter(|empty| empty.end.order < next);
        let skipped = |empty: &&Span| group.may_be_reset_to(ResetTo::Latest, delivered, empty.end.order);
        if let Some(empty) = empty.filter(|empty| !skipped(empty)) {
            return Some(Invariant::I05.broken(format!(
                "{message} was unacked and free in group {name} from {hidden_until:?} on, and the receive {empty} found \
                 nothing"
            )));
        }
    }
    None
}
