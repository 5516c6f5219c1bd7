//! `apogee group …`.

mod alter;
mod lag;
mod lite;
pub(super) mod reset;
mod retry;

use apogee_proto::admin::v1;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::confirm::{Confirm, Rehearsal};
use super::error::{CliError, RequestId};
use super::output::{Output, Table};
use super::pages;
use super::subscription;
use super::target::{Admin, Target};
use super::topic::{join, split};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Creates a consumer group
    Create {
        /// Letters, digits and % | - _, at most 120; `namespace/name` for a namespace
        name: String,
        /// How messages reach its consumers; fixed for good
        #[arg(long, value_enum, default_value_t = Order::Concurrent)]
        order: Order,
        /// Deliveries before a message is a dead letter, at least 1
        #[arg(long, default_value_t = 17)]
        max_attempts: u32,
        #[command(flatten)]
        rests: retry::Rests,
        /// Percent of receives from PRIORITY topics that begin at the most urgent message, 0 to 100
        #[arg(long, default_value_t = 100)]
        priority_factor: u32,
        #[command(flatten)]
        lite: lite::Flags,
        #[command(flatten)]
        rehearsal: Rehearsal,
    },
    /// Gives a consumer group other attempts, rests or priorities
    Alter(alter::Args),
    /// Lists all consumer groups
    List,
    /// Shows a consumer group and its progress
    Describe { name: String },
    /// Shows how far a consumer group is behind in each queue
    Lag(lag::Args),
    /// Lets a consumer group go on elsewhere in a topic: shows a plan, and follows it with --yes
    ResetOffset(reset::Args),
    /// Deletes a consumer group, its progress and its dead letters for good
    Delete {
        name: String,
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        rehearsal: Rehearsal,
    },
}

#[derive(Copy, Clone, Debug, ValueEnum)]
pub(crate) enum Order {
    /// Many consumers at once, no order
    Concurrent,
    /// One message group is worked on by one consumer at a time, in order
    Fifo,
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    if let Verb::Delete { name, confirm, rehearsal: Rehearsal { dry_run: false } } = &verb {
        confirm.deletion_of(&format!("consumer group {name}, its progress and its dead letters"))?;
    }
    let mut admin = target.admin(id).await?;
    match verb {
        Verb::Create { name, order, max_attempts, rests, priority_factor, lite, rehearsal } => {
            let (retry, lite) = (rests.policy()?, lite.wire());
            create(&mut admin, output, New { name, order, max_attempts, retry, priority_factor, lite }, rehearsal).await
        }
        Verb::Alter(args) => alter::run(&args, &mut admin, output).await,
        Verb::List => list(&mut admin, output).await,
        Verb::Describe { name } => describe(&mut admin, output, &name).await,
        Verb::Lag(args) => lag::run(&args, &mut admin, output).await,
        Verb::ResetOffset(args) => reset::run(args, admin, output).await,
        Verb::Delete { name, rehearsal, .. } => delete(&mut admin, output, &name, rehearsal).await,
    }
}

/// A consumer group to create.
struct New {
    name: String,
    order: Order,
    max_attempts: u32,
    retry: Option<v1::RetryPolicy>,
    priority_factor: u32,
    lite: Option<v1::LiteGroup>,
}

async fn create(admin: &mut Admin, output: &Output, new: New, rehearsal: Rehearsal) -> Result<(), CliError> {
    let New { name: full_name, order, max_attempts, retry, priority_factor, lite } = new;
    if rehearsal.dry_run {
        return match described(admin, &full_name).await {
            Ok(_) => Err(CliError::Exists { what: format!("consumer group {full_name}") }),
            Err(error) if error.is_not_found() => {
                rehearsal.ends_before(|| format!("consumer group {full_name} would be created"))
            }
            Err(error) => Err(error),
        };
    }
    let (namespace, name) = split(&full_name);
    let order = match order {
        Order::Concurrent => v1::DeliveryOrder::Concurrent,
        Order::Fifo => v1::DeliveryOrder::Orderly,
    };
    let (order, priority_factor) = (order.into(), Some(priority_factor));
    let ask = v1::CreateGroupRequest { namespace, name, order, max_attempts, retry, priority_factor, lite };
    let answer = admin.api.create_group(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    let group = answer.into_inner().group.ok_or(CliError::Incomplete { what: "group" })?;
    Ok(output.tell(&document(&group), &format!("consumer group {full_name} created"))?)
}

async fn list(admin: &mut Admin, output: &Output) -> Result<(), CliError> {
    let groups = pages::all(async |page_token| {
        let ask = v1::ListGroupsRequest { page_size: 0, page_token };
        let answer = admin.api.list_groups(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
        let page = answer.into_inner();
        Ok((page.groups, page.next_page_token))
    });
    let groups = groups.await?;
    let mut table = Table::with_wide(&["NAME", "ORDER", "MAX_ATTEMPTS", "CREATED"], &["ID"]);
    for group in &groups {
        table.row(cells(group));
    }
    Ok(output.show(&json!({ "groups": groups.iter().map(document).collect::<Vec<_>>() }), &table)?)
}

/// The consumer group, and its progress in order of (topic, queue).
async fn described(admin: &mut Admin, full_name: &str) -> Result<(v1::Group, Vec<v1::GroupQueueProgress>), CliError> {
    let (namespace, name) = split(full_name);
    let ask = v1::DescribeGroupRequest { namespace, name, settings_only: false };
    let answer = admin.api.describe_group(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    let v1::DescribeGroupResponse { group, progress } = answer.into_inner();
    Ok((group.ok_or(CliError::Incomplete { what: "group" })?, progress))
}

async fn describe(admin: &mut Admin, output: &Output, full_name: &str) -> Result<(), CliError> {
    let (group, progress) = described(admin, full_name).await?;
    let headers =
        ["NAME", "ORDER", "MAX_ATTEMPTS", "TOPIC", "QUEUE", "COMMITTED", "MAX_OFFSET", "IN_FLIGHT", "PULL_OFFSET"];
    let mut table = Table::new(&headers);
    let mut rows = Vec::new();
    let [name, order, attempts, ..] = cells(&group);
    for queue in &progress {
        let numbers = [queue.queue_id.into(), queue.committed, queue.max_offset, queue.in_flight];
        let known = [name.clone(), order.clone(), attempts.clone(), queue.topic.clone()];
        let numbers = numbers.map(|number| number.to_string());
        table.row(known.into_iter().chain(numbers).chain([lag::pull_offset(queue)]));
        rows.push(json!({
            "topic": queue.topic,
            "queue_id": queue.queue_id,
            "committed": queue.committed,
            "max_offset": queue.max_offset,
            "in_flight": queue.in_flight,
            "pull_offset": queue.pull_offset,
        }));
    }
    if progress.is_empty() {
        table.row([name, order, attempts, "-".to_owned()]);
    }
    let mut whole = document(&group);
    whole["progress"] = rows.into();
    let ask = v1::ListSubscriptionsRequest {
        namespace: group.namespace.clone(),
        group: group.name.clone(),
        ..v1::ListSubscriptionsRequest::default()
    };
    let groups = subscription::find(admin, ask).await?.groups;
    let sets = groups.first().map(|group| &*group.sets).unwrap_or_default();
    whole["subscriptions"] = subscription::documents(sets);
    whole["inconsistent"] = (sets.len() > 1).into();
    match sets {
        [] => output.show(&whole, &table)?,
        sets => output.show_all(&whole, &[("", &table), ("SUBSCRIPTIONS", &subscription::table(sets))])?,
    }
    Ok(subscription::warn(&groups)?)
}

async fn delete(admin: &mut Admin, output: &Output, full_name: &str, rehearsal: Rehearsal) -> Result<(), CliError> {
    if rehearsal.dry_run {
        described(admin, full_name).await?;
        return rehearsal.ends_before(|| format!("consumer group {full_name} would be deleted"));
    }
    let (namespace, name) = split(full_name);
    let ask = v1::DeleteGroupRequest { namespace, name };
    admin.api.delete_group(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    Ok(output.tell(&json!({ "deleted": full_name }), &format!("consumer group {full_name} deleted"))?)
}

fn cells(group: &v1::Group) -> [String; 5] {
    [
        join(&group.namespace, &group.name),
        order_name(group).to_owned(),
        group.max_attempts.to_string(),
        group.created.map(|created| created.to_string()).unwrap_or_default(),
        group.id.to_string(),
    ]
}

fn document(group: &v1::Group) -> Value {
    json!({
        "namespace": group.namespace,
        "name": group.name,
        "order": order_name(group),
        "max_attempts": group.max_attempts,
        "retry": retry::document(group.retry.as_ref()),
        "priority_factor": group.priority_factor,
        "lite": group.lite.as_ref().map(lite::document),
        "id": group.id,
        "created": group.created.map(|created| created.to_string()),
    })
}

fn order_name(group: &v1::Group) -> &'static str {
    match group.order() {
        v1::DeliveryOrder::Unspecified => "unknown",
        v1::DeliveryOrder::Concurrent => "concurrent",
        v1::DeliveryOrder::Orderly => "fifo",
    }
}
