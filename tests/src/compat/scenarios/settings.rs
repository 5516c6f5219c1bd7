//! The telemetry handshake, heartbeats and the end of a client.

use apogee_proto::v2;
use apogee_proto::v2::settings::PubSub;

use crate::compat::client::{self, Client, resource};
use crate::compat::consumer::{sql, tags};
use crate::compat::script::{Script, consumer_settings, producer_settings, settings};
use crate::compat::target::{GroupShape, TopicKind};

pub(super) async fn settings_of_producer(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let client = s.stranger("settings-producer")?;
    let topics: [&[&str]; 2] = [&[&topic], &[]];
    for topics in topics {
        let told = told(&client, producer_settings(&client, topics)).await;
        s.note(format_args!("Telemetry settings of a producer of {} topics", topics.len()), told);
    }
    Ok(())
}

pub(super) async fn settings_of_consumers(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let concurrent = s.group("g", GroupShape::default()).await?;
    let fifo = s.group("fifo", GroupShape { fifo: true, max_attempts: 5 }).await?;
    for (told_call, kind, group) in [
        ("simple consumer", v2::ClientType::SimpleConsumer, &concurrent),
        ("push consumer", v2::ClientType::PushConsumer, &concurrent),
        ("push consumer of a fifo group, 5 attempts", v2::ClientType::PushConsumer, &fifo),
    ] {
        let client = s.stranger(&format!("settings-{group}-{kind:?}"))?;
        let told = told(&client, consumer_settings(&client, kind, group, &topic, tags("*"))).await;
        s.note(format_args!("Telemetry settings of a {told_call}"), told);
    }
    Ok(())
}

pub(super) async fn settings_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let group = s.group("g", GroupShape::default()).await?;
    let client = s.stranger("settings-refused")?;
    let of_group =
        |group: &str, topic: &str| consumer_settings(&client, v2::ClientType::PushConsumer, group, topic, tags("*"));
    let of_filter = |filter| consumer_settings(&client, v2::ClientType::PushConsumer, &group, &topic, filter);
    for (told_call, settings) in [
        ("neither producer nor consumer", settings(&client, v2::ClientType::Producer, None)),
        ("producer, topic with a space", producer_settings(&client, &["a b"])),
        ("producer, unknown topic", producer_settings(&client, &["settings-nobody-made"])),
        ("consumer, group with a space", of_group("a b", &topic)),
        ("consumer, unknown group", of_group("settings-nobody-made", &topic)),
        ("consumer, topic with a space", of_group(&group, "a b")),
        ("consumer, unknown topic", of_group(&group, "settings-nobody-made")),
        ("consumer, empty SQL", of_filter(sql(""))),
        ("consumer, wrong SQL", of_filter(sql("a >"))),
    ] {
        let (_session, answer) = client.settle(settings).await;
        let told = answer.map_or_else(|why| why, |command| client::code(command.status.as_ref()));
        s.note(format_args!("Telemetry settings of a {told_call}"), told);
    }
    Ok(())
}

pub(super) async fn heartbeats(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let consumer = s.consumer("g", &topic).await?;
    let simple = v2::ClientType::SimpleConsumer;
    let stranger = s.stranger("heartbeats-stranger")?;
    let producer = s.stranger("heartbeats-producer")?;
    let (_session, _) = producer.settle(producer_settings(&producer, &[&topic])).await;
    let group = consumer.group.as_str();
    for (told_call, client, kind, group) in [
        ("registered consumer", &consumer.client, simple, Some(group)),
        ("registered consumer, group with a space", &consumer.client, simple, Some("a b")),
        ("registered consumer, unknown group", &consumer.client, simple, Some("heartbeats-nobody-made")),
        ("registered producer", &producer, v2::ClientType::Producer, None),
        ("client without settings", &stranger, simple, Some(group)),
        ("producer without settings", &stranger, v2::ClientType::Producer, None),
    ] {
        let answered = client.heartbeat(kind, group).await;
        s.note(format_args!("Heartbeat {told_call}"), client::told(&answered));
    }
    Ok(())
}

pub(super) async fn terminations(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let consumer = s.consumer("g", &topic).await?;
    let group = consumer.group.as_str();
    let stranger = s.stranger("terminations-stranger")?;
    let producer = s.stranger("terminations-producer")?;
    let (_session, _) = producer.settle(producer_settings(&producer, &[&topic])).await;
    for (told_call, client, group) in [
        ("registered consumer", &consumer.client, Some(group)),
        ("registered producer", &producer, None),
        ("client without settings", &stranger, Some(group)),
    ] {
        let request = v2::NotifyClientTerminationRequest { group: group.map(resource) };
        let answer = client.stub().notify_client_termination(client.ask(request)).await;
        let answered = answer.map(|answer| answer.into_inner().status);
        s.note(format_args!("NotifyClientTermination {told_call}"), client::told(&answered));
    }
    Ok(())
}

pub(super) async fn client_id_required(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.topic("t", TopicKind::Normal, 1).await?;
    let nobody = s.stranger("")?;
    let route = nobody.route(&topic).await.map(|route| route.status);
    s.note("QueryRoute without client id", client::told(&route));
    let heartbeat = nobody.heartbeat(v2::ClientType::Producer, None).await;
    s.note("Heartbeat without client id", client::told(&heartbeat));
    let known = std::mem::replace(&mut s.client, nobody.clone());
    let sent = s.send_all(&[crate::compat::draft::Draft::new(&topic, "m1")]).await;
    s.note("SendMessage without client id", format_args!("{}; {} entries", sent.code, sent.entries.len()));
    s.client = known;
    let mut consumer = s.consumer("g", &topic).await?;
    consumer.client = nobody;
    let polled = consumer.receive().await;
    s.note("ReceiveMessage without client id", format_args!("{}; parts: {}", polled.code, polled.parts.join(", ")));
    let acked = consumer.ack_entries(&[("id".to_owned(), "handle".to_owned())]).await;
    s.note("AckMessage without client id", client::told(&acked.map(|answer| answer.status)));
    let (answered, _) = consumer.change("handle", "id", client::duration(std::time::Duration::from_secs(10))).await;
    s.note("ChangeInvisibleDuration without client id", client::told(&answered));
    Ok(())
}

/// What came back for settings, field by field.
async fn told(client: &Client, sent: v2::Settings) -> String {
    let (_session, answer) = client.settle(sent.clone()).await;
    let command = match answer {
        Ok(command) => command,
        Err(why) => return why,
    };
    let code = client::code(command.status.as_ref());
    let Some(v2::telemetry_command::Command::Settings(got)) = command.command else {
        return format!("{code}; no settings");
    };
    let kind = got.client_type().as_str_name();
    let policy = got.backoff_policy.clone().unwrap_or_default();
    let metric = got.metric.clone().map_or("absent", |metric| if metric.on { "on" } else { "off" });
    let echoed = got.user_agent == sent.user_agent
        && got.access_point == sent.access_point
        && got.request_timeout == sent.request_timeout;
    let echo = if echoed { "the rest echoed" } else { "the rest changed" };
    let attempts = policy.max_attempts;
    let rests = rests(policy.strategy.as_ref());
    let role = role(got.pub_sub.as_ref(), sent.pub_sub.as_ref());
    format!("{code}; {kind}; {attempts} attempts, {rests}; {role}; metric {metric}; {echo}")
}

fn rests(strategy: Option<&v2::retry_policy::Strategy>) -> String {
    let seconds = |duration: &Option<prost_types::Duration>| {
        let prost_types::Duration { seconds, nanos } = duration.unwrap_or_default();
        format!("{}ms", seconds * 1_000 + i64::from(nanos) / 1_000_000)
    };
    match strategy {
        Some(v2::retry_policy::Strategy::ExponentialBackoff(v2::ExponentialBackoff { initial, max, multiplier })) => {
            format!("exponential from {} to {} by {multiplier}", seconds(initial), seconds(max))
        }
        Some(v2::retry_policy::Strategy::CustomizedBackoff(v2::CustomizedBackoff { next })) => {
            let rests: Vec<_> = next.iter().map(|rest| format!("{}s", rest.seconds)).collect();
            format!("customized {}", rests.join(" "))
        }
        None => "no backoff".to_owned(),
    }
}

fn role(got: Option<&PubSub>, sent: Option<&PubSub>) -> String {
    match (got, sent) {
        (Some(PubSub::Publishing(got)), Some(PubSub::Publishing(sent))) => {
            let topics = if got.topics == sent.topics { "same topics" } else { "other topics" };
            format!("{topics}, bodies up to {}, validates types: {}", got.max_body_size, got.validate_message_type)
        }
        (Some(PubSub::Subscription(got)), Some(PubSub::Subscription(sent))) => {
            let same = got.group == sent.group && got.subscriptions == sent.subscriptions;
            format!(
                "{}, fifo: {}, batches of {}, polls of {}s",
                if same { "same subscriptions" } else { "other subscriptions" },
                got.fifo.map_or("absent".to_owned(), |fifo| fifo.to_string()),
                got.receive_batch_size.unwrap_or_default(),
                got.long_polling_timeout.unwrap_or_default().seconds,
            )
        }
        _ => "another role".to_owned(),
    }
}
