//! What the proxy counts on its way to the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use opentelemetry::metrics::{Counter, Meter};

use crate::metrics::{Up, gauge};

/// Lanes are opened and closed together.
const LANES_OF_A_REPLICA: i64 = 3;

/// Typed handles of the instruments, for all replica groups together.
#[derive(Debug)]
pub struct StoreMetrics {
    lanes: Arc<AtomicI64>,
    in_flight: Arc<AtomicI64>,
    resends: Counter<u64>,
    leader_changes: Arc<AtomicU64>,
}

impl StoreMetrics {
    pub fn new(meter: &Meter) -> Self {
        let (lanes, in_flight) = (Arc::default(), Arc::default());
        let leader_changes = Arc::<AtomicU64>::default();
        let changes = Arc::clone(&leader_changes);
        gauge(meter, "rocketmq_proxy_store_lanes", &lanes);
        gauge(meter, "rocketmq_proxy_store_inflight_requests", &in_flight);
        meter
            .u64_observable_counter("rocketmq_proxy_store_leader_changes_total")
            .with_callback(move |counter| counter.observe(changes.load(Ordering::Relaxed), &[]))
            .build();
        let resends = meter.u64_counter("rocketmq_proxy_store_resends_total").build();
        Self { lanes, in_flight, resends, leader_changes }
    }

    /// Counts how often somebody began to lead a replica group.
    pub(super) fn leader_changes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.leader_changes)
    }

    /// The lanes to one replica are open.
    pub(super) fn lanes(&self) -> Up {
        Up::by(&self.lanes, LANES_OF_A_REPLICA)
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
