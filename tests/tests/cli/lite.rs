//! Lite topics from their first message to their acknowledgement, over the bare gRPC contract.

use apogee_proto::v2;
use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use apogee_proto::v2::receive_message_response::Content;
use serde_json::json;
use tonic::Request;
use tonic::transport::Channel;

use super::{Cli, Server, ephemeral, server};

/// A client without an SDK.
struct Bare {
    id: &'static str,
    api: MessagingServiceClient<Channel>,
}

fn resource(name: &str) -> Option<v2::Resource> {
    Some(v2::Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

impl Bare {
    async fn new(server: &Server, id: &'static str) -> Self {
        let endpoint = format!("http://{}", server.endpoint());
        Self { id, api: MessagingServiceClient::connect(endpoint).await.expect("the server listens") }
    }

    fn request<T>(&self, of: T) -> Request<T> {
        let mut request = Request::new(of);
        request.metadata_mut().insert("x-mq-client-id", self.id.parse().expect("plain text"));
        request
    }

    async fn send(&mut self, lite_topic: &str, body: &str) {
        let system = v2::SystemProperties {
            message_id: body.to_owned(),
            message_type: v2::MessageType::Lite.into(),
            lite_topic: Some(lite_topic.to_owned()),
            ..v2::SystemProperties::default()
        };
        let message = v2::Message {
            topic: resource("sessions"),
            system_properties: Some(system),
            body: body.to_owned().into(),
            ..v2::Message::default()
        };
        let ask = self.request(v2::SendMessageRequest { messages: vec![message] });
        let sent = self.api.send_message(ask).await.expect("an answer").into_inner();
        assert_eq!(sent.status.map(|status| status.code), Some(v2::Code::Ok.into()));
    }

    async fn sync(&mut self, action: v2::LiteSubscriptionAction, names: &[&str]) -> i32 {
        let ask = self.request(v2::SyncLiteSubscriptionRequest {
            action: action.into(),
            topic: resource("sessions"),
            group: resource("agents"),
            lite_topic_set: names.iter().map(|name| (*name).to_owned()).collect(),
            ..v2::SyncLiteSubscriptionRequest::default()
        });
        self.api.sync_lite_subscription(ask).await.expect("an answer").into_inner().status.expect("a status").code
    }

    /// Body, lite topic and handle of what comes.
    async fn receive(&mut self, batch_size: i32) -> Vec<(String, String, String)> {
        let queue = v2::MessageQueue { topic: resource("sessions"), id: -1, ..v2::MessageQueue::default() };
        let ask = self.request(v2::ReceiveMessageRequest {
            group: resource("agents"),
            message_queue: Some(queue),
            batch_size,
            invisible_duration: seconds(30),
            long_polling_timeout: seconds(5),
            ..v2::ReceiveMessageRequest::default()
        });
        let mut parts = self.api.receive_message(ask).await.expect("an answer").into_inner();
        let mut got = Vec::new();
        while let Some(part) = parts.message().await.expect("the stream ends well") {
            if let Some(Content::Message(message)) = part.content {
                let system = message.system_properties.expect("every message has them");
                let body = String::from_utf8_lossy(&message.body).into_owned();
                got.push((body, system.lite_topic().to_owned(), system.receipt_handle().to_owned()));
            }
        }
        got
    }

    async fn ack(&mut self, lite_topic: &str, receipt_handle: &str) {
        let entry = v2::AckMessageEntry {
            message_id: String::new(),
            receipt_handle: receipt_handle.to_owned(),
            lite_topic: Some(lite_topic.to_owned()),
        };
        let (group, topic) = (resource("agents"), resource("sessions"));
        let ask = self.request(v2::AckMessageRequest { group, topic, entries: vec![entry] });
        let acked = self.api.ack_message(ask).await.expect("an answer").into_inner();
        assert_eq!(acked.status.map(|status| status.code), Some(v2::Code::Ok.into()));
    }

    /// Everything that comes within a poll, acknowledged one by one.
    async fn drain(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            let got = self.receive(2).await;
            assert!(!got.is_empty(), "{bodies:?} and no more");
            for (body, lite_topic, handle) in got {
                self.ack(&lite_topic, &handle).await;
                bodies.push(body);
            }
        }
        bodies
    }
}

#[tokio::test]
async fn each_client_gets_the_lite_topics_it_subscribed_to() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.refused("topic create sessions --type lite --lite-expiration 1s", 2, "invalid_argument").await;
    cli.ok("topic create sessions --type lite --queues 4 --lite-expiration 30m").await;
    cli.ok("group create agents --lite-topic sessions --lite-client-quota 3").await;
    let shown = cli.json("group describe agents").await;
    assert_eq!((&shown["lite"]["topic"], &shown["lite"]["model"]), (&json!("sessions"), &json!("shared")), "{shown}");
    let (mut one, mut two) = (Bare::new(&server, "one").await, Bare::new(&server, "two").await);
    use v2::LiteSubscriptionAction::{CompleteAdd, PartialAdd};
    assert_eq!(one.sync(PartialAdd, &["s-1", "s-2"]).await, i32::from(v2::Code::Ok));
    assert_eq!(two.sync(CompleteAdd, &["s-3"]).await, i32::from(v2::Code::Ok));
    assert_eq!(two.sync(PartialAdd, &["a b"]).await, i32::from(v2::Code::IllegalLiteTopic));
    for number in 0..3 {
        for lite_topic in ["s-1", "s-2", "s-3", "s-4"] {
            one.send(lite_topic, &format!("{lite_topic}/{number}")).await;
        }
    }
    let got = one.drain(6).await;
    for lite_topic in ["s-1", "s-2"] {
        let of: Vec<_> = got.iter().filter(|body| body.starts_with(lite_topic)).cloned().collect();
        assert_eq!(of, [0, 1, 2].map(|number| format!("{lite_topic}/{number}")), "in order");
    }
    assert_eq!(two.drain(3).await, ["s-3/0", "s-3/1", "s-3/2"]);
    assert!(two.receive(32).await.is_empty(), "nobody is subscribed to the fourth");

    let listed = cli.json("lite list sessions").await["lite_topics"].take();
    let listed = listed.as_array().expect("a list");
    let names: Vec<_> = listed.iter().map(|lite| (lite["name"].clone(), lite["max_offset"].clone())).collect();
    assert_eq!(names, ["s-1", "s-2", "s-3", "s-4"].map(|name| (json!(name), json!(3))));
    let described = cli.json("lite describe sessions s-3").await;
    let group = json!({ "group": "agents", "committed": 3, "in_flight": 0, "clients": ["two"] });
    assert_eq!(described["groups"], json!([group]));
    cli.refused("lite describe sessions s-5", 3, "not_found").await;
}
