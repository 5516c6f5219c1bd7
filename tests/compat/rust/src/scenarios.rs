//! Producers and simple consumers: what was sent comes, once acked never again, otherwise when its lease ends.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocketmq::Producer;
use rocketmq::model::message::{MessageBuilder, MessageView};

use crate::clients::{Clients, LEASE, Simple, elapsed};

const BODY_MAX: usize = 4 * 1024 * 1024;
/// This SDK receives nothing larger than 4 MiB with all that is around the body.
const BODY_RECEIVED_MAX: usize = BODY_MAX - 4096;

/// What a message is to be.
#[derive(Clone, Default)]
struct Draft {
    body: Vec<u8>,
    tag: Option<&'static str>,
    keys: Vec<&'static str>,
    properties: Vec<(&'static str, &'static str)>,
}

impl From<&str> for Draft {
    fn from(body: &str) -> Self {
        Self { body: body.into(), ..Self::default() }
    }
}

impl Draft {
    /// Sends it and returns the message id.
    async fn send(self, producer: &Producer, topic: &str) -> String {
        let mut message = MessageBuilder::builder().set_topic(topic).set_body(self.body).set_keys(self.keys);
        message = message.set_properties(self.properties.into_iter().collect::<HashMap<_, _>>());
        if let Some(tag) = self.tag {
            message = message.set_tag(tag);
        }
        let receipt = producer.send(message.build().expect("a message")).await.expect("send");
        receipt.message_id().to_owned()
    }

    fn check_same(&self, received: &MessageView) {
        assert_eq!(received.tag(), self.tag, "tag");
        assert_eq!(received.keys(), self.keys, "keys");
        let properties = self.properties.iter().map(|(name, content)| (name.to_string(), content.to_string()));
        assert_eq!(*received.properties(), properties.collect::<HashMap<_, _>>(), "properties");
        let length = received.body().len();
        assert!(received.body() == self.body, "a body of {length} bytes is not what was sent");
        assert_eq!(received.delivery_attempt(), 1, "delivery attempt");
        assert!(received.born_timestamp() > 0, "born timestamp");
    }
}

/// Tags, keys, properties, Unicode and large bodies come out as they went in.
pub async fn messages_arrive_as_sent(clients: Arc<Clients>, producer: Arc<Producer>) {
    let topic = "rust-as-sent";
    let drafts = [
        Draft::from("plain"),
        Draft::from("snow ☃, Größe, 日本語, 🚀"),
        Draft { body: vec![0, 1, 0xff, 0], tag: Some("binary"), ..Draft::default() },
        Draft { keys: vec!["order-1", "order-2"], ..Draft::from("k") },
        Draft {
            properties: vec![("colour", "dark blue"), ("größe.x-y_z", "日本語 🚀 = a,b;c")], ..Draft::from("p")
        },
        Draft { body: large(), tag: Some("large"), keys: vec!["order-3"], properties: vec![("size", "large")] },
    ];
    let mut sent = HashMap::new();
    for draft in &drafts {
        sent.insert(draft.clone().send(&producer, topic).await, draft);
    }
    assert_eq!(sent.len(), drafts.len(), "different message ids");
    let consumer = clients.simple(topic, "rust-as-sent-group", "*").await;
    for received in consumer.receive(drafts.len(), Duration::from_secs(60)).await {
        let id = received.message_id();
        let wanted = sent.remove(id).unwrap_or_else(|| panic!("{id} was not sent, or came twice"));
        assert_eq!(received.topic(), topic, "topic");
        wanted.check_same(&received);
        consumer.ack(&received).await;
    }
    consumer.stop().await;
}

/// A body as large as can be received, the same in every run, in which no byte follows from the one before.
fn large() -> Vec<u8> {
    let mut state = 4_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..BODY_RECEIVED_MAX).map(|_| next()).collect()
}

pub async fn acked_message_never_comes_again(clients: Arc<Clients>, producer: Arc<Producer>) {
    let (topic, group) = ("rust-acked", "rust-acked-group");
    for _ in 0..20 {
        Draft::from("message").send(&producer, topic).await;
    }
    let consumer = clients.simple(topic, group, "*").await;
    for received in consumer.receive(20, LEASE).await {
        consumer.ack(&received).await;
    }
    consumer.stop().await;
    clients.expect_nothing(topic, group).await;
}

pub async fn body_over_the_limit_is_refused(_clients: Arc<Clients>, producer: Arc<Producer>) {
    let over = MessageBuilder::builder().set_topic("rust-over-the-limit").set_body(vec![0; BODY_MAX + 1]);
    let sent = producer.send(over.build().expect("a message")).await;
    assert!(sent.is_err(), "a body of {} bytes was taken", BODY_MAX + 1);
}

pub async fn tag_filter_selects(clients: Arc<Clients>, producer: Arc<Producer>) {
    let topic = "rust-tags";
    for tag in ["red", "green", "blue"] {
        Draft { tag: Some(tag), ..Draft::from(tag) }.send(&producer, topic).await;
    }
    Draft::from("none").send(&producer, topic).await;
    let some = clients.simple(topic, "rust-tags-some", "red || blue").await;
    let all = clients.simple(topic, "rust-tags-all", "*").await;
    assert_eq!(receive_bodies(&some, 2).await, bodies(["red", "blue"]), "bodies with tag red or blue");
    assert_eq!(receive_bodies(&all, 4).await, bodies(["red", "green", "blue", "none"]), "all bodies");
    some.expect_nothing().await;
    some.stop().await;
    all.stop().await;
}

/// Receives and acks `count` messages.
async fn receive_bodies(consumer: &Simple, count: usize) -> BTreeSet<String> {
    let mut bodies = BTreeSet::new();
    for received in consumer.receive(count, LEASE).await {
        bodies.insert(String::from_utf8_lossy(received.body()).into_owned());
        consumer.ack(&received).await;
    }
    bodies
}

fn bodies<const N: usize>(bodies: [&str; N]) -> BTreeSet<String> {
    bodies.map(str::to_owned).into()
}

/// A lease that ends brings the message back with attempt 2, and the first handle then acks nothing.
pub async fn expired_lease_is_redelivered(clients: Arc<Clients>, producer: Arc<Producer>) {
    let (topic, group) = ("rust-expiry", "rust-expiry-group");
    Draft::from("again").send(&producer, topic).await;
    let consumer = clients.simple(topic, group, "*").await;
    let start = Instant::now();
    let first = consumer.receive_one().await;
    assert_eq!(first.delivery_attempt(), 1, "first delivery attempt");
    let second = consumer.receive_one().await;
    elapsed(start, LEASE, "the redelivery");
    assert_eq!(first.message_id(), second.message_id(), "message id");
    assert_eq!(second.delivery_attempt(), 2, "second delivery attempt");
    assert!(consumer.refuses(&first).await, "the handle of a replaced delivery was acked");
    consumer.ack(&second).await;
    consumer.stop().await;
    clients.expect_nothing(topic, group).await;
}
