//! `apogee topic …`.

mod alter;
mod create;
mod look;

use apogee_proto::admin::v1;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::confirm::{Confirm, Rehearsal};
use super::error::{CliError, RequestId};
use super::output::{Output, Table};
use super::pages;
use super::target::{Admin, Target};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Creates a topic
    Create(create::Args),
    /// Lists all topics
    List,
    /// Shows a topic and what its queues hold
    Describe { name: String },
    /// Gives a topic more queues or another permission
    Alter(alter::Args),
    /// Shows how many messages a topic holds
    Stats { name: String },
    /// Shows the replica group of each queue, and the store-node that leads it
    Route { name: String },
    /// Shows each queue: where it is and what it holds
    Queues { name: String },
    /// Deletes a topic and its messages for good
    Delete {
        name: String,
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        rehearsal: Rehearsal,
    },
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    /// Messages without order
    Normal,
    /// Messages of a message group in order
    Fifo,
    /// Messages that wait for their time
    Delay,
    /// Messages that wait for a commit
    Transaction,
    /// Urgent messages first
    Priority,
    /// Many small topics in one
    Lite,
    /// Normal, fifo, delay and transaction together
    Mixed,
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    if let Verb::Delete { name, confirm, rehearsal: Rehearsal { dry_run: false } } = &verb {
        confirm.deletion_of(&format!("topic {name} and its messages"))?;
    }
    let mut admin = target.admin(id).await?;
    match verb {
        Verb::Create(args) => create::run(&args, &mut admin, output).await,
        Verb::List => list(&mut admin, output).await,
        Verb::Describe { name } => look::describe(&mut admin, output, &name).await,
        Verb::Alter(args) => alter::run(&args, &mut admin, output).await,
        Verb::Stats { name } => look::stats(&mut admin, output, &name).await,
        Verb::Route { name } => look::route(&mut admin, output, &name).await,
        Verb::Queues { name } => look::queues(&mut admin, output, &name).await,
        Verb::Delete { name, rehearsal, .. } => delete(&mut admin, output, &name, rehearsal).await,
    }
}

async fn list(admin: &mut Admin, output: &Output) -> Result<(), CliError> {
    let topics = pages::all(async |page_token| {
        let ask = v1::ListTopicsRequest { page_size: 0, page_token };
        let answer = admin.api.list_topics(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
        let page = answer.into_inner();
        Ok((page.topics, page.next_page_token))
    });
    let topics = topics.await?;
    let mut table = Table::with_wide(&["NAME", "TYPE", "QUEUES", "CREATED"], &["PERMISSION", "ID"]);
    for topic in &topics {
        table.row(cells(topic));
    }
    Ok(output.show(&json!({ "topics": topics.iter().map(document).collect::<Vec<_>>() }), &table)?)
}

async fn delete(admin: &mut Admin, output: &Output, full_name: &str, rehearsal: Rehearsal) -> Result<(), CliError> {
    if rehearsal.dry_run {
        let (_, queues) = look::described(admin, full_name).await?;
        let messages: u64 = queues.iter().map(look::stored).sum();
        return rehearsal.ends_before(|| format!("topic {full_name} and its {messages} messages would be deleted"));
    }
    let (namespace, name) = split(full_name);
    let ask = v1::DeleteTopicRequest { namespace, name };
    admin.api.delete_topic(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    Ok(output.tell(&json!({ "deleted": full_name }), &format!("topic {full_name} deleted"))?)
}

/// `namespace/name`, or a name in the default namespace.
pub(super) fn split(full_name: &str) -> (String, String) {
    let (namespace, name) = full_name.split_once('/').unwrap_or(("", full_name));
    (namespace.to_owned(), name.to_owned())
}

pub(super) fn join(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn cells(topic: &v1::Topic) -> [String; 6] {
    [
        join(&topic.namespace, &topic.name),
        type_name(topic).to_owned(),
        topic.write_queues.to_string(),
        topic.created.map(|created| created.to_string()).unwrap_or_default(),
        permission_name(topic).to_owned(),
        topic.id.to_string(),
    ]
}

fn document(topic: &v1::Topic) -> Value {
    json!({
        "namespace": topic.namespace,
        "name": topic.name,
        "type": type_name(topic),
        "queues": topic.write_queues,
        "permission": permission_name(topic),
        "lite_expiration_ms": topic.lite_expiration_ms,
        "key_index": !topic.no_key_index,
        "growing_to": topic.growing_to,
        "id": topic.id,
        "created": topic.created.map(|created| created.to_string()),
    })
}

fn permission_name(topic: &v1::Topic) -> &'static str {
    match topic.permission() {
        v1::Permission::Unspecified => "unknown",
        v1::Permission::None => "none",
        v1::Permission::Read => "read",
        v1::Permission::Write => "write",
        v1::Permission::ReadWrite => "read-write",
    }
}

fn type_name(topic: &v1::Topic) -> &'static str {
    match topic.r#type() {
        v1::TopicType::Unspecified => "unknown",
        v1::TopicType::Normal => "normal",
        v1::TopicType::Fifo => "fifo",
        v1::TopicType::Delay => "delay",
        v1::TopicType::Transaction => "transaction",
        v1::TopicType::Priority => "priority",
        v1::TopicType::Lite => "lite",
        v1::TopicType::Mixed => "mixed",
    }
}

fn wire(topic_type: Type) -> v1::TopicType {
    match topic_type {
        Type::Normal => v1::TopicType::Normal,
        Type::Fifo => v1::TopicType::Fifo,
        Type::Delay => v1::TopicType::Delay,
        Type::Transaction => v1::TopicType::Transaction,
        Type::Priority => v1::TopicType::Priority,
        Type::Lite => v1::TopicType::Lite,
        Type::Mixed => v1::TopicType::Mixed,
    }
}
