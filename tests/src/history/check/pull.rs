//! I11 for groups that commit their offsets themselves: what was committed is there, and never goes back by itself.

use std::collections::BTreeMap;

use super::{Invariant, Rules, Violation};
use crate::history::{Call, Name, Outcome, Span, What};

/// One commit that was not refused. A group commits higher and higher offsets.
struct Commit {
    span: Span,
    offset: u64,
    outcome: Outcome,
}

/// Whoever asks hears of the last commit that returned OK before, or of a later one.
pub(super) fn offsets(calls: &[Call], rules: Rules, found: &mut Vec<Violation>) {
    let mut commits: BTreeMap<(&Name, &Name, u32), Vec<Commit>> = BTreeMap::new();
    for call in calls {
        if let What::Commit { group, topic, queue, offset, outcome } = &call.what
            && *outcome != Outcome::Failed
        {
            let commit = Commit { span: call.span, offset: *offset, outcome: *outcome };
            commits.entry((group, topic, *queue)).or_default().push(commit);
        }
    }
    for call in calls {
        let What::Committed { group, topic, queue, offset } = &call.what else { continue };
        let commits = commits.get(&(group, topic, *queue)).map_or(&[][..], Vec::as_slice);
        if let Some(told) = wrong(commits, call.span, *offset, rules) {
            let told = format!("group {group} on {topic}/{queue} {}: {told}", call.span);
            found.push(Invariant::I11.broken(told));
        }
    }
}

/// What is wrong with the answer to somebody who asked.
fn wrong(commits: &[Commit], asked: Span, heard: Option<u64>, rules: Rules) -> Option<String> {
    let before = commits.iter().filter(|commit| commit.span.end.order < asked.start.order);
    let last = before.filter(|commit| commit.outcome == Outcome::Ok).max_by_key(|commit| commit.offset);
    let heard = match (heard, last) {
        (Some(heard), _) => heard,
        (None, None) => return None,
        (None, Some(last)) => {
            return Some(format!("offset {} was committed {}, and is not there", last.offset, last.span));
        }
    };
    let mut begun = commits.iter().filter(|commit| commit.span.start.order < asked.end.order);
    if !begun.any(|commit| commit.offset == heard) {
        return Some(format!("nobody committed offset {heard}"));
    }
    let last = last.filter(|last| heard < last.offset)?;
    // One without an answer may have come behind it.
    let late = |commit: &&Commit| commit.span.end.at + rules.late_effect >= last.span.start.at;
    let mut doubtful = commits.iter().filter(|commit| commit.outcome == Outcome::Indeterminate).filter(late);
    let excused = doubtful.any(|commit| commit.offset == heard);
    (!excused).then(|| format!("offset {} was committed {}, and went back to {heard}", last.offset, last.span))
}
