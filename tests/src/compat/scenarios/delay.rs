//! Delayed messages, and recalling them.

use std::time::Duration;

use apogee_proto::v2;
use tokio::time::Instant;

use crate::compat::client::{self, resource};
use crate::compat::draft::Draft;
use crate::compat::script::{Script, class, list};
use crate::compat::target::TopicKind;

/// How late a delayed message may be on a loaded machine.
const LATE: Duration = Duration::from_secs(10);

pub(super) async fn delay_delivers(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.topic("t", TopicKind::Delay, 1).await?;
    let consumer = s.consumer("g", &topic).await?;
    let begun = Instant::now();
    let sent = s.send("m1 due in 4s", &Draft::new(&topic, "m1").due_in_s(4)).await;
    let handle = sent.entries.first().is_some_and(|entry| !entry.recall_handle.is_empty());
    s.note("its recall handle", if handle { "set" } else { "empty" });
    let got = s.gather("m1", &consumer, 1).await;
    s.note("time until then", class(begun.elapsed(), Duration::from_secs(4), Duration::from_secs(4) + LATE));
    let system = got.first().and_then(|delivery| delivery.message.system_properties.clone()).unwrap_or_default();
    let due = if system.delivery_timestamp.is_some() { "set" } else { "absent" };
    s.note("its type and delivery time", format_args!("{}, {due}", system.message_type().as_str_name()));
    s.ack("m1", &consumer, &got).await;
    let begun = Instant::now();
    s.send("m2 due an hour ago", &Draft::new(&topic, "m2").due_in_s(-3_600)).await;
    let got = s.gather("m2", &consumer, 1).await;
    s.note("time until then", class(begun.elapsed(), Duration::ZERO, LATE));
    s.ack("m2", &consumer, &got).await;
    Ok(())
}

pub(super) async fn delay_limits(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.topic("t", TopicKind::Delay, 1).await?;
    for (told, hours) in [("23 hours", 23), ("25 hours", 25), ("39 days", 39 * 24), ("41 days", 41 * 24)] {
        s.send(&format!("due in {told}"), &Draft::new(&topic, "m").due_in_s(hours * 3_600)).await;
    }
    Ok(())
}

pub(super) async fn recall(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.topic("t", TopicKind::Delay, 1).await?;
    let consumer = s.consumer("g", &topic).await?;
    let draft = Draft::new(&topic, "m1").due_in_s(15);
    let sent = s.send("m1 due in 15s", &draft).await;
    s.send("m2 due in 15s", &Draft::new(&topic, "m2").due_in_s(15)).await;
    let handle = sent.entries.first().map(|entry| entry.recall_handle.clone()).unwrap_or_default();
    let (code, id) = recalled(s, &topic, &handle).await;
    let same = if id == draft.id() { "its id" } else { "another id" };
    s.note("RecallMessage m1", format_args!("{code}; {same}"));
    let got = s.gather("what is due", &consumer, 1).await;
    s.ack("it", &consumer, &got).await;
    s.note("ReceiveMessage more", list(&consumer.drain().await));
    let (code, _) = recalled(s, &topic, &handle).await;
    s.note("RecallMessage m1 after its time", code);
    Ok(())
}

pub(super) async fn recall_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.topic("t", TopicKind::Delay, 1).await?;
    let other = s.topic("other", TopicKind::Delay, 1).await?;
    let normal = s.topic("normal", TopicKind::Normal, 1).await?;
    let sent = s.send("m1 due in an hour", &Draft::new(&topic, "m1").due_in_s(3_600)).await;
    let handle = sent.entries.first().map(|entry| entry.recall_handle.clone()).unwrap_or_default();
    for (told, topic, handle) in [
        ("by garbage", topic.as_str(), "garbage"),
        ("by an empty handle", &topic, ""),
        ("of a normal topic", &normal, &handle),
        ("of another delay topic", &other, &handle),
        ("of an unknown topic", "recall-nobody-made", &handle),
        ("of a topic with a space", "a b", &handle),
        ("m1", &topic, &handle),
    ] {
        let (code, _) = recalled(s, topic, handle).await;
        s.note(format_args!("RecallMessage {told}"), code);
    }
    Ok(())
}

async fn recalled(s: &Script, topic: &str, handle: &str) -> (String, String) {
    let request = v2::RecallMessageRequest { topic: Some(resource(topic)), recall_handle: handle.to_owned() };
    match s.client.stub().recall_message(s.client.ask(request)).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            (client::code(answer.status.as_ref()), answer.message_id)
        }
        Err(status) => (client::grpc(&status), String::new()),
    }
}
