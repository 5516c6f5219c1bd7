//! The judgement of a history that gRPC clients wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::{Call, History, MessageId, Rules, What, check};

/// How far the wall clock of this machine may be moved while a test runs.
const CLOCK_BOUND: Duration = Duration::from_millis(100);
/// Violations told at most.
const TOLD_MAX: usize = 20;

/// Every broken promise, in words; the first ones when there are many.
pub fn judged(history: &History) -> Vec<String> {
    let calls = with_queues(history.calls());
    let sends = calls.iter().filter(|call| matches!(call.what, What::Send { .. })).count();
    let rules = Rules { clock_bound: CLOCK_BOUND, call_max: None, late_effect: Duration::ZERO };
    let found = check(&calls, rules);
    eprintln!("{sends} sends, {} calls judged, {} violations", calls.len(), found.len());
    let told: Vec<_> = found.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    told.iter().for_each(|violation| tell_life(violation, &calls));
    told
}

/// Prints what was ever done with the message that a violation is about.
fn tell_life(violation: &str, calls: &[Call]) {
    let mut words = violation.split_whitespace().skip_while(|word| *word != "message").skip(1);
    let Some(number) = words.next().and_then(|number| number.parse().ok()) else { return };
    let about = format!("{:?}", MessageId(number));
    for Call { span, what } in calls {
        if format!("{what:?}").contains(&about) {
            eprintln!("{span} {what:?}");
        }
    }
}

/// The answer to a send names an offset and no queue: take the queue from the deliveries, so that the judge compares
/// the offsets.
fn with_queues(mut calls: Vec<Call>) -> Vec<Call> {
    let mut queues: BTreeMap<MessageId, u32> = BTreeMap::new();
    for call in &calls {
        if let What::Receive { deliveries, .. } = &call.what {
            queues.extend(deliveries.iter().map(|delivery| (delivery.message, delivery.place.queue)));
        }
    }
    for call in &mut calls {
        if let What::Send { message, place, .. } = &mut call.what {
            match (place.as_mut(), queues.get(message)) {
                (Some(place), Some(queue)) => place.queue = *queue,
                _ => *place = None,
            }
        }
    }
    calls
}
