//! One client of a server: its headers, its calls, and the demands that all SDKs have in common.

use std::time::Duration;

use apogee_proto::v2;
use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use apogee_proto::v2::receive_message_response::Content;
use apogee_proto::v2::telemetry_command::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

/// Deadline of unary calls, the default of both SDKs.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// How one SDK shows itself to one server.
pub(crate) struct Wire {
    pub(crate) stub: MessagingServiceClient<Channel>,
    headers: &'static [(&'static str, &'static str)],
    pub(crate) access_point: v2::Endpoints,
}

/// A telemetry stream.
pub(crate) struct Session {
    commands: mpsc::Sender<v2::TelemetryCommand>,
    answers: Streaming<v2::TelemetryCommand>,
}

impl Wire {
    /// Talks to this port of the machine; `access_point` is what the user of the SDK configured.
    pub(crate) fn new(
        port: u16,
        headers: &'static [(&'static str, &'static str)],
        access_point: v2::Endpoints,
    ) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
        Self { stub: MessagingServiceClient::new(endpoint.connect_lazy()), headers, access_point }
    }

    pub(crate) fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in self.headers {
            request.metadata_mut().insert(*name, value.parse().expect("an ASCII header"));
        }
        request.set_timeout(deadline);
        request
    }

    pub(crate) async fn telemetry(&mut self, deadline: Duration) -> Session {
        let (commands, inbound) = mpsc::channel(8);
        let sent =
            futures::stream::unfold(inbound, |mut inbound| async move { Some((inbound.recv().await?, inbound)) });
        let request = self.request((), deadline).map(|()| sent);
        let answers = self.stub.telemetry(request).await.expect("a stream").into_inner();
        Session { commands, answers }
    }

    /// The queues of a topic. Every broker carries the access point, which the client connects to next.
    pub(crate) async fn route(&mut self, topic: &str) -> Vec<v2::MessageQueue> {
        let query = v2::QueryRouteRequest { topic: resource(topic), endpoints: Some(self.access_point.clone()) };
        let request = self.request(query, REQUEST_TIMEOUT);
        let answer = self.stub.query_route(request).await.expect("QueryRoute").into_inner();
        ok(answer.status);
        assert!(!answer.message_queues.is_empty(), "no queue");
        for queue in &answer.message_queues {
            assert_eq!((&queue.topic, queue.permission()), (&resource(topic), v2::Permission::ReadWrite));
            assert!(queue.accept_message_types().any(|accepted| accepted == v2::MessageType::Normal));
            let broker = queue.broker.as_ref().expect("a broker");
            assert_eq!((broker.id, broker.endpoints.as_ref()), (0, Some(&self.access_point)));
        }
        answer.message_queues
    }

    pub(crate) async fn heartbeat(&mut self, client_type: v2::ClientType, group: Option<&str>) {
        let beat = v2::HeartbeatRequest { group: group.and_then(resource), client_type: client_type.into() };
        let request = self.request(beat, REQUEST_TIMEOUT);
        ok(self.stub.heartbeat(request).await.expect("Heartbeat").into_inner().status);
    }

    /// Sends one message. Both SDKs read its one entry without looking whether it is there.
    pub(crate) async fn send(&mut self, message: v2::Message) -> v2::SendResultEntry {
        let id = message.system_properties.as_ref().map(|system| system.message_id.clone());
        let request = self.request(v2::SendMessageRequest { messages: vec![message] }, REQUEST_TIMEOUT);
        let mut answer = self.stub.send_message(request).await.expect("SendMessage").into_inner();
        ok(answer.status);
        assert_eq!(answer.entries.len(), 1, "one entry per message");
        let entry = answer.entries.remove(0);
        ok(entry.status.clone());
        assert_eq!(Some(&entry.message_id), id.as_ref());
        entry
    }

    /// The status and the messages of a receive, which must end before its deadline.
    pub(crate) async fn receive(
        &mut self,
        ask: v2::ReceiveMessageRequest,
        deadline: Duration,
    ) -> (v2::Code, Vec<v2::Message>) {
        let request = self.request(ask, deadline);
        let mut parts = self.stub.receive_message(request).await.expect("ReceiveMessage").into_inner();
        let (mut code, mut messages, mut delivered) = (None, Vec::new(), false);
        while let Some(part) = parts.message().await.expect("the stream ends well, and before the deadline") {
            match part.content.expect("no part is empty") {
                Content::Status(status) => code = Some(status.code()),
                Content::Message(message) => messages.push(message),
                Content::DeliveryTimestamp(_) => delivered = true,
            }
        }
        assert!(delivered, "no time of delivery");
        (code.expect("a status"), messages)
    }

    pub(crate) async fn ack(&mut self, topic: &str, group: &str, message: &v2::Message) -> v2::Code {
        let system = system(message);
        let entry = v2::AckMessageEntry {
            message_id: system.message_id.clone(),
            receipt_handle: system.receipt_handle().to_owned(),
            lite_topic: None,
        };
        let ack = v2::AckMessageRequest { group: resource(group), topic: resource(topic), entries: vec![entry] };
        let request = self.request(ack, REQUEST_TIMEOUT);
        let answer = self.stub.ack_message(request).await.expect("AckMessage").into_inner();
        assert_eq!(answer.entries.len(), 1, "one entry per message");
        let code = answer.status.expect("a status").code();
        assert_eq!(answer.entries[0].status.as_ref().map(v2::Status::code), Some(code));
        code
    }

    /// Moves the end of a lease. Both SDKs go on with the handle of the answer.
    pub(crate) async fn change(&mut self, topic: &str, group: &str, message: &mut v2::Message, after: Duration) {
        let change = v2::ChangeInvisibleDurationRequest {
            group: resource(group),
            topic: resource(topic),
            receipt_handle: system(message).receipt_handle().to_owned(),
            invisible_duration: span(after),
            message_id: system(message).message_id.clone(),
            ..Default::default()
        };
        let request = self.request(change, REQUEST_TIMEOUT);
        let answer = self.stub.change_invisible_duration(request).await.expect("ChangeInvisibleDuration").into_inner();
        ok(answer.status);
        assert!(!answer.receipt_handle.is_empty(), "no handle");
        message.system_properties.as_mut().expect("system properties").receipt_handle = Some(answer.receipt_handle);
    }

    pub(crate) async fn farewell(&mut self, group: Option<&str>) {
        let farewell = v2::NotifyClientTerminationRequest { group: group.and_then(resource) };
        let request = self.request(farewell, REQUEST_TIMEOUT);
        let answer = self.stub.notify_client_termination(request).await.expect("NotifyClientTermination");
        ok(answer.into_inner().status);
    }
}

impl Session {
    /// Sends settings; what was agreed must be there within `wait`, with a status of OK beside it.
    pub(crate) async fn agree(&mut self, settings: v2::Settings, wait: Duration) -> v2::Settings {
        let command = v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        self.commands.send(command).await.expect("the stream is open");
        let answer = timeout(wait, self.answers.message()).await.expect("settings in time");
        let answer = answer.expect("the stream goes on").expect("an answer");
        ok(answer.status);
        match answer.command {
            Some(Command::Settings(settings)) => settings,
            other => panic!("settings, not {other:?}"),
        }
    }
}

/// A message as both SDKs send it, but for the encoding of its body.
pub(crate) fn message(topic: &str, id: &str, body: &[u8], encoding: v2::Encoding) -> v2::Message {
    let system = v2::SystemProperties {
        message_id: id.to_owned(),
        body_encoding: encoding.into(),
        message_type: v2::MessageType::Normal.into(),
        born_timestamp: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 }),
        born_host: "host".to_owned(),
        ..Default::default()
    };
    v2::Message {
        topic: resource(topic),
        system_properties: Some(system),
        body: body.to_vec().into(),
        ..Default::default()
    }
}

/// What both SDKs read of a received message without looking whether it is there.
pub(crate) fn check_whole(sent: &v2::Message, received: &v2::Message, attempt: i32) {
    assert_eq!((&received.topic, &received.body), (&sent.topic, &sent.body));
    let (ours, theirs) = (system(sent), system(received));
    assert_eq!((&theirs.message_id, theirs.body_encoding), (&ours.message_id, ours.body_encoding));
    assert_eq!(theirs.delivery_attempt, Some(attempt));
    assert_eq!((&theirs.born_timestamp, &theirs.born_host), (&ours.born_timestamp, &ours.born_host));
    let digest = theirs.body_digest.as_ref().expect("a digest");
    assert_eq!((digest.r#type(), digest.checksum.len()), (v2::DigestType::Md5, 32));
    assert!(theirs.queue_offset.is_some() && !theirs.receipt_handle().is_empty());
}

pub(crate) fn system(message: &v2::Message) -> &v2::SystemProperties {
    message.system_properties.as_ref().expect("system properties")
}

#[track_caller]
pub(crate) fn ok(status: Option<v2::Status>) {
    let status = status.expect("a status");
    assert_eq!(status.code(), v2::Code::Ok, "{}", status.message);
}

pub(crate) fn resource(name: &str) -> Option<v2::Resource> {
    Some(v2::Resource { resource_namespace: String::new(), name: name.to_owned() })
}

pub(crate) fn span(span: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(span).ok()
}

pub(crate) fn everything() -> Option<v2::FilterExpression> {
    Some(v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: "*".to_owned() })
}

pub(crate) fn subscribe(topic: &str, group: &str) -> v2::Subscription {
    let entry = v2::SubscriptionEntry { topic: resource(topic), expression: everything() };
    v2::Subscription { group: resource(group), subscriptions: vec![entry], ..Default::default() }
}

pub(crate) fn publish(topic: &str) -> v2::Publishing {
    v2::Publishing { topics: resource(topic).into_iter().collect(), ..Default::default() }
}
