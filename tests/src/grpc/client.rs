//! The calls of a 5.x SDK, bare, each noted in the history.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use apogee_proto::v2;
use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use apogee_proto::v2::receive_message_response::Content;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::history::{self, Delivered, Handle, History, MessageId, Name, Outcome, Place, What};

/// The shortest there is.
const INVISIBLE: Duration = Duration::from_secs(10);
const LONG_POLL: Duration = Duration::from_secs(5);
/// Longest wait for any answer.
const CALL_MAX: Duration = Duration::from_secs(15);

/// A client of one server or of several, each of which it finds again after a restart. Every call goes to the next one.
pub struct Client {
    channels: Vec<Channel>,
    next: AtomicUsize,
    history: History,
    refusals: Mutex<Vec<String>>,
}

/// One delivery, with what it takes to settle it.
#[derive(Clone)]
pub struct Received {
    seen: Delivered,
    message_id: String,
    receipt_handle: String,
}

/// What the server said: yes, no in words, or nothing.
enum Answer<T> {
    Yes(T),
    No(String),
    Silence,
}

impl Client {
    /// The topic of all calls.
    pub const TOPIC: &str = "orders";

    /// Connects to nobody yet.
    pub fn new(endpoint: &str, history: History) -> anyhow::Result<Client> {
        Client::of_all(&[endpoint.to_owned()], history)
    }

    /// Connects to nobody yet.
    pub fn of_all(endpoints: &[String], history: History) -> anyhow::Result<Client> {
        let connect = |endpoint: &String| {
            anyhow::Ok(Endpoint::from_shared(format!("http://{endpoint}"))?.tcp_nodelay(true).connect_lazy())
        };
        let channels = endpoints.iter().map(connect).collect::<Result<_, _>>()?;
        Ok(Client { channels, next: AtomicUsize::new(0), history, refusals: Mutex::default() })
    }

    /// Asks for the route, which creates the topic.
    pub async fn create_topic(&self) -> anyhow::Result<()> {
        let addresses = vec![v2::Address { host: "127.0.0.1".to_owned(), port: 8081 }];
        let endpoints = Some(v2::Endpoints { scheme: v2::AddressScheme::IPv4.into(), addresses });
        let request = self.request(v2::QueryRouteRequest { topic: Some(resource(Client::TOPIC)), endpoints });
        let answer = timeout(CALL_MAX, self.stub().query_route(request)).await??.into_inner();
        anyhow::ensure!(is_ok(&answer.status), "{:?}", answer.status);
        Ok(())
    }

    /// Every status other than OK that a call got.
    pub fn refusals(&self) -> Vec<String> {
        self.refusals.lock().expect("nobody panics with it in hand").clone()
    }

    /// Whether the message is sent for certain.
    pub async fn send(&self, message: MessageId, size: usize) -> bool {
        let sent = outgoing(message, size);
        let digest = digest_of(&sent);
        let start = self.history.start();
        let request = self.request(v2::SendMessageRequest { messages: vec![sent] });
        let answer = match timeout(CALL_MAX, self.stub().send_message(request)).await {
            Ok(Ok(answer)) => answer.into_inner().entries.pop().map_or(Answer::Silence, entry_of_send),
            Ok(Err(_)) | Err(_) => Answer::Silence,
        };
        let outcome = self.outcome("SendMessage", &answer);
        let place = if let Answer::Yes(offset) = answer { Some(place(0, offset)) } else { None };
        self.history.end(start, What::Send { message, topic: Client::TOPIC.into(), digest, place, outcome });
        outcome == Outcome::Ok
    }

    /// One long poll; empty when nothing came or the server was away.
    pub async fn receive(&self, group: u64, batch: i32) -> Vec<Received> {
        let start = self.history.start();
        let mut messages = Vec::new();
        let answer = match timeout(CALL_MAX, self.collect(group, batch, &mut messages)).await {
            Ok(Ok(status)) if status.code() == v2::Code::MessageNotFound => Answer::Yes(()),
            Ok(Ok(status)) => yes_or_no(Some(status), ()),
            Ok(Err(_)) | Err(_) => Answer::Silence,
        };
        let outcome = self.outcome("ReceiveMessage", &answer);
        let deliveries = messages.iter().map(|received| received.seen.clone()).collect();
        let (group, topic) = (group_name(group), Client::TOPIC.into());
        let what = What::Receive { group, topic, attempt_id: None, invisible: INVISIBLE, deliveries, outcome };
        self.history.end(start, what);
        messages
    }

    async fn collect(&self, group: u64, batch: i32, messages: &mut Vec<Received>) -> anyhow::Result<v2::Status> {
        let queue = v2::MessageQueue { topic: Some(resource(Client::TOPIC)), id: -1, ..v2::MessageQueue::default() };
        let filter = v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: "*".to_owned() };
        let request = self.request(v2::ReceiveMessageRequest {
            group: Some(resource(&group_name(group))),
            message_queue: Some(queue),
            filter_expression: Some(filter),
            batch_size: batch,
            invisible_duration: Some(duration(INVISIBLE)),
            auto_renew: false,
            long_polling_timeout: Some(duration(LONG_POLL)),
            attempt_id: None,
        });
        let mut stream = self.stub().receive_message(request).await?.into_inner();
        let mut status = None;
        while let Some(part) = stream.message().await? {
            match part.content {
                Some(Content::Message(message)) => messages.push(received(message)),
                Some(Content::Status(said)) => status = Some(said),
                Some(Content::DeliveryTimestamp(_)) | None => {}
            }
        }
        status.context("a stream without a status")
    }

    /// Acks a batch in one call.
    pub async fn ack(&self, group: u64, messages: &[Received]) {
        let entry = |received: &Received| v2::AckMessageEntry {
            message_id: received.message_id.clone(),
            receipt_handle: received.receipt_handle.clone(),
            lite_topic: None,
        };
        let start = self.history.start();
        let request = self.request(v2::AckMessageRequest {
            group: Some(resource(&group_name(group))),
            topic: Some(resource(Client::TOPIC)),
            entries: messages.iter().map(entry).collect(),
        });
        let answer = timeout(CALL_MAX, self.stub().ack_message(request)).await;
        let entries = answer.ok().and_then(Result::ok).map(|answer| answer.into_inner().entries).unwrap_or_default();
        let acks = messages.iter().enumerate().map(|(nth, Received { seen, .. })| {
            let status = entries.get(nth).map(|entry| entry.status.clone());
            let outcome = self.settled("AckMessage", status);
            What::Ack { group: group_name(group), message: seen.message, handle: seen.handle, outcome }
        });
        self.history.end_all(start, acks);
    }

    /// Moves the end of a delivery's lease.
    pub async fn change(&self, group: u64, received: &Received, after: Duration) {
        let start = self.history.start();
        let request = self.request(v2::ChangeInvisibleDurationRequest {
            group: Some(resource(&group_name(group))),
            topic: Some(resource(Client::TOPIC)),
            receipt_handle: received.receipt_handle.clone(),
            invisible_duration: Some(duration(after)),
            message_id: received.message_id.clone(),
            ..v2::ChangeInvisibleDurationRequest::default()
        });
        let answer = timeout(CALL_MAX, self.stub().change_invisible_duration(request)).await;
        let status = answer.ok().and_then(Result::ok).map(|answer| answer.into_inner().status);
        // One that made the message visible and lost its answer with a leader is asked again, and finds it delivered anew.
        let outcome = match self.settled("ChangeInvisibleDuration", status) {
            Outcome::Failed => Outcome::Indeterminate,
            outcome => outcome,
        };
        let Received { seen: Delivered { message, handle, .. }, .. } = *received;
        self.history.end(start, What::Change { group: group_name(group), message, handle, after, outcome });
    }

    /// A handle that a later delivery replaced is an answer to be expected.
    fn settled(&self, call: &str, status: Option<Option<v2::Status>>) -> Outcome {
        match status {
            Some(Some(status)) if status.code() == v2::Code::InvalidReceiptHandle => Outcome::Failed,
            Some(status) => self.outcome(call, &yes_or_no(status, ())),
            None => Outcome::Indeterminate,
        }
    }

    fn outcome<T>(&self, call: &str, answer: &Answer<T>) -> Outcome {
        match answer {
            Answer::Yes(_) => Outcome::Ok,
            Answer::No(why) => {
                self.refusals.lock().expect("nobody panics with it in hand").push(format!("{call}: {why}"));
                Outcome::Indeterminate
            }
            Answer::Silence => Outcome::Indeterminate,
        }
    }

    fn stub(&self) -> MessagingServiceClient<Channel> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        MessagingServiceClient::new(self.channels[next].clone())
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("x-mq-client-id", tonic::metadata::MetadataValue::from_static("history"));
        request.metadata_mut().insert("x-mq-language", tonic::metadata::MetadataValue::from_static("RUST"));
        request.set_timeout(CALL_MAX);
        request
    }
}

fn outgoing(id: MessageId, size: usize) -> v2::Message {
    let body: Vec<u8> = id.0.to_le_bytes().into_iter().cycle().take(size.max(8)).collect();
    let system = v2::SystemProperties {
        tag: Some(format!("tag-{}", id.0 % 3)),
        keys: vec![format!("key-{}", id.0)],
        message_id: format!("01AB{:030X}", id.0),
        body_encoding: v2::Encoding::Identity.into(),
        message_type: v2::MessageType::Normal.into(),
        born_timestamp: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 }),
        born_host: "history".to_owned(),
        ..v2::SystemProperties::default()
    };
    v2::Message {
        topic: Some(resource(Client::TOPIC)),
        user_properties: [("id".to_owned(), id.0.to_string())].into(),
        system_properties: Some(system),
        body: body.into(),
    }
}

/// A delivery in the words of the history. Rubbish gets the id of a message that nobody sent.
fn received(message: v2::Message) -> Received {
    let digest = digest_of(&message);
    let id = message.body.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    let system = message.system_properties.unwrap_or_default();
    let receipt_handle = system.receipt_handle.unwrap_or_default();
    let seen = Delivered {
        message: MessageId(id),
        place: place(system.queue_id, system.queue_offset.unwrap_or(-1)),
        digest,
        attempt: u32::try_from(system.delivery_attempt.unwrap_or_default()).unwrap_or_default(),
        handle: Handle(history::digest([receipt_handle.as_bytes()])),
        invisible: INVISIBLE,
    };
    Received { seen, message_id: system.message_id, receipt_handle }
}

fn digest_of(message: &v2::Message) -> u64 {
    let system = message.system_properties.clone().unwrap_or_default();
    let mut text = format!("{:?} {:?} {}", system.tag, system.keys, system.message_id);
    let mut properties: Vec<_> = message.user_properties.iter().collect();
    properties.sort_unstable();
    text.push_str(&format!("{properties:?}"));
    history::digest([&message.body[..], text.as_bytes()])
}

fn entry_of_send(entry: v2::SendResultEntry) -> Answer<i64> {
    yes_or_no(entry.status, entry.offset)
}

fn yes_or_no<T>(status: Option<v2::Status>, yes: T) -> Answer<T> {
    if is_ok(&status) { Answer::Yes(yes) } else { Answer::No(format!("{status:?}")) }
}

fn is_ok(status: &Option<v2::Status>) -> bool {
    status.as_ref().is_some_and(|status| status.code() == v2::Code::Ok)
}

/// Numbers that are missing or negative become places that nothing else has.
fn place(queue: i32, offset: i64) -> Place {
    let (queue, offset) = (u32::try_from(queue).unwrap_or(u32::MAX), u64::try_from(offset).unwrap_or(u64::MAX));
    Place { topic: Client::TOPIC.into(), queue, offset }
}

fn group_name(group: u64) -> Name {
    format!("group-{group}").into()
}

fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).expect("some seconds");
    prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
}
