//! Looking at one topic.

use apogee_proto::admin::v1;
use serde_json::json;

use super::super::error::CliError;
use super::super::output::{Output, Table};
use super::super::target::Admin;
use super::{cells, document, join, split};

/// The topic, and its queues in order.
pub(super) async fn described(
    admin: &mut Admin,
    full_name: &str,
) -> Result<(v1::Topic, Vec<v1::TopicQueueStats>), CliError> {
    let (namespace, name) = split(full_name);
    let ask = v1::DescribeTopicRequest { namespace, name };
    let answer = admin.api.describe_topic(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    let v1::DescribeTopicResponse { topic, queues } = answer.into_inner();
    Ok((topic.ok_or(CliError::Incomplete { what: "topic" })?, queues))
}

/// The topic, and where its queues are. Asks no store-node.
pub(super) async fn routed(admin: &mut Admin, full_name: &str) -> Result<(v1::Topic, Vec<v1::QueueRoute>), CliError> {
    let (namespace, name) = split(full_name);
    let ask = v1::DescribeTopicRouteRequest { namespace, name };
    let answer = admin.api.describe_topic_route(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    let v1::DescribeTopicRouteResponse { topic, queues } = answer.into_inner();
    Ok((topic.ok_or(CliError::Incomplete { what: "topic" })?, queues))
}

/// Messages that a queue holds.
pub(super) fn stored(queue: &v1::TopicQueueStats) -> u64 {
    queue.max_offset.saturating_sub(queue.min_offset)
}

pub(super) async fn describe(admin: &mut Admin, output: &Output, full_name: &str) -> Result<(), CliError> {
    let (topic, queues) = described(admin, full_name).await?;
    let mut table = Table::with_wide(
        &["NAME", "TYPE", "QUEUE", "MIN_OFFSET", "MAX_OFFSET", "STORED"],
        &["CREATED", "PERMISSION", "ID"],
    );
    let mut rows = Vec::new();
    let [name, topic_type, _, rest @ ..] = cells(&topic);
    for queue in &queues {
        let (min, max) = (queue.min_offset, queue.max_offset);
        let numbers = [u64::from(queue.queue_id), min, max, stored(queue)].map(|number| number.to_string());
        let about = [name.clone(), topic_type.clone()];
        table.row(about.into_iter().chain(numbers).chain(rest.iter().cloned()));
        rows.push(json!({ "queue_id": queue.queue_id, "min_offset": min, "max_offset": max }));
    }
    let mut whole = document(&topic);
    whole["queue_stats"] = rows.into();
    Ok(output.show(&whole, &table)?)
}

pub(super) async fn stats(admin: &mut Admin, output: &Output, full_name: &str) -> Result<(), CliError> {
    let (topic, queues) = described(admin, full_name).await?;
    let stored: u64 = queues.iter().map(stored).sum();
    let ever: u64 = queues.iter().map(|queue| queue.max_offset).sum();
    let delayed: u64 = queues.iter().map(|queue| queue.delayed).sum();
    let mut table = Table::new(&["NAME", "QUEUES", "STORED", "EVER_SENT", "DELAYED"]);
    let name = join(&topic.namespace, &topic.name);
    let numbers = [stored, ever, delayed].map(|number| number.to_string());
    table.row([name.clone(), queues.len().to_string()].into_iter().chain(numbers));
    let whole =
        json!({ "name": name, "queues": queues.len(), "stored": stored, "ever_sent": ever, "delayed": delayed });
    Ok(output.show(&whole, &table)?)
}

pub(super) async fn route(admin: &mut Admin, output: &Output, full_name: &str) -> Result<(), CliError> {
    let (topic, queues) = routed(admin, full_name).await?;
    let mut table = Table::with_wide(&["NAME", "QUEUE", "REPLICA_GROUP", "LEADER"], &["REPLICA"]);
    let (mut rows, name) = (Vec::new(), join(&topic.namespace, &topic.name));
    for queue in &queues {
        let (group, leader, replica) = place(queue);
        let (node, id) = (leader.unwrap_or("none").to_owned(), replica.map_or("-".to_owned(), |id| id.to_string()));
        table.row([name.clone(), queue.queue_id.to_string(), group.clone(), node, id]);
        rows.push(json!({
            "queue_id": queue.queue_id,
            "replica_group": group,
            "leader_node": leader,
            "leader_replica": replica,
        }));
    }
    Ok(output.show(&json!({ "name": name, "queues": rows }), &table)?)
}

pub(super) async fn queues(admin: &mut Admin, output: &Output, full_name: &str) -> Result<(), CliError> {
    let (topic, stats) = described(admin, full_name).await?;
    let (_, routes) = routed(admin, full_name).await?;
    let headers = ["NAME", "QUEUE", "REPLICA_GROUP", "LEADER", "MIN_OFFSET", "MAX_OFFSET", "STORED"];
    let mut table = Table::new(&headers);
    let (mut rows, name) = (Vec::new(), join(&topic.namespace, &topic.name));
    for (queue, route) in stats.iter().zip(&routes) {
        let (group, leader, _) = place(route);
        let (min, max, stored) = (queue.min_offset, queue.max_offset, stored(queue));
        let about = [name.clone(), queue.queue_id.to_string(), group.clone(), leader.unwrap_or("none").to_owned()];
        table.row(about.into_iter().chain([min, max, stored].map(|number| number.to_string())));
        rows.push(json!({
            "queue_id": queue.queue_id,
            "replica_group": group,
            "leader_node": leader,
            "min_offset": min,
            "max_offset": max,
            "stored": stored,
        }));
    }
    Ok(output.show(&json!({ "queues": rows }), &table)?)
}

/// The replica group of a queue, the store-node that leads it, and the number of the replica there.
fn place(queue: &v1::QueueRoute) -> (String, Option<&str>, Option<u64>) {
    let node = Some(queue.leader_node.as_str()).filter(|node| !node.is_empty());
    (format!("broker-{}", queue.replica_group), node, Some(queue.leader).filter(|leader| *leader != 0))
}
