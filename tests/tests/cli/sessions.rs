//! Clients that an operator looks into: their subscriptions, their threads, and what they make of one message.

use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use apogee_proto::v2::settings::PubSub;
use apogee_proto::v2::telemetry_command::Command;
use apogee_proto::v2::{self, Code};
use serde_json::json;
use tokio::sync::mpsc;
use tonic::{Request, Streaming};

use super::{Cli, Server, ephemeral, server};

/// A push consumer of `orders` that answers what it is asked, as a task.
struct Consumer {
    said: mpsc::Sender<v2::TelemetryCommand>,
    told: Streaming<v2::TelemetryCommand>,
}

fn resource(name: &str) -> Option<v2::Resource> {
    Some(v2::Resource { resource_namespace: String::new(), name: name.to_owned() })
}

impl Consumer {
    /// Returns when its settings were agreed on.
    async fn start(server: &Server, id: &str, expression: &str) -> Self {
        let endpoint = format!("http://{}", server.endpoint());
        let mut client = MessagingServiceClient::connect(endpoint).await.expect("the server listens");
        let (said, inbound) = mpsc::channel(8);
        let commands = futures::stream::unfold(inbound, async |mut inbound| Some((inbound.recv().await?, inbound)));
        let mut request = Request::new(commands);
        for (name, value) in [("x-mq-client-id", id), ("x-mq-language", "JAVA"), ("x-mq-client-version", "5.1.0")] {
            request.metadata_mut().insert(name, value.parse().expect("plain text"));
        }
        let told = client.telemetry(request).await.expect("a stream").into_inner();
        let expression = v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: expression.to_owned() };
        let entry = v2::SubscriptionEntry { topic: resource("orders"), expression: Some(expression) };
        let subscription =
            v2::Subscription { group: resource("workers"), subscriptions: vec![entry], ..v2::Subscription::default() };
        let settings = v2::Settings {
            client_type: Some(v2::ClientType::PushConsumer.into()),
            pub_sub: Some(PubSub::Subscription(subscription)),
            ..v2::Settings::default()
        };
        let mut consumer = Self { said, told };
        consumer.say(Code::Ok, Command::Settings(settings)).await;
        assert!(matches!(consumer.next().await, Command::Settings(_)));
        consumer
    }

    async fn say(&self, code: Code, command: Command) {
        let status = Some(v2::Status { code: code.into(), message: String::new() });
        let said = self.said.send(v2::TelemetryCommand { status, command: Some(command) }).await;
        said.expect("the stream is open");
    }

    async fn next(&mut self) -> Command {
        let told = self.told.message().await.expect("the stream is open").expect("and stays so");
        told.command.expect("a command")
    }

    /// Answers the next question; a message with this body is consumed, others fail.
    async fn answer(&mut self, good: &str) {
        match self.next().await {
            Command::PrintThreadStackTraceCommand(asked) => {
                let text = Some("main\n\tat apogee.Main.run".to_owned());
                let trace = v2::ThreadStackTrace { nonce: asked.nonce, thread_stack_trace: text };
                self.say(Code::Ok, Command::ThreadStackTrace(trace)).await;
            }
            Command::VerifyMessageCommand(asked) => {
                let body = asked.message.expect("a message").body;
                let code = if body == good.as_bytes() { Code::Ok } else { Code::FailedToConsumeMessage };
                let result = v2::VerifyMessageResult { nonce: asked.nonce };
                self.say(code, Command::VerifyMessageResult(result)).await;
            }
            other => panic!("a question, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_operator_looks_into_a_client() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create orders --type normal --queues 1").await;
    let good = cli.json("message send orders good").await["message_id"].take();
    cli.ok("message send orders bad").await;
    let mut consumer = Consumer::start(&server, "host@1", "red||blue").await;

    let listed = cli.json("client list --group workers").await["clients"].take();
    let [client] = &listed.as_array().expect("a list")[..] else { panic!("{listed}") };
    assert_eq!((&client["id"], &client["kind"]), (&json!("host@1"), &json!("push_consumer")));
    assert_eq!((&client["language"], &client["version"]), (&json!("java"), &json!("5.1.0")));
    assert_eq!((&client["streams"], &client["inconsistent"]), (&json!(1), &json!(false)));
    let subscribed = json!([{ "topic": "orders", "filter": "tag", "expression": "blue || red" }]);
    assert_eq!(client["subscriptions"], subscribed);
    let shown = cli.ok("client describe host@1").await;
    assert!(shown.contains("SUBSCRIPTIONS") && shown.contains("blue || red"), "{shown}");
    assert_eq!(cli.json("client list --topic orders").await["clients"].as_array().map(Vec::len), Some(1));

    let (told, ()) = tokio::join!(cli.ok("client stack host@1"), consumer.answer("good"));
    assert_eq!(told, "main\n    at apogee.Main.run\n");
    let (told, ()) = tokio::join!(cli.run("consumerStatus -g workers -i host@1 -s"), consumer.answer("good"));
    assert!(told.code == 0 && told.stdout.starts_with("main\n"), "{told:?}");

    let by_id = format!("message verify orders {} --client host@1 --group workers", good.as_str().expect("an id"));
    let (verified, ()) = tokio::join!(cli.json(&by_id), consumer.answer("good"));
    assert_eq!((&verified["outcome"], &verified["code"]), (&json!("consumed"), &json!("OK")));
    assert_eq!((&verified["message_id"], &verified["queue_offset"]), (&good, &json!(0)));
    let by_place = "message verify orders --queue 0 --offset 1 --client host@1 --group workers -o json";
    let (failed, ()) = tokio::join!(cli.run(by_place), consumer.answer("good"));
    assert!(failed.code == 1 && failed.stdout.contains("FAILED_TO_CONSUME_MESSAGE"), "{failed:?}");
    assert!(failed.stderr.contains("not_consumed"), "{failed:?}");

    let silent = cli.refused("client stack host@1 --timeout 1s", 6, "deadline_exceeded").await;
    assert!(silent.starts_with("client host@1 did not answer within "), "{silent}");
    cli.refused("client stack nobody", 3, "not_found").await;
    let verify = |group: &str| format!("message verify orders --queue 0 --offset 0 --client host@1 --group {group}");
    cli.refused(&verify("nobody"), 3, "not_found").await;
    cli.ok("group create others").await;
    cli.refused(&verify("others"), 4, "conflict").await;
    cli.refused("message verify orders --queue 0 --offset 9 --client host@1 --group workers", 3, "not_found").await;
    cli.refused("message verify n/orders id --client host@1 --group workers", 2, "usage").await;
}

#[tokio::test]
async fn settings_and_subscriptions_of_a_group_are_watched() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("group create workers --max-attempts 5").await;
    let mut one = Consumer::start(&server, "host@1", "red").await;
    assert_eq!(cli.json("group describe workers").await["inconsistent"], false);
    let _other = Consumer::start(&server, "host@2", "blue").await;
    let described = cli.run("group describe workers -o json").await;
    assert!(described.code == 0 && described.stdout.contains("\"inconsistent\":true"), "{described:?}");
    let expected = "warning: consumers of group workers subscribe to different things";
    assert!(described.stderr.starts_with(expected), "{described:?}");
    let listed = cli.run("client list -o wide").await;
    assert!(listed.stdout.contains("true") && listed.stderr.starts_with(expected), "{listed:?}");
    let shown = cli.run("group describe workers").await.stdout;
    assert!(shown.contains("red") && shown.contains("blue") && shown.contains("host@2"), "{shown}");

    cli.ok("group alter workers --max-attempts 9").await;
    let Command::Settings(settings) = one.next().await else { panic!("settings") };
    assert_eq!(settings.backoff_policy.map(|policy| policy.max_attempts), Some(9));
}
