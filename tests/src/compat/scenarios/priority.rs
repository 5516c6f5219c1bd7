//! Priorities: what comes first, and what is no priority.

use crate::compat::consumer::Consumer;
use crate::compat::draft::Draft;
use crate::compat::script::{Script, list};
use crate::compat::target::TopicKind;

/// A queue for each level.
const LEVELS: u32 = 4;

/// Levels beyond the last queue are the most urgent one; who asked for none is not compared.
pub(super) async fn priority_order(s: &mut Script) -> anyhow::Result<()> {
    let (topic, mut consumer) = levels(s).await?;
    for (name, level) in [("p1", 1), ("p0", 0), ("p3", 3), ("p2", 2), ("p9", 9)] {
        s.send(&format!("{name} of priority {level}"), &Draft::new(&topic, name).priority(level)).await;
    }
    consumer.batch = 1;
    for _ in 0..5 {
        let got = consumer.gather(1).await;
        let told = got.first().and_then(|got| got.message.system_properties.clone()).and_then(|got| got.priority);
        s.note("ReceiveMessage one", format_args!("{}; priority {told:?}", list(&got)));
        s.ack("it", &consumer, &got).await;
    }
    s.note("ReceiveMessage more", list(&consumer.drain().await));
    Ok(())
}

/// What failed is as urgent as before.
pub(super) async fn priority_failed(s: &mut Script) -> anyhow::Result<()> {
    let (topic, mut consumer) = levels(s).await?;
    consumer.batch = 1;
    s.send("p3 of priority 3", &Draft::new(&topic, "p3").priority(3)).await;
    let got = consumer.gather(1).await;
    s.note("ReceiveMessage one", list(&got));
    if let Some(delivery) = got.first() {
        s.change("p3 to 1s", &consumer, delivery, 1).await;
    }
    let again = consumer.gather(1).await;
    s.note("ReceiveMessage one", list(&again));
    s.ack("it", &consumer, &again).await;
    Ok(())
}

pub(super) async fn priority_refused(s: &mut Script) -> anyhow::Result<()> {
    let (topic, consumer) = levels(s).await?;
    let plain = s.topic("plain", TopicKind::Normal, 1).await?;
    s.send("of priority 1 to a NORMAL topic", &Draft::new(&plain, "x").priority(1)).await;
    s.send("without priority to a PRIORITY topic", &Draft::new(&topic, "x")).await;
    s.send("of priority -1", &Draft::new(&topic, "x").priority(-1)).await;
    s.send("of type PRIORITY without priority", &Draft::new(&topic, "x").priority(1).with(|it| it.priority = None))
        .await;
    let grouped = Draft::new(&topic, "x").priority(1).with(|it| it.message_group = Some("a".to_owned()));
    s.send("with a priority and a message group", &grouped).await;
    s.note("ReceiveMessage all", list(&consumer.drain().await));
    Ok(())
}

/// A topic with [`LEVELS`] queues, and a consumer of a group of its own.
async fn levels(s: &mut Script) -> anyhow::Result<(String, Consumer)> {
    let topic = s.topic("t", TopicKind::Priority, LEVELS).await?;
    let consumer = s.consumer("c", &topic).await?;
    Ok((topic, consumer))
}
