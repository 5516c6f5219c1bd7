//! `apogee node …`.

mod drain;
mod leaving;

use apogee_proto::admin::v1;
use clap::Subcommand;
use serde_json::{Value, json};

use super::cluster::{described, node_of, or_none, yes};
use super::error::{CliError, RequestId};
use super::output::{Output, Table};
use super::target::Target;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the store-nodes
    List,
    /// Shows a store-node, its replicas, and which of them move
    Describe { name: String },
    /// Marks a store-node as about to leave: it gets nothing new, others lead if they can, and its replicas move to others
    Drain(drain::Drain),
    /// Takes that mark away
    Undrain(drain::Undrain),
    /// Forgets a store-node that is drained and has been stopped
    Remove(drain::Remove),
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    if let Verb::Remove(args) = &verb {
        args.is_meant()?;
    }
    let mut admin = target.admin(id).await?;
    let cluster = described(&mut admin).await?;
    match verb {
        Verb::List => Ok(output.show(&json!({ "nodes": documents(&cluster) }), &table(&cluster))?),
        Verb::Describe { name } => describe(&cluster, known(&cluster, &name)?, output),
        Verb::Drain(args) => drain::drain(args, &cluster, admin, (target, output, id)).await,
        Verb::Undrain(args) => drain::undrain(args, &cluster, admin, output).await,
        Verb::Remove(args) => drain::remove(args, &cluster, admin, output).await,
    }
}

fn known<'a>(cluster: &'a v1::DescribeClusterResponse, name: &str) -> Result<&'a v1::StoreNode, CliError> {
    let found = cluster.nodes.iter().find(|node| node.name == name);
    found.ok_or_else(|| CliError::NoNode { name: name.to_owned() })
}

fn drains(standing: v1::NodeStanding) -> bool {
    matches!(standing, v1::NodeStanding::Draining | v1::NodeStanding::Drained)
}

/// The replica groups that a store-node has a replica of, or is to have one of, and the number of that replica.
fn hosted<'a>(cluster: &'a v1::DescribeClusterResponse, name: &str) -> Vec<(&'a v1::ReplicaGroup, u64)> {
    let replica =
        |group: &'a v1::ReplicaGroup| Some((group, group.replicas.iter().find(|replica| replica.node == name)?.id));
    cluster.replica_groups.iter().filter_map(replica).collect()
}

/// Those that it leads.
fn led<'a>(cluster: &'a v1::DescribeClusterResponse, name: &str) -> Vec<&'a v1::ReplicaGroup> {
    let leads = |group: &&v1::ReplicaGroup| node_of(group, group.leader) == Some(name);
    cluster.replica_groups.iter().filter(leads).collect()
}

pub(super) fn table(cluster: &v1::DescribeClusterResponse) -> Table {
    let mut table = Table::with_wide(&["NAME", "STANDING", "ZONE", "REPLICAS", "LEADS"], &["LANES", "REPLICATION"]);
    for node in &cluster.nodes {
        let (replicas, leads) = (hosted(cluster, &node.name).len(), led(cluster, &node.name).len());
        table.row([
            node.name.clone(),
            standing(node).to_owned(),
            or_none(&node.zone),
            replicas.to_string(),
            leads.to_string(),
            or_none(&node.lanes),
            or_none(&node.replication),
        ]);
    }
    table
}

pub(super) fn documents(cluster: &v1::DescribeClusterResponse) -> Vec<Value> {
    cluster.nodes.iter().map(|node| document(cluster, node)).collect()
}

fn document(cluster: &v1::DescribeClusterResponse, node: &v1::StoreNode) -> Value {
    let names = |groups: Vec<&v1::ReplicaGroup>| groups.into_iter().map(|group| group.name.clone()).collect::<Vec<_>>();
    json!({
        "name": node.name,
        "standing": standing(node),
        "zone": node.zone,
        "lanes": node.lanes,
        "replication": node.replication,
        "replicas": names(hosted(cluster, &node.name).into_iter().map(|(group, _)| group).collect()),
        "leads": names(led(cluster, &node.name)),
        "moves": moves(cluster, &node.name),
    })
}

/// The moves that it gives or takes a replica in.
fn moves(cluster: &v1::DescribeClusterResponse, name: &str) -> Vec<Value> {
    let move_of = |(group, replica): (&v1::ReplicaGroup, u64)| {
        let moving = group.moving.as_ref().filter(|moving| [moving.leaves, moving.comes].contains(&replica))?;
        let mut document = move_document(moving);
        document["replica_group"] = json!(group.name);
        Some(document)
    };
    hosted(cluster, name).into_iter().filter_map(move_of).collect()
}

/// Which replica takes the place of which one, and where.
pub(super) fn move_document(moving: &v1::ReplicaMove) -> Value {
    json!({ "leaves": moving.leaves, "comes": moving.comes, "node": moving.node, "stage": stage(moving) })
}

/// Whose place a replica takes, or who takes its place.
fn arrow(group: &v1::ReplicaGroup, replica: u64) -> String {
    match &group.moving {
        Some(moving) if moving.leaves == replica => {
            format!("→ {} on {}, {}", moving.comes, moving.node, stage(moving))
        }
        Some(moving) if moving.comes == replica => {
            let from = node_of(group, moving.leaves).unwrap_or("-");
            format!("← {} on {from}, {}", moving.leaves, stage(moving))
        }
        Some(_) | None => "-".to_owned(),
    }
}

fn stage(moving: &v1::ReplicaMove) -> &'static str {
    match moving.stage() {
        v1::MoveStage::Unspecified => "unknown",
        v1::MoveStage::Joins => "joins",
        v1::MoveStage::Swaps => "swaps",
    }
}

fn describe(cluster: &v1::DescribeClusterResponse, node: &v1::StoreNode, output: &Output) -> Result<(), CliError> {
    let mut table = Table::with_wide(
        &["NAME", "STANDING", "REPLICA_GROUP", "REPLICA", "LEADS", "PREFERRED", "MOVE"],
        &["ZONE", "LANES", "REPLICATION", "QUEUES"],
    );
    let about = [node.name.clone(), standing(node).to_owned()];
    let place = [or_none(&node.zone), or_none(&node.lanes), or_none(&node.replication)];
    let hosted = hosted(cluster, &node.name);
    for (group, replica) in &hosted {
        let (leads, preferred) = (yes(group.leader == *replica), yes(group.preferred == *replica));
        let here = [group.name.clone(), replica.to_string(), leads, preferred, arrow(group, *replica)];
        let queues = [group.queues.to_string()];
        table.row(about.iter().cloned().chain(here).chain(place.iter().cloned()).chain(queues));
    }
    if hosted.is_empty() {
        let nothing = ["-"; 5].map(str::to_owned);
        table.row(about.into_iter().chain(nothing).chain(place));
    }
    Ok(output.show(&document(cluster, node), &table)?)
}

fn standing(node: &v1::StoreNode) -> &'static str {
    match node.standing() {
        v1::NodeStanding::Unspecified => "unknown",
        v1::NodeStanding::Alive => "alive",
        v1::NodeStanding::Suspect => "suspect",
        v1::NodeStanding::Draining => "draining",
        v1::NodeStanding::Drained => "drained",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_shown_on_both_sides() {
        let moving = v1::ReplicaMove { leaves: 1, comes: 4, node: "n4".into(), stage: v1::MoveStage::Joins.into() };
        let replicas = [1, 2, 4].map(|id| v1::Replica { id, node: format!("n{id}") }).into();
        let (name, moving) = ("broker-0".to_owned(), Some(moving));
        let group = v1::ReplicaGroup { name, replicas, moving, ..v1::ReplicaGroup::default() };
        assert_eq!([1, 2, 4].map(|id| arrow(&group, id)), ["→ 4 on n4, joins", "-", "← 1 on n1, joins"]);
        let cluster = v1::DescribeClusterResponse { replica_groups: vec![group], ..Default::default() };
        let told = json!({ "replica_group": "broker-0", "leaves": 1, "comes": 4, "node": "n4", "stage": "joins" });
        assert_eq!(["n1", "n2", "n4"].map(|name| moves(&cluster, name)), [vec![told.clone()], vec![], vec![told]]);
    }
}
