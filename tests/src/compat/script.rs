//! One run of a scenario: what it can do, and what it writes down.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use apogee_proto::v2;

use super::client::{self, Client, resource};
use super::consumer::{Consumer, Delivery, POLL, tags};
use super::draft::Draft;
use super::target::{GroupShape, Target, TopicKind};
use super::transcript::{Step, Transcript};

/// Long enough for a scenario that is not about leases.
const INVISIBLE: Duration = Duration::from_secs(120);

/// One run of a scenario, on topics and groups of its own.
pub struct Script {
    pub target: Arc<Target>,
    pub transcript: Transcript,
    /// Asks without being registered.
    pub client: Client,
    name: &'static str,
}

/// What became of a SendMessage.
pub struct Sent {
    pub code: String,
    pub entries: Vec<v2::SendResultEntry>,
}

impl Script {
    pub fn new(name: &'static str, target: Arc<Target>) -> Script {
        let client = Client::new(&target.endpoint(), name).expect("a target has an address");
        Script { target, transcript: Transcript::new(name), client, name }
    }

    /// Writes a step down.
    pub fn note(&mut self, call: impl Display, result: impl Display) {
        self.transcript.steps.push(Step { call: call.to_string(), result: result.to_string() });
    }

    /// A topic of this scenario, once clients can see it.
    pub async fn topic(&self, name: &str, kind: TopicKind, queues: u32) -> anyhow::Result<String> {
        let topic = format!("{}-{name}", self.name);
        self.target.create_topic(&topic, kind, queues).await.with_context(|| format!("creating topic {topic}"))?;
        Ok(topic)
    }

    /// A NORMAL topic with one queue.
    pub async fn plain_topic(&self) -> anyhow::Result<String> {
        self.topic("t", TopicKind::Normal, 1).await
    }

    /// A group of this scenario.
    pub async fn group(&self, name: &str, shape: GroupShape) -> anyhow::Result<String> {
        let group = format!("{}-{name}", self.name);
        self.target.create_group(&group, shape).await.with_context(|| format!("creating group {group}"))?;
        Ok(group)
    }

    /// A simple consumer of a concurrent group of its own, registered, of everything in the topic.
    pub async fn consumer(&self, name: &str, topic: &str) -> anyhow::Result<Consumer> {
        let group = self.group(name, GroupShape::default()).await?;
        self.member(&group, name, topic).await
    }

    /// One more simple consumer of a group that is there, registered.
    pub async fn member(&self, group: &str, name: &str, topic: &str) -> anyhow::Result<Consumer> {
        self.registered(v2::ClientType::SimpleConsumer, group, name, topic).await
    }

    /// A group of this scenario that reads lite topics.
    pub async fn lite_group(&self, name: &str, topic: &str, exclusive: bool) -> anyhow::Result<String> {
        let group = format!("{}-{name}", self.name);
        let created = self.target.create_lite_group(&group, topic, exclusive).await;
        created.with_context(|| format!("creating group {group}"))?;
        Ok(group)
    }

    /// One more consumer of a group that reads lite topics, registered.
    pub async fn lite_member(&self, group: &str, name: &str, topic: &str) -> anyhow::Result<Consumer> {
        self.registered(v2::ClientType::LitePushConsumer, group, name, topic).await
    }

    async fn registered(&self, kind: v2::ClientType, group: &str, name: &str, topic: &str) -> anyhow::Result<Consumer> {
        let client = self.stranger(&format!("{}-{name}", self.name))?;
        let settings = consumer_settings(&client, kind, group, topic, tags("*"));
        let (session, answer) = client.settle(settings).await;
        let answer = answer.map_err(|why| anyhow::anyhow!("settings of {group}: {why}"))?;
        let code = client::code(answer.status.as_ref());
        anyhow::ensure!(code == "OK", "settings of {group}: {code}");
        Ok(Consumer {
            client,
            session,
            group: group.to_owned(),
            topic: topic.to_owned(),
            filter: tags("*"),
            invisible: Some(INVISIBLE),
            batch: 32,
            poll: POLL,
            auto_renew: false,
            attempt_id: None,
            lite_topic: None,
            deadline: None,
        })
    }

    /// A client that nobody has heard of.
    pub fn stranger(&self, id: &str) -> anyhow::Result<Client> {
        Client::new(&self.target.endpoint(), id)
    }

    /// Sends one message and writes the code down.
    pub async fn send(&mut self, told: &str, draft: &Draft) -> Sent {
        let sent = self.send_all(std::slice::from_ref(draft)).await;
        self.note(format_args!("SendMessage {told}"), &sent.code);
        sent
    }

    /// One SendMessage with all of them; writes nothing down.
    pub async fn send_all(&self, drafts: &[Draft]) -> Sent {
        let messages = drafts.iter().map(|draft| draft.message.clone()).collect();
        let request = self.client.ask(v2::SendMessageRequest { messages });
        match self.client.stub().send_message(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                Sent { code: client::code(answer.status.as_ref()), entries: answer.entries }
            }
            Err(status) => Sent { code: client::grpc(&status), entries: Vec::new() },
        }
    }

    /// Receives until so many came and writes them down, by name.
    pub async fn gather(&mut self, told: &str, consumer: &Consumer, count: usize) -> Vec<Delivery> {
        let deliveries = sorted(consumer.gather(count).await);
        self.note(format_args!("ReceiveMessage {told}"), list(&deliveries));
        deliveries
    }

    /// Receives until there is no more and writes them down, by name.
    pub async fn drain(&mut self, told: &str, consumer: &Consumer) -> Vec<Delivery> {
        let deliveries = sorted(consumer.drain().await);
        self.note(format_args!("ReceiveMessage {told}"), list(&deliveries));
        deliveries
    }

    /// Acks in one call and writes the codes down.
    pub async fn ack(&mut self, told: &str, consumer: &Consumer, deliveries: &[Delivery]) {
        let code = consumer.ack(deliveries).await;
        self.note(format_args!("AckMessage {told}"), code);
    }

    /// Changes the invisible duration and writes down the code; returns the new handle.
    pub async fn change(&mut self, told: &str, consumer: &Consumer, delivery: &Delivery, seconds: i64) -> String {
        let after = prost_types::Duration { seconds, nanos: 0 };
        let (answered, handle) = consumer.change(&delivery.handle(), &delivery.id(), after).await;
        let told_handle = if handle.is_empty() { "no handle" } else { "a handle" };
        let code = client::told(&answered);
        self.note(format_args!("ChangeInvisibleDuration {told}"), format_args!("{code}; {told_handle}"));
        handle
    }
}

/// Settings as an SDK sends them for a consumer.
pub fn consumer_settings(
    client: &Client,
    client_type: v2::ClientType,
    group: &str,
    topic: &str,
    filter: v2::FilterExpression,
) -> v2::Settings {
    let subscription = v2::Subscription {
        group: Some(resource(group)),
        subscriptions: vec![v2::SubscriptionEntry { topic: Some(resource(topic)), expression: Some(filter) }],
        long_polling_timeout: Some(client::duration(POLL)),
        ..v2::Subscription::default()
    };
    settings(client, client_type, Some(v2::settings::PubSub::Subscription(subscription)))
}

/// Settings as an SDK sends them for a producer.
pub fn producer_settings(client: &Client, topics: &[&str]) -> v2::Settings {
    let publishing = v2::Publishing {
        topics: topics.iter().map(|topic| resource(topic)).collect(),
        validate_message_type: true,
        ..v2::Publishing::default()
    };
    settings(client, v2::ClientType::Producer, Some(v2::settings::PubSub::Publishing(publishing)))
}

/// Settings of any kind.
pub fn settings(client: &Client, client_type: v2::ClientType, pub_sub: Option<v2::settings::PubSub>) -> v2::Settings {
    let user_agent = v2::Ua {
        language: v2::Language::Java.into(),
        version: "5.2.0".to_owned(),
        platform: "compat".to_owned(),
        hostname: "compat".to_owned(),
    };
    v2::Settings {
        client_type: Some(client_type.into()),
        access_point: Some(client.endpoints()),
        request_timeout: Some(client::duration(Duration::from_secs(3))),
        user_agent: Some(user_agent),
        pub_sub,
        ..v2::Settings::default()
    }
}

/// By name, for answers whose order means nothing.
pub fn sorted(mut deliveries: Vec<Delivery>) -> Vec<Delivery> {
    deliveries.sort_by_key(|delivery| (delivery.body(), delivery.attempt()));
    deliveries
}

/// The names of messages, with the attempt when it is not the first.
pub fn list(deliveries: &[Delivery]) -> String {
    let name = |delivery: &Delivery| match delivery.attempt() {
        1 => delivery.body(),
        attempt => format!("{} (attempt {attempt})", delivery.body()),
    };
    if deliveries.is_empty() {
        return "nothing".to_owned();
    }
    deliveries.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A time, as coarse as tests on a loaded machine may look at it: not before, and within.
pub fn class(took: Duration, not_before: Duration, within: Duration) -> String {
    match () {
        () if took < not_before => format!("before {not_before:?}"),
        () if took <= within => format!("between {not_before:?} and {within:?}"),
        () => format!("after {within:?}"),
    }
}
