//! I09: a half message comes when it was committed, and not before; one that was rolled back never does.

use super::index::{Fact, Index};
use super::{Invariant, Violation};
use crate::history::{EndAnswer, MessageId, Outcome, Span};

impl Index<'_> {
    /// Whether the transaction was committed for certain.
    pub(super) fn is_committed(&self, message: MessageId) -> bool {
        self.ended(message, true).is_some()
    }

    /// The call that proves that the transaction ended like this.
    fn ended(&self, message: MessageId, committed: bool) -> Option<Span> {
        let ends = self.ends.get(&message).into_iter().flatten();
        let proves = |commit: bool, answer| match answer {
            EndAnswer::Done => commit == committed,
            EndAnswer::Otherwise => commit != committed,
            EndAnswer::Unknown | EndAnswer::None => false,
        };
        ends.into_iter().find(|(_, commit, answer)| proves(*commit, *answer)).map(|(span, ..)| *span)
    }
}

/// Every half message: seen too early, seen although it was rolled back, ended both ways, or forgotten. That one which was
/// committed is seen is I01.
pub(super) fn ends(index: &Index<'_>, found: &mut Vec<Violation>) {
    for message in &index.halves {
        seen(index, *message, found);
        if let (Some(committed), Some(rolled_back)) = (index.ended(*message, true), index.ended(*message, false)) {
            found.push(
                Invariant::I09.broken(format!("{message} was committed {committed} and rolled back {rolled_back}")),
            );
        }
        let ends = index.ends.get(message).into_iter().flatten();
        if let Some((span, ..)) = ends.into_iter().find(|(_, _, answer)| *answer == EndAnswer::Unknown)
            && index.sends.get(message).is_some_and(|sent| sent.outcome == Outcome::Ok)
        {
            found.push(Invariant::I09.broken(format!("the transaction of {message} was unknown {span}")));
        }
    }
}

fn seen(index: &Index<'_>, message: MessageId, found: &mut Vec<Violation>) {
    let commits = index.ends.get(&message).into_iter().flatten().filter(|(_, commit, _)| *commit);
    let first = commits.map(|(span, ..)| span.start.order).min().unwrap_or(u64::MAX);
    let rolled_back = index.ended(message, false);
    for ((name, _), group) in &index.groups {
        let events = group.lives.get(&message).into_iter().flatten();
        for event in events.filter(|event| matches!(event.what, Fact::Delivered { .. })) {
            let span = event.span;
            if span.end.order < first {
                found.push(
                    Invariant::I09.broken(format!("{message} came to group {name} {span}, and nobody committed it")),
                );
            }
            if let Some(end) = rolled_back {
                found.push(
                    Invariant::I09.broken(format!("{message} was rolled back {end} and came to group {name} {span}")),
                );
            }
        }
    }
}
