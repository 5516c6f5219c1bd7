//! `apogee message find`.

use apogee_proto::admin::v1;
use serde_json::{Value, json};

use super::super::error::CliError;
use super::super::group::reset::time;
use super::super::output::{Format, Output, Table, line, plain};
use super::super::target::Admin;
use super::super::topic::split;
use super::stored::{ANSWER_MAX, body, document};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the topic
    topic: String,
    /// One of their keys, all of it: the newest messages first
    #[arg(long, required_unless_present = "from")]
    key: Option<String>,
    /// Only those stored then or later; without a key: the oldest first. RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<prost_types::Timestamp>,
    /// Only those stored then or earlier
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<prost_types::Timestamp>,
    /// How many, at most 64
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=64))]
    max: u32,
}

pub(super) async fn run(args: Args, admin: Admin, output: &Output) -> Result<(), CliError> {
    let (namespace, topic) = split(&args.topic);
    let Args { key, from, until, max, .. } = args;
    let ask =
        v1::FindMessagesRequest { namespace, topic, key: key.unwrap_or_default(), from, until, max_messages: max };
    let answer = admin.api.max_decoding_message_size(ANSWER_MAX).find_messages(ask).await;
    let messages = answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner().messages;
    let found = messages.into_iter().map(|found| Some((state(&found), found.offset_known, found.message?)));
    let found: Vec<_> = found.collect::<Option<_>>().ok_or(CliError::Incomplete { what: "message" })?;
    if output.format == Format::Name {
        return Ok(found.iter().try_for_each(|(_, _, message)| line(&plain(&message.message_id)))?);
    }
    let mut table = Table::new(&["MESSAGE_ID", "STORED", "QUEUE", "OFFSET", "STATE", "TAG", "KEYS", "BODY"]);
    for (state, offset_known, message) in &found {
        table.row([
            plain(&message.message_id),
            message.stored.map(|at| at.to_string()).unwrap_or_default(),
            message.queue_id.to_string(),
            if *offset_known { message.offset.to_string() } else { "-".to_owned() },
            (*state).to_owned(),
            plain(message.tag.as_deref().unwrap_or_default()),
            plain(&message.keys.join(" ")),
            body(message),
        ]);
    }
    let documents: Vec<_> =
        found.iter().map(|(state, offset_known, message)| found_document(state, *offset_known, message)).collect();
    Ok(output.show(&json!({ "messages": documents }), &table)?)
}

/// Where a message is, in a word.
pub(super) fn state(found: &v1::FoundMessage) -> &'static str {
    match found.state() {
        v1::MessageState::Unspecified => "unknown",
        v1::MessageState::Queued => "queued",
        v1::MessageState::Delayed => "delayed",
        v1::MessageState::InTransaction => "in-transaction",
    }
}

pub(super) fn found_document(state: &str, offset_known: bool, message: &v1::Message) -> Value {
    let mut document = document(message);
    document["state"] = state.into();
    if !offset_known {
        document["queue_offset"] = Value::Null;
    }
    document
}
