//! I04: one lease at a time.

use std::time::Duration;

use super::index::{Event, Fact, Group, Index};
use super::{Invariant, Rules, Violation};
use crate::history::{Delivered, Handle, MessageId, Name, Outcome, Span};

/// The newest delivery of a message, and until when it certainly hides the message.
struct Held<'a> {
    delivery: &'a Delivered,
    attempt_id: Option<u64>,
    received: Span,
    until: Duration,
    /// End of the last call that moved `until`.
    moved: u64,
}

impl Held<'_> {
    /// A call that set the window to end `after` its own effect, which lies somewhere in `span`.
    fn moves(&mut self, span: Span, after: Duration, outcome: Outcome) {
        let until = span.start.at + after;
        let certain = outcome == Outcome::Ok && span.start.order > self.moved;
        self.until = if certain { until } else { self.until.min(until) };
        self.moved = self.moved.max(span.end.order);
    }

    /// Calls that were on their way while `next` delivered the message, and returned after it.
    fn meanwhile(&mut self, later: &[Event<'_>], next: Span) {
        for Event { span, what } in later.iter().filter(|event| event.span.start.order < next.end.order) {
            if let Some((_, after, _)) = settles(what).filter(|(handle, ..)| *handle == self.delivery.handle) {
                self.moves(*span, after, Outcome::Indeterminate);
            }
        }
    }
}

/// What a settlement does to the window of which delivery. An ack or a release ends it, at the latest when the message
/// comes again.
fn settles(what: &Fact<'_>) -> Option<(Handle, Duration, Outcome)> {
    match what {
        Fact::Acked { outcome: Outcome::Failed, .. }
        | Fact::GaveUp { outcome: Outcome::Failed, .. }
        | Fact::Changed { outcome: Outcome::Failed, .. } => None,
        Fact::Acked { handle, .. } | Fact::GaveUp { handle, .. } | Fact::Released { handle } => {
            Some((*handle, Duration::ZERO, Outcome::Indeterminate))
        }
        Fact::Changed { handle, after, outcome } => Some((*handle, *after, *outcome)),
        Fact::Delivered { .. } => None,
    }
}

pub(super) fn windows(index: &Index<'_>, rules: Rules, found: &mut Vec<Violation>) {
    for ((name, _), group) in &index.groups {
        for (message, life) in &group.lives {
            of_one(name, *message, life, group, rules, found);
        }
    }
}

fn of_one(
    name: &Name,
    message: MessageId,
    life: &[Event<'_>],
    group: &Group<'_>,
    rules: Rules,
    found: &mut Vec<Violation>,
) {
    let mut held: Option<Held<'_>> = None;
    for (position, Event { span, what }) in life.iter().enumerate() {
        if let Some((handle, after, outcome)) = settles(what)
            && let Some(held) = held.as_mut().filter(|held| held.delivery.handle == handle)
        {
            held.moves(*span, after, outcome);
        }
        let Fact::Delivered { delivery, attempt_id, outcome } = what else { continue };
        if let Some(earlier) = &mut held {
            if earlier.delivery.handle == delivery.handle && earlier.attempt_id == *attempt_id {
                earlier.moves(*span, delivery.invisible, *outcome);
                continue;
            }
            earlier.meanwhile(&life[position + 1..], *span);
            found.extend(overlap(name, message, earlier, (delivery, *span), group, rules));
        }
        // A receive that broke off may have been released by the system.
        let until = if *outcome == Outcome::Ok { span.start.at + delivery.invisible } else { Duration::ZERO };
        held = Some(Held { delivery, attempt_id: *attempt_id, received: *span, until, moved: span.end.order });
    }
}

fn overlap(
    name: &Name,
    message: MessageId,
    earlier: &Held<'_>,
    (delivery, span): (&Delivered, Span),
    group: &Group<'_>,
    rules: Rules,
) -> Option<Violation> {
    if earlier.delivery.handle == delivery.handle {
        let received = earlier.received;
        return Some(Invariant::I04.broken(format!(
            "{message} ({}) went to two receives of group {name} under one handle: {received} and {span}",
            delivery.place
        )));
    }
    if group.may_be_reset(earlier.received.start.order, span.end.order) {
        return None;
    }
    // A repeated receive whose answer was lost may have moved the window too.
    let repeats = group.unanswered.iter().filter(|lost| {
        earlier.attempt_id.is_some()
            && lost.attempt_id == earlier.attempt_id
            && lost.span.end.order > earlier.received.start.order
    });
    let until = repeats.map(|lost| lost.span.start.at + lost.invisible).fold(earlier.until, Duration::min);
    (span.end.at + rules.window_allowance() < until).then(|| {
        Invariant::I04.broken(format!(
            "{message} ({}) has two live deliveries in group {name}: attempt {} received {} is hidden until {until:?}, \
             attempt {} was received {span}",
            delivery.place, earlier.delivery.attempt, earlier.received, delivery.attempt
        ))
    })
}
