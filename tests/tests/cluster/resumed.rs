//! How long after a blow clients get answers again.

use std::fmt;
use std::time::Duration;

use apogee_tests::endure::Call;
use apogee_tests::history::{self, Outcome, What};

/// From each blow to the end of the first successful call that began after it.
#[derive(Debug)]
pub(crate) struct Resumed {
    what: &'static str,
    /// Shortest first.
    times: Vec<Duration>,
    /// Blows after which no call was successful.
    never: usize,
}

impl Resumed {
    pub(crate) fn after(what: &'static str, blows: &[Duration], calls: &[Call]) -> Resumed {
        let first = |blow: &Duration| {
            let later = calls.iter().filter(|call| call.began >= *blow);
            later.map(|call| call.ended - *blow).min()
        };
        let mut times: Vec<_> = blows.iter().filter_map(first).collect();
        times.sort_unstable();
        let never = blows.len() - times.len();
        Resumed { what, times, never }
    }

    /// The half of the blows was over sooner. A blow without end counts as the longest.
    pub(crate) fn median(&self) -> Duration {
        let middle = (self.times.len() + self.never) / 2;
        self.times.get(middle).copied().unwrap_or(Duration::MAX)
    }
}

impl fmt::Display for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.times.first().copied(), self.times.last().copied());
        let [first, median, last] = [first, Some(self.median()), last].map(|time| time.unwrap_or_default().as_millis());
        write!(f, "{:<20} resumed after {median} ms (median), {first} to {last} ms, never {}", self.what, self.never)
    }
}

/// Sends that returned OK.
pub(crate) fn sends(calls: &[history::Call]) -> Vec<Call> {
    of(calls, |what| matches!(what, What::Send { outcome: Outcome::Ok, .. }))
}

/// Receives that brought something.
pub(crate) fn receives(calls: &[history::Call]) -> Vec<Call> {
    of(calls, |what| matches!(what, What::Receive { outcome: Outcome::Ok, deliveries, .. } if !deliveries.is_empty()))
}

fn of(calls: &[history::Call], wanted: impl Fn(&What) -> bool) -> Vec<Call> {
    let wanted = calls.iter().filter(|call| wanted(&call.what));
    wanted.map(|call| Call { began: call.span.start.at, ended: call.span.end.at }).collect()
}
