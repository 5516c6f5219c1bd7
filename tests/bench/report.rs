//! The result, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::tally::{Failures, Tally};

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// What one run measured.
pub(crate) struct Report {
    /// Of the window.
    pub(crate) length: Duration,
    pub(crate) sends: Tally,
    /// Latency from the start of a send to the arrival at a consumer.
    pub(crate) deliveries: Option<Tally>,
    pub(crate) acks: Option<Tally>,
    pub(crate) failures: Failures,
    pub(crate) cpu: CpuTimes,
}

/// CPU time spent inside the window.
pub(crate) struct CpuTimes {
    pub(crate) server: Option<Duration>,
    pub(crate) client: Duration,
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, tally) in self.kinds() {
            let rate = self.rate(tally);
            let _ = write!(text, "{name:<14} {rate:>9.0}/s ");
            for (quantile, at) in QUANTILES {
                let _ = write!(text, "  {quantile} {:>8.3} ms", millis(&tally.latencies, at));
            }
            text.push('\n');
        }
        for (name, spent) in self.cpu() {
            let (cores, each) = (spent.as_secs_f64() / self.length.as_secs_f64(), self.micros_per_message(spent));
            let _ = writeln!(text, "{name:<14} {cores:>9.2} cores  {each:.1} us per message");
        }
        let _ = write!(text, "failures       {:>9}", self.failures.count);
        if let Some(first) = &self.failures.first {
            let _ = write!(text, "  first: {first}");
        }
        text
    }

    pub(crate) fn json(&self) -> serde_json::Result<String> {
        let mut all = serde_json::Map::new();
        all.insert("seconds".to_owned(), json!(self.length.as_secs_f64()));
        for (name, tally) in self.kinds() {
            let mut kind = serde_json::Map::new();
            kind.insert("count".to_owned(), json!(tally.latencies.len()));
            kind.insert("per_second".to_owned(), json!(self.rate(tally)));
            for (quantile, at) in QUANTILES {
                kind.insert(format!("{quantile}_ms"), json!(millis(&tally.latencies, at)));
            }
            all.insert(name.to_owned(), Value::Object(kind));
        }
        for (name, spent) in self.cpu() {
            let each = self.micros_per_message(spent);
            all.insert(name.to_owned(), json!({ "seconds": spent.as_secs_f64(), "us_per_message": each }));
        }
        all.insert("failures".to_owned(), json!({ "count": self.failures.count, "first": self.failures.first }));
        serde_json::to_string(&all)
    }

    fn kinds(&self) -> impl Iterator<Item = (&'static str, &Tally)> {
        let rest = [("delivered", self.deliveries.as_ref()), ("received+acked", self.acks.as_ref())];
        let rest = rest.into_iter().filter_map(|(name, tally)| Some((name, tally?)));
        std::iter::once(("sent", &self.sends)).chain(rest)
    }

    fn cpu(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let server = self.cpu.server.map(|spent| ("server_cpu", spent));
        server.into_iter().chain(std::iter::once(("client_cpu", self.cpu.client)))
    }

    fn rate(&self, tally: &Tally) -> f64 {
        count(&tally.latencies) / self.length.as_secs_f64()
    }

    /// By the last step a message goes through in this run.
    fn micros_per_message(&self, spent: Duration) -> f64 {
        let messages = count(&self.acks.as_ref().unwrap_or(&self.sends).latencies);
        spent.as_secs_f64() * 1e6 / messages.max(1.0)
    }
}

fn count(latencies: &Histogram<u64>) -> f64 {
    u32::try_from(latencies.len()).map_or(f64::INFINITY, f64::from) // four billion calls are not reached in a run
}

fn millis(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_micros(latencies.value_at_quantile(quantile)).as_secs_f64() * 1e3
}
