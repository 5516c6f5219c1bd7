//! `apogee message get`.

use apogee_proto::admin::v1;
use apogee_proto::admin::v1::get_message_request::By;

use super::super::error::CliError;
use super::super::output::{Format, Output, Table, line, plain};
use super::super::target::Admin;
use super::super::topic::split;
use super::stored::{ANSWER_MAX, body, document};
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
    let ask = v1::GetMessageRequest { namespace, topic, by: Some(by) };
    let answer = admin.api.max_decoding_message_size(ANSWER_MAX).get_message(ask).await;
    let answer = answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner();
    let message = answer.message.ok_or(CliError::Incomplete { what: "message" })?;
    match output.format {
        Format::Name => Ok(line(&plain(&message.message_id))?),
        _ => Ok(output.show(&document(&message), &table(&message))?),
    }
}

/// One line for each thing that is known.
fn table(message: &v1::Message) -> Table {
    let mut table = Table::new(&["FIELD", "VALUE"]);
    let time = |at: &Option<prost_types::Timestamp>| at.map(|at| at.to_string());
    let rows = [
        ("MESSAGE_ID", Some(message.message_id.clone())),
        ("TOPIC", Some(message.topic.clone())),
        ("QUEUE", Some(message.queue_id.to_string())),
        ("OFFSET", Some(message.offset.to_string())),
        ("STORED", time(&message.stored)),
        ("BORN", time(&message.born)),
        ("BORN_HOST", Some(message.born_host.clone())),
        ("TAG", message.tag.clone()),
        ("KEYS", Some(message.keys.join(" ")).filter(|keys| !keys.is_empty())),
        ("MESSAGE_GROUP", message.message_group.clone()),
        ("DELIVERY", time(&message.delivery)),
    ];
    for (field, value) in rows {
        if let Some(value) = value {
            table.row([field.to_owned(), plain(&value)]);
        }
    }
    for (name, value) in &message.properties {
        table.row([format!("PROPERTY {}", plain(name)), plain(value)]);
    }
    table.row(["BODY".to_owned(), body(message)]);
    table
}
