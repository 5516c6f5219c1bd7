//! Marks store-nodes as about to leave, waits until they keep nothing, and forgets them.

use std::time::Duration;

use apogee_proto::admin::v1;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::leaving::{Leaving, Verdict};
use super::{drains, hosted, known};
use crate::cli::cluster::{LOOK_EVERY, look};
use crate::cli::confirm::{Confirm, Rehearsal};
use crate::cli::duration;
use crate::cli::error::{CliError, RequestId};
use crate::cli::output::{Format, Output, line};
use crate::cli::target::{Admin, Target};

/// Which store-node leaves, and who waits for that.
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    name: String,
    /// Waits until it keeps nothing and says what moves; gives up after DURATION, or when no other could take the rest
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, value_parser = duration)]
    wait: Option<Option<Duration>>,
    #[command(flatten)]
    rehearsal: Rehearsal,
}

/// Which store-node stays.
#[derive(Debug, clap::Args)]
pub(crate) struct Undrain {
    name: String,
    #[command(flatten)]
    rehearsal: Rehearsal,
}

/// Which store-node is no more.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    name: String,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    rehearsal: Rehearsal,
}

/// Marks a store-node.
pub(super) async fn drain(
    args: Drain,
    cluster: &v1::DescribeClusterResponse,
    mut admin: Admin,
    (target, output, id): (&Target, &Output, &RequestId),
) -> Result<(), CliError> {
    let Drain { name, wait, rehearsal } = args;
    if !drains(known(cluster, &name)?.standing()) {
        rehearsal.ends_before(|| format!("store-node {name} would be marked as about to leave"))?;
    }
    if !rehearsal.dry_run {
        let drained = admin.api.drain_node(v1::DrainNodeRequest { name: name.clone() }).await;
        drained.map_err(|status| CliError::call(&admin.address, status))?;
    }
    let replicas = hosted(cluster, &name).len();
    match wait.filter(|_| !rehearsal.dry_run) {
        Some(limit) => wait_for(&name, limit, admin, (target, output, id)).await,
        None if replicas == 0 => tell_drained(&name, output),
        None => {
            let after = json!({ "name": name, "standing": "draining" });
            let left = if replicas == 1 { "1 replica".to_owned() } else { format!("{replicas} replicas") };
            let told = format!("store-node {name} is draining; {left} to go, see `apogee node describe {name}`");
            Ok(output.tell(&after, &told)?)
        }
    }
}

/// Takes the mark away.
pub(super) async fn undrain(
    Undrain { name, rehearsal }: Undrain,
    cluster: &v1::DescribeClusterResponse,
    mut admin: Admin,
    output: &Output,
) -> Result<(), CliError> {
    if drains(known(cluster, &name)?.standing()) {
        rehearsal.ends_before(|| format!("store-node {name} would stay"))?;
    }
    if !rehearsal.dry_run {
        let undrained = admin.api.undrain_node(v1::UndrainNodeRequest { name: name.clone() }).await;
        undrained.map_err(|status| CliError::call(&admin.address, status))?;
    }
    Ok(output.tell(&json!({ "name": name, "draining": false }), &format!("store-node {name} stays"))?)
}

impl Remove {
    /// Asks a person first, unless this is a rehearsal.
    pub(super) fn is_meant(&self) -> Result<(), CliError> {
        if self.rehearsal.dry_run { Ok(()) } else { self.confirm.deletion_of(&format!("store-node {}", self.name)) }
    }
}

/// Forgets a store-node.
pub(super) async fn remove(
    Remove { name, rehearsal, .. }: Remove,
    cluster: &v1::DescribeClusterResponse,
    mut admin: Admin,
    output: &Output,
) -> Result<(), CliError> {
    let node = known(cluster, &name)?;
    if rehearsal.dry_run && node.standing() != v1::NodeStanding::Drained {
        let why = format!("store-node {name} is {}, and not drained", super::standing(node));
        return Err(CliError::NotRemoved { why });
    }
    rehearsal.ends_before(|| format!("store-node {name} would be forgotten"))?;
    let removed = admin.api.remove_node(v1::RemoveNodeRequest { name: name.clone() }).await;
    removed.map_err(|status| match status.code() {
        Code::FailedPrecondition => CliError::NotRemoved { why: status.message().to_owned() },
        _ => CliError::call(&admin.address, status),
    })?;
    Ok(output.tell(&json!({ "deleted": name }), &format!("store-node {name} is forgotten"))?)
}

/// Says what changes until the store-node keeps nothing. A server that does not answer is waited for, too.
async fn wait_for(
    name: &str,
    limit: Option<Duration>,
    admin: Admin,
    (target, output, id): (&Target, &Output, &RequestId),
) -> Result<(), CliError> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let (mut leaving, mut admin) = (Leaving::new(name), Some(admin));
    loop {
        match look(&mut admin, target, id).await {
            Ok(cluster) => match tell_changes(&mut leaving, &cluster, output)? {
                Verdict::Drained => return tell_drained(name, output),
                Verdict::Stays => return Err(CliError::DrainsNoMore { name: name.to_owned() }),
                Verdict::Hopeless => return Err(leaving.given_up()),
                Verdict::Waits => {}
            },
            Err(error) if error.passes() => {}
            Err(error) => return Err(error),
        }
        if deadline.is_some_and(|deadline| Instant::now() + LOOK_EVERY > deadline) {
            return Err(leaving.given_up());
        }
        sleep(LOOK_EVERY).await;
    }
}

fn tell_changes(
    leaving: &mut Leaving,
    cluster: &v1::DescribeClusterResponse,
    output: &Output,
) -> Result<Verdict, CliError> {
    let (events, verdict) = leaving.look(cluster, Instant::now());
    for event in &events {
        // Names are said once, at the end.
        if output.format != Format::Name && !output.item(&leaving.document(event))? && !output.quiet {
            line(&leaving.sentence(event))?;
        }
    }
    Ok(verdict)
}

fn tell_drained(name: &str, output: &Output) -> Result<(), CliError> {
    let after = json!({ "name": name, "standing": "drained" });
    Ok(output.tell(&after, &format!("store-node {name} is drained: it keeps no replica"))?)
}
