//! Lite topics: who gets what, in which order, and what is refused.

use std::time::Duration;

use apogee_proto::v2;
use apogee_proto::v2::LiteSubscriptionAction as Action;
use apogee_proto::v2::offset_option::{OffsetType, Policy};
use apogee_proto::v2::telemetry_command::Command;

use crate::compat::client::{self, Answered, CALL_MAX};
use crate::compat::consumer::{Consumer, tags};
use crate::compat::draft::Draft;
use crate::compat::script::{Script, consumer_settings, list, sorted};
use crate::compat::target::{GroupShape, TopicKind};

/// Longest wait for a word on a telemetry stream.
const WORD_MAX: Duration = Duration::from_secs(20);

/// A client gets what it subscribed to, and no more.
pub(super) async fn lite_subscribed(s: &mut Script) -> anyhow::Result<()> {
    let (topic, group) = bound(s, false).await?;
    let mut consumer = s.lite_member(&group, "c", &topic).await?;
    sync(s, "a and b", &consumer, Action::CompleteAdd, &["a", "b"], None).await;
    for (name, lite) in [("a1", "a"), ("b1", "b"), ("c1", "c"), ("a2", "a")] {
        s.send(&format!("{name} of lite topic {lite}"), &Draft::new(&topic, name).lite(lite)).await;
    }
    each(s, "all of a and b", &mut consumer, 3).await;
    sync(s, "a", &consumer, Action::PartialRemove, &["a"], None).await;
    s.send("a3 of lite topic a", &Draft::new(&topic, "a3").lite("a")).await;
    s.send("b2 of lite topic b", &Draft::new(&topic, "b2").lite("b")).await;
    each(s, "what is left", &mut consumer, 1).await;
    Ok(())
}

/// A lite topic is in order: what failed comes again before what is behind it.
pub(super) async fn lite_failed_comes_first(s: &mut Script) -> anyhow::Result<()> {
    let (topic, group) = bound(s, false).await?;
    let mut consumer = s.lite_member(&group, "c", &topic).await?;
    sync(s, "a", &consumer, Action::PartialAdd, &["a"], None).await;
    for name in ["a1", "a2"] {
        s.send(&format!("{name} of lite topic a"), &Draft::new(&topic, name).lite("a")).await;
    }
    consumer.batch = 1;
    consumer.lite_topic = Some("a".to_owned());
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

/// Who comes later takes the lite topic over, and who had it is told.
pub(super) async fn lite_exclusive(s: &mut Script) -> anyhow::Result<()> {
    let (topic, group) = bound(s, true).await?;
    let mut first = s.lite_member(&group, "first", &topic).await?;
    sync(s, "a and b by the first", &first, Action::PartialAdd, &["a", "b"], None).await;
    s.send("a1 of lite topic a", &Draft::new(&topic, "a1").lite("a")).await;
    each(s, "by the first", &mut first, 1).await;
    let mut second = s.lite_member(&group, "second", &topic).await?;
    sync(s, "a by the second", &second, Action::PartialAdd, &["a"], None).await;
    let meanwhile = first.receive().await; // SDKs always have one under way
    s.note("ReceiveMessage meanwhile, by the first", list(&meanwhile.deliveries));
    let told = loop {
        let Some(session) = first.session.as_mut() else { break "no stream".to_owned() };
        match session.next(WORD_MAX).await {
            Ok(v2::TelemetryCommand { command: Some(Command::NotifyUnsubscribeLiteCommand(told)), .. }) => {
                break format!("leaves {}", told.lite_topic);
            }
            Ok(_) => {}
            Err(why) => break why,
        }
    };
    s.note("Telemetry of the first", told);
    s.send("a2 of lite topic a", &Draft::new(&topic, "a2").lite("a")).await;
    s.send("b1 of lite topic b", &Draft::new(&topic, "b1").lite("b")).await;
    each(s, "by the second", &mut second, 1).await;
    each(s, "by the first", &mut first, 1).await;
    Ok(())
}

/// Where a group begins in a lite topic.
pub(super) async fn lite_begins(s: &mut Script) -> anyhow::Result<()> {
    let (topic, group) = bound(s, false).await?;
    let consumer = s.lite_member(&group, "c", &topic).await?;
    let begins = [
        ("new", None),
        ("min", Some(OffsetType::Policy(Policy::Min.into()))),
        ("max", Some(OffsetType::Policy(Policy::Max.into()))),
        ("offset", Some(OffsetType::Offset(1))),
    ];
    for (lite, _) in &begins {
        for number in 1..=2 {
            let draft = Draft::new(&topic, &format!("{lite}{number}")).lite(lite);
            let sent = s.send_all(std::slice::from_ref(&draft)).await;
            anyhow::ensure!(sent.code == "OK", "{lite}{number}: {}", sent.code);
        }
    }
    for (lite, begin) in begins {
        sync(s, lite, &consumer, Action::PartialAdd, &[lite], begin).await;
    }
    let got = sorted(consumer.drain().await);
    s.note("ReceiveMessage all that was there", list(&got));
    Ok(())
}

pub(super) async fn lite_send_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.topic("t", TopicKind::Lite, 1).await?;
    let plain = s.topic("plain", TopicKind::Normal, 1).await?;
    s.send("of a lite topic to a NORMAL topic", &Draft::new(&plain, "x").lite("a")).await;
    s.send("of no lite topic to a LITE topic", &Draft::new(&topic, "x")).await;
    let untold = Draft::new(&topic, "x").lite("a").with(|it| it.lite_topic = None);
    s.send("of type LITE without lite topic", &untold).await;
    for (told, lite) in [
        ("64 bytes", "a".repeat(64)),
        ("65 bytes", "a".repeat(65)),
        ("with a space", "a b".to_owned()),
        ("with a dollar", "a$b".to_owned()),
        ("with all that is allowed", "Az09-_".to_owned()),
        ("blank", " ".to_owned()),
    ] {
        s.send(&format!("to a lite topic {told}"), &Draft::new(&topic, "x").lite(&lite)).await;
    }
    let grouped = Draft::new(&topic, "x").lite("a").with(|it| it.message_group = Some("g".to_owned()));
    s.send("to a lite topic and with a message group", &grouped).await;
    let urgent = Draft::new(&topic, "x").lite("a").with(|it| it.priority = Some(1));
    s.send("to a lite topic and with a priority", &urgent).await;
    Ok(())
}

pub(super) async fn lite_clients_refused(s: &mut Script) -> anyhow::Result<()> {
    let (topic, group) = bound(s, false).await?;
    let other = s.topic("other", TopicKind::Lite, 1).await?;
    let plain = s.group("plain", GroupShape::default()).await?;
    for (told, kind, group, topic) in [
        ("lite push consumer", v2::ClientType::LitePushConsumer, &group, &topic),
        ("lite push consumer of another topic", v2::ClientType::LitePushConsumer, &group, &other),
        ("lite push consumer of a group without lite topics", v2::ClientType::LitePushConsumer, &plain, &topic),
        ("lite push consumer of an unknown group", v2::ClientType::LitePushConsumer, &"nobody".to_owned(), &topic),
        ("push consumer", v2::ClientType::PushConsumer, &group, &topic),
        ("lite simple consumer", v2::ClientType::LiteSimpleConsumer, &group, &topic),
    ] {
        let client = s.stranger(&format!("lite-clients-{}", told.replace(' ', "-")))?;
        let (_session, answer) = client.settle(consumer_settings(&client, kind, group, topic, tags("*"))).await;
        let told_code = answer.map_or_else(|why| why, |answer| client::code(answer.status.as_ref()));
        s.note(format_args!("Telemetry settings of a {told}"), told_code);
        let beat = client.heartbeat(kind, Some(group)).await;
        s.note(format_args!("Heartbeat of a {told}"), client::told(&beat));
    }
    Ok(())
}

pub(super) async fn lite_subscriptions_refused(s: &mut Script) -> anyhow::Result<()> {
    let (topic, group) = bound(s, false).await?;
    let other = s.topic("other", TopicKind::Lite, 1).await?;
    let plain = s.group("plain", GroupShape::default()).await?;
    let mut consumer = s.lite_member(&group, "c", &topic).await?;
    sync(s, "nothing", &consumer, Action::CompleteAdd, &[], None).await;
    sync(s, "a space", &consumer, Action::PartialAdd, &["a b"], None).await;
    sync(s, "65 bytes", &consumer, Action::PartialAdd, &[&"a".repeat(65)], None).await;
    sync(s, "nothing ever subscribed to", &consumer, Action::PartialRemove, &["a"], None).await;
    consumer.topic = other;
    sync(s, "a, of another topic", &consumer, Action::PartialAdd, &["a"], None).await;
    consumer.topic = "nowhere".to_owned();
    sync(s, "a, of no topic", &consumer, Action::PartialAdd, &["a"], None).await;
    consumer.topic = topic;
    consumer.group = plain;
    sync(s, "a, by a group without lite topics", &consumer, Action::PartialAdd, &["a"], None).await;
    consumer.group = "nobody".to_owned();
    sync(s, "a, by an unknown group", &consumer, Action::PartialAdd, &["a"], None).await;
    Ok(())
}

/// A LITE topic with one queue, and a group that reads it.
async fn bound(s: &mut Script, exclusive: bool) -> anyhow::Result<(String, String)> {
    let topic = s.topic("t", TopicKind::Lite, 1).await?;
    let group = s.lite_group("g", &topic, exclusive).await?;
    Ok((topic, group))
}

/// Receives so many one by one, each acked before the next is asked for, and writes down in which order each lite topic
/// came; among themselves they have none.
async fn each(s: &mut Script, told: &str, consumer: &mut Consumer, count: usize) {
    let (mut all, mut codes) = (Vec::new(), Vec::new());
    for _ in 0..count {
        consumer.batch = 1;
        let got = consumer.gather(1).await;
        consumer.lite_topic = got.first().and_then(|got| got.message.system_properties.clone()?.lite_topic);
        codes.push(consumer.ack(&got).await);
        all.extend(got);
    }
    let lite = |delivery: &crate::compat::consumer::Delivery| {
        delivery.message.system_properties.as_ref().and_then(|system| system.lite_topic.clone())
    };
    all.sort_by_key(lite); // keeps the order within each
    s.note(format_args!("ReceiveMessage one by one, {told}"), list(&all));
    s.note("AckMessage each", codes.join(", "));
}

/// One SyncLiteSubscription.
async fn sync(
    s: &mut Script,
    told: &str,
    consumer: &Consumer,
    action: Action,
    lite_topics: &[&str],
    begin: Option<OffsetType>,
) {
    let ask = v2::SyncLiteSubscriptionRequest {
        action: action.into(),
        topic: Some(client::resource(&consumer.topic)),
        group: Some(client::resource(&consumer.group)),
        lite_topic_set: lite_topics.iter().map(|lite| (*lite).to_owned()).collect(),
        version: None,
        offset_option: begin.map(|begin| v2::OffsetOption { offset_type: Some(begin) }),
    };
    let request = consumer.client.request(ask, CALL_MAX);
    let answered: Answered =
        consumer.client.stub().sync_lite_subscription(request).await.map(|answer| answer.into_inner().status);
    s.note(format_args!("SyncLiteSubscription {} {told}", action.as_str_name()), client::told(&answered));
}
