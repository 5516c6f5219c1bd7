//! `apogee node …`.

use apogee_proto::admin::v1;
use clap::Subcommand;
use serde_json::{Value, json};

use super::cluster::{described, node_of, or_none, yes};
use super::confirm::Rehearsal;
use super::error::{CliError, RequestId};
use super::output::{Output, Table};
use super::target::Target;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the store-nodes
    List,
    /// Shows a store-node and its replicas
    Describe { name: String },
    /// Marks a store-node as about to leave: it gets nothing new, and others lead if they can
    Drain {
        name: String,
        #[command(flatten)]
        rehearsal: Rehearsal,
    },
    /// Takes that mark away
    Undrain {
        name: String,
        #[command(flatten)]
        rehearsal: Rehearsal,
    },
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    let mut admin = target.admin(id).await?;
    let cluster = described(&mut admin).await?;
    match verb {
        Verb::List => Ok(output.show(&json!({ "nodes": documents(&cluster) }), &table(&cluster))?),
        Verb::Describe { name } => describe(&cluster, known(&cluster, &name)?, output),
        Verb::Drain { name, rehearsal } => {
            let standing = known(&cluster, &name)?.standing();
            if !drains(standing) {
                rehearsal.ends_before(|| format!("store-node {name} would be marked as about to leave"))?;
            }
            if !rehearsal.dry_run {
                let drained = admin.api.drain_node(v1::DrainNodeRequest { name: name.clone() }).await;
                drained.map_err(|status| CliError::call(&admin.address, status))?;
            }
            let after = json!({ "name": name, "standing": "draining" });
            Ok(output.tell(&after, &format!("store-node {name} is draining; it {}", leading(&cluster, &name)))?)
        }
        Verb::Undrain { name, rehearsal } => {
            let standing = known(&cluster, &name)?.standing();
            if drains(standing) {
                rehearsal.ends_before(|| format!("store-node {name} would stay"))?;
            }
            if !rehearsal.dry_run {
                let undrained = admin.api.undrain_node(v1::UndrainNodeRequest { name: name.clone() }).await;
                undrained.map_err(|status| CliError::call(&admin.address, status))?;
            }
            Ok(output.tell(&json!({ "name": name, "draining": false }), &format!("store-node {name} stays"))?)
        }
    }
}

fn known<'a>(cluster: &'a v1::DescribeClusterResponse, name: &str) -> Result<&'a v1::StoreNode, CliError> {
    let found = cluster.nodes.iter().find(|node| node.name == name);
    found.ok_or_else(|| CliError::NoNode { name: name.to_owned() })
}

fn drains(standing: v1::NodeStanding) -> bool {
    matches!(standing, v1::NodeStanding::Draining | v1::NodeStanding::Drained)
}

fn leading(cluster: &v1::DescribeClusterResponse, name: &str) -> String {
    match led(cluster, name).len() {
        0 => "leads nothing".to_owned(),
        count => format!("leads {count} replica groups until others do; see `apogee node describe {name}`"),
    }
}

/// The replica groups that a store-node has a replica of, and the number of that replica.
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
    })
}

fn describe(cluster: &v1::DescribeClusterResponse, node: &v1::StoreNode, output: &Output) -> Result<(), CliError> {
    let mut table = Table::with_wide(
        &["NAME", "STANDING", "REPLICA_GROUP", "REPLICA", "LEADS", "PREFERRED"],
        &["ZONE", "LANES", "REPLICATION", "QUEUES"],
    );
    let about = [node.name.clone(), standing(node).to_owned()];
    let place = [or_none(&node.zone), or_none(&node.lanes), or_none(&node.replication)];
    let hosted = hosted(cluster, &node.name);
    for (group, replica) in &hosted {
        let here =
            [group.name.clone(), replica.to_string(), yes(group.leader == *replica), yes(group.preferred == *replica)];
        let queues = [group.queues.to_string()];
        table.row(about.iter().cloned().chain(here).chain(place.iter().cloned()).chain(queues));
    }
    if hosted.is_empty() {
        let nothing = ["-", "-", "-", "-"].map(str::to_owned);
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
