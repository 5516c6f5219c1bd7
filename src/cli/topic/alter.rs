//! `apogee topic alter`.

use apogee_proto::admin::v1;
use clap::ValueEnum;

use super::super::confirm::Rehearsal;
use super::super::error::CliError;
use super::super::output::Output;
use super::super::target::Admin;
use super::{document, look, permission_name, split};

#[derive(Debug, clap::Args)]
#[group(id = "changes", required = true, multiple = true, args = ["queues", "permission"])]
pub(crate) struct Args {
    /// Name of the topic
    name: String,
    /// Number of queues from now on; never fewer than there are, and the same for ever in fifo and mixed topics
    #[arg(long)]
    queues: Option<u32>,
    /// What clients may do with it from now on
    #[arg(long, value_enum)]
    permission: Option<Permission>,
    #[command(flatten)]
    rehearsal: Rehearsal,
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
        let queues = args.queues.filter(|queues| *queues != topic.write_queues);
        let permission = args.permission.filter(|permission| permission.wire() != topic.permission());
        if queues.is_some() || permission.is_some() {
            args.rehearsal.ends_before(|| format!("topic {} would be altered", args.name))?;
        }
        return Ok(output.tell(&document(&topic), &format!("topic {} is so already", args.name))?);
    }
    let topic = alter(admin, &args.name, args.queues, args.permission).await?;
    let (queues, permission) = (topic.write_queues, permission_name(&topic));
    Ok(output
        .tell(&document(&topic), &format!("topic {} has {queues} queues and permission {permission}", args.name))?)
}

/// Returns the topic as it is afterwards.
pub(super) async fn alter(
    admin: &mut Admin,
    full_name: &str,
    queues: Option<u32>,
    permission: Option<Permission>,
) -> Result<v1::Topic, CliError> {
    let (namespace, name) = split(full_name);
    let permission = permission.map_or(v1::Permission::Unspecified, Permission::wire).into();
    let ask = v1::AlterTopicRequest { namespace, name, queues: queues.unwrap_or_default(), permission };
    let answer = admin.api.alter_topic(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    answer.into_inner().topic.ok_or(CliError::Incomplete { what: "topic" })
}
