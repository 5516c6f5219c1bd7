//! `apogee dlq …`: messages that were delivered often enough.

use std::collections::BTreeMap;

use apogee_proto::admin::v1;
use apogee_proto::admin::v1::get_message_request::By;
use clap::Subcommand;
use serde_json::{Value, json};

use super::confirm::Rehearsal;
use super::error::{CliError, RequestId};
use super::message::stored::{ANSWER_MAX, body, document};
use super::output::{Output, Table, plain};
use super::pages;
use super::target::{Admin, Target};
use super::topic::{join, split};

/// Dead letters that one call sends again.
const REDRIVEN_AT_ONCE: u32 = 200;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the consumer groups that have dead letters
    List,
    /// Shows dead letters of a consumer group, oldest first in each queue; nothing is consumed
    Peek {
        /// Name of the consumer group
        group: String,
        /// So many at most
        #[arg(long, value_name = "MESSAGES", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
        count: u64,
        /// Those that were sent again, too
        #[arg(long)]
        all: bool,
    },
    /// Sends dead letters of a consumer group to the topics they came from, for all groups that read these: says how many,
    /// and does it with --yes
    Redrive {
        /// Name of the consumer group
        group: String,
        /// So many at most
        #[arg(long, value_name = "MESSAGES", default_value_t = u64::MAX, hide_default_value = true)]
        count: u64,
        #[command(flatten)]
        rehearsal: Rehearsal,
        /// Sends them
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    let mut admin = target.admin(id).await?;
    match verb {
        Verb::List => list(&mut admin, output).await,
        Verb::Peek { group, count, all } => peek(admin, output, &group, count, all).await,
        Verb::Redrive { group, count, rehearsal, yes } => redrive(admin, output, &group, count, &rehearsal, yes).await,
    }
}

async fn list(admin: &mut Admin, output: &Output) -> Result<(), CliError> {
    let groups = pages::all(async |page_token| {
        let ask = v1::ListDeadLettersRequest { page_size: 0, page_token };
        let answer = admin.api.list_dead_letters(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
        let page = answer.into_inner();
        Ok((page.groups, page.next_page_token))
    });
    let groups = groups.await?;
    let mut table = Table::new(&["GROUP", "WAITING", "KEPT", "TOPIC"]);
    for found in &groups {
        let (group, topic) = (join(&found.namespace, &found.group), join(&found.namespace, &found.topic));
        table.row([group, found.waiting.to_string(), found.kept.to_string(), topic]);
    }
    let row = |found: &v1::DeadLetters| {
        json!({
            "namespace": found.namespace,
            "name": found.group,
            "topic": found.topic,
            "waiting": found.waiting,
            "kept": found.kept,
        })
    };
    Ok(output.show(&json!({ "groups": groups.iter().map(row).collect::<Vec<_>>() }), &table)?)
}

/// The topic of a group's dead letters.
fn topic_of(group: &str) -> (String, String) {
    let (namespace, name) = split(group);
    (namespace, format!("%DLQ%{name}"))
}

async fn peek(mut admin: Admin, output: &Output, group: &str, count: u64, all: bool) -> Result<(), CliError> {
    let (namespace, topic) = topic_of(group);
    let queues = queues(&mut admin, group, all).await?;
    let mut api = admin.api.max_decoding_message_size(ANSWER_MAX);
    let mut found = Vec::new();
    for (queue, (from, to)) in queues {
        for offset in from..to {
            if u64::try_from(found.len()).unwrap_or(u64::MAX) >= count {
                break;
            }
            let by = By::Place(v1::QueueOffset { queue_id: Some(queue), offset });
            let ask = v1::GetMessageRequest { namespace: namespace.clone(), topic: topic.clone(), by: Some(by) };
            let answer = api.get_message(ask).await.map_err(|status| CliError::call(&admin.address, status));
            match answer {
                Ok(answer) => found.extend(answer.into_inner().message),
                // Retention took it meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
    }
    let mut table = Table::new(&["MESSAGE_ID", "FROM_TOPIC", "QUEUE", "OFFSET", "STORED", "BODY"]);
    for message in &found {
        let origin = message.properties.get("DLQ_ORIGIN_TOPIC").map_or("-", String::as_str);
        table.row([
            plain(&message.message_id),
            plain(origin),
            message.queue_id.to_string(),
            message.offset.to_string(),
            message.stored.map(|at| at.to_string()).unwrap_or_default(),
            body(message),
        ]);
    }
    Ok(output.show(&json!({ "messages": found.iter().map(document).collect::<Vec<_>>() }), &table)?)
}

/// The offsets of dead letters in each queue: those that wait, or all of them.
async fn queues(admin: &mut Admin, group: &str, all: bool) -> Result<BTreeMap<u32, (u64, u64)>, CliError> {
    let (namespace, topic) = topic_of(group);
    let ask = v1::DescribeGroupRequest { namespace: namespace.clone(), name: split(group).1, settings_only: false };
    let failed = |status| CliError::call(&admin.address, status);
    let progress = admin.api.describe_group(ask).await.map_err(failed)?.into_inner().progress;
    let ask = v1::DescribeTopicRequest { namespace, name: topic.clone() };
    let held = admin.api.describe_topic(ask).await.map_err(failed)?.into_inner().queues;
    let from = |queue: &v1::TopicQueueStats| {
        let row = progress.iter().find(|row| row.topic == topic && row.queue_id == queue.queue_id);
        row.filter(|_| !all).map_or(queue.min_offset, |row| row.committed.max(queue.min_offset))
    };
    Ok(held.iter().map(|queue| (queue.queue_id, (from(queue), queue.max_offset))).collect())
}

/// What was sent, and what stays.
#[derive(Default)]
struct Redriven {
    sent: u64,
    failed: Vec<v1::NotRedriven>,
}

async fn redrive(
    mut admin: Admin,
    output: &Output,
    group: &str,
    count: u64,
    rehearsal: &Rehearsal,
    yes: bool,
) -> Result<(), CliError> {
    let waiting: u64 =
        queues(&mut admin, group, false).await?.values().map(|(from, to)| to.saturating_sub(*from)).sum();
    let some = waiting.min(count);
    if some > 0 {
        rehearsal.ends_before(|| format!("{some} dead letters of consumer group {group} would be sent again"))?;
        if !yes {
            return Err(CliError::PlanOnly { what: format!("{some} dead letters of consumer group {group}") });
        }
    }
    let mut redriven = Redriven::default();
    let (namespace, name) = split(group);
    let mut left = some;
    while left > 0 {
        let at_once = u32::try_from(left).unwrap_or(u32::MAX).min(REDRIVEN_AT_ONCE);
        let ask = v1::RedriveDeadLettersRequest { namespace: namespace.clone(), group: name.clone(), count: at_once };
        let answer = admin.api.redrive_dead_letters(ask).await;
        let answer = answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner();
        redriven.sent += answer.sent;
        left = left.saturating_sub(answer.sent);
        redriven.failed.extend(answer.failed);
        // Those that failed come first again.
        if !answer.more || answer.sent == 0 {
            break;
        }
    }
    let document = json!({
        "group": group,
        "sent": redriven.sent,
        "failed": redriven.failed.iter().map(failed).collect::<Vec<_>>(),
    });
    let mut told = format!("{} dead letters of consumer group {group} sent again", redriven.sent);
    if let Some(first) = redriven.failed.first() {
        let (stay, id, why) = (redriven.failed.len(), plain(&first.message_id), plain(&first.why));
        told.push_str(&format!("; {stay} stay, the first is {id}: {why}"));
    }
    Ok(output.tell(&document, &told)?)
}

fn failed(failed: &v1::NotRedriven) -> Value {
    json!({ "message_id": failed.message_id, "topic": failed.topic, "why": failed.why })
}
