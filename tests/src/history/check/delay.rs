//! I08 and I19: never early, and never when it was recalled.

use super::index::{Fact, Index};
use super::{Invariant, Rules, Violation};
use crate::history::Outcome;

/// I08: nobody received a delayed message before its time. A wall clock may have been ahead.
pub(super) fn early(index: &Index<'_>, rules: Rules, found: &mut Vec<Violation>) {
    for ((name, _), group) in &index.groups {
        for (message, due) in &index.delayed {
            let events = group.lives.get(message).into_iter().flatten();
            let deliveries = events.filter(|event| matches!(event.what, Fact::Delivered { .. }));
            if let Some(event) = deliveries.into_iter().find(|event| event.span.end.at + rules.clock_bound < *due) {
                found.push(Invariant::I08.broken(format!(
                    "{message} was to be seen from {due:?} on and reached group {name} {}",
                    event.span
                )));
            }
        }
    }
}

/// I19: a recall that returned OK means that nobody receives the message, ever.
pub(super) fn recalled(index: &Index<'_>, found: &mut Vec<Violation>) {
    for (message, recalls) in &index.recalls {
        let Some((span, _)) = recalls.iter().find(|(_, outcome)| *outcome == Outcome::Ok) else { continue };
        for ((name, _), group) in &index.groups {
            if group.lives.contains_key(message) {
                found.push(
                    Invariant::I19
                        .broken(format!("{message} was recalled {span} and reached group {name} all the same")),
                );
            }
        }
    }
}
