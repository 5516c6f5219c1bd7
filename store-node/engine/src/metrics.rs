//! What the engine tells about itself.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use crate::block::Lsn;

/// Typed handles of the engine's instruments.
pub(crate) struct Metrics {
    fsync_latency: Histogram<f64>,
    group_commit_size: Histogram<u64>,
    written: Counter<u64>,
    size: Gauge<u64>,
    first_position: Gauge<u64>,
    segments_removed: Counter<u64>,
    messages_trimmed: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        let latency = vec![0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0];
        let sizes = vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0];
        Self {
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
        self.fsync_latency.record(took.as_secs_f64() * 1e3, &[]);
    }

    pub(crate) fn committed(&self, records: u32, bytes: usize) {
        self.group_commit_size.record(u64::from(records), &[]);
        self.written.add(u64::try_from(bytes).unwrap_or(u64::MAX), &[]);
    }

    /// The segments begin at `first` and have this many bytes together.
    pub(crate) fn log_is(&self, first: Lsn, bytes: u64) {
        let local = [KeyValue::new("storage_type", "local"), KeyValue::new("storage_medium", "disk")];
        self.size.record(bytes, &local);
        self.first_position.record(first.0, &[]);
    }

    pub(crate) fn segment_removed(&self) {
        self.segments_removed.add(1, &[]);
    }

    pub(crate) fn messages_trimmed(&self, count: u64) {
        self.messages_trimmed.add(count, &[]);
    }
}
