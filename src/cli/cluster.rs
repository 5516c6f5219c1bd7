//! `apogee cluster …`.

use std::time::Duration;

use apogee_proto::admin::v1;
use clap::Subcommand;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::error::{CliError, RequestId};
use super::node;
use super::output::{Output, Table, line};
use super::target::{Admin, Target};

/// Between two looks at the cluster.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows namesrv, store-nodes and replica groups
    Info,
    /// Says what is wrong with the cluster; exit code 7 when something is
    Health {
        /// Looks every second and says what has changed, until interrupted
        #[arg(long)]
        watch: bool,
        /// Ends well as soon as nothing is wrong; gives up after --timeout, if that is given
        #[arg(long)]
        exit_when_healthy: bool,
    },
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    match verb {
        Verb::Info => info(&described(&mut target.admin(id).await?).await?, output),
        Verb::Health { watch: false, exit_when_healthy: false } => {
            let health = Health::of(&described(&mut target.admin(id).await?).await?);
            health.show(output)?;
            health.verdict()
        }
        Verb::Health { exit_when_healthy, .. } => watch(exit_when_healthy, target, output, id).await,
    }
}

/// The cluster as the server knows it.
pub(super) async fn described(admin: &mut Admin) -> Result<v1::DescribeClusterResponse, CliError> {
    let answer = admin.api.describe_cluster(v1::DescribeClusterRequest {}).await;
    Ok(answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner())
}

fn info(cluster: &v1::DescribeClusterResponse, output: &Output) -> Result<(), CliError> {
    let mut whole = Table::with_wide(
        &["CLUSTER", "ID", "HEALTH", "TOPICS", "GROUPS", "REPLICATION"],
        &["VERSION", "FEATURE_LEVEL"],
    );
    let health = if cluster.problems.is_empty() { "healthy" } else { "unhealthy" };
    let cells = [
        cluster.name.clone(),
        format!("{:016x}", cluster.cluster_id),
        health.to_owned(),
        cluster.topics.to_string(),
        cluster.groups.to_string(),
        cluster.replication_factor.to_string(),
        cluster.version.to_string(),
        cluster.feature_level.to_string(),
    ];
    whole.row(cells);
    let mut namesrv = Table::new(&["ID", "ADDRESS", "LEADS"]);
    for member in &cluster.namesrv {
        namesrv.row([member.id.to_string(), or_none(&member.address), yes(member.leads)]);
    }
    let nodes = node::table(cluster);
    let groups = groups(cluster);
    let tables = [("", &whole), ("NAMESRV", &namesrv), ("STORE-NODES", &nodes), ("REPLICA GROUPS", &groups)];
    Ok(output.show_all(&document(cluster), &tables)?)
}

fn groups(cluster: &v1::DescribeClusterResponse) -> Table {
    let mut table = Table::with_wide(&["NAME", "LEADER", "PREFERRED", "REPLICAS"], &["QUEUES"]);
    for group in &cluster.replica_groups {
        let replicas = group.replicas.iter().map(|replica| format!("{}@{}", replica.id, replica.node));
        let replicas = replicas.collect::<Vec<_>>().join(",");
        let (leader, preferred) = (place(group, group.leader), place(group, group.preferred));
        table.row([group.name.clone(), leader, preferred, replicas, group.queues.to_string()]);
    }
    table
}

/// A replica and its store-node.
fn place(group: &v1::ReplicaGroup, id: u64) -> String {
    match (id, node_of(group, id)) {
        (0, _) => "none".to_owned(),
        (id, None) => id.to_string(),
        (id, Some(node)) => format!("{id}@{node}"),
    }
}

/// The store-node of a replica.
pub(super) fn node_of(group: &v1::ReplicaGroup, id: u64) -> Option<&str> {
    group.replicas.iter().find(|replica| replica.id == id).map(|replica| replica.node.as_str())
}

pub(super) fn or_none(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

pub(super) fn yes(whether: bool) -> String {
    if whether { "yes" } else { "-" }.to_owned()
}

fn document(cluster: &v1::DescribeClusterResponse) -> Value {
    let namesrv = |one: &v1::NamesrvMember| json!({ "id": one.id, "address": one.address, "leads": one.leads });
    let replica = |one: &v1::Replica| json!({ "id": one.id, "node": one.node });
    let group = |one: &v1::ReplicaGroup| {
        json!({
            "id": one.id,
            "name": one.name,
            "replicas": one.replicas.iter().map(replica).collect::<Vec<_>>(),
            "preferred": one.preferred,
            "leader": Some(one.leader).filter(|leader| *leader != 0),
            "leader_node": node_of(one, one.leader),
            "queues": one.queues,
            "moving": one.moving.as_ref().map(node::move_document),
        })
    };
    json!({
        "name": cluster.name,
        "cluster_id": format!("{:016x}", cluster.cluster_id),
        "version": cluster.version,
        "feature_level": cluster.feature_level,
        "replication_factor": cluster.replication_factor,
        "topics": cluster.topics,
        "groups": cluster.groups,
        "namesrv": cluster.namesrv.iter().map(namesrv).collect::<Vec<_>>(),
        "nodes": node::documents(cluster),
        "replica_groups": cluster.replica_groups.iter().map(group).collect::<Vec<_>>(),
        "problems": Health::of(cluster).document()["problems"],
    })
}

/// What is wrong, nothing at best.
#[derive(Clone, Debug, Default, PartialEq)]
struct Health {
    problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq)]
struct Problem {
    kind: String,
    subject: String,
    detail: String,
}

impl Health {
    fn of(cluster: &v1::DescribeClusterResponse) -> Health {
        let problem = |one: &v1::Problem| {
            let kind = one.kind().as_str_name().trim_start_matches("PROBLEM_KIND_").to_lowercase();
            Problem { kind, subject: one.subject.clone(), detail: one.detail.clone() }
        };
        Health { problems: cluster.problems.iter().map(problem).collect() }
    }

    fn unreachable(error: &CliError) -> Health {
        let (kind, subject, detail) = ("proxy_unreachable".to_owned(), "proxy".to_owned(), error.to_string());
        Health { problems: vec![Problem { kind, subject, detail }] }
    }

    fn word(&self) -> &'static str {
        if self.problems.is_empty() { "healthy" } else { "unhealthy" }
    }

    fn document(&self) -> Value {
        let problem = |one: &Problem| json!({ "kind": one.kind, "subject": one.subject, "detail": one.detail });
        json!({ "health": self.word(), "problems": self.problems.iter().map(problem).collect::<Vec<_>>() })
    }

    fn show(&self, output: &Output) -> Result<(), CliError> {
        let mut table = Table::new(&["HEALTH", "SUBJECT", "PROBLEM", "DETAIL"]);
        let problem =
            |one: &Problem| [self.word().to_owned(), one.subject.clone(), one.kind.clone(), one.detail.clone()];
        self.problems.iter().map(problem).for_each(|row| table.row(row));
        if self.problems.is_empty() {
            table.row([self.word().to_owned()]);
        }
        Ok(output.show(&self.document(), &table)?)
    }

    fn verdict(&self) -> Result<(), CliError> {
        match self.problems.as_slice() {
            [] => Ok(()),
            [first, more @ ..] => {
                let more = if more.is_empty() { String::new() } else { format!(" (and {} more)", more.len()) };
                Err(CliError::Unhealthy { problems: format!("the cluster is unhealthy: {}{more}", first.detail) })
            }
        }
    }
}

/// Says how the cluster is whenever that changes. A server that does not answer is one more thing that is wrong.
async fn watch(until_healthy: bool, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    let deadline = target.given_timeout().filter(|_| until_healthy).map(|limit| Instant::now() + limit);
    let (mut known, mut admin) = (None, None);
    loop {
        let health = match look(&mut admin, target, id).await {
            Ok(cluster) => Health::of(&cluster),
            Err(error) if error.passes() => Health::unreachable(&error),
            Err(error) => return Err(error),
        };
        if known.as_ref() != Some(&health) {
            tell(&health, output)?;
        }
        if until_healthy && health.problems.is_empty() {
            return Ok(());
        }
        if deadline.is_some_and(|deadline| Instant::now() + LOOK_EVERY > deadline) {
            return health.verdict();
        }
        known = Some(health);
        sleep(LOOK_EVERY).await;
    }
}

/// The cluster as a server knows it that may have gone since the last look.
pub(super) async fn look(
    admin: &mut Option<Admin>,
    target: &Target,
    id: &RequestId,
) -> Result<v1::DescribeClusterResponse, CliError> {
    let mut connected = match admin.take() {
        Some(admin) => admin,
        None => target.admin(id).await?,
    };
    let cluster = described(&mut connected).await?;
    *admin = Some(connected);
    Ok(cluster)
}

fn tell(health: &Health, output: &Output) -> Result<(), CliError> {
    if output.item(&health.document())? {
        return Ok(());
    }
    let details = health.problems.iter().map(|problem| problem.detail.as_str());
    let told: Vec<_> = std::iter::once(health.word()).chain(details).collect();
    Ok(line(&told.join("; "))?)
}
