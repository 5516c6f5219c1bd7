//! `apogee message verify`.

use std::time::Duration;

use apogee_proto::admin::v1;
use apogee_proto::admin::v1::verify_message_request::By;
use serde_json::json;

use super::super::client::wait_ms;
use super::super::error::CliError;
use super::super::output::{Output, Table, plain};
use super::super::target::Admin;
use super::super::topic::split;
use super::which::Which;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the topic
    topic: String,
    #[command(flatten)]
    which: Which,
    /// The consumer that is to work on it, see `apogee client list`
    #[arg(long, value_name = "CLIENT_ID")]
    client: String,
    /// The group that this consumer is of
    #[arg(long)]
    group: String,
}

pub(super) async fn run(
    args: Args,
    timeout: Option<Duration>,
    admin: &mut Admin,
    output: &Output,
) -> Result<(), CliError> {
    let ((namespace, topic), (of_group, group)) = (split(&args.topic), split(&args.group));
    if namespace != of_group {
        let message = format!("group {} and topic {} are of different namespaces", args.group, args.topic);
        return Err(CliError::Usage { message });
    }
    let by = args.which.by(By::MessageId, By::Place);
    let (client, by, wait_ms) = (args.client, Some(by), wait_ms(timeout));
    let ask = v1::VerifyMessageRequest { client, namespace, group, topic, by, wait_ms, local_only: false };
    let client = plain(&ask.client);
    let answer = admin.api.verify_message(ask).await;
    let said = answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner();
    let outcome = outcome(&said);
    let headers = ["MESSAGE_ID", "QUEUE", "OFFSET", "OUTCOME", "CODE", "REMARK", "CLIENT", "PROXY"];
    let mut table = Table::new(&headers);
    let place = [plain(&said.message_id), said.queue_id.to_string(), said.offset.to_string()];
    let words = [outcome.to_owned(), said.code.clone(), plain(&said.remark), client.clone(), plain(&said.proxy)];
    table.row(place.into_iter().chain(words));
    let document = json!({
        "message_id": said.message_id,
        "queue_id": said.queue_id,
        "queue_offset": said.offset,
        "outcome": outcome,
        "code": said.code,
        "remark": said.remark,
        "client": client,
        "proxy": said.proxy,
    });
    output.show(&document, &table)?;
    match said.outcome() {
        v1::VerifyOutcome::Consumed => Ok(()),
        v1::VerifyOutcome::Unspecified
        | v1::VerifyOutcome::Failed
        | v1::VerifyOutcome::Unsupported
        | v1::VerifyOutcome::Corrupted => Err(CliError::NotConsumed { client, code: said.code }),
    }
}

fn outcome(said: &v1::VerifyMessageResponse) -> &'static str {
    match said.outcome() {
        v1::VerifyOutcome::Unspecified => "unknown",
        v1::VerifyOutcome::Consumed => "consumed",
        v1::VerifyOutcome::Failed => "failed",
        v1::VerifyOutcome::Unsupported => "unsupported",
        v1::VerifyOutcome::Corrupted => "corrupted",
    }
}
