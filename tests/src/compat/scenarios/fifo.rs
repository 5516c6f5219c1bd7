//! Message groups: order, and what waits for what.

use crate::compat::consumer::Consumer;
use crate::compat::draft::Draft;
use crate::compat::script::{Script, list};
use crate::compat::target::{GroupShape, TopicKind};

pub(super) async fn fifo_in_order(s: &mut Script) -> anyhow::Result<()> {
    let (topic, mut consumer) = ordered(s).await?;
    for name in ["a1", "a2", "a3"] {
        s.send(&format!("{name} of message group a"), &Draft::new(&topic, name).fifo("a")).await;
    }
    consumer.batch = 1;
    for _ in 0..3 {
        let got = consumer.gather(1).await;
        s.note("ReceiveMessage one", list(&got));
        let group = got.first().and_then(|got| got.message.system_properties.clone()).and_then(|got| got.message_group);
        s.note("its message group", group.unwrap_or_default());
        let more = consumer.receive().await;
        s.note("ReceiveMessage before it is acked", format_args!("{}; {}", more.code, list(&more.deliveries)));
        s.ack("it", &consumer, &got).await;
    }
    s.note("ReceiveMessage more", list(&consumer.drain().await));
    Ok(())
}

pub(super) async fn fifo_failed_comes_first(s: &mut Script) -> anyhow::Result<()> {
    let (topic, mut consumer) = ordered(s).await?;
    for name in ["a1", "a2"] {
        s.send(&format!("{name} of message group a"), &Draft::new(&topic, name).fifo("a")).await;
    }
    consumer.batch = 1;
    let got = consumer.gather(1).await;
    s.note("ReceiveMessage one", list(&got));
    if let Some(delivery) = got.first() {
        s.change("a1 to 1s", &consumer, delivery, 1).await;
    }
    for _ in 0..2 {
        let got = consumer.gather(1).await;
        s.note("ReceiveMessage one", list(&got));
        s.ack("it", &consumer, &got).await;
    }
    Ok(())
}

pub(super) async fn fifo_attempt_id(s: &mut Script) -> anyhow::Result<()> {
    let (topic, mut consumer) = ordered(s).await?;
    for name in ["a1", "a2"] {
        s.send(&format!("{name} of message group a"), &Draft::new(&topic, name).fifo("a")).await;
    }
    consumer.batch = 1;
    consumer.attempt_id = Some("compat-fifo-attempt-1".to_owned());
    s.note("ReceiveMessage with an attempt id", list(&consumer.gather(1).await));
    let again = consumer.gather(1).await;
    s.note("ReceiveMessage with the same one", list(&again));
    consumer.attempt_id = Some("compat-fifo-attempt-2".to_owned());
    s.note("ReceiveMessage with another", list(&consumer.receive().await.deliveries));
    s.ack("by the handle of the second answer", &consumer, &again).await;
    s.note("ReceiveMessage with another", list(&consumer.gather(1).await));
    Ok(())
}

/// Two message groups in one queue.
pub(super) async fn fifo_parallel_groups(s: &mut Script) -> anyhow::Result<()> {
    let (topic, mut consumer) = ordered(s).await?;
    for (name, group) in [("a1", "a"), ("b1", "b"), ("a2", "a")] {
        s.send(&format!("{name} of message group {group}"), &Draft::new(&topic, name).fifo(group)).await;
    }
    consumer.batch = 1;
    let first = consumer.gather(1).await;
    s.note("ReceiveMessage one", list(&first));
    let second = consumer.receive().await.deliveries;
    s.note("ReceiveMessage one before it is acked", list(&second));
    s.ack("a1", &consumer, &first).await;
    if !second.is_empty() {
        consumer.ack(&second).await;
    }
    let mut rest = Vec::new();
    for _ in second.len()..2 {
        let got = consumer.gather(1).await;
        consumer.ack(&got).await;
        rest.extend(got);
    }
    let mut all: Vec<_> = second.into_iter().chain(rest).collect();
    all.sort_by_key(|delivery| delivery.message.system_properties.clone().and_then(|system| system.queue_offset));
    s.note("the others, each acked", list(&all));
    Ok(())
}

/// A batch may hold several messages of one message group, in order.
pub(super) async fn fifo_simple_batch(s: &mut Script) -> anyhow::Result<()> {
    let (topic, consumer) = ordered(s).await?;
    for name in ["a1", "a2", "a3"] {
        s.send(&format!("{name} of message group a"), &Draft::new(&topic, name).fifo("a")).await;
    }
    let mut all = Vec::new();
    while all.len() < 3 {
        let got = consumer.gather(1).await;
        anyhow::ensure!(!got.is_empty(), "messages are missing");
        consumer.ack(&got).await;
        all.extend(got);
    }
    s.note("ReceiveMessage batches, each acked at once", list(&all));
    Ok(())
}

/// A fifo topic with one queue, and a consumer of a fifo group.
async fn ordered(s: &mut Script) -> anyhow::Result<(String, Consumer)> {
    let topic = s.topic("t", TopicKind::Fifo, 1).await?;
    let group = s.group("g", GroupShape { fifo: true, ..GroupShape::default() }).await?;
    let consumer = s.member(&group, "c", &topic).await?;
    Ok((topic, consumer))
}
