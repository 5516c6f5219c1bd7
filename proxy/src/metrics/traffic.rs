//! Messages and bytes by topic and group.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use apogee_model::{GroupConfig, GroupId, TopicConfig, TopicId};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

/// Series per direction; what comes later is counted in one series without names.
const SERIES_MAX: usize = 10_000;

pub(super) struct Traffic {
    inward: Series<TopicId>,
    outward: Series<(TopicId, GroupId)>,
    /// Bytes of bodies.
    sizes: Histogram<u64>,
}

struct Series<K> {
    by_key: Mutex<BTreeMap<K, Arc<Flow>>>,
    overflow: Arc<Flow>,
}

struct Flow {
    labels: Vec<KeyValue>,
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    pub(super) fn new(meter: &Meter) -> Arc<Self> {
        let bounds = [1.0, 4.0, 512.0, 1024.0, 2048.0, 4096.0].map(|kib| kib * 1024.0).to_vec();
        let sizes = meter.u64_histogram("rocketmq_message_size").with_boundaries(bounds).build();
        let traffic = Arc::new(Self { inward: Series::default(), outward: Series::default(), sizes });
        observe(meter, "rocketmq_messages_in_total", &traffic, |traffic, tell| {
            traffic.inward.each(|flow| tell(&flow.messages, &flow.labels));
        });
        observe(meter, "rocketmq_throughput_in_total", &traffic, |traffic, tell| {
            traffic.inward.each(|flow| tell(&flow.bytes, &flow.labels));
        });
        observe(meter, "rocketmq_messages_out_total", &traffic, |traffic, tell| {
            traffic.outward.each(|flow| tell(&flow.messages, &flow.labels));
        });
        observe(meter, "rocketmq_throughput_out_total", &traffic, |traffic, tell| {
            traffic.outward.each(|flow| tell(&flow.bytes, &flow.labels));
        });
        traffic
    }

    pub(super) fn inward(&self, topic: &TopicConfig, sizes: &[usize]) {
        let labels = || {
            vec![
                KeyValue::new("topic", topic.topic.to_string()),
                KeyValue::new("message_type", "normal"), // the only type that is stored so far
                KeyValue::new("is_system", false),
            ]
        };
        let flow = self.inward.flow(topic.id, labels);
        flow.add(sizes.len(), sizes.iter().sum());
        let labels = flow.labels.get(..2).unwrap_or(&flow.labels); // topic and type, or overflow
        sizes.iter().for_each(|size| self.sizes.record(u64::try_from(*size).unwrap_or(u64::MAX), labels));
    }

    pub(super) fn outward(&self, topic: &TopicConfig, group: &GroupConfig, messages: usize, bytes: usize) {
        let labels = || {
            vec![
                KeyValue::new("topic", topic.topic.to_string()),
                KeyValue::new("consumer_group", group.group.to_string()),
                KeyValue::new("is_system", false),
                KeyValue::new("is_retry", false), // redelivery reads the original: there are no retry topics
            ]
        };
        self.outward.flow((topic.id, group.id), labels).add(messages, bytes);
    }
}

type Tell<'a> = &'a mut dyn FnMut(&AtomicU64, &[KeyValue]);

fn observe(
    meter: &Meter,
    name: &'static str,
    traffic: &Arc<Traffic>,
    each: impl Fn(&Traffic, Tell<'_>) + Send + Sync + 'static,
) {
    let traffic = Arc::clone(traffic);
    meter
        .u64_observable_counter(name)
        .with_callback(move |counter| {
            each(&traffic, &mut |count, labels| counter.observe(count.load(Ordering::Relaxed), labels));
        })
        .build();
}

impl<K> Default for Series<K> {
    fn default() -> Self {
        let overflow = Flow::new(vec![KeyValue::new("otel.metric.overflow", true)]);
        Self { by_key: Mutex::default(), overflow: Arc::new(overflow) }
    }
}

impl<K: Ord> Series<K> {
    fn flow(&self, key: K, labels: impl FnOnce() -> Vec<KeyValue>) -> Arc<Flow> {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if by_key.len() >= SERIES_MAX && !by_key.contains_key(&key) {
            return Arc::clone(&self.overflow);
        }
        Arc::clone(by_key.entry(key).or_insert_with(|| Arc::new(Flow::new(labels()))))
    }

    fn each(&self, mut tell: impl FnMut(&Flow)) {
        let flows: Vec<_> = self.by_key.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        flows
            .iter()
            .chain([&self.overflow])
            .filter(|flow| flow.messages.load(Ordering::Relaxed) > 0)
            .for_each(|flow| tell(flow));
    }
}

impl Flow {
    fn new(labels: Vec<KeyValue>) -> Self {
        Self { labels, messages: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn add(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(u64::try_from(messages).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
