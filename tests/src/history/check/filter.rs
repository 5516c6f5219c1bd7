//! I13: nobody gets what the filter of its group refuses.

use super::index::{Event, Fact, Index};
use super::{Invariant, Violation};

/// Every delivery of a message to a group that does not want it.
pub(super) fn leaks(index: &Index<'_>, found: &mut Vec<Violation>) {
    for ((name, _), group) in &index.groups {
        for (message, life) in group.lives.iter().filter(|(message, _)| index.refused.contains(&(*name, **message))) {
            let delivered = |event: &&Event<'_>| matches!(event.what, Fact::Delivered { .. });
            for Event { span, .. } in life.iter().filter(delivered) {
                let told = format!("{message} came to group {name} {span}, whose filter refuses it");
                found.push(Invariant::I13.broken(told));
            }
        }
    }
}
