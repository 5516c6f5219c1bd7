//! Dead letters, from the first failure to the second life.

use apogee_proto::v2;
use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use apogee_proto::v2::receive_message_response::Content;
use serde_json::json;
use tonic::Request;
use tonic::transport::Channel;

use super::{Cli, Server, ephemeral, server};

/// A simple consumer that fails on whatever it gets.
struct Failing(MessagingServiceClient<Channel>);

fn resource(name: &str) -> Option<v2::Resource> {
    Some(v2::Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn request<T>(of: T) -> Request<T> {
    let mut request = Request::new(of);
    request.metadata_mut().insert("x-mq-client-id", "failing".parse().expect("plain text"));
    request
}

impl Failing {
    async fn new(server: &Server) -> Self {
        let endpoint = format!("http://{}", server.endpoint());
        Self(MessagingServiceClient::connect(endpoint).await.expect("the server listens"))
    }

    /// The attempts of what came, which is visible again at once.
    async fn fail(&mut self, topic: &str, group: &str) -> Vec<i32> {
        let queue = v2::MessageQueue { topic: resource(topic), id: -1, ..v2::MessageQueue::default() };
        let filter = v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: "*".to_owned() };
        let receive = v2::ReceiveMessageRequest {
            group: resource(group),
            message_queue: Some(queue),
            filter_expression: Some(filter),
            batch_size: 32,
            invisible_duration: seconds(30),
            auto_renew: false,
            long_polling_timeout: seconds(5),
            attempt_id: None,
        };
        let mut parts = self.0.receive_message(request(receive)).await.expect("an answer").into_inner();
        let mut handles = Vec::new();
        while let Some(part) = parts.message().await.expect("the stream ends well") {
            if let Some(Content::Message(message)) = part.content {
                let system = message.system_properties.expect("every message has them");
                handles.push((system.receipt_handle().to_owned(), system.delivery_attempt()));
            }
        }
        for (receipt_handle, _) in &handles {
            let change = v2::ChangeInvisibleDurationRequest {
                group: resource(group),
                topic: resource(topic),
                receipt_handle: receipt_handle.clone(),
                invisible_duration: seconds(0),
                ..v2::ChangeInvisibleDurationRequest::default()
            };
            let changed = self.0.change_invisible_duration(request(change)).await.expect("an answer").into_inner();
            assert_eq!(changed.status.map(|status| status.code), Some(v2::Code::Ok.into()));
        }
        handles.into_iter().map(|(_, attempt)| attempt).collect()
    }
}

#[tokio::test]
async fn a_message_dies_is_looked_at_and_lives_again() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("group create workers --max-attempts 1 --back-off 1s,5s").await;
    cli.ok("topic create orders --type normal --queues 2").await;
    let sent = cli.json("message send orders hello --tag red --key k1 --property colour=blue").await;
    assert_eq!(cli.json("dlq list").await, json!({ "groups": [] }));

    let mut failing = Failing::new(&server).await;
    assert_eq!(failing.fail("orders", "workers").await, [1]);
    assert!(failing.fail("orders", "workers").await.is_empty(), "once is all that it gets");

    let dead = json!({ "namespace": "", "name": "workers", "topic": "%DLQ%workers", "waiting": 1, "kept": 1 });
    assert_eq!(cli.json("dlq list").await["groups"], json!([dead]));
    let found = cli.json("dlq peek workers").await["messages"].take();
    let [letter] = &found.as_array().expect("a list")[..] else { panic!("{found}") };
    assert_eq!((&letter["message_id"], &letter["body"]), (&sent["message_id"], &json!("hello")));
    assert_eq!((&letter["tag"], &letter["keys"]), (&json!("red"), &json!(["k1"])));
    let origin = json!({ "colour": "blue", "DLQ_ORIGIN_TOPIC": "orders", "DLQ_ORIGIN_MESSAGE_ID": sent["message_id"] });
    assert_eq!(letter["properties"], origin);
    let got = cli.json("message receive %DLQ%workers --group readers").await;
    assert_eq!((&got["message_id"], &got["topic"]), (&sent["message_id"], &json!("%DLQ%workers")));

    cli.refused("dlq redrive workers", 2, "not_confirmed").await;
    cli.refused("dlq redrive workers --dry-run", 8, "would_change").await;
    assert_eq!(cli.ok("dlq redrive workers --yes").await, "1 dead letters of consumer group workers sent again\n");
    assert_eq!(cli.json("dlq list").await["groups"][0]["waiting"], 0);
    assert_eq!(cli.json("dlq peek workers").await["messages"], json!([]));
    assert_eq!(cli.json("dlq peek workers --all").await["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(cli.ok("dlq redrive workers --yes").await, "0 dead letters of consumer group workers sent again\n");
    let again = cli.json("message receive orders --group workers").await;
    assert_eq!((&again["message_id"], &again["delivery_attempt"]), (&sent["message_id"], &json!(1)));
    assert_eq!(again["properties"], json!({ "colour": "blue" }));
}

#[tokio::test]
async fn dead_letters_come_and_go_with_their_group() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.refused("topic create %DLQ%workers", 4, "conflict").await;
    cli.ok("group create workers").await;
    assert_eq!(cli.ok("topic list -o name").await, "%DLQ%workers\n");
    cli.refused("topic delete %DLQ%workers --yes", 4, "conflict").await;
    cli.refused("topic alter %DLQ%workers --queues 5", 4, "conflict").await;
    cli.ok("group delete workers --yes").await;
    assert_eq!(cli.ok("topic list -o name").await, "");
    cli.refused("dlq peek workers", 3, "not_found").await;
    cli.refused("dlq redrive workers --yes", 3, "not_found").await;
}

#[tokio::test]
async fn a_group_can_have_other_rests() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    let made = cli.json("group create g --retry-policy exponential --back-off-initial 1s --back-off-max 1m").await;
    let exponential = json!({ "policy": "exponential", "initial_ms": 1000, "max_ms": 60_000, "multiplier": 2 });
    assert_eq!(made["retry"], exponential);
    let altered = cli.json("group alter g --max-attempts 3 --back-off 2s,4s").await;
    let customized = json!({ "policy": "customized", "back_off_ms": [2000, 4000] });
    assert_eq!((&altered["max_attempts"], &altered["retry"]), (&json!(3), &customized));
    assert_eq!(cli.json("group describe g").await["retry"], customized);
    cli.refused("group alter g --back-off 13h", 2, "invalid_argument").await;
    cli.refused("group alter g", 2, "usage").await;
    cli.refused("group create h --back-off 1s --back-off-max 1m", 2, "usage").await;
    cli.refused("group alter nobody --max-attempts 2", 3, "not_found").await;
}
