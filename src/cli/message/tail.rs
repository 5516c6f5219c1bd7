//! `apogee message tail`.

use apogee_proto::admin::v1;

use super::super::error::CliError;
use super::super::output::{Output, line, plain};
use super::super::target::Admin;
use super::super::topic::split;
use super::stored::{ANSWER_MAX, body, document};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the topic
    topic: String,
    /// Tags wanted, joined by ||
    #[arg(long, value_name = "EXPRESSION", default_value = "*")]
    tag: String,
    /// Ends after so many messages
    #[arg(long, value_name = "MESSAGES")]
    count: Option<u64>,
}

pub(super) async fn run(args: Args, admin: Admin, output: &Output) -> Result<(), CliError> {
    let (namespace, topic) = split(&args.topic);
    let ask = v1::TailMessagesRequest { namespace, topic, tag: args.tag };
    let failed = |status| CliError::call(&admin.address, status);
    let mut api = admin.api.max_decoding_message_size(ANSWER_MAX);
    let mut parts = api.tail_messages(ask).await.map_err(failed)?.into_inner();
    let mut printed = 0;
    while args.count.is_none_or(|count| printed < count) {
        let Some(part) = parts.message().await.map_err(failed)? else {
            return Err(CliError::TailEnded { address: admin.address.clone() });
        };
        for message in part.messages {
            if args.count.is_some_and(|count| printed >= count) {
                break;
            }
            print(&message, output, printed == 0)?;
            printed += 1;
        }
    }
    Ok(())
}

fn print(message: &v1::Message, output: &Output, first: bool) -> Result<(), CliError> {
    if output.item(&document(message))? {
        return Ok(());
    }
    if first && !output.no_headers {
        line(&row("MESSAGE_ID", "QUEUE", "OFFSET", "TAG", "BODY"))?;
    }
    let (queue, offset) = (message.queue_id.to_string(), message.offset.to_string());
    let tag = plain(message.tag.as_deref().unwrap_or("-"));
    Ok(line(&row(&plain(&message.message_id), &queue, &offset, &tag, &body(message)))?)
}

/// Columns of fixed width: a line is printed before the next one is known.
fn row(id: &str, queue: &str, offset: &str, tag: &str, body: &str) -> String {
    format!("{id:34}  {queue:5}  {offset:10}  {tag:12}  {body}")
}
