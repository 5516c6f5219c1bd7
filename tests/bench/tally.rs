//! What is counted: calls that end inside the window, and everything that goes wrong at any time.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Slower calls count as this slow.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// The time that is measured.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Window {
    pub(crate) opens: Instant,
    pub(crate) closes: Instant,
}

impl Window {
    pub(crate) fn after(warm_up: Duration, length: Duration) -> Window {
        let opens = Instant::now() + warm_up;
        Window { opens, closes: opens + length }
    }

    pub(crate) fn holds(&self, moment: Instant) -> bool {
        (self.opens..self.closes).contains(&moment)
    }
}

/// Latencies of one kind of call.
pub(crate) struct Tally {
    /// Microseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        let max = u64::try_from(LATENCY_MAX.as_micros()).expect("a minute of microseconds fits");
        let latencies = Histogram::new_with_max(max, 3).expect("the bounds are constants that hdrhistogram accepts");
        Tally { latencies }
    }

    /// Counts a call that took from `begun` until `ended`.
    pub(crate) fn count(&mut self, begun: Instant, ended: Instant) {
        let micros = (ended - begun).as_micros();
        self.latencies.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
    }
}

/// What went wrong: how often, and the first one in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    pub(crate) first: Option<String>,
}

impl Failures {
    pub(crate) fn add(&mut self, what: &str, why: impl std::fmt::Display) {
        self.count += 1;
        self.first.get_or_insert_with(|| format!("{what}: {why}"));
    }

    pub(crate) fn merge(&mut self, other: Failures) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}
