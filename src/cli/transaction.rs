//! `apogee transaction …`: half messages whose producers do not say what became of them.

use apogee_proto::admin::v1;
use apogee_proto::admin::v1::TransactionResolution;
use clap::Subcommand;
use serde_json::{Value, json};

use super::error::{CliError, RequestId};
use super::output::{Format, Output, Table, line, plain};
use super::pages;
use super::target::{Admin, Target};
use super::topic::split;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the transactions of a topic that nobody has ended; of those that are parked no producer is asked any more
    List {
        /// Name of the topic
        topic: String,
    },
    /// Commits a transaction in the place of its producer: consumers see its message
    Commit(One),
    /// Rolls a transaction back in the place of its producer: nobody will ever see its message
    Rollback(One),
}

/// Which one.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// Name of the topic
    topic: String,
    /// Id of the transaction, as the list shows it
    id: String,
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    let admin = target.admin(id).await?;
    match verb {
        Verb::List { topic } => list(admin, output, &topic).await,
        Verb::Commit(one) => end(admin, output, one, TransactionResolution::Commit).await,
        Verb::Rollback(one) => end(admin, output, one, TransactionResolution::Rollback).await,
    }
}

async fn list(mut admin: Admin, output: &Output, topic: &str) -> Result<(), CliError> {
    let (namespace, name) = split(topic);
    let open = pages::all(async |page_token| {
        let (namespace, topic) = (namespace.clone(), name.clone());
        let ask = v1::ListTransactionsRequest { namespace, topic, page_size: 0, page_token };
        let answer = admin.api.list_transactions(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
        let page = answer.into_inner();
        Ok((page.transactions, page.next_page_token))
    });
    let open = open.await?;
    if output.format == Format::Name {
        return Ok(open.iter().try_for_each(|one| line(&plain(&one.id)))?);
    }
    let mut table = Table::new(&["MESSAGE_ID", "QUEUE", "STORED", "CHECKS", "PARKED", "TRANSACTION_ID"]);
    for one in &open {
        table.row([
            plain(&one.message_id),
            one.queue_id.to_string(),
            stored(one).unwrap_or_default(),
            one.checks.to_string(),
            if one.parked { "yes" } else { "no" }.to_owned(),
            plain(&one.id),
        ]);
    }
    Ok(output.show(&json!({ "transactions": open.iter().map(document).collect::<Vec<_>>() }), &table)?)
}

fn document(one: &v1::Transaction) -> Value {
    json!({
        "transaction_id": one.id,
        "message_id": one.message_id,
        "queue_id": one.queue_id,
        "checks": one.checks,
        "parked": one.parked,
        "stored": stored(one),
        "tag": one.tag,
        "keys": one.keys,
    })
}

fn stored(one: &v1::Transaction) -> Option<String> {
    one.stored.map(|at| at.to_string())
}

async fn end(mut admin: Admin, output: &Output, one: One, resolution: TransactionResolution) -> Result<(), CliError> {
    let (word, ended) = match resolution {
        TransactionResolution::Commit => ("commit", "committed"),
        TransactionResolution::Rollback | TransactionResolution::Unspecified => ("rollback", "rolled back"),
    };
    let (namespace, topic) = split(&one.topic);
    let (transaction_id, resolution) = (one.id, resolution.into());
    let ask = v1::EndTransactionRequest { namespace, topic, transaction_id, resolution };
    let answer = admin.api.end_transaction(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    let message_id = answer.into_inner().message_id;
    let document = json!({ "topic": one.topic, "message_id": message_id, "resolution": word });
    Ok(output.tell(&document, &format!("{ended} the transaction of {} in {}", plain(&message_id), one.topic))?)
}
