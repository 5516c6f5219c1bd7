//! I01, I06 and I12, of dead letters: a message is delivered as often as its group allows, then it is a dead letter, once; and
//! what a consumer was done with before never is.

use std::collections::BTreeMap;

use super::index::{Event, Fact, Group, Index};
use super::settle::torn_away;
use super::{Invariant, Rules, Violation};
use crate::history::{Handle, MessageId, Name, Outcome, Span};

/// The dead letters of a group, as they are when everything is over.
#[derive(Default)]
pub(super) struct Dead {
    pub(super) max_attempts: u32,
    /// How often each is there, and a digest of it.
    pub(super) letters: BTreeMap<MessageId, Vec<u64>>,
    /// Retention took none.
    pub(super) complete: bool,
}

impl Group<'_> {
    /// Whether there is none after this delivery.
    pub(super) fn is_last(&self, attempt: u32) -> bool {
        self.dead.as_ref().is_some_and(|dead| attempt >= dead.max_attempts)
    }

    /// Whether the message is a dead letter, or may have been one that retention took.
    pub(super) fn may_be_dead(&self, message: MessageId) -> bool {
        self.dead.as_ref().is_some_and(|dead| !dead.complete || dead.letters.contains_key(&message))
    }
}

pub(super) fn letters(index: &Index<'_>, rules: Rules, found: &mut Vec<Violation>) {
    for ((name, _), group) in &index.groups {
        let Some(dead) = &group.dead else { continue };
        for (message, copies) in &dead.letters {
            copied(index, name, *message, copies, group, found);
        }
        for (message, life) in &group.lives {
            delivered(name, *message, life, dead, found);
            // What a reset lets come again may die again.
            if !group.may_be_reset(0, u64::MAX) {
                given_up(index, name, *message, life, dead, found);
                ended(name, *message, life, group, dead, rules, found);
            }
        }
    }
}

/// Each is what was sent, and is there once.
fn copied(
    index: &Index<'_>,
    name: &Name,
    message: MessageId,
    copies: &[u64],
    group: &Group<'_>,
    found: &mut Vec<Violation>,
) {
    let sent = index.sends.get(&message).map(|sent| sent.digest);
    if copies.iter().any(|copy| Some(*copy) != sent) {
        found.push(Invariant::I03.broken(format!("{message} is a dead letter of group {name} and not as it was sent")));
    }
    if copies.len() > 1 && !group.may_be_reset(0, u64::MAX) {
        found.push(Invariant::I12.broken(format!("{message} is {} dead letters of group {name}", copies.len())));
    }
}

fn delivered(name: &Name, message: MessageId, life: &[Event<'_>], dead: &Dead, found: &mut Vec<Violation>) {
    for Event { span, what } in life {
        if let Fact::Delivered { delivery, .. } = what
            && delivery.attempt > dead.max_attempts
        {
            found.push(Invariant::I12.broken(format!(
                "{message} ({}) came to group {name} {span} as attempt {} of {}",
                delivery.place, delivery.attempt, dead.max_attempts
            )));
        }
    }
}

/// What a consumer gave up is among the dead letters, unless retention by size had taken it from the consumer.
fn given_up(
    index: &Index<'_>,
    name: &Name,
    message: MessageId,
    life: &[Event<'_>],
    dead: &Dead,
    found: &mut Vec<Violation>,
) {
    let acked =
        |event: &Event<'_>| matches!(event.what, Fact::Acked { outcome: Outcome::Ok | Outcome::Indeterminate, .. });
    let excused = !dead.complete || life.iter().any(|event| acked(event) || torn_away(index, event, false));
    let certain = life.iter().find(|event| matches!(event.what, Fact::GaveUp { outcome: Outcome::Ok, .. }));
    if let Some(event) = certain.filter(|_| !excused && !dead.letters.contains_key(&message)) {
        found.push(
            Invariant::I01
                .broken(format!("{message} was given up by group {name} {} and is no dead letter", event.span)),
        );
    }
}

/// How a message ended that was delivered at least once.
fn ended(
    name: &Name,
    message: MessageId,
    life: &[Event<'_>],
    group: &Group<'_>,
    dead: &Dead,
    rules: Rules,
    found: &mut Vec<Violation>,
) {
    let is_dead = dead.letters.contains_key(&message);
    let given_up =
        |event: &&Event<'_>| matches!(event.what, Fact::GaveUp { outcome: Outcome::Ok | Outcome::Indeterminate, .. });
    if !is_dead || life.iter().any(|event| given_up(&event)) {
        return;
    }
    let most = life.iter().filter_map(|event| attempt(event).map(|(_, attempt)| attempt)).max().unwrap_or_default();
    let unseen = u32::try_from(group.unanswered.len()).unwrap_or(u32::MAX);
    if most.saturating_add(unseen) < dead.max_attempts {
        found.push(Invariant::I12.broken(format!(
            "{message} is a dead letter of group {name} after {most} deliveries of {}",
            dead.max_attempts
        )));
    }
    // Whoever was done with a delivery that was not the last one, or still ran, was so before anybody could bury it.
    for event in life {
        let Fact::Acked { handle, outcome: Outcome::Ok } = &event.what else { continue };
        let meant = life.iter().find(|it| attempt(it).is_some_and(|(of, _)| of == *handle));
        let Some((received, attempt_of)) = meant.and_then(|it| Some((it.span, attempt(it)?.1))) else { continue };
        let later = life.iter().any(|it| {
            attempt(it).is_some_and(|(of, attempt)| of != *handle && attempt > attempt_of)
                && it.span.start.order < event.span.end.order
        });
        let unseen = group
            .unanswered
            .iter()
            .any(|lost| lost.span.start.order < event.span.end.order && lost.span.end.order > received.start.order);
        let running = still_running(life, *handle, received, event.span, rules);
        if !later && !unseen && (attempt_of < dead.max_attempts || running) {
            found.push(Invariant::I06.broken(format!(
                "{message} was acked by group {name} {} as attempt {attempt_of}, and is a dead letter",
                event.span
            )));
        }
    }
}

/// Whether the window of a delivery certainly had not ended when its ack returned.
fn still_running(life: &[Event<'_>], handle: Handle, received: Span, acked: Span, rules: Rules) -> bool {
    let moved = life.iter().any(|event| match &event.what {
        Fact::Changed { handle: of, .. } | Fact::Released { handle: of } => *of == handle,
        Fact::Delivered { .. } | Fact::Acked { .. } | Fact::GaveUp { .. } => false,
    });
    let window = life.iter().find_map(|event| match &event.what {
        Fact::Delivered { delivery, .. } if delivery.handle == handle => Some(delivery.invisible),
        _ => None,
    });
    !moved && window.is_some_and(|window| acked.end.at + rules.window_allowance() < received.start.at + window)
}

fn attempt(event: &Event<'_>) -> Option<(Handle, u32)> {
    match &event.what {
        Fact::Delivered { delivery, .. } => Some((delivery.handle, delivery.attempt)),
        Fact::Acked { .. } | Fact::GaveUp { .. } | Fact::Changed { .. } | Fact::Released { .. } => None,
    }
}
