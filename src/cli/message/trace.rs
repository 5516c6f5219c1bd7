//! `apogee message trace`.

use apogee_proto::admin::v1;
use apogee_proto::admin::v1::MessageProgress;
use apogee_proto::admin::v1::trace_message_request::By;
use serde_json::{Value, json};

use super::super::error::CliError;
use super::super::output::{Format, Output, Table, line, plain};
use super::super::target::Admin;
use super::super::topic::split;
use super::find::{found_document, state};
use super::stored::ANSWER_MAX;
use super::which::Which;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the topic
    topic: String,
    #[command(flatten)]
    which: Which,
}

pub(super) async fn run(args: Args, admin: Admin, output: &Output) -> Result<(), CliError> {
    let (namespace, topic) = split(&args.topic);
    let by = args.which.by(By::MessageId, By::Place);
    let ask = v1::TraceMessageRequest { namespace, topic, by: Some(by) };
    let answer = admin.api.max_decoding_message_size(ANSWER_MAX).trace_message(ask).await;
    let answer = answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner();
    let missing = || CliError::Incomplete { what: "message" };
    let found = answer.found.ok_or_else(missing)?;
    let message = found.message.as_ref().ok_or_else(missing)?;
    if output.format == Format::Name {
        return Ok(answer.groups.iter().try_for_each(|trace| line(&plain(&trace.group)))?);
    }
    let mut table = Table::new(&["WHAT", "GROUP", "SINCE", "DETAIL"]);
    let time = |at: &Option<prost_types::Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    table.row(["stored".to_owned(), String::new(), time(&message.stored), place(&found, message)]);
    for trace in &answer.groups {
        let (what, group) = (progress(trace).to_owned(), plain(&trace.group));
        table.row([what, group, time(&trace.delivered), detail(trace)]);
    }
    let document = json!({
        "message": found_document(state(&found), found.offset_known, message),
        "transaction_checks": found.checks,
        "groups": answer.groups.iter().map(document).collect::<Vec<_>>(),
    });
    Ok(output.show(&document, &table)?)
}

/// Where the message is.
fn place(found: &v1::FoundMessage, message: &v1::Message) -> String {
    let queue = message.queue_id;
    match found.state() {
        v1::MessageState::Delayed => {
            let due = message.delivery.map(|at| at.to_string()).unwrap_or_default();
            format!("waits for {due}, for queue {queue}")
        }
        v1::MessageState::InTransaction => {
            format!(
                "waits for the end of its transaction, for queue {queue}; its producer was asked {} times",
                found.checks
            )
        }
        _ if found.offset_known => format!("queue {queue}, offset {}", message.offset),
        _ => format!("queue {queue}"),
    }
}

fn progress(trace: &v1::GroupTrace) -> &'static str {
    match trace.progress() {
        MessageProgress::Unspecified => "unknown",
        MessageProgress::Ahead => "ahead",
        MessageProgress::Waits => "waits",
        MessageProgress::InFlight => "in-flight",
        MessageProgress::ReadyAgain => "ready-again",
        MessageProgress::Settled => "settled",
        MessageProgress::DeadLetter => "dead-letter",
    }
}

fn detail(trace: &v1::GroupTrace) -> String {
    let until = trace.until.map(|at| at.to_string()).unwrap_or_default();
    let client = if trace.client_id.is_empty() { "a client that is not here any more" } else { &trace.client_id };
    match trace.progress() {
        MessageProgress::Ahead => "not delivered yet".to_owned(),
        MessageProgress::Waits => "for the turn of its message group".to_owned(),
        MessageProgress::InFlight if trace.auto_renew => {
            format!("attempt {}, {}, renewed while it lives", trace.attempt, plain(client))
        }
        MessageProgress::InFlight => format!("attempt {}, {}, until {until}", trace.attempt, plain(client)),
        MessageProgress::ReadyAgain => format!("after attempt {}, since {until}", trace.attempt),
        MessageProgress::Settled => "acknowledged, or passed over".to_owned(),
        MessageProgress::DeadLetter => match &trace.dead_letter {
            Some(at) => format!("queue {}, offset {} of its dead letters", at.queue_id.unwrap_or_default(), at.offset),
            None => String::new(),
        },
        MessageProgress::Unspecified => String::new(),
    }
}

fn document(trace: &v1::GroupTrace) -> Value {
    let time = |at: &Option<prost_types::Timestamp>| at.map(|at| at.to_string());
    let dead_letter =
        trace.dead_letter.as_ref().map(|at| json!({ "queue_id": at.queue_id, "queue_offset": at.offset }));
    json!({
        "group": trace.group,
        "progress": progress(trace),
        "attempt": Some(trace.attempt).filter(|attempt| *attempt > 0),
        "delivered": time(&trace.delivered),
        "until": time(&trace.until),
        "auto_renew": trace.auto_renew,
        "client_id": Some(&trace.client_id).filter(|id| !id.is_empty()),
        "dead_letter": dead_letter,
    })
}
