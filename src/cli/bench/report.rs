//! What was measured: a document, a table of it, and the whole distribution in a file.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::error::CliError;
use super::super::output::{Output, Table};
use super::Run;
use super::intake::Taken;
use super::load::{Ends, Plan, Sent};
use super::tally::{Failures, Latencies};

/// Marks of the distribution for each halving of what is left.
const TICKS: u32 = 5;

/// The result of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    document: Value,
    phases: Vec<Phase>,
    failures: Vec<String>,
    failed: u64,
}

/// One kind of call, or the way of messages.
#[derive(Debug)]
struct Phase {
    name: &'static str,
    count: u64,
    failed: u64,
    rate: f64,
    latencies: Latencies,
}

impl Report {
    pub(super) fn new(name: &'static str, run: &Run) -> Report {
        Report { document: json!({ "name": name, "topic": run.topic }), ..Report::default() }
    }

    /// Adds what was sent.
    pub(super) fn sent(mut self, plan: Plan, sent: &Sent) -> Report {
        self.document["wanted_rate"] = plan.rate.into();
        self.document["size"] = plan.size.into();
        self.document["behind_max_ms"] = round(sent.behind_max.as_secs_f64() * 1000.0).into();
        self.document["behind_last_ms"] = round(sent.behind_last.as_secs_f64() * 1000.0).into();
        self.phase("send", &sent.sends.latencies, Some(&sent.sends.failures), sent.took);
        self
    }

    /// Adds how transactions ended.
    pub(super) fn ended(mut self, ends: Ends, sent: &Sent) -> Report {
        self.document["rollback_percent"] = ends.rollbacks.into();
        for (name, calls) in [("commit", &sent.commits), ("rollback", &sent.rollbacks)] {
            self.phase(name, &calls.latencies, Some(&calls.failures), sent.took);
        }
        self
    }

    /// Adds what came.
    pub(super) fn taken(mut self, taken: &Taken) -> Report {
        self.document["redelivered"] = taken.again.into();
        if taken.early > 0 {
            self.document["early"] = taken.early.into();
            self.failed += taken.early;
            self.failures.push(format!("{} messages came before their time", taken.early));
        }
        self.phase("receive", &taken.latencies, None, taken.took);
        self.phase("ack", &taken.acks, Some(&taken.failures), taken.took);
        self
    }

    /// Adds how many messages of those sent did not come.
    pub(super) fn missing(mut self, sent: &Sent, taken: &Taken) -> Report {
        let missing = sent.sends.latencies.0.len().saturating_sub(taken.latencies.0.len());
        self.document["missing"] = missing.into();
        if missing > 0 {
            self.failed += missing;
            self.failures.push(format!("{missing} messages that were sent did not come"));
        }
        self
    }

    fn phase(&mut self, name: &'static str, latencies: &Latencies, failures: Option<&Failures>, took: Duration) {
        let (count, failed) = (latencies.0.len(), failures.map_or(0, |failures| failures.count));
        #[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
        let rate = count as f64 / took.as_secs_f64().max(f64::EPSILON);
        let phase = Phase { name, count, failed, rate, latencies: latencies.clone() };
        self.document[name] = phase.document();
        if let Some(failures) = failures.filter(|failures| failures.count > 0) {
            self.document[name]["failures"] = json!(failures.reasons);
            self.failures.extend(failures.reasons.iter().map(|(reason, count)| format!("{name}: {count} × {reason}")));
            self.failed += failures.count;
        }
        self.phases.push(phase);
    }

    /// Shows everything on stdout.
    pub(super) fn show(&self, output: &Output) -> Result<(), CliError> {
        let mut table =
            Table::new(&["PHASE", "COUNT", "FAILED", "RATE/S", "P50_MS", "P90_MS", "P99_MS", "P99.9_MS", "MAX_MS"]);
        self.phases.iter().for_each(|phase| table.row(phase.cells()));
        let mut about = Table::new(&["WANTED/S", "BEHIND_MAX_MS", "BEHIND_LAST_MS"]);
        let cell = |key: &str| self.document[key].to_string();
        about.row(["wanted_rate", "behind_max_ms", "behind_last_ms"].map(cell));
        let paced = self.document["wanted_rate"].is_number();
        let tables = [("", &table), ("", &about)];
        Ok(output.show_all(&self.document, if paced { &tables } else { &tables[..1] })?)
    }

    /// # Errors
    /// [`CliError::BenchFailed`] when something failed.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        if self.failures.is_empty() {
            return Ok(());
        }
        Err(CliError::BenchFailed { what: format!("{} failures: {}", self.failed, self.failures.join("; ")) })
    }

    /// Writes the distribution of these latencies, in milliseconds, where the run wants it.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub(super) fn distribution(&self, run: &Run, latencies: &Latencies) -> Result<(), CliError> {
        match &run.hdr {
            None => Ok(()),
            Some(path) => Ok(std::fs::write(path, distribution(latencies))?),
        }
    }
}

impl Phase {
    fn marks(&self) -> [f64; 5] {
        let at = |quantile| self.latencies.at(quantile);
        [at(0.5), at(0.9), at(0.99), at(0.999), self.latencies.max()].map(round)
    }

    fn document(&self) -> Value {
        let [p50, p90, p99, p999, max] = self.marks();
        json!({
            "count": self.count,
            "failed": self.failed,
            "rate": round(self.rate),
            "p50_ms": p50,
            "p90_ms": p90,
            "p99_ms": p99,
            "p99_9_ms": p999,
            "max_ms": max,
        })
    }

    fn cells(&self) -> impl Iterator<Item = String> {
        let marks = self.marks().map(|mark| format!("{mark:.3}"));
        [self.name.to_owned(), self.count.to_string(), self.failed.to_string(), format!("{:.1}", self.rate)]
            .into_iter()
            .chain(marks)
    }
}

/// To a thousandth.
fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Source: HdrHistogram, `AbstractHistogram.outputPercentileDistribution` (the format of `.hgrm` files).
fn distribution(latencies: &Latencies) -> String {
    let histogram = &latencies.0;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for mark in histogram.iter_quantiles(TICKS) {
        count += mark.count_since_last_iteration();
        let (quantile, value) = (mark.quantile_iterated_to(), millis(mark.value_iterated_to()));
        let _ok = match quantile < 1.0 {
            true => writeln!(text, "{value:12.3} {quantile:14.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(text, "{value:12.3} {quantile:14.12} {count:10}"),
        };
    }
    let (mean, deviation) = (histogram.mean() / 1000.0, histogram.stdev() / 1000.0);
    let _ok = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ok = writeln!(text, "#[Max     = {:12.3}, Total count    = {:12}]", millis(histogram.max()), histogram.len());
    text
}

fn millis(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_ends_with_everything() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|n| latencies.record(Duration::from_millis(n)));
        let text = distribution(&latencies);
        let mut lines = text.lines().skip(2).filter(|line| !line.starts_with('#'));
        let first: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!((first.len(), first[2]), (4, "1"), "{text}");
        let last: Vec<_> = lines.last().unwrap().split_whitespace().collect();
        assert_eq!((last[1], last[2]), ("1.000000000000", "100"), "{text}");
        assert!(text.contains("Total count    =          100]"), "{text}");
    }
}
