//! `apogee topic create`.

use std::time::Duration;

use apogee_proto::admin::v1;

use super::super::confirm::Rehearsal;
use super::super::duration;
use super::super::error::CliError;
use super::super::output::Output;
use super::super::target::Admin;
use super::alter::{Changes, Permission, Switch, alter, is_now};
use super::{Type, document, look, split, type_name, wire};

/// Queues when nobody says otherwise.
const QUEUES: u32 = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Letters, digits and % | - _, at most 127; `namespace/name` for a namespace
    name: String,
    /// What its messages may ask for; fixed for good [default: normal]
    #[arg(long = "type", value_enum)]
    topic_type: Option<Type>,
    /// Number of queues, 1 to 1024 [default: 8]
    #[arg(long)]
    queues: Option<u32>,
    /// What clients may do with it [default: read-write]
    #[arg(long, value_enum)]
    permission: Option<Permission>,
    /// How long lite topics outlive their last message, 1m to 720h; of a topic of type lite [default: for ever]
    #[arg(long, value_parser = duration)]
    lite_expiration: Option<Duration>,
    /// Whether its messages are found by their keys [default: on]
    #[arg(long, value_enum)]
    key_index: Option<Switch>,
    /// Alters a topic that exists already, as far as the flags say
    #[arg(long)]
    or_alter: bool,
    #[command(flatten)]
    rehearsal: Rehearsal,
}

pub(super) async fn run(args: &Args, admin: &mut Admin, output: &Output) -> Result<(), CliError> {
    if args.rehearsal.dry_run {
        return rehearse(args, admin, output).await;
    }
    let (namespace, name) = split(&args.name);
    let (queues, r#type) = (args.queues.unwrap_or(QUEUES), wire(args.topic_type.unwrap_or(Type::Normal)).into());
    let lite_expiration_ms = args.lite_expiration.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let ask = v1::CreateTopicRequest {
        namespace,
        name,
        r#type,
        read_queues: queues,
        write_queues: queues,
        lite_expiration_ms,
        no_key_index: args.key_index == Some(Switch::Off),
    };
    let answer = admin.api.create_topic(ask).await.map_err(|status| CliError::call(&admin.address, status));
    let made = match answer {
        Ok(answer) => answer.into_inner().topic.ok_or(CliError::Incomplete { what: "topic" })?,
        Err(error) if error.exists_already() && args.or_alter => return adapt(args, admin, output).await,
        Err(error) => return Err(error),
    };
    let topic = match args.permission {
        None | Some(Permission::ReadWrite) => made,
        permission => alter(admin, &args.name, Changes { queues: None, permission, key_index: None }).await?,
    };
    Ok(output.tell(&document(&topic), &format!("topic {} created", args.name))?)
}

/// Alters the topic that is in the way; its type stays, so another one cannot be meant.
async fn adapt(args: &Args, admin: &mut Admin, output: &Output) -> Result<(), CliError> {
    let topic = look::routed(admin, &args.name).await?.0;
    if args.topic_type.is_some_and(|wanted| wire(wanted) != topic.r#type()) {
        let what = format!("topic {} of another type, {},", args.name, type_name(&topic));
        return Err(CliError::Exists { what });
    }
    let topic = alter(admin, &args.name, args.changes()).await?;
    Ok(output.tell(&document(&topic), &is_now(&args.name, &topic))?)
}

impl Args {
    fn changes(&self) -> Changes {
        let Self { queues, permission, key_index, .. } = *self;
        Changes { queues, permission, key_index }
    }
}

async fn rehearse(args: &Args, admin: &mut Admin, output: &Output) -> Result<(), CliError> {
    let (name, queues) = (&args.name, args.queues.unwrap_or(QUEUES));
    match look::routed(admin, name).await {
        Ok((topic, _)) if args.or_alter => {
            if args.changes().change(&topic) {
                args.rehearsal.ends_before(|| format!("topic {name} would be altered"))?;
            }
            Ok(output.tell(&document(&topic), &format!("topic {name} is so already"))?)
        }
        Ok(_) => Err(CliError::Exists { what: format!("topic {name}") }),
        Err(error) if error.is_not_found() => {
            args.rehearsal.ends_before(|| format!("topic {name} would be created with {queues} queues"))
        }
        Err(error) => Err(error),
    }
}
