//! `apogee topic alter`.

use apogee_proto::admin::v1;
use clap::ValueEnum;

use super::super::confirm::Rehearsal;
use super::super::error::CliError;
use super::super::output::Output;
use super::super::target::Admin;
use super::{document, look, permission_name, split};

#[derive(Debug, clap::Args)]
#[group(id = "changes", required = true, multiple = true, args = ["queues", "permission", "key_index"])]
pub(crate) struct Args {
    /// Name of the topic
    name: String,
    /// Number of queues; never fewer than there are. A fifo or mixed topic gets them when its ordered groups have consumed
    /// what it has, and takes no messages of message groups until then
    #[arg(long)]
    queues: Option<u32>,
    /// What clients may do with it from now on
    #[arg(long, value_enum)]
    permission: Option<Permission>,
    /// Whether messages that come from now on are found by their keys
    #[arg(long, value_enum)]
    key_index: Option<Switch>,
    #[command(flatten)]
    rehearsal: Rehearsal,
}

/// What is to be otherwise.
#[derive(Copy, Clone, Debug)]
pub(super) struct Changes {
    pub(super) queues: Option<u32>,
    pub(super) permission: Option<Permission>,
    pub(super) key_index: Option<Switch>,
}

impl Changes {
    /// Whether there is anything to do.
    pub(super) fn change(&self, topic: &v1::Topic) -> bool {
        self.queues.is_some_and(|queues| queues != topic.write_queues)
            || self.permission.is_some_and(|permission| permission.wire() != topic.permission())
            || self.key_index.is_some_and(|switch| switch.is_on() == topic.no_key_index)
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Switch {
    pub(super) fn is_on(self) -> bool {
        self == Self::On
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Permission {
    None,
    Read,
    Write,
    ReadWrite,
}

impl Permission {
    pub(super) fn wire(self) -> v1::Permission {
        match self {
            Permission::None => v1::Permission::None,
            Permission::Read => v1::Permission::Read,
            Permission::Write => v1::Permission::Write,
            Permission::ReadWrite => v1::Permission::ReadWrite,
        }
    }
}

pub(super) async fn run(args: &Args, admin: &mut Admin, output: &Output) -> Result<(), CliError> {
    if args.queues == Some(0) {
        return Err(CliError::Usage { message: "a topic has at least one queue".to_owned() });
    }
    if args.rehearsal.dry_run {
        let (topic, _) = look::routed(admin, &args.name).await?;
        if args.changes().change(&topic) {
            args.rehearsal.ends_before(|| format!("topic {} would be altered", args.name))?;
        }
        return Ok(output.tell(&document(&topic), &format!("topic {} is so already", args.name))?);
    }
    let topic = alter(admin, &args.name, args.changes()).await?;
    Ok(output.tell(&document(&topic), &is_now(&args.name, &topic))?)
}

/// What a topic became.
pub(super) fn is_now(name: &str, topic: &v1::Topic) -> String {
    let (queues, permission) = (topic.write_queues, permission_name(topic));
    let index = if topic.no_key_index { " and no index by key" } else { "" };
    let growing = topic.growing_to.map(|queues| {
        format!("; it gets {queues} queues when its ordered groups have consumed what it has, and takes no messages of message groups until then")
    });
    format!("topic {name} has {queues} queues and permission {permission}{index}{}", growing.unwrap_or_default())
}

impl Args {
    fn changes(&self) -> Changes {
        let Self { queues, permission, key_index, .. } = *self;
        Changes { queues, permission, key_index }
    }
}

/// Returns the topic as it is afterwards.
pub(super) async fn alter(admin: &mut Admin, full_name: &str, changes: Changes) -> Result<v1::Topic, CliError> {
    let (namespace, name) = split(full_name);
    let Changes { queues, permission, key_index } = changes;
    let ask = v1::AlterTopicRequest {
        namespace,
        name,
        queues: queues.unwrap_or_default(),
        permission: permission.map_or(v1::Permission::Unspecified, Permission::wire).into(),
        key_index: key_index.map(Switch::is_on),
    };
    let answer = admin.api.alter_topic(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    answer.into_inner().topic.ok_or(CliError::Incomplete { what: "topic" })
}
