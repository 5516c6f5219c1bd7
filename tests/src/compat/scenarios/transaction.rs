//! Half messages: how they end, and what is refused. Checks are not compared: no producer of one telemetry stream and one
//! heartbeat was asked by Apache RocketMQ within minutes.

use apogee_proto::v2;

use crate::compat::client::{self, resource};
use crate::compat::draft::Draft;
use crate::compat::script::Script;
use crate::compat::target::TopicKind;

const COMMIT: v2::TransactionResolution = v2::TransactionResolution::Commit;
const ROLLBACK: v2::TransactionResolution = v2::TransactionResolution::Rollback;
const UNKNOWN: v2::TransactionResolution = v2::TransactionResolution::Unspecified;

/// One EndTransaction.
struct End<'a> {
    topic: &'a str,
    message_id: &'a str,
    transaction_id: &'a str,
    resolution: v2::TransactionResolution,
}

pub(super) async fn transaction_ends(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.topic("t", TopicKind::Transaction, 1).await?;
    let consumer = s.consumer("g", &topic).await?;
    let mut halves = Vec::new();
    for name in ["m1", "m2", "m3"] {
        halves.push(half(s, name, &topic).await);
    }
    s.drain("before they end", &consumer).await;
    let [(m1, first), (m2, second), (m3, third)] = halves.as_slice() else { unreachable!("three were sent") };
    end(s, "commit m1", &asked(&topic, m1, first, COMMIT)).await;
    end(s, "rollback m2", &asked(&topic, m2, second, ROLLBACK)).await;
    end(s, "unknown m3", &asked(&topic, m3, third, UNKNOWN)).await;
    let got = s.gather("the committed one", &consumer, 1).await;
    let system = got.first().and_then(|delivery| delivery.message.system_properties.clone()).unwrap_or_default();
    let same = if system.message_id == m1.id() { "its id" } else { "another id" };
    let offset = system.queue_offset.unwrap_or(-1);
    s.note("what it is", format_args!("{}; {same}; offset {offset}", system.message_type().as_str_name()));
    s.ack("it", &consumer, &got).await;
    s.drain("the others", &consumer).await;
    end(s, "commit m1 again", &asked(&topic, m1, first, COMMIT)).await;
    end(s, "rollback m1 after that", &asked(&topic, m1, first, ROLLBACK)).await;
    end(s, "commit m2 after its rollback", &asked(&topic, m2, second, COMMIT)).await;
    s.drain("after that", &consumer).await;
    Ok(())
}

pub(super) async fn transaction_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.topic("t", TopicKind::Transaction, 1).await?;
    let other = s.topic("other", TopicKind::Transaction, 1).await?;
    let consumer = s.consumer("g", &topic).await?;
    let (m1, id) = half(s, "m1", &topic).await;
    for (told, topic, id) in [
        ("without an id", topic.as_str(), ""),
        ("with a blank id", &topic, " "),
        ("with garbage", &topic, "garbage"),
        ("of another topic", &other, &id),
        ("of an unknown topic", "transaction-nobody-made", &id),
        ("of a topic with a space", "a b", &id),
    ] {
        end(s, &format!("commit {told}"), &asked(topic, &m1, id, COMMIT)).await;
    }
    end(s, "commit of m1 under the id of no message", &End { message_id: "", ..asked(&topic, &m1, &id, COMMIT) }).await;
    let got = s.gather("m1", &consumer, 1).await;
    s.ack("m1", &consumer, &got).await;
    Ok(())
}

/// Sends a half message; its draft and the transaction's id.
async fn half(s: &mut Script, name: &str, topic: &str) -> (Draft, String) {
    let draft = Draft::new(topic, name).half(None);
    let sent = s.send(&format!("half {name}"), &draft).await;
    let entry = sent.entries.first().cloned().unwrap_or_default();
    let set = if entry.transaction_id.is_empty() { "empty" } else { "set" };
    let same = if entry.message_id == draft.id() { "its id" } else { "another id" };
    s.note(format_args!("the result of {name}"), format_args!("{same}; transaction id {set}"));
    (draft, entry.transaction_id)
}

fn asked<'a>(topic: &'a str, draft: &'a Draft, id: &'a str, resolution: v2::TransactionResolution) -> End<'a> {
    End { topic, message_id: draft.id(), transaction_id: id, resolution }
}

async fn end(s: &mut Script, told: &str, end: &End<'_>) {
    let request = v2::EndTransactionRequest {
        topic: Some(resource(end.topic)),
        message_id: end.message_id.to_owned(),
        transaction_id: end.transaction_id.to_owned(),
        resolution: end.resolution.into(),
        source: v2::TransactionSource::SourceClient.into(),
        trace_context: String::new(),
    };
    let answer = s.client.stub().end_transaction(s.client.ask(request)).await;
    s.note(format_args!("EndTransaction {told}"), client::told(&answer.map(|answer| answer.into_inner().status)));
}
