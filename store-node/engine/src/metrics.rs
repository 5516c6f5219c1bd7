//! What the engine tells about itself. Every series says which replica group it is about, as `group="broker-0"`: a
//! store-node hosts replicas of several.

use std::time::Duration;

use apogee_model::ReplicaGroupId;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use crate::block::Lsn;

/// Typed handles of the engine's instruments.
pub(crate) struct Metrics {
    group: [KeyValue; 1],
    /// Of the size of what is stored.
    medium: [KeyValue; 3],
    fsync_latency: Histogram<f64>,
    group_commit_size: Histogram<u64>,
    written: Counter<u64>,
    size: Gauge<u64>,
    first_position: Gauge<u64>,
    segments_removed: Counter<u64>,
    messages_trimmed: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new(meter: &Meter, group: ReplicaGroupId) -> Self {
        let group = KeyValue::new("group", group.broker_name());
        let latency = vec![0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0];
        let sizes = vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0];
        Self {
            group: [group.clone()],
            medium: [group, KeyValue::new("storage_type", "local"), KeyValue::new("storage_medium", "disk")],
            fsync_latency: meter.f64_histogram("rocketmq_store_fsync_latency").with_boundaries(latency).build(),
            group_commit_size: meter.u64_histogram("rocketmq_store_group_commit_size").with_boundaries(sizes).build(),
            written: meter.u64_counter("rocketmq_store_written_bytes_total").build(),
            size: meter.u64_gauge("rocketmq_storage_size").build(),
            first_position: meter.u64_gauge("rocketmq_store_first_position").build(),
            segments_removed: meter.u64_counter("rocketmq_store_segments_removed_total").build(),
            messages_trimmed: meter.u64_counter("rocketmq_store_messages_trimmed_total").build(),
        }
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.fsync_latency.record(took.as_secs_f64() * 1e3, &self.group);
    }

    pub(crate) fn committed(&self, records: u32, bytes: usize) {
        self.group_commit_size.record(u64::from(records), &self.group);
        self.written.add(u64::try_from(bytes).unwrap_or(u64::MAX), &self.group);
    }

    /// The segments begin at `first` and have this many bytes together.
    pub(crate) fn log_is(&self, first: Lsn, bytes: u64) {
        self.size.record(bytes, &self.medium);
        self.first_position.record(first.0, &self.group);
    }

    pub(crate) fn segment_removed(&self) {
        self.segments_removed.add(1, &self.group);
    }

    pub(crate) fn messages_trimmed(&self, count: u64) {
        self.messages_trimmed.add(count, &self.group);
    }
}

#[cfg(test)]
mod tests {
    use apogee_host::{Identity, telemetry};

    use super::*;

    /// Two replica groups of one process do not speak over each other.
    #[test]
    fn every_series_names_its_replica_group() {
        let identity =
            Identity { cluster: String::new(), role: "", node_type: "", node: String::new(), version: "1.2.3" };
        let shown = telemetry::Metrics::new(&identity).expect("good labels");
        let built_in = shown.render().lines().count();
        for (group, first) in [(ReplicaGroupId(0), Lsn(5)), (ReplicaGroupId(7), Lsn(9))] {
            let metrics = Metrics::new(&shown.meter(), group);
            metrics.synced(Duration::from_millis(1));
            metrics.committed(1, 100);
            metrics.log_is(first, 100);
            metrics.segment_removed();
            metrics.messages_trimmed(3);
        }
        let text = shown.render();
        let series: Vec<_> = text.lines().skip(built_in).filter(|line| !line.starts_with('#')).collect();
        let of = |name: &str| series.iter().filter(|line| line.contains(&format!("group=\"{name}\""))).count();
        assert_eq!((of("broker-0") + of("broker-7"), of("broker-0")), (series.len(), of("broker-7")), "{text}");
        let firsts = series.iter().filter(|line| line.starts_with("rocketmq_store_first_position"));
        let firsts: Vec<_> = firsts.filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(firsts, ["5", "9"], "{text}");
    }
}
