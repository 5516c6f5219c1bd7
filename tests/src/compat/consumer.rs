//! A consumer of one topic, and what it got.

use std::time::Duration;

use apogee_proto::v2;
use apogee_proto::v2::receive_message_response::Content;
use tokio::time::Instant;

use super::client::{self, Answered, Client, Session, duration, resource};

/// The shortest long poll of Apache RocketMQ.
pub const POLL: Duration = Duration::from_secs(5);
/// How much longer than its long poll a receive may take; less than five seconds are refused.
const SLACK: Duration = Duration::from_secs(15);
/// Longest wait for messages that must come.
const GATHER_MAX: Duration = Duration::from_secs(60);
/// An empty poll that took so long has seen everything.
const WHOLE_POLL: Duration = Duration::from_millis(4_500);

/// Receives one topic for one group. Its fields may be changed between calls.
pub struct Consumer {
    pub client: Client,
    /// Kept so that its client stays registered.
    pub session: Option<Session>,
    pub group: String,
    pub topic: String,
    pub filter: v2::FilterExpression,
    pub invisible: Option<Duration>,
    pub batch: i32,
    pub poll: Duration,
    pub auto_renew: bool,
    pub attempt_id: Option<String>,
    /// The lite topic that acks and changes name.
    pub lite_topic: Option<String>,
    /// Deadline of a receive, unless it follows from the long poll.
    pub deadline: Option<Duration>,
}

/// What one receive brought.
pub struct Polled {
    pub code: String,
    pub deliveries: Vec<Delivery>,
    /// `status`, `message` and `delivery timestamp` as they came.
    pub parts: Vec<&'static str>,
    pub took: Duration,
}

/// One message in the hands of a consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub message: v2::Message,
    /// Before the call that brought it: its lease began later.
    pub asked: Instant,
}

impl Delivery {
    fn system(&self) -> v2::SystemProperties {
        self.message.system_properties.clone().unwrap_or_default()
    }

    /// The name of the message in the transcript.
    pub fn body(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }

    pub fn handle(&self) -> String {
        self.system().receipt_handle.unwrap_or_default()
    }

    pub fn id(&self) -> String {
        self.system().message_id
    }

    pub fn attempt(&self) -> i32 {
        self.system().delivery_attempt.unwrap_or_default()
    }
}

impl Consumer {
    /// One ReceiveMessage.
    pub async fn receive(&self) -> Polled {
        let asked = Instant::now();
        let queue = v2::MessageQueue { topic: Some(resource(&self.topic)), id: -1, ..v2::MessageQueue::default() };
        let message = v2::ReceiveMessageRequest {
            group: Some(resource(&self.group)),
            message_queue: Some(queue),
            filter_expression: Some(self.filter.clone()),
            batch_size: self.batch,
            invisible_duration: self.invisible.map(duration),
            auto_renew: self.auto_renew,
            long_polling_timeout: Some(duration(self.poll)),
            attempt_id: self.attempt_id.clone(),
        };
        let request = self.client.request(message, self.deadline.unwrap_or(self.poll + SLACK));
        let mut polled =
            Polled { code: String::new(), deliveries: Vec::new(), parts: Vec::new(), took: Duration::ZERO };
        polled.code = match self.client.stub().receive_message(request).await {
            Ok(stream) => read(stream.into_inner(), asked, &mut polled).await,
            Err(status) => client::grpc(&status),
        };
        polled.took = asked.elapsed();
        polled
    }

    /// Receives until so many came, or what there is when they do not come.
    pub async fn gather(&self, count: usize) -> Vec<Delivery> {
        let deadline = Instant::now() + GATHER_MAX;
        let mut all = Vec::new();
        while all.len() < count && Instant::now() < deadline {
            all.extend(self.receive().await.deliveries);
        }
        all
    }

    /// Receives until a whole long poll brings nothing.
    pub async fn drain(&self) -> Vec<Delivery> {
        let deadline = Instant::now() + GATHER_MAX;
        let mut all = Vec::new();
        while Instant::now() < deadline {
            let polled = self.receive().await;
            if polled.deliveries.is_empty() && polled.took >= WHOLE_POLL {
                break;
            }
            all.extend(polled.deliveries);
        }
        all
    }

    /// Receives for so long, for messages that should not come.
    pub async fn listen(&self, span: Duration) -> Vec<Delivery> {
        let deadline = Instant::now() + span;
        let mut all = Vec::new();
        while Instant::now() < deadline {
            all.extend(self.receive().await.deliveries);
        }
        all
    }

    /// One AckMessage with an entry for each (message id, handle).
    pub async fn ack_entries(&self, entries: &[(String, String)]) -> Result<v2::AckMessageResponse, tonic::Status> {
        let entry = |(message_id, receipt_handle): &(String, String)| v2::AckMessageEntry {
            message_id: message_id.clone(),
            receipt_handle: receipt_handle.clone(),
            lite_topic: self.lite_topic.clone(),
        };
        let request = v2::AckMessageRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.topic)),
            entries: entries.iter().map(entry).collect(),
        };
        Ok(self.client.stub().ack_message(self.client.ask(request)).await?.into_inner())
    }

    /// Acks them in one call: the code of all, and of each.
    pub async fn ack(&self, deliveries: &[Delivery]) -> String {
        let entries: Vec<_> = deliveries.iter().map(|delivery| (delivery.id(), delivery.handle())).collect();
        match self.ack_entries(&entries).await {
            Ok(answer) => acked(&answer),
            Err(status) => client::grpc(&status),
        }
    }

    /// ChangeInvisibleDuration; with the new handle.
    pub async fn change(&self, handle: &str, id: &str, after: prost_types::Duration) -> (Answered, String) {
        let request = v2::ChangeInvisibleDurationRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.topic)),
            receipt_handle: handle.to_owned(),
            invisible_duration: Some(after),
            message_id: id.to_owned(),
            lite_topic: self.lite_topic.clone(),
            ..v2::ChangeInvisibleDurationRequest::default()
        };
        match self.client.stub().change_invisible_duration(self.client.ask(request)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                (Ok(answer.status), answer.receipt_handle)
            }
            Err(status) => (Err(status), String::new()),
        }
    }

    /// ForwardMessageToDeadLetterQueue.
    pub async fn forward(&self, handle: &str, id: &str) -> Answered {
        let request = v2::ForwardMessageToDeadLetterQueueRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.topic)),
            receipt_handle: handle.to_owned(),
            message_id: id.to_owned(),
            delivery_attempt: 1,
            max_delivery_attempts: 1,
            lite_topic: None,
        };
        let answer = self.client.stub().forward_message_to_dead_letter_queue(self.client.ask(request)).await;
        answer.map(|answer| answer.into_inner().status)
    }
}

/// The code of an answer to an ack, and of each entry when there are several or they differ from it.
pub fn acked(answer: &v2::AckMessageResponse) -> String {
    let all = client::code(answer.status.as_ref());
    let each: Vec<_> = answer.entries.iter().map(|entry| client::code(entry.status.as_ref())).collect();
    match each.as_slice() {
        [] => format!("{all}; no entries"),
        [one] if *one == all => all,
        each => format!("{all}; {}", each.join(", ")),
    }
}

/// A filter by tags.
pub fn tags(expression: &str) -> v2::FilterExpression {
    v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: expression.to_owned() }
}

/// A filter by SQL92.
pub fn sql(expression: &str) -> v2::FilterExpression {
    v2::FilterExpression { r#type: v2::FilterType::Sql.into(), expression: expression.to_owned() }
}

/// Reads a stream to its end; returns its code.
async fn read(mut stream: tonic::Streaming<v2::ReceiveMessageResponse>, asked: Instant, polled: &mut Polled) -> String {
    let mut said = None;
    loop {
        match stream.message().await {
            Ok(Some(part)) => match part.content {
                Some(Content::Message(message)) => {
                    polled.parts.push("message");
                    polled.deliveries.push(Delivery { message, asked });
                }
                Some(Content::Status(status)) => {
                    polled.parts.push("status");
                    said = Some(status);
                }
                Some(Content::DeliveryTimestamp(_)) => polled.parts.push("delivery timestamp"),
                None => polled.parts.push("nothing"),
            },
            Ok(None) => return client::code(said.as_ref()),
            Err(status) => return client::grpc(&status),
        }
    }
}
