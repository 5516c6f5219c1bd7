//! `apogee group alter`.

use apogee_proto::admin::v1;

use super::super::confirm::Rehearsal;
use super::super::error::CliError;
use super::super::output::Output;
use super::super::target::Admin;
use super::super::topic::split;
use super::retry::Rests;
use super::{described, document};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the consumer group
    name: String,
    /// Deliveries before a message is a dead letter, at least 1
    #[arg(long)]
    max_attempts: Option<u32>,
    #[command(flatten)]
    rests: Rests,
    /// Percent of receives from PRIORITY topics that begin at the most urgent message, 0 to 100
    #[arg(long)]
    priority_factor: Option<u32>,
    #[command(flatten)]
    rehearsal: Rehearsal,
}

pub(super) async fn run(args: &Args, admin: &mut Admin, output: &Output) -> Result<(), CliError> {
    let retry = args.rests.policy()?;
    let priority_factor = args.priority_factor;
    if args.max_attempts.is_none() && retry.is_none() && priority_factor.is_none() {
        let message =
            "say what is to be otherwise: --max-attempts, --retry-policy, --back-off or --priority-factor".to_owned();
        return Err(CliError::Usage { message });
    }
    if args.rehearsal.dry_run {
        let (group, _) = described(admin, &args.name).await?;
        let attempts = args.max_attempts.is_some_and(|attempts| attempts != group.max_attempts);
        let factor = priority_factor.is_some_and(|factor| factor != group.priority_factor);
        if attempts || factor || retry.is_some() && retry != group.retry {
            args.rehearsal.ends_before(|| format!("consumer group {} would be altered", args.name))?;
        }
        return Ok(output.tell(&document(&group), &format!("consumer group {} is so already", args.name))?);
    }
    let (namespace, name) = split(&args.name);
    let ask = v1::AlterGroupRequest { namespace, name, max_attempts: args.max_attempts, retry, priority_factor };
    let answer = admin.api.alter_group(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    let group = answer.into_inner().group.ok_or(CliError::Incomplete { what: "group" })?;
    Ok(output.tell(&document(&group), &format!("consumer group {} altered", args.name))?)
}
