//! ChangeInvisibleDuration, and the end of leases.

use std::time::Duration;

use crate::compat::client;
use crate::compat::consumer::{Consumer, Delivery};
use crate::compat::draft::Draft;
use crate::compat::script::{Script, class, list};

const SHORT: Duration = Duration::from_secs(10);
/// How late the end of a lease may be noticed: Apache RocketMQ looks every few seconds.
const LATE: Duration = Duration::from_secs(25);

pub(super) async fn nack_comes_again(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let consumer = s.consumer("g", &topic).await?;
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let mut got = s.gather("m1", &consumer, 1).await;
    for (told, seconds) in [("m1 to 0s", 0), ("m1 to 1s", 1)] {
        let Some(delivery) = got.first() else { break };
        s.change(told, &consumer, delivery, seconds).await;
        got = s.gather("it again", &consumer, 1).await;
    }
    s.ack("it", &consumer, &got).await;
    Ok(())
}

pub(super) async fn invisible_ends(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    consumer.invisible = Some(SHORT);
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let first = s.gather("m1", &consumer, 1).await;
    let second = s.gather("m1 again", &consumer, 1).await;
    s.note("time between the deliveries", between(&first, SHORT));
    s.ack("m1", &consumer, &second).await;
    Ok(())
}

pub(super) async fn change_extends(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    consumer.invisible = Some(SHORT);
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let first = s.gather("m1, invisible for 10s", &consumer, 1).await;
    if let Some(delivery) = first.first() {
        s.change("m1 to 20s", &consumer, delivery, 20).await;
    }
    let second = s.gather("m1 again", &consumer, 1).await;
    s.note("time between the deliveries", between(&first, 2 * SHORT));
    s.ack("m1", &consumer, &second).await;
    Ok(())
}

pub(super) async fn change_old_handle(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let consumer = s.consumer("g", &topic).await?;
    for name in ["m1", "m2"] {
        s.send(name, &Draft::new(&topic, name)).await;
    }
    let got = s.gather("both", &consumer, 2).await;
    let mut changed = Vec::new();
    for delivery in &got {
        let handle = s.change(&format!("{} to 60s", delivery.body()), &consumer, delivery, 60).await;
        changed.push((delivery.id(), handle));
    }
    if let [first, second] = got.as_slice() {
        s.ack("m1 by the handle from before the change", &consumer, std::slice::from_ref(first)).await;
        let code = consumer.ack_entries(&changed[1..]).await;
        let told = code.map_or_else(|status| client::grpc(&status), |answer| crate::compat::consumer::acked(&answer));
        s.note("AckMessage m2 by the handle from the change", told);
        s.change("m2, which is acked, to 60s", &consumer, second, 60).await;
    }
    Ok(())
}

pub(super) async fn change_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let got = s.gather("m1", &consumer, 1).await;
    let Some(delivery) = got.first() else { anyhow::bail!("no message") };
    s.change("to -1s", &consumer, delivery, -1).await;
    s.change("to 12h and a second", &consumer, delivery, 12 * 3_600 + 1).await;
    refused(s, "by garbage", &consumer, "garbage").await;
    refused(s, "by an empty handle", &consumer, "").await;
    let (topic, group) = (consumer.topic.clone(), consumer.group.clone());
    consumer.topic = "a b".to_owned();
    refused(s, "of a topic with a space", &consumer, &delivery.handle()).await;
    (consumer.topic, consumer.group) = (topic, "a b".to_owned());
    refused(s, "of a group with a space", &consumer, &delivery.handle()).await;
    consumer.group = group;
    s.note("ReceiveMessage, m1 still being invisible", list(&consumer.receive().await.deliveries));
    Ok(())
}

async fn refused(s: &mut Script, told: &str, consumer: &Consumer, handle: &str) {
    let (answered, _) = consumer.change(handle, "id", client::duration(SHORT)).await;
    s.note(format_args!("ChangeInvisibleDuration {told}"), client::told(&answered));
}

/// Time since the first delivery, whose lease began after it was asked for.
fn between(first: &[Delivery], lease: Duration) -> String {
    first.first().map_or("nothing".to_owned(), |first| class(first.asked.elapsed(), lease, lease + LATE))
}
