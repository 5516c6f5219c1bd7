//! Clients of one server, made as an application makes them, and what scenarios demand of them by panicking.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rocketmq::conf::{ClientOption, LoggingFormat, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageView;
use rocketmq::{Producer, SimpleConsumer};

/// The shortest lease a client may ask for.
pub const LEASE: Duration = Duration::from_secs(10);
/// Longest wait for messages that must come.
const ARRIVAL_MAX: Duration = Duration::from_secs(30);
/// Granularity of the clocks on both sides.
const EARLY_MAX: Duration = Duration::from_millis(50);
/// How much later than due a redelivery may come on a busy machine.
const LATE_MAX: Duration = Duration::from_secs(8);
const BATCH: i32 = 32;

/// What all clients have in common.
pub struct Clients {
    option: ClientOption,
}

impl Clients {
    pub fn plaintext(endpoint: &str) -> Self {
        let mut option = ClientOption::default();
        option.set_access_url(endpoint);
        // Longer than the default of 3 s: a busy machine must not look like a lost message. Long polls keep their default:
        // this SDK takes their length for the deadline of the call, too, so that only the server can end them before it,
        // after 20 s.
        option.set_timeout(Duration::from_secs(20));
        Self { option }
    }

    pub fn tls(endpoint: &str) -> Self {
        let mut clients = Self::plaintext(endpoint);
        clients.option.set_enable_tls(true);
        clients
    }

    pub async fn producer(&self) -> Producer {
        let mut option = ProducerOption::default();
        option.set_logging_format(LoggingFormat::Json);
        let mut producer = Producer::new(option, self.option.clone()).expect("a producer");
        producer.start().await.expect("the producer starts");
        producer
    }

    pub async fn simple(&self, topic: &'static str, group: &str, tags: &str) -> Simple {
        let mut option = SimpleConsumerOption::default();
        option.set_logging_format(LoggingFormat::Json);
        option.set_consumer_group(group);
        option.set_topics(vec![topic]);
        let mut consumer = SimpleConsumer::new(option, self.option.clone()).expect("a simple consumer");
        consumer.start().await.expect("the simple consumer starts");
        Simple { consumer, topic, tags: FilterExpression::new(FilterType::Tag, tags) }
    }

    /// One long poll of a consumer of its own that must find nothing for longer than a lease.
    pub async fn expect_nothing(&self, topic: &'static str, group: &str) {
        let consumer = self.simple(topic, group, "*").await;
        consumer.expect_nothing().await;
        consumer.stop().await;
    }
}

/// A simple consumer of one topic.
pub struct Simple {
    consumer: SimpleConsumer,
    topic: &'static str,
    tags: FilterExpression,
}

impl Simple {
    /// One long poll.
    async fn poll(&self, lease: Duration) -> Vec<MessageView> {
        self.consumer.receive_with(self.topic, &self.tags, BATCH, lease).await.expect("receive")
    }

    /// Receives and acks, and notes the ids. A call that fails is made again: what it lost comes when its lease ends.
    pub async fn try_receive(&self, seen: &mut BTreeSet<String>) {
        let Ok(received) = self.consumer.receive_with(self.topic, &self.tags, BATCH, LEASE).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        };
        for message in received {
            seen.insert(message.message_id().to_owned());
            let _comes_again_otherwise = self.consumer.ack(&message).await;
        }
    }

    /// Receives until `count` messages are there.
    pub async fn receive(&self, count: usize, lease: Duration) -> Vec<MessageView> {
        let start = Instant::now();
        let mut received = Vec::new();
        while received.len() < count {
            assert!(start.elapsed() < ARRIVAL_MAX, "{} of {count} messages within {ARRIVAL_MAX:?}", received.len());
            received.extend(self.poll(lease).await);
        }
        assert_eq!(received.len(), count, "messages received");
        received
    }

    /// Receives one message, which must be the only one.
    pub async fn receive_one(&self) -> MessageView {
        self.receive(1, LEASE).await.remove(0)
    }

    /// One long poll that must find nothing. The server ends it after 20 s, twice a lease.
    pub async fn expect_nothing(&self) {
        let received = self.poll(LEASE).await;
        assert!(received.is_empty(), "nothing should come, but there is {received:?}");
    }

    pub async fn ack(&self, message: &MessageView) {
        self.consumer.ack(message).await.expect("ack");
    }

    /// Whether the server refuses to take this ack.
    pub async fn refuses(&self, message: &MessageView) -> bool {
        self.consumer.ack(message).await.is_err()
    }

    pub async fn stop(self) {
        self.consumer.shutdown().await.expect("the simple consumer stops");
    }
}

/// The time since `start` is `due`, hardly less and not much more.
pub fn elapsed(start: Instant, due: Duration, what: &str) {
    let took = start.elapsed();
    assert!(took + EARLY_MAX >= due, "{what} came early, after {took:?}");
    assert!(took <= due + LATE_MAX, "{what} came late, after {took:?}");
}
