//! What is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Slower counts as this slow.
const LATENCY_MAX: Duration = Duration::from_secs(3600);
/// Different failures that are told apart.
const FAILURES_MAX: usize = 8;

/// Latencies, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Latencies(pub(super) Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        let max = u64::try_from(LATENCY_MAX.as_micros()).expect("an hour of microseconds fits");
        Latencies(Histogram::new_with_max(max, 3).expect("the bounds are constants that hdrhistogram accepts"))
    }
}

impl Latencies {
    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// In milliseconds.
    pub(super) fn at(&self, quantile: f64) -> f64 {
        millis(self.0.value_at_quantile(quantile))
    }

    /// Of both.
    pub(super) fn and(mut self, other: &Latencies) -> Latencies {
        self.0 += &other.0;
        self
    }

    /// The largest, in milliseconds.
    pub(super) fn max(&self) -> f64 {
        millis(self.0.max())
    }
}

/// Milliseconds with their microseconds.
fn millis(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1000.0
}

/// What went wrong, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) count: u64,
    pub(super) reasons: BTreeMap<String, u64>,
}

impl Failures {
    /// Counts a failure; the reasons of later kinds are not kept.
    pub(super) fn add(&mut self, reason: String) {
        self.count += 1;
        if self.reasons.len() < FAILURES_MAX || self.reasons.contains_key(&reason) {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }
}

/// Calls of one kind that have ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    pub(super) latencies: Latencies,
    pub(super) failures: Failures,
}

impl Calls {
    pub(super) fn count(&mut self, ended: Result<Duration, String>) {
        match ended {
            Ok(latency) => self.latencies.record(latency),
            Err(reason) => self.failures.add(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_in_milliseconds() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        latencies.record(Duration::from_secs(100_000));
        assert!((latencies.at(0.5) - 0.5).abs() < 0.01, "{}", latencies.at(0.5));
        assert!((latencies.max() - 3_600_000.0).abs() < 5000.0, "{}", latencies.max());
    }

    #[test]
    fn reasons_are_few_and_all_failures_count() {
        let mut failures = Failures::default();
        (0..20).for_each(|n| failures.add(format!("reason {n}")));
        failures.add("reason 0".to_owned());
        assert_eq!((failures.count, failures.reasons.len(), failures.reasons["reason 0"]), (21, FAILURES_MAX, 2));
    }
}
