//! I15 and I16: service comes back, and nobody waits for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Invariant, Rules, Violation};
use crate::history::{Call, Name, Outcome, Span, What};

/// Longest time from the end of the faults to full service.
const BACK: Duration = Duration::from_secs(30);
/// A call may end this much after its deadline.
const LATE: Duration = Duration::from_secs(1);

/// I15: soon after the last fault somebody sends, and every group receives and acks.
pub(super) fn back(calls: &[Call], found: &mut Vec<Violation>) {
    let Some(healed) = calls.iter().rfind(|call| call.what == What::Healed).map(|call| call.span.end) else { return };
    let soon = |span: Span| span.start.order > healed.order && span.end.at <= healed.at + BACK;
    let served: BTreeSet<_> = calls.iter().filter(|call| soon(call.span)).filter_map(|call| good(&call.what)).collect();
    let groups = calls.iter().filter_map(|call| match &call.what {
        What::Receive { group, .. } => Some(group),
        _ => None,
    });
    let groups: BTreeSet<_> = groups.collect();
    // Who receives nothing has nothing to ack; whether there was something is the business of I01 and I05.
    let receives = |group: &Name| {
        calls.iter().filter(|call| soon(call.span)).any(|call| match &call.what {
            What::Receive { group: of, deliveries, .. } => of == group && !deliveries.is_empty(),
            _ => false,
        })
    };
    let of_groups = groups.into_iter().flat_map(|group| {
        let ack = receives(group).then_some(Service::Ack(group));
        [Some(Service::Receive(group)), ack].into_iter().flatten()
    });
    for service in std::iter::once(Service::Send).chain(of_groups).filter(|service| !served.contains(service)) {
        let since = healed.at;
        found.push(Invariant::I15.broken(format!("{service:?} does not work within {BACK:?} of {since:?}")));
    }
}

/// What works when a call returned OK.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Service<'a> {
    Send,
    Receive(&'a Name),
    Ack(&'a Name),
}

fn good(what: &What) -> Option<Service<'_>> {
    match what {
        What::Send { outcome: Outcome::Ok, .. } => Some(Service::Send),
        What::Receive { group, outcome: Outcome::Ok, .. } => Some(Service::Receive(group)),
        What::Ack { group, outcome: Outcome::Ok, .. } => Some(Service::Ack(group)),
        _ => None,
    }
}

/// I16, for every call of a client.
pub(super) fn in_time(calls: &[Call], rules: Rules, found: &mut Vec<Violation>) {
    let Some(call_max) = rules.call_max else { return };
    let late = |span: Span| span.end.at.saturating_sub(span.start.at) > call_max + LATE;
    for call in calls.iter().filter(|call| {
        late(call.span) && !matches!(call.what, What::Down | What::Healed | What::InOrder { .. } | What::Trimmed { .. })
    }) {
        let (what, span) = (&call.what, call.span);
        found.push(Invariant::I16.broken(format!("{what:?} {span} took longer than its {call_max:?}")));
    }
}
