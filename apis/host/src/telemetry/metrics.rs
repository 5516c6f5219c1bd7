//! Metrics of the process: OpenTelemetry instruments, read by Prometheus.

use std::collections::HashMap;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Registry, TextEncoder};

use crate::exit::{Exit, ExitWith};
use crate::identity::Identity;

/// Series per instrument; the others share one with `otel.metric.overflow=true`.
const CARDINALITY_LIMIT: usize = 10_000;
/// The commit this binary was built from, as whoever built it said.
const COMMIT: &str = match option_env!("APOGEE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The metrics of this process. Clones share them.
///
/// Instruments are exposed under the name they were given, without suffix for unit or counter, and every series has the
/// labels `cluster`, `node_type` and `node_id`.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("no registry for these labels")]
    Registry(#[source] prometheus::Error),
    #[error("the exporter does not start")]
    Exporter(#[source] OTelSdkError),
}

impl ExitWith for MetricsError {
    fn exit(&self) -> Exit {
        Exit::Bug
    }
}

impl Metrics {
    /// Metrics that so far have one series, `apogee_build_info{version,commit}`.
    pub fn new(identity: &Identity) -> Result<Metrics, MetricsError> {
        let labels = HashMap::from([
            ("cluster".to_owned(), identity.cluster.clone()),
            ("node_type".to_owned(), identity.node_type.to_owned()),
            ("node_id".to_owned(), identity.node.clone()),
        ]);
        let registry = Registry::new_custom(None, Some(labels)).map_err(MetricsError::Registry)?;
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(MetricsError::Exporter)?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).with_view(limited).build();
        let metrics = Metrics { registry, provider };
        let build_info = metrics.meter().u64_gauge("apogee_build_info").with_description("Always 1.").build();
        build_info.record(1, &[KeyValue::new("version", identity.version), KeyValue::new("commit", COMMIT)]);
        Ok(metrics)
    }

    /// Makes instruments.
    pub fn meter(&self) -> Meter {
        self.provider.meter("apogee")
    }

    /// All series in Prometheus' text format, version 0.0.4. Gauges with a callback are asked now.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(event = "metrics_not_rendered", %error, "metrics cannot be rendered");
            String::new()
        })
    }
}

fn limited(_: &Instrument) -> Option<Stream> {
    Stream::builder().with_cardinality_limit(CARDINALITY_LIMIT).build().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn metrics() -> Metrics {
        let identity = Identity {
            cluster: "c1".to_owned(),
            role: "store-node",
            node_type: "broker",
            node: "store-0".to_owned(),
            version: "1.2.3",
        };
        Metrics::new(&identity).expect("the labels are valid")
    }

    /// Looks for `line` plus the constant labels, whatever the order of labels.
    fn check(metrics: &Metrics, line: &str) {
        let line = line.replace('{', r#"{cluster="c1",node_id="store-0",node_type="broker","#);
        let text = metrics.render();
        assert!(text.lines().any(|it| parts(it) == parts(&line)), "{line} is missing in\n{text}");
    }

    fn parts(line: &str) -> BTreeSet<&str> {
        line.split(['{', ',', '}']).collect()
    }

    #[test]
    fn build_info_has_all_labels_and_no_company() {
        let metrics = metrics();
        check(&metrics, &format!(r#"apogee_build_info{{commit="{COMMIT}",version="1.2.3"}} 1"#));
        assert_eq!(metrics.render().lines().filter(|line| !line.starts_with('#')).count(), 1);
    }

    #[test]
    fn names_stay_as_given() {
        let metrics = metrics();
        let meter = metrics.meter();
        let counter = meter.u64_counter("rocketmq_messages_in_total").with_unit("1").build();
        counter.add(2, &[KeyValue::new("topic", "orders")]);
        counter.add(3, &[KeyValue::new("topic", "orders")]);
        let latency = meter.u64_histogram("rocketmq_rpc_latency").with_unit("ms");
        latency.with_boundaries(vec![1.0, 3000.0]).build().record(7, &[]);
        check(&metrics, r#"rocketmq_messages_in_total{topic="orders"} 5"#);
        check(&metrics, r#"rocketmq_rpc_latency_bucket{le="1"} 0"#);
        check(&metrics, r#"rocketmq_rpc_latency_bucket{le="3000"} 1"#);
    }
}
