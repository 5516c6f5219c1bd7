//! Transactions whose producers say nothing, ended by an operator.

use apogee_proto::v2;
use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use serde_json::json;
use tonic::Request;

use super::{Cli, Server, ephemeral, server};

/// Sends a half message that nobody is asked about for an hour, and returns its transaction id.
async fn begin(server: &Server, topic: &str, message_id: &str) -> String {
    let mut client =
        MessagingServiceClient::connect(format!("http://{}", server.endpoint())).await.expect("it listens");
    let properties = v2::SystemProperties {
        message_id: message_id.to_owned(),
        message_type: v2::MessageType::Transaction.into(),
        keys: vec!["order-1".to_owned()],
        orphaned_transaction_recovery_duration: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..v2::SystemProperties::default()
    };
    let message = v2::Message {
        topic: Some(v2::Resource { resource_namespace: String::new(), name: topic.to_owned() }),
        system_properties: Some(properties),
        body: "paid".into(),
        ..v2::Message::default()
    };
    let mut request = Request::new(v2::SendMessageRequest { messages: vec![message] });
    request.metadata_mut().insert("x-mq-client-id", "forgetful".parse().expect("plain text"));
    let sent = client.send_message(request).await.expect("an answer").into_inner();
    assert_eq!(sent.status.map(|status| status.code), Some(v2::Code::Ok.into()));
    sent.entries[0].transaction_id.clone()
}

#[tokio::test]
async fn an_operator_ends_what_a_producer_forgot() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create pay --type transaction --queues 2").await;
    cli.ok("topic create other --type transaction --queues 1").await;
    assert_eq!(cli.json("transaction list pay").await, json!({ "transactions": [] }));
    let (kept, dropped) = (begin(&server, "pay", "01AB").await, begin(&server, "pay", "01AC").await);

    let listed = cli.json("transaction list pay").await["transactions"].take();
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 2, "{listed:?}");
    let first = listed.iter().find(|one| one["message_id"] == "01AB").expect("it is listed");
    assert_eq!((&first["transaction_id"], &first["keys"]), (&json!(kept), &json!(["order-1"])));
    assert_eq!((&first["checks"], &first["parked"]), (&json!(0), &json!(false)));
    assert!(first["stored"].is_string(), "{first}");
    assert!(cli.ok("transaction list pay").await.starts_with("MESSAGE_ID"));
    assert_eq!(cli.ok("transaction list pay -o name").await.lines().count(), 2);
    assert_eq!(cli.json("transaction list other").await, json!({ "transactions": [] }));

    let told = cli.ok(&format!("transaction commit pay {kept}")).await;
    assert_eq!(told, "committed the transaction of 01AB in pay\n");
    let document = json!({ "topic": "pay", "message_id": "01AC", "resolution": "rollback" });
    assert_eq!(cli.json(&format!("transaction rollback pay {dropped}")).await, document);
    cli.ok(&format!("transaction commit pay {kept}")).await;
    let why = cli.refused(&format!("transaction rollback pay {kept}"), 4, "conflict").await;
    assert!(why.contains("01AB was ended before"), "{why}");
    assert_eq!(cli.json("transaction list pay").await, json!({ "transactions": [] }));
    let got = cli.json("message receive pay --group readers").await;
    assert_eq!((&got["message_id"], &got["body"]), (&json!("01AB"), &json!("paid")));

    cli.refused(&format!("transaction commit other {kept}"), 2, "invalid_argument").await;
    cli.refused(&format!("transaction commit pay {}", &kept[1..]), 2, "invalid_argument").await;
    cli.refused(&format!("transaction commit nowhere {kept}"), 3, "not_found").await;
    cli.refused("transaction list nowhere", 3, "not_found").await;
}
