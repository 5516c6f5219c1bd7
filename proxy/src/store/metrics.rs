//! What the proxy counts on its way to the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use opentelemetry::metrics::{Counter, Meter};

/// Lanes are opened and closed together.
const LANES_OF_A_NODE: i64 = 3;

/// Typed handles of the instruments.
#[derive(Debug)]
pub(super) struct Metrics {
    lanes: Arc<AtomicI64>,
    in_flight: Arc<AtomicI64>,
    resends: Counter<u64>,
}

/// So many more of something, until dropped.
#[derive(Debug)]
pub(super) struct Up {
    count: Arc<AtomicI64>,
    by: i64,
}

impl Metrics {
    /// `leader_changes` is read when somebody scrapes.
    pub(super) fn new(meter: &Meter, leader_changes: Arc<AtomicU64>) -> Self {
        let (lanes, in_flight) = (Arc::default(), Arc::default());
        gauge(meter, "rocketmq_proxy_store_lanes", &lanes);
        gauge(meter, "rocketmq_proxy_store_inflight_requests", &in_flight);
        meter
            .u64_observable_counter("rocketmq_proxy_store_leader_changes_total")
            .with_callback(move |counter| counter.observe(leader_changes.load(Ordering::Relaxed), &[]))
            .build();
        Self { lanes, in_flight, resends: meter.u64_counter("rocketmq_proxy_store_resends_total").build() }
    }

    /// The lanes to one store-node are open.
    pub(super) fn lanes(&self) -> Up {
        Up::by(&self.lanes, LANES_OF_A_NODE)
    }

    /// Somebody waits for the answer of a leader, or for a leader.
    pub(super) fn request(&self) -> Up {
        Up::by(&self.in_flight, 1)
    }

    /// A request is sent once more.
    pub(super) fn resent(&self) {
        self.resends.add(1, &[]);
    }
}

impl Up {
    fn by(count: &Arc<AtomicI64>, by: i64) -> Self {
        count.fetch_add(by, Ordering::Relaxed);
        Self { count: Arc::clone(count), by }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.count.fetch_sub(self.by, Ordering::Relaxed);
    }
}

fn gauge(meter: &Meter, name: &'static str, count: &Arc<AtomicI64>) {
    let count = Arc::clone(count);
    meter
        .i64_observable_gauge(name)
        .with_callback(move |gauge| gauge.observe(count.load(Ordering::Relaxed), &[]))
        .build();
}
