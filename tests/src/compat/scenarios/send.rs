//! SendMessage when all is well, and what consumers see of it.

use std::time::Duration;

use apogee_proto::v2;

use crate::compat::consumer::Delivery;
use crate::compat::draft::Draft;
use crate::compat::script::{Script, list, sorted};
use crate::compat::target::TopicKind;

pub(super) async fn send_one(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    for name in ["m1", "m2"] {
        let draft = Draft::new(&topic, name);
        let sent = s.send(name, &draft).await;
        let entry = sent.entries.first().cloned().unwrap_or_default();
        s.note(
            format_args!("the result of {name}"),
            format_args!(
                "{} entry; {}; {}; offset {}; {}",
                sent.entries.len(),
                crate::compat::client::code(entry.status.as_ref()),
                if entry.message_id == draft.id() { "its id" } else { "another id" },
                entry.offset,
                if entry.recall_handle.is_empty() { "no recall handle" } else { "a recall handle" },
            ),
        );
    }
    Ok(())
}

pub(super) async fn send_and_receive_all_fields(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let consumer = s.consumer("g", &topic).await?;
    let plain = Draft::new(&topic, "plain");
    let full = Draft::new(&topic, "full")
        .tag("A")
        .key("k1")
        .key("k2")
        .property("colour", "red and green")
        .property("größe", "7 µm")
        .property("empty", "")
        .with(|system| {
            system.trace_context = Some("trace-1".to_owned());
            // What a server must not believe.
            system.queue_id = 5;
            system.queue_offset = Some(77);
            system.receipt_handle = Some("forged".to_owned());
            system.store_host = "forged".to_owned();
        });
    let packed = Draft::new(&topic, "packed").with(|system| system.body_encoding = v2::Encoding::Gzip.into());
    s.send("plain", &plain).await;
    s.send("with tag, keys, properties, trace context, and fields of the server", &full).await;
    s.send("said to be GZIP", &packed).await;
    let got = sorted(consumer.gather(3).await);
    for (draft, name) in [(&plain, "plain"), (&full, "full"), (&packed, "packed")] {
        let delivery = got.iter().find(|delivery| delivery.body() == name);
        let told = delivery.map_or("missing".to_owned(), |delivery| fields(delivery, draft, &topic));
        s.note(format_args!("ReceiveMessage {name}"), told);
    }
    s.ack("all", &consumer, &got).await;
    Ok(())
}

/// Every type of message to every type of topic.
pub(super) async fn send_types(s: &mut Script) -> anyhow::Result<()> {
    for kind in TopicKind::ALL {
        let topic = s.topic(kind.name(), kind, 1).await?;
        let soon = Draft::new(&topic, "m").due_in_s(3_600);
        let half = Draft::new(&topic, "m").half(Some(Duration::from_secs(3_600)));
        for (name, draft) in [
            ("NORMAL", Draft::new(&topic, "m")),
            ("FIFO", Draft::new(&topic, "m").fifo("g")),
            ("DELAY", soon),
            ("TRANSACTION", half),
            ("PRIORITY", Draft::new(&topic, "m").priority(1)),
            ("LITE", Draft::new(&topic, "m").lite("l")),
        ] {
            s.send(&format!("{name} to a {} topic", kind.name()), &draft).await;
        }
    }
    Ok(())
}

pub(super) async fn send_batch(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let other = s.topic("other", TopicKind::Normal, 1).await?;
    let consumer = s.consumer("g", &topic).await?;
    let three: Vec<_> = ["m1", "m2", "m3"].map(|name| Draft::new(&topic, name)).into();
    let sent = s.send_all(&three).await;
    s.note("SendMessage of three", format_args!("{}; {} entries", sent.code, sent.entries.len()));
    let got = sorted(consumer.gather(3).await);
    s.note("ReceiveMessage the three", list(&got));
    s.ack("the three", &consumer, &got).await;
    let ids = three.iter().all(|draft| got.iter().any(|delivery| delivery.id() == draft.id()));
    s.note("their ids", if ids { "as sent" } else { "others" });
    let mixed = s.send_all(&[Draft::new(&topic, "m4"), Draft::new(&other, "m5")]).await;
    s.note("SendMessage of two topics", mixed.code);
    let bad = s.send_all(&[Draft::new(&topic, "m6"), Draft::new(&topic, "")]).await;
    s.note("SendMessage of two, one of them empty", bad.code);
    let none = s.send_all(&[]).await;
    s.note("SendMessage of none", none.code);
    let rest = consumer.drain().await;
    s.note("ReceiveMessage the rest", list(&rest));
    Ok(())
}

/// All that is stable of a delivered message.
fn fields(delivery: &Delivery, draft: &Draft, topic: &str) -> String {
    let sent = draft.message.system_properties.clone().unwrap_or_default();
    let got = delivery.message.system_properties.clone().unwrap_or_default();
    let topic_told = delivery.message.topic.as_ref().is_some_and(|got| got.name == topic);
    let mut properties: Vec<_> = delivery.message.user_properties.iter().collect();
    properties.sort_unstable();
    let same = |yes: bool| if yes { "same" } else { "other" };
    let present = |yes: bool| if yes { "set" } else { "absent" };
    format!(
        "topic {}; id {}; tag {:?}; keys {:?}; {}; digest {} {}; {}; born {} by {}; trace {:?}; queue {} offset {}; stored at {} \
         on {} host; attempt {}; handle {}; delivery time {}; message group {}; dead letter {}; properties {properties:?}",
        same(topic_told),
        same(got.message_id == sent.message_id),
        got.tag.clone().unwrap_or_default(),
        got.keys,
        got.message_type().as_str_name(),
        got.body_digest.as_ref().map_or("none", |digest| digest.r#type().as_str_name()),
        got.body_digest.as_ref().map_or("", |digest| &digest.checksum),
        got.body_encoding().as_str_name(),
        same(got.born_timestamp == sent.born_timestamp),
        got.born_host,
        got.trace_context.clone().unwrap_or_default(),
        got.queue_id,
        got.queue_offset.unwrap_or(-1),
        present(got.store_timestamp.is_some()),
        if got.store_host.is_empty() {
            "no"
        } else if got.store_host == "forged" {
            "a forged"
        } else {
            "a"
        },
        got.delivery_attempt.unwrap_or_default(),
        if got.receipt_handle.as_deref().is_some_and(|handle| !handle.is_empty() && handle != "forged") {
            "new"
        } else {
            "bad"
        },
        present(got.delivery_timestamp.is_some()),
        present(got.message_group.is_some()),
        present(got.dead_letter_queue.is_some()),
    )
}
