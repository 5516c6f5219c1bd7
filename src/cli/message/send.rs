//! `apogee message send`.

use std::collections::BTreeMap;
use std::process;
use std::time::Duration;

use apogee_host::{Clock as _, Entropy as _, OsEntropy, RealClock};
use apogee_model::Timestamp;
use apogee_proto::v2;
use serde_json::json;

use super::super::duration;
use super::super::error::CliError;
use super::super::output::Output;
use super::super::target::Messaging;
use super::{check, endpoints, hostname, resource, timely};

/// Message ids count seconds from 2021-01-01T00:00:00Z.
const ID_EPOCH_SECONDS: u64 = 1_609_459_200;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the topic
    topic: String,
    /// Content of the message, at most 4 MiB
    body: String,
    /// Word that consumers can filter by
    #[arg(long)]
    tag: Option<String>,
    /// Word the message can be found by; may be given more than once
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// User property; may be given more than once
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// How long consumers do not see it, at most 40 days
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "at")]
    delay: Option<Duration>,
    /// From when on consumers see it, at most 40 days from now
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Timestamp>,
    /// How urgent it is, in a PRIORITY topic: the higher the sooner
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..), conflicts_with_all = ["delay", "at"])]
    priority: Option<i32>,
    /// Messages of one message group are consumed one after the other, in a FIFO topic
    #[arg(long, value_name = "NAME", conflicts_with_all = ["delay", "at", "priority"])]
    message_group: Option<String>,
    /// Lite topic it is for, in a LITE topic
    #[arg(long, value_name = "NAME", conflicts_with_all = ["delay", "at", "priority", "message_group"])]
    lite_topic: Option<String>,
}

/// Asks for the route first, as every SDK does: it creates the topic where the server does that.
pub(super) async fn run(
    args: Args,
    mut messaging: Messaging,
    timeout: Duration,
    output: &Output,
) -> Result<(), CliError> {
    let topic = args.topic.clone();
    let ask = v2::QueryRouteRequest { topic: Some(resource(&topic)), endpoints: Some(endpoints(&messaging)) };
    let route = messaging.api.query_route(timely(ask, timeout)).await;
    check(route.map_err(|status| CliError::call(&messaging.address, status))?.into_inner().status)?;

    let ask = v2::SendMessageRequest { messages: vec![message(args)] };
    let answer = messaging.api.send_message(timely(ask, timeout)).await;
    let answer = answer.map_err(|status| CliError::call(&messaging.address, status))?.into_inner();
    check(answer.status)?;
    let entry = answer.entries.into_iter().next().ok_or(CliError::Incomplete { what: "send result" })?;
    check(entry.status)?;
    let mut document = json!({ "topic": topic, "message_id": entry.message_id, "offset": entry.offset });
    let mut told = format!("sent {} to {topic}", entry.message_id);
    if !entry.recall_handle.is_empty() {
        told = format!("{told}\nrecall handle {}", entry.recall_handle);
        document["recall_handle"] = entry.recall_handle.into();
    }
    Ok(output.tell(&document, &told)?)
}

fn message(args: Args) -> v2::Message {
    let now = RealClock.wall();
    let due = args.delay.map(|delay| now.plus(delay)).or(args.at);
    let message_type = match (due, args.priority, &args.message_group, &args.lite_topic) {
        (Some(_), ..) => v2::MessageType::Delay,
        (_, Some(_), ..) => v2::MessageType::Priority,
        (_, _, Some(_), _) => v2::MessageType::Fifo,
        (.., Some(_)) => v2::MessageType::Lite,
        (None, None, None, None) => v2::MessageType::Normal,
    };
    let system = v2::SystemProperties {
        tag: args.tag,
        keys: args.keys,
        message_id: message_id(now.0 / 1000),
        body_encoding: v2::Encoding::Identity.into(),
        message_type: message_type.into(),
        born_timestamp: Some(timestamp(now)),
        delivery_timestamp: due.map(timestamp),
        born_host: hostname(),
        priority: args.priority,
        message_group: args.message_group,
        lite_topic: args.lite_topic,
        ..v2::SystemProperties::default()
    };
    v2::Message {
        topic: Some(resource(&args.topic)),
        user_properties: args.properties.into_iter().collect::<BTreeMap<_, _>>(),
        system_properties: Some(system),
        body: args.body.into(),
    }
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.0 % 1000 * 1_000_000).expect("less than a second of nanoseconds");
    prost_types::Timestamp { seconds: i64::try_from(at.0 / 1000).unwrap_or(i64::MAX), nanos }
}

/// A moment such as `2026-01-31T18:30:00Z`.
fn moment(text: &str) -> Result<Timestamp, String> {
    let moment: prost_types::Timestamp =
        text.parse().map_err(|_| format!("{text:?} is no time such as 2026-01-31T18:30:00Z"))?;
    let millis = u64::try_from(moment.nanos).ok().map(|nanos| nanos / 1_000_000);
    let seconds = u64::try_from(moment.seconds).ok().and_then(|seconds| seconds.checked_mul(1000));
    let whole = seconds.zip(millis).and_then(|(seconds, millis)| seconds.checked_add(millis));
    whole.map(Timestamp).ok_or_else(|| format!("{text:?} is before 1970"))
}

/// 17 bytes in upper-case hexadecimal: version 1, six bytes for this machine (random here), half of the process id,
/// seconds, and a number (random too, because a process sends once).
///
/// Source: the message id of the official SDKs, version 1.
fn message_id(unix_seconds: u64) -> String {
    let mut id = [0; 17];
    OsEntropy.fill(&mut id);
    id[0] = 1;
    id[7..9].copy_from_slice(&process::id().to_be_bytes()[2..]);
    id[9..13].copy_from_slice(&unix_seconds.saturating_sub(ID_EPOCH_SECONDS).to_be_bytes()[4..]);
    id.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no `=` between name and value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_those_of_the_sdks() {
        let id = message_id(ID_EPOCH_SECONDS + 0x0102_0304);
        assert_eq!((id.len(), &id[..2], &id[18..26]), (34, "01", "01020304"));
        assert_ne!(id, message_id(ID_EPOCH_SECONDS + 0x0102_0304));
    }

    #[test]
    fn moments_are_read_to_the_millisecond() {
        assert_eq!(moment("2026-01-01T00:00:00.25Z"), Ok(Timestamp(1_767_225_600_250)));
        assert!(moment("tomorrow").is_err() && moment("1969-12-31T23:59:59Z").is_err());
    }

    #[test]
    fn a_property_is_cut_at_the_first_equals_sign() {
        assert_eq!(property("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(property("a").is_err());
    }
}
