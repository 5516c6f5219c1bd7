//! Messages by key and by time, and what became of one.

use serde_json::{Value, json};

use super::{Cli, ephemeral, server};

fn field<'a>(found: &'a Value, name: &str) -> Vec<&'a Value> {
    found["messages"].as_array().expect("a list").iter().map(|message| &message[name]).collect()
}

#[tokio::test]
async fn messages_are_found_by_key_and_by_time() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create orders --queues 2").await;
    for body in ["one", "two", "three"] {
        cli.ok(&format!("message send orders {body} --key order-1 --key {body}")).await;
    }
    let found = cli.json("message find orders --key order-1").await;
    assert_eq!(field(&found, "body"), [&json!("three"), &json!("two"), &json!("one")]);
    assert_eq!(field(&found, "state"), [&json!("queued"); 3]);
    assert_eq!(field(&found, "keys")[0], &json!(["order-1", "three"]));
    let found = cli.json("message find orders --key order-1 --max 1").await;
    assert_eq!(field(&found, "body"), [&json!("three")]);
    assert_eq!(field(&cli.json("message find orders --key two").await, "body"), [&json!("two")]);
    assert_eq!(cli.json("message find orders --key tw").await, json!({ "messages": [] }));
    let found = cli.json("message find orders --from 0").await;
    assert_eq!(field(&found, "body"), [&json!("one"), &json!("two"), &json!("three")]);
    let second = found["messages"][1]["stored"].as_str().expect("a time").to_owned();
    let until = cli.json(&format!("message find orders --from 0 --until {second}")).await;
    assert!(field(&until, "body").contains(&&json!("one")), "{until}");
    assert_eq!(cli.json("message find orders --key two --until 5").await, json!({ "messages": [] }));
    assert!(cli.ok("message find orders --key two").await.starts_with("MESSAGE_ID"));
    assert_eq!(cli.ok("message find orders --key order-1 -o name").await.lines().count(), 3);
    let mqadmin = cli.run("queryMsgByKey -t orders -k two -o json").await;
    assert_eq!((mqadmin.code, mqadmin.stdout.matches("\"two\"").count()), (0, 2), "{mqadmin:?}");

    cli.refused("message find orders", 2, "usage").await;
    cli.refused("message find nowhere --key x", 3, "not_found").await;
    let altered = cli.ok("topic alter orders --key-index off").await;
    assert_eq!(altered, "topic orders has 2 queues and permission read-write and no index by key\n");
    assert_eq!(cli.json("topic describe orders").await["key_index"], json!(false));
    let why = cli.refused("message find orders --key two", 4, "conflict").await;
    assert!(why.contains("no index by key"), "{why}");
    cli.ok("message send orders four --key order-1").await;
    cli.ok("topic alter orders --key-index on").await;
    let found = cli.json("message find orders --key order-1").await;
    assert_eq!(field(&found, "body"), [&json!("three"), &json!("two"), &json!("one")], "four has no row");
    assert_eq!(cli.json("topic create plain --key-index off").await["key_index"], json!(false));
}

#[tokio::test]
async fn one_message_is_traced() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create orders --queues 1").await;
    cli.ok("topic create later --type delay --queues 1").await;
    let id = cli.ok("message send orders paid -o name").await;
    let id = id.trim();
    let trace = cli.json(&format!("message trace orders {id}")).await;
    assert_eq!((&trace["message"]["body"], &trace["groups"]), (&json!("paid"), &json!([])));
    let got = cli.json("message receive orders --group readers").await;
    assert_eq!(got["message_id"], json!(id));
    let trace = cli.json(&format!("message trace orders {id}")).await;
    assert_eq!(
        (&trace["groups"][0]["group"], &trace["groups"][0]["progress"]),
        (&json!("readers"), &json!("settled")),
        "{trace}"
    );
    assert_eq!(cli.json("message trace orders --queue 0 --offset 0").await["groups"], trace["groups"]);
    let table = cli.ok(&format!("message trace orders {id}")).await;
    assert!(table.contains("queue 0, offset 0") && table.contains("settled"), "{table}");
    assert_eq!(cli.ok(&format!("message trace orders {id} -o name")).await, "readers\n");

    let id = cli.ok("message send later soon --delay 1h --key k -o name").await;
    let trace = cli.json(&format!("message trace later {}", id.trim())).await;
    assert_eq!(trace["message"]["state"], json!("delayed"), "{trace}");
    assert_eq!(trace["message"]["queue_offset"], Value::Null, "{trace}");
    assert_eq!(field(&cli.json("message find later --key k").await, "state"), [&json!("delayed")]);
    cli.refused("message trace orders --queue 0 --offset 9", 3, "not_found").await;
    cli.refused("message trace orders", 2, "usage").await;
}
