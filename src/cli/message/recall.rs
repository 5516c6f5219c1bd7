//! `apogee message recall`.

use std::time::Duration;

use apogee_proto::v2;
use serde_json::json;

use super::super::error::CliError;
use super::super::output::Output;
use super::super::target::Messaging;
use super::{check, resource, timely};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the topic the message was sent to
    topic: String,
    /// What sending the message showed
    handle: String,
}

pub(super) async fn run(
    args: Args,
    mut messaging: Messaging,
    timeout: Duration,
    output: &Output,
) -> Result<(), CliError> {
    let Args { topic, handle } = args;
    let ask = v2::RecallMessageRequest { topic: Some(resource(&topic)), recall_handle: handle };
    let answer = messaging.api.recall_message(timely(ask, timeout)).await;
    let answer = answer.map_err(|status| CliError::call(&messaging.address, status))?.into_inner();
    check(answer.status)?;
    let document = json!({ "topic": topic, "message_id": answer.message_id });
    Ok(output.tell(&document, &format!("recalled {} from {topic}", answer.message_id))?)
}
