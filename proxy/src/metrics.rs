//! What the proxy counts. Names and labels: operations contract section 10; latencies in milliseconds.
//!
//! The hot path touches atomics and two histograms whose label sets are made once; everything else is read when
//! somebody scrapes.

mod calls;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use apogee_model::{GroupConfig, TopicConfig};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

pub(crate) use self::calls::{Calls, Rejection, Rpc, Running, ours};
use self::traffic::Traffic;
use crate::route::Routes;
use crate::session::{ConsumeMode, Sessions};

/// All instruments of a proxy.
pub(crate) struct Metrics {
    pub(crate) calls: Calls,
    traffic: Arc<Traffic>,
    long_polls: Arc<AtomicI64>,
    telemetry_streams: Arc<AtomicI64>,
}

/// So many more of something, until dropped.
#[derive(Debug)]
pub(crate) struct Up {
    count: Arc<AtomicI64>,
    by: i64,
}

impl Up {
    pub(crate) fn by(count: &Arc<AtomicI64>, by: i64) -> Self {
        count.fetch_add(by, Ordering::Relaxed);
        Self { count: Arc::clone(count), by }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.count.fetch_sub(self.by, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn new(meter: &Meter, sessions: &Arc<Sessions>) -> Self {
        let (long_polls, telemetry_streams) = (Arc::default(), Arc::default());
        gauge(meter, "rocketmq_proxy_long_polls", &long_polls);
        gauge(meter, "rocketmq_proxy_telemetry_streams", &telemetry_streams);
        connections(meter, sessions);
        let up = [KeyValue::new("proxy_mode", "cluster")];
        meter.u64_observable_gauge("rocketmq_proxy_up").with_callback(move |gauge| gauge.observe(1, &up)).build();
        Self { calls: Calls::new(meter), traffic: Traffic::new(meter), long_polls, telemetry_streams }
    }

    /// Messages of a topic became durable.
    ///
    /// `sizes`: bytes of each body.
    pub(crate) fn messages_in(&self, topic: &TopicConfig, sizes: &[usize]) {
        self.traffic.inward(topic, sizes);
    }

    /// Messages of a topic were written to a consumer.
    pub(crate) fn messages_out(&self, topic: &TopicConfig, group: &GroupConfig, messages: usize, bytes: usize) {
        self.traffic.outward(topic, group, messages, bytes);
    }

    /// A receive sleeps.
    pub(crate) fn long_poll(&self) -> Up {
        Up::by(&self.long_polls, 1)
    }

    /// A telemetry stream is open.
    pub(crate) fn telemetry_stream(&self) -> Up {
        Up::by(&self.telemetry_streams, 1)
    }
}

/// Shows a count under this name.
pub(crate) fn gauge(meter: &Meter, name: &'static str, count: &Arc<AtomicI64>) {
    let count = Arc::clone(count);
    meter
        .i64_observable_gauge(name)
        .with_callback(move |gauge| gauge.observe(count.load(Ordering::Relaxed), &[]))
        .build();
}

/// Topics and consumer groups there are, from the snapshot of namesrv.
pub(crate) fn names(meter: &Meter, routes: &Arc<dyn Routes>) {
    let known = Arc::clone(routes);
    let topics = meter.u64_observable_gauge("rocketmq_topic_number");
    topics.with_callback(move |gauge| gauge.observe(number(known.cluster().topics.len()), &[])).build();
    let known = Arc::clone(routes);
    let groups = meter.u64_observable_gauge("rocketmq_consumer_group_number");
    groups.with_callback(move |gauge| gauge.observe(number(known.cluster().groups.len()), &[])).build();
}

/// How old the snapshot of namesrv is, in milliseconds.
pub(crate) fn age(meter: &Meter, routes: &Arc<dyn Routes>) {
    let known = Arc::clone(routes);
    let age = meter.u64_observable_gauge("rocketmq_proxy_route_cache_age_ms");
    let millis = move || u64::try_from(known.age().as_millis()).unwrap_or(u64::MAX);
    age.with_callback(move |gauge| gauge.observe(millis(), &[])).build();
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Clients by kind, from the sessions.
fn connections(meter: &Meter, sessions: &Arc<Sessions>) {
    let producers = Arc::clone(sessions);
    meter
        .u64_observable_gauge("rocketmq_producer_connections")
        .with_callback(move |gauge| {
            for (kind, count) in producers.census().iter().filter(|(kind, _)| kind.consumer.is_none()) {
                gauge.observe(*count, &client_labels(kind));
            }
        })
        .build();
    let consumers = Arc::clone(sessions);
    meter
        .u64_observable_gauge("rocketmq_consumer_connections")
        .with_callback(move |gauge| {
            for (kind, count) in consumers.census() {
                let Some((group, mode)) = &kind.consumer else { continue };
                let mut labels = client_labels(&kind);
                labels.push(KeyValue::new("consumer_group", group.to_string()));
                labels.push(KeyValue::new("consume_mode", mode_name(*mode)));
                labels.push(KeyValue::new("is_system", false));
                gauge.observe(count, &labels);
            }
        })
        .build();
}

fn client_labels(kind: &crate::session::Kind) -> Vec<KeyValue> {
    vec![
        KeyValue::new("language", kind.language.name()),
        KeyValue::new("version", kind.version.to_string()),
        KeyValue::new("protocol_type", "grpc"),
    ]
}

fn mode_name(mode: ConsumeMode) -> &'static str {
    match mode {
        ConsumeMode::Push => "push",
        ConsumeMode::Simple => "simple",
        ConsumeMode::LitePush => "lite_push",
        ConsumeMode::LiteSimple => "lite_simple",
    }
}
