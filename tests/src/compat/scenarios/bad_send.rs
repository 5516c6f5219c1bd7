//! What SendMessage refuses.

use std::time::Duration;

use crate::compat::draft::Draft;
use crate::compat::script::Script;
use crate::compat::target::TopicKind;

/// Largest body.
const BODY_MAX: usize = 4 << 20;

pub(super) async fn send_names_refused(s: &mut Script) -> anyhow::Result<()> {
    for (told, name) in [
        ("unknown topic", "send-nobody-made"),
        ("empty name", ""),
        ("name with a space", "a b"),
        ("name of 128 letters", &"t".repeat(128)),
        ("system topic TBW102", "TBW102"),
        ("system topic SCHEDULE_TOPIC_XXXX", "SCHEDULE_TOPIC_XXXX"),
        ("system topic rmq_sys_x", "rmq_sys_x"),
    ] {
        s.send(&format!("to {told}"), &Draft::new(name, "m")).await;
    }
    Ok(())
}

pub(super) async fn send_content_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let new = || Draft::new(&topic, "m");
    for (told, draft) in [
        ("without body", Draft::new(&topic, "")),
        ("body of 4 MiB and a byte", new().body(vec![b'x'; BODY_MAX + 1])),
        ("without id", new().with(|system| system.message_id.clear())),
        ("blank id", new().with(|system| system.message_id = "  ".to_owned())),
        ("empty tag", new().tag("")),
        ("blank tag", new().tag(" ")),
        ("tag with a bar", new().tag("a|b")),
        ("tag with a line feed", new().tag("a\nb")),
        ("blank key", new().key(" ")),
        ("key with a tab", new().key("a\tb")),
        ("key with a space", new().key("a b")),
        ("without topic", {
            let mut draft = new();
            draft.message.topic = None;
            draft
        }),
        ("without system properties", {
            let mut draft = new();
            draft.message.system_properties = None;
            draft
        }),
    ] {
        s.send(told, &draft).await;
    }
    Ok(())
}

pub(super) async fn send_properties_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let new = || Draft::new(&topic, "m");
    let many = |count: usize| (0..count).fold(new(), |draft, nth| draft.property(&format!("p{nth}"), "v"));
    for (told, draft) in [
        ("128 properties", many(128)),
        ("129 properties", many(129)),
        ("16 KiB of properties", new().property("p", &"v".repeat(16_383))),
        ("16 KiB and a byte of properties", new().property("p", &"v".repeat(16_384))),
        ("property TAGS", new().property("TAGS", "v")),
        ("property KEYS", new().property("KEYS", "v")),
        ("property DELAY", new().property("DELAY", "3")),
        ("property UNIQ_KEY", new().property("UNIQ_KEY", "v")),
        ("property POP_CK", new().property("POP_CK", "v")),
        ("property key with a line feed", new().property("a\nb", "v")),
        ("property value with a control character", new().property("a", "b\u{1}c")),
        ("property value with U+0085", new().property("a", "b\u{85}c")),
    ] {
        s.send(told, &draft).await;
    }
    Ok(())
}

pub(super) async fn send_limits(s: &mut Script) -> anyhow::Result<()> {
    let fifo = s.topic("fifo", TopicKind::Fifo, 1).await?;
    let normal = s.plain_topic().await?;
    let transaction = s.topic("transaction", TopicKind::Transaction, 1).await?;
    let group = |group: &str| Draft::new(&fifo, "m").fifo(group);
    let hours = |hours: u64| Draft::new(&transaction, "m").half(Some(Duration::from_secs(hours * 3_600)));
    for (told, draft) in [
        ("message group of 63 bytes", group(&"g".repeat(63))),
        ("message group of 64 bytes", group(&"g".repeat(64))),
        ("message group of 32 letters of two bytes", group(&"ä".repeat(32))),
        ("blank message group", group(" ")),
        ("empty message group", group("")),
        ("message group with a line feed", group("a\nb")),
        ("half message to be checked after two hours", hours(2)),
        ("body of one byte", Draft::new(&normal, "m").body(vec![0])),
    ] {
        s.send(told, &draft).await;
    }
    Ok(())
}
