//! AckMessage.

use std::time::Duration;

use crate::compat::client;
use crate::compat::consumer::{Delivery, acked};
use crate::compat::draft::Draft;
use crate::compat::script::{Script, list};
use crate::compat::target::GroupShape;

const SHORT: Duration = Duration::from_secs(10);

pub(super) async fn ack_settles(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    consumer.invisible = Some(SHORT);
    for name in ["m1", "m2", "m3"] {
        s.send(name, &Draft::new(&topic, name)).await;
    }
    let got = s.gather("three", &consumer, 3).await;
    let entries: Vec<_> = got.iter().map(|delivery| (delivery.id(), delivery.handle())).collect();
    let answer = consumer.ack_entries(&entries).await?;
    let echoed = answer.entries.len() == entries.len()
        && answer
            .entries
            .iter()
            .zip(&entries)
            .all(|(entry, (id, handle))| entry.message_id == *id && entry.receipt_handle == *handle);
    let echo = if echoed { "ids and handles echoed in order" } else { "not echoed" };
    s.note("AckMessage all three in one call", format_args!("{}; {echo}", acked(&answer)));
    // Longer than the lease and what its end may take.
    let late = consumer.listen(SHORT + Duration::from_secs(8)).await;
    s.note("ReceiveMessage after the invisible duration", list(&late));
    Ok(())
}

pub(super) async fn ack_again(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let consumer = s.consumer("g", &topic).await?;
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let got = s.gather("m1", &consumer, 1).await;
    s.ack("m1", &consumer, &got).await;
    s.ack("m1 again", &consumer, &got).await;
    if let Some(delivery) = got.first() {
        s.change("m1, which is acked, to 10s", &consumer, delivery, 10).await;
    }
    s.note("ReceiveMessage", list(&consumer.drain().await));
    Ok(())
}

pub(super) async fn ack_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let got = s.gather("m1", &consumer, 1).await;
    let real = got.first().map(|delivery| (delivery.id(), delivery.handle())).unwrap_or_default();
    let garbage = ("id".to_owned(), "garbage".to_owned());
    let empty = ("id".to_owned(), String::new());
    let cut: String = real.1.chars().take(real.1.len() / 2).collect();
    for (told, entries) in [
        ("no entries", vec![]),
        ("handle that is garbage", vec![garbage.clone()]),
        ("empty handle", vec![empty]),
        ("half a handle", vec![(real.0.clone(), cut)]),
    ] {
        note(s, told, &consumer.ack_entries(&entries).await);
    }
    let (topic, group) = (consumer.topic.clone(), consumer.group.clone());
    for (told, of_topic, of_group) in
        [("topic with a space", "a b", group.as_str()), ("group with a space", &topic, "a b")]
    {
        (consumer.topic, consumer.group) = (of_topic.to_owned(), of_group.to_owned());
        note(s, told, &consumer.ack_entries(std::slice::from_ref(&real)).await);
    }
    (consumer.topic, consumer.group) = (topic, group);
    note(s, "garbage beside a good handle", &consumer.ack_entries(&[garbage, real]).await);
    Ok(())
}

/// Handles of deliveries whose time is over.
pub(super) async fn ack_late(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    consumer.invisible = Some(SHORT);
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let first = s.gather("m1", &consumer, 1).await;
    let second = s.gather("m1 after its invisible duration", &consumer, 1).await;
    s.ack("by the handle of the first delivery", &consumer, &first).await;
    s.ack("by the handle of the second", &consumer, &second).await;
    s.send("m2", &Draft::new(&topic, "m2")).await;
    let third = s.gather("m2", &consumer, 1).await;
    if let Some(Delivery { asked, .. }) = third.first() {
        // Nobody receives meanwhile, so no later delivery replaces it.
        tokio::time::sleep_until(*asked + SHORT + Duration::from_secs(7)).await;
    }
    s.ack("m2 after its invisible duration, before another delivery", &consumer, &third).await;
    Ok(())
}

/// Handles in the wrong hands.
pub(super) async fn ack_foreign(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let consumer = s.consumer("g", &topic).await?;
    let other_group = s.group("g2", GroupShape::default()).await?;
    let stranger = s.member(&other_group, "stranger", &topic).await?;
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let got = s.gather("m1", &consumer, 1).await;
    s.ack("by a handle of another group", &stranger, &got).await;
    let theirs = s.gather("m1 in that group", &stranger, 1).await;
    s.ack("by a handle of its own", &stranger, &theirs).await;
    Ok(())
}

fn note(s: &mut Script, told: &str, answer: &Result<apogee_proto::v2::AckMessageResponse, tonic::Status>) {
    let told_answer = answer.as_ref().map_or_else(client::grpc, acked);
    s.note(format_args!("AckMessage {told}"), told_answer);
}
