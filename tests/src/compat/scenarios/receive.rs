//! ReceiveMessage: its stream, its limits, who gets what.

use std::time::Duration;

use crate::compat::consumer::{Consumer, Polled};
use crate::compat::draft::Draft;
use crate::compat::script::{Script, class, list, sorted};
use crate::compat::target::GroupShape;

/// How late an answer may be on a loaded machine.
const LATE: Duration = Duration::from_secs(8);

pub(super) async fn receive_stream(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let consumer = s.consumer("g", &topic).await?;
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let polled = until_found(&consumer).await;
    s.note("ReceiveMessage a message", format_args!("{}; parts: {}", polled.code, polled.parts.join(", ")));
    s.ack("it", &consumer, &polled.deliveries).await;
    let polled = consumer.receive().await;
    let took = class(polled.took, Duration::from_millis(4_500), consumer.poll + LATE);
    s.note(
        "ReceiveMessage nothing, polling for 5s",
        format_args!("{}; parts: {}; {took}", polled.code, polled.parts.join(", ")),
    );
    Ok(())
}

pub(super) async fn receive_batches(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    let drafts: Vec<_> = (1..=40).map(|nth| Draft::new(&topic, &format!("m{nth:02}"))).collect();
    for draft in &drafts {
        s.send_all(std::slice::from_ref(draft)).await;
    }
    let mut total = 0;
    for batch in [1, 3, 33] {
        consumer.batch = batch;
        let polled = until_found(&consumer).await;
        let most = polled.deliveries.len();
        let told = if most <= 32 && most <= usize::try_from(batch)? { "at most that, and 32" } else { "too many" };
        total += most;
        s.note(format_args!("ReceiveMessage batches of {batch}"), format_args!("{}; {told}", polled.code));
    }
    consumer.batch = 32;
    total += consumer.drain().await.len();
    s.note("ReceiveMessage the rest", format_args!("{total} in all"));
    Ok(())
}

pub(super) async fn receive_long_poll(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    s.note("ReceiveMessage before there is anything", list(&consumer.drain().await));
    consumer.poll = Duration::from_secs(18);
    let draft = Draft::new(&topic, "m1");
    // The poll is under way when the message is sent: a poll asks within a second, or it would not be waiting.
    let (polled, sent) = tokio::join!(consumer.receive(), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        s.send_all(std::slice::from_ref(&draft)).await
    });
    s.note("SendMessage while a poll of 18s waits", sent.code);
    let took = class(polled.took, Duration::from_secs(1), Duration::from_secs(12));
    s.note("the poll", format_args!("{}; {}; {took}", polled.code, list(&polled.deliveries)));
    Ok(())
}

pub(super) async fn receive_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    let good = (consumer.topic.clone(), consumer.group.clone());
    for (told, topic, group) in [
        ("topic with a space", "a b", good.1.as_str()),
        ("empty topic", "", &good.1),
        ("unknown topic", "receive-nobody-made", &good.1),
        ("system topic", "TBW102", &good.1),
        ("group with a space", &good.0, "a b"),
        ("empty group", &good.0, ""),
        ("unknown group", &good.0, "receive-nobody-made"),
        ("system group", &good.0, "CID_RMQ_SYS_x"),
    ] {
        (consumer.topic, consumer.group) = (topic.to_owned(), group.to_owned());
        note(s, told, &consumer.receive().await);
    }
    (consumer.topic, consumer.group) = good;
    for (told, invisible) in [
        ("invisible for 9.999s", Some(Duration::from_millis(9_999))),
        ("invisible for 12h and a millisecond", Some(Duration::from_millis(12 * 3_600_000 + 1))),
        ("invisible for 12h", Some(Duration::from_secs(12 * 3_600))),
        ("no invisible duration", None),
    ] {
        consumer.invisible = invisible;
        note(s, told, &consumer.receive().await);
    }
    consumer.auto_renew = true;
    note(s, "no invisible duration, but auto-renew", &consumer.receive().await);
    (consumer.auto_renew, consumer.invisible) = (false, Some(Duration::from_secs(60)));
    consumer.deadline = Some(Duration::from_secs(3));
    note(s, "deadline of 3s", &consumer.receive().await);
    Ok(())
}

pub(super) async fn receive_two_groups(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let first = s.consumer("g1", &topic).await?;
    let second = s.consumer("g2", &topic).await?;
    let other_of_second = s.member(&second.group, "other", &topic).await?;
    for name in ["m1", "m2", "m3"] {
        s.send(name, &Draft::new(&topic, name)).await;
    }
    let all = s.gather("in one group", &first, 3).await;
    s.ack("all in this group", &first, &all).await;
    let all = s.gather("in the other", &second, 3).await;
    s.note(
        "ReceiveMessage by another member while they are invisible",
        list(&other_of_second.receive().await.deliveries),
    );
    s.ack("by that member", &other_of_second, &all).await;
    Ok(())
}

/// Where a group begins that comes late.
pub(super) async fn receive_new_group(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    for name in ["m1", "m2"] {
        s.send(name, &Draft::new(&topic, name)).await;
    }
    let late = s.consumer("late", &topic).await?;
    s.gather("by a group made after the messages", &late, 2).await;
    Ok(())
}

pub(super) async fn receive_attempt_id(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    consumer.attempt_id = Some("compat-attempt-1".to_owned());
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let got = s.gather("with an attempt id", &consumer, 1).await;
    s.note("ReceiveMessage with the same one", list(&consumer.receive().await.deliveries));
    s.ack("it", &consumer, &got).await;
    s.note("ReceiveMessage with the same one", list(&consumer.receive().await.deliveries));
    let group = s.group("g2", GroupShape::default()).await?;
    let mut other = s.member(&group, "other", &topic).await?;
    other.attempt_id = consumer.attempt_id.clone();
    s.gather("with the same one in another group", &other, 1).await;
    Ok(())
}

/// The first poll that brings something; the last one when none does.
async fn until_found(consumer: &Consumer) -> Polled {
    for _ in 0..6 {
        let polled = consumer.receive().await;
        if !polled.deliveries.is_empty() {
            return Polled { deliveries: sorted(polled.deliveries), ..polled };
        }
    }
    consumer.receive().await
}

fn note(s: &mut Script, told: &str, polled: &Polled) {
    s.note(format_args!("ReceiveMessage {told}"), &polled.code);
}
