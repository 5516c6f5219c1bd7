//! What the port counts. Names and labels are those of the operations contract, section 10.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter, UpDownCounter};

/// Handles of the connection metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ListenMetrics {
    open: UpDownCounter<i64>,
    accepted: Counter<u64>,
    closed: Counter<u64>,
    tls_reloads: Counter<u64>,
    drain_state: Arc<AtomicU64>,
    labels: Arc<Labels>,
}

/// Labels built once, because they are the same for every connection.
#[derive(Debug)]
struct Labels {
    plaintext: [KeyValue; 1],
    tls: [KeyValue; 1],
}

impl ListenMetrics {
    /// Registers the metrics with `meter`.
    pub fn new(meter: &Meter) -> ListenMetrics {
        let drain_state = Arc::<AtomicU64>::default();
        let shown = Arc::clone(&drain_state);
        meter
            .u64_observable_gauge("rocketmq_proxy_drain_state")
            .with_description("0 serves, 1 still accepts while the news that it leaves travels, 2 drains")
            .with_callback(move |gauge| gauge.observe(shown.load(Ordering::Relaxed), &[]))
            .build();
        ListenMetrics {
            open: meter
                .i64_up_down_counter("rocketmq_proxy_connections")
                .with_description("Connections that speak HTTP/2 now")
                .build(),
            accepted: meter
                .u64_counter("rocketmq_proxy_connections_total")
                .with_description("Connections the operating system handed over, refused ones included")
                .build(),
            closed: meter
                .u64_counter("rocketmq_proxy_connections_closed_total")
                .with_description("Connections that ended, by who or what ended them")
                .build(),
            tls_reloads: meter
                .u64_counter("rocketmq_proxy_tls_reloads_total")
                .with_description("Changed certificate files that were read, by result")
                .build(),
            drain_state,
            labels: Arc::new(Labels {
                plaintext: [KeyValue::new("tls", "false")],
                tls: [KeyValue::new("tls", "true")],
            }),
        }
    }

    pub(super) fn accepted(&self) {
        self.accepted.add(1, &[]);
    }

    pub(super) fn closed(&self, reason: Closed) {
        self.closed.add(1, &[KeyValue::new("reason", reason.label())]);
    }

    pub(super) fn tls_reloaded(&self, result: &'static str) {
        self.tls_reloads.add(1, &[KeyValue::new("result", result)]);
    }

    pub(super) fn drains(&self, state: DrainState) {
        self.drain_state.store(state as u64, Ordering::Relaxed);
    }

    /// Counts a connection as open until the guard is dropped.
    pub(super) fn open(&self, tls: IsTls) -> OpenConnection {
        let open = OpenConnection { metrics: self.clone(), tls };
        open.add(1);
        open
    }
}

/// How far the port is on its way out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum DrainState {
    LameDuck = 1,
    Draining = 2,
}

/// Whether a connection is encrypted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct IsTls(pub(super) bool);

/// One connection in the gauge.
#[derive(Debug)]
pub(super) struct OpenConnection {
    metrics: ListenMetrics,
    tls: IsTls,
}

impl OpenConnection {
    fn add(&self, change: i64) {
        let labels = &self.metrics.labels;
        self.metrics.open.add(change, if self.tls.0 { &labels.tls } else { &labels.plaintext });
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.add(-1);
    }
}

/// Who or what ended a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The other end left, politely or not.
    Client,
    /// Nothing was asked for too long, before or after the first request.
    Idle,
    /// It was old enough.
    Age,
    /// We are stopping.
    Drain,
    /// There was no seat.
    Limit,
    /// Broken protocol or handshake, or no answer to our ping.
    Error,
}

impl Closed {
    fn label(self) -> &'static str {
        match self {
            Closed::Client => "client",
            Closed::Idle => "idle",
            Closed::Age => "age",
            Closed::Drain => "drain",
            Closed::Limit => "limit",
            Closed::Error => "error",
        }
    }
}
