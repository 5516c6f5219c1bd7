//! Dead letters: how messages become some, and what they look like.

use crate::compat::client;
use crate::compat::consumer::{Consumer, Delivery};
use crate::compat::draft::Draft;
use crate::compat::script::{Script, list};
use crate::compat::target::GroupShape;

pub(super) async fn dead_letter_forwarded(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let consumer = s.consumer("g", &topic).await?;
    let draft = Draft::new(&topic, "m1").tag("A").key("k").property("colour", "red");
    s.send("m1", &draft).await;
    let got = s.gather("m1", &consumer, 1).await;
    let Some(delivery) = got.first() else { anyhow::bail!("no message") };
    forward(s, "m1", &consumer, delivery).await;
    s.note("ReceiveMessage more", list(&consumer.drain().await));
    dead(s, &consumer.group.clone(), &draft).await?;
    forward(s, "m1 again", &consumer, delivery).await;
    Ok(())
}

pub(super) async fn dead_letter_by_attempts(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let group = s.group("g", GroupShape { max_attempts: 2, ..GroupShape::default() }).await?;
    let consumer = s.member(&group, "c", &topic).await?;
    let draft = Draft::new(&topic, "m1");
    s.send("m1 to a group of 2 attempts", &draft).await;
    for _ in 0..2 {
        let got = s.gather("m1", &consumer, 1).await;
        let Some(delivery) = got.first() else { anyhow::bail!("no message") };
        s.change("it to 1s", &consumer, delivery, 1).await;
    }
    // Apache RocketMQ notices when somebody asks; so does this system.
    s.note("ReceiveMessage more", list(&consumer.listen(std::time::Duration::from_secs(10)).await));
    dead(s, &group, &draft).await
}

pub(super) async fn dead_letter_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    s.send("m1", &Draft::new(&topic, "m1")).await;
    let got = s.gather("m1", &consumer, 1).await;
    let handle = got.first().map(Delivery::handle).unwrap_or_default();
    let (topic, group) = (consumer.topic.clone(), consumer.group.clone());
    for (told, of_topic, of_group, handle) in [
        ("by garbage", topic.as_str(), group.as_str(), "garbage"),
        ("by an empty handle", &topic, &group, ""),
        ("of a topic with a space", "a b", &group, &handle),
        ("of a group with a space", &topic, "a b", &handle),
    ] {
        (consumer.topic, consumer.group) = (of_topic.to_owned(), of_group.to_owned());
        let answered = consumer.forward(handle, "id").await;
        s.note(format_args!("ForwardMessageToDeadLetterQueue {told}"), client::told(&answered));
    }
    (consumer.topic, consumer.group) = (topic, group);
    s.ack("m1, which is no dead letter", &consumer, &got).await;
    Ok(())
}

async fn forward(s: &mut Script, told: &str, consumer: &Consumer, delivery: &Delivery) {
    let answered = consumer.forward(&delivery.handle(), &delivery.id()).await;
    s.note(format_args!("ForwardMessageToDeadLetterQueue {told}"), client::told(&answered));
}

/// Reads the topic of dead letters of a group by another one.
async fn dead(s: &mut Script, group: &str, draft: &Draft) -> anyhow::Result<()> {
    let topic = format!("%DLQ%{group}");
    let reader = s.consumer("reader", &topic).await?;
    let got = s.gather("dead letters by another group", &reader, 1).await;
    let told = got.first().map_or("none".to_owned(), |delivery| {
        let message = &delivery.message;
        let system = message.system_properties.clone().unwrap_or_default();
        let origin = system.dead_letter_queue.clone().unwrap_or_default();
        let same = |yes: bool| if yes { "same" } else { "other" };
        let sent = draft.message.system_properties.clone().unwrap_or_default();
        format!(
            "topic {}; id {}; tag {}; keys {}; properties {}; origin topic {}, origin id {}",
            same(message.topic.as_ref().is_some_and(|got| got.name == topic)),
            same(system.message_id == sent.message_id),
            same(system.tag == sent.tag),
            same(system.keys == sent.keys),
            same(message.user_properties == draft.message.user_properties),
            same(draft.message.topic.as_ref().is_some_and(|sent| sent.name == origin.topic)),
            same(origin.message_id == sent.message_id),
        )
    });
    s.note("the dead letter", told);
    s.ack("it", &reader, &got).await;
    Ok(())
}
