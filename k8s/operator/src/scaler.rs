//! One look at an object that says how many store-nodes there are: one step towards that, and what became of it in its status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use apogee_proto::admin::v1 as admin;
use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt as _};

use crate::admin::{ClusterError, Nodes};
use crate::conditions::{Again, SYNCED, Saying, Truth, Verdict, find};
use crate::crds::{StoreNodes, StoreNodesStatus};
use crate::report::{Did, Report};
use crate::scale::{Node, Ordinal, Refusal, Seen, Standing, Step};
use crate::sets::{Set, Sets};
use crate::shelf::{ShelfError, write_status};
use crate::watch::{CHANGED_AGAIN, Looks};
use crate::watched::{Pace, Watched, with_nulls};

/// While replicas move, pods come or go, or a store-node lets itself be heard although its pod is gone.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// What a look needs.
pub(crate) struct Scaler {
    pub(crate) client: Client,
    pub(crate) cluster: Arc<dyn Nodes>,
    /// All objects that are watched.
    pub(crate) stores: Vec<Store<StoreNodes>>,
    pub(crate) report: Report,
    pub(crate) pace: Pace,
}

/// An object, and what was found.
struct Turn {
    object: StoreNodes,
    set: Option<Set>,
    /// Who drains because of the object, as it is to be written down.
    leaving: BTreeSet<String>,
    did: Did,
}

/// Why there is no step.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
}

/// How far it is.
struct Progress {
    /// There was a step to take.
    moved: bool,
    synced: Saying,
    again: Again,
}

impl Watched for StoreNodes {
    const NOUN: &'static str = "store-nodes of";
    const RESOURCE: &'static str = "storenodes.apogeemq.io";

    fn name_there(&self) -> String {
        self.spec.stateful_set.clone()
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |known| &known.conditions)
    }

    fn observed_generation(&self) -> i64 {
        self.status.as_ref().map_or(0, |known| known.observed_generation)
    }
}

impl Looks<StoreNodes> for Scaler {
    fn look(self: Arc<Self>, object: Arc<StoreNodes>) -> BoxFuture<'static, Result<Action, ShelfError>> {
        Box::pin(async move { self.reconcile((*object).clone()).await })
    }

    fn report(&self) -> &Report {
        &self.report
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }
}

impl Scaler {
    /// See [`Looks::look`]. An object that is deleted is forgotten, and all stays as it is.
    async fn reconcile(&self, object: StoreNodes) -> Result<Action, ShelfError> {
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let leaving = object.status.iter().flat_map(|known| known.leaving.iter().cloned()).collect();
        let mut turn = Turn { object, set: None, leaving, did: Did::Same };
        let outcome = self.bring(&mut turn).await;
        let ready = turn.set.as_ref().map(|set| ready(set, turn.object.spec.replicas));
        let (moved, verdict) = match outcome {
            Ok(Progress { moved, synced, again }) => {
                let ready = ready.unwrap_or_else(|| synced.clone());
                (moved, Verdict { ready, synced, again })
            }
            Err(Halt::Refused(refusal)) => {
                turn.did = Did::Refused;
                let synced = Saying::new(Truth::False, refusal.reason(), refusal.to_string());
                let ready = ready.unwrap_or_else(|| synced.clone());
                (false, Verdict { ready, synced, again: Again::Resync })
            }
            Err(Halt::Cluster(error)) => {
                turn.did = Did::failed(&error);
                let failed = Verdict::failed(&error, None);
                (false, Verdict { ready: ready.unwrap_or(failed.ready), ..failed })
            }
            Err(Halt::Shelf(error)) => return Err(error),
        };
        self.tell(turn, moved, &verdict).await
    }

    /// Takes one step.
    async fn bring(&self, turn: &mut Turn) -> Result<Progress, Halt> {
        if let Some(by) = self.rival(&turn.object) {
            return Err(Refusal::Rival { set: turn.object.spec.stateful_set.clone(), by }.into());
        }
        let (set, seen) = self.seen(turn).await?;
        let step = seen.decide(&set.name)?;
        let Some(node) = step.rests_on(seen.wanted) else { return self.take(turn, &set, &seen, &step).await };
        // A proxy may have answered from an old picture. Once it has marked the store-node, again, it has a new one.
        self.drain(&set.pod(node)).await?;
        let (set, seen) = self.seen(turn).await?;
        match seen.decide(&set.name)? {
            again if again == step => self.take(turn, &set, &seen, &step).await,
            _ => Err(ShelfError::Changed.into()),
        }
    }

    /// What is there.
    async fn seen(&self, turn: &mut Turn) -> Result<(Set, Seen), Halt> {
        let (namespace, name) = (turn.object.namespace().unwrap_or_default(), &turn.object.spec.stateful_set);
        turn.set = self.sets(&namespace).look(name).await?;
        let set = turn.set.clone().ok_or_else(|| Refusal::NoSet { set: name.clone() })?;
        if set.first != 0 {
            return Err(Refusal::OtherOrdinals { set: set.name, first: set.first }.into());
        }
        let cluster = self.cluster.describe().await?;
        let seen = Seen {
            wanted: turn.object.spec.replicas,
            replicas: set.replicas,
            pods: set.pods.clone(),
            nodes: nodes(&set, &cluster),
            leaving: turn.leaving.iter().filter_map(|name| set.ordinal(name)).collect(),
            factor: cluster.replication_factor,
        };
        Ok((set, seen))
    }

    async fn take(&self, turn: &mut Turn, set: &Set, seen: &Seen, step: &Step) -> Result<Progress, Halt> {
        let name = |one: &Ordinal| set.pod(*one);
        let names = |all: &BTreeSet<Ordinal>| all.iter().map(name).collect::<BTreeSet<_>>();
        let waits = matches!(step, Step::Note { .. } | Step::Moves(_) | Step::Leaves(_) | Step::Nothing);
        if !waits {
            turn.did = Did::Altered;
        }
        match step {
            Step::Nothing | Step::Moves(_) | Step::Leaves(_) => {}
            Step::Note { leaving } => turn.leaving = names(leaving),
            Step::Drain(all) => {
                for one in names(all) {
                    self.drain(&one).await?;
                }
            }
            Step::Undrain(all) => {
                for one in names(all) {
                    self.cluster.undrain(&one).await?;
                    turn.leaving.remove(&one);
                }
            }
            Step::ScaleOut { to } | Step::ScaleIn { to } => {
                let namespace = turn.object.namespace().unwrap_or_default();
                self.sets(&namespace).scale(set, *to).await?;
            }
            Step::Remove(one) => match self.cluster.remove(&name(one)).await {
                // It was heard a moment ago.
                Err(ClusterError::Refused { message, .. }) => {
                    turn.did = Did::Same;
                    let synced = Saying::new(Truth::False, "Leaving", message);
                    return Ok(Progress { moved: true, synced, again: Again::In(UNDER_WAY) });
                }
                removed => removed?,
            },
        }
        Ok(progress(set, seen, step))
    }

    /// Marks a store-node, or leaves it marked.
    async fn drain(&self, name: &str) -> Result<(), ClusterError> {
        self.cluster.drain(name).await.map_err(|error| match error {
            ClusterError::Refused { reason, message } => {
                ClusterError::Refused { reason, message: format!("store-node {name} cannot drain: {message}") }
            }
            error => error,
        })
    }

    /// Writes what became of the object, if that is new, and says when to look again.
    async fn tell(&self, turn: Turn, moved: bool, verdict: &Verdict) -> Result<Action, ShelfError> {
        let Turn { object, set, leaving, did } = turn;
        let now = self.pace.now();
        let conditions = verdict.conditions(object.conditions(), object.generation(), now);
        let drift = moved && object.was_synced();
        let wait = verdict.wait(&conditions, now, self.pace.resync());
        let news = find(object.conditions(), SYNCED).map(|it| it.reason.as_str()) != Some(verdict.synced.reason);
        self.report.counted::<StoreNodes>(did, drift);
        let status = StoreNodesStatus {
            observed_generation: object.generation(),
            replicas: set.as_ref().map(|set| set.made),
            selector: set.map(|set| set.selector),
            leaving: leaving.into_iter().collect(),
            conditions,
        };
        let object = if object.status.as_ref() == Some(&status) {
            object
        } else {
            write_status(&self.client, &object, with_nulls(&status, &["replicas", "selector"])).await?
        };
        if drift || news || did.changed() {
            self.report.event(&object, did, drift, verdict).await;
        }
        Ok(Action::requeue(wait))
    }

    /// Another object that scales the same StatefulSet and goes before this one: the older one.
    fn rival(&self, object: &StoreNodes) -> Option<String> {
        let rank = |one: &StoreNodes| (one.creation_timestamp().map(|made| made.0), one.name_any());
        let all = self.stores.iter().flat_map(Store::state);
        let mut rivals = all.filter(|other| {
            let same = other.namespace() == object.namespace() && other.spec.stateful_set == object.spec.stateful_set;
            same && other.uid() != object.uid() && rank(other) < rank(object)
        });
        Some(rivals.next()?.name_any())
    }

    fn sets<'a>(&'a self, namespace: &'a str) -> Sets<'a> {
        Sets { client: &self.client, namespace }
    }
}

/// The store-nodes that are pods of the StatefulSet.
fn nodes(set: &Set, cluster: &admin::DescribeClusterResponse) -> BTreeMap<Ordinal, Node> {
    let hosts = cluster.replica_groups.iter().flat_map(|group| &group.replicas).map(|replica| &replica.node);
    let mut keeps = BTreeMap::<&String, usize>::new();
    for host in hosts {
        *keeps.entry(host).or_default() += 1;
    }
    let stuck = |name: &str| {
        let of = |problem: &&admin::Problem| {
            problem.kind() == admin::ProblemKind::NodeCannotDrain && problem.subject == name
        };
        cluster.problems.iter().find(of).map(|problem| problem.detail.clone())
    };
    let node = |node: &admin::StoreNode| {
        let standing = match node.standing() {
            admin::NodeStanding::Drained => Standing::Drained,
            admin::NodeStanding::Draining => Standing::Drains,
            admin::NodeStanding::Alive | admin::NodeStanding::Suspect | admin::NodeStanding::Unspecified => {
                Standing::Stays
            }
        };
        let keeps = keeps.get(&node.name).copied().unwrap_or_default();
        Some((set.ordinal(&node.name)?, Node { standing, keeps, stuck: stuck(&node.name) }))
    };
    cluster.nodes.iter().filter_map(node).collect()
}

/// Whether so many as are wanted are ready.
fn ready(set: &Set, wanted: u32) -> Saying {
    let enough = set.ready >= wanted;
    let (truth, reason) = if enough { (Truth::True, "Serves") } else { (Truth::False, "NotAllReady") };
    Saying::new(truth, reason, format!("{} store-nodes are ready, {wanted} are wanted", set.ready))
}

/// What is said of a step that was taken.
fn progress(set: &Set, seen: &Seen, step: &Step) -> Progress {
    let said = |reason, message: String| (Saying::new(Truth::False, reason, message), Again::In(CHANGED_AGAIN));
    let waits = |reason, message: String| (Saying::new(Truth::False, reason, message), Again::In(UNDER_WAY));
    let all = |nodes: &BTreeSet<Ordinal>| nodes.iter().map(|one| set.pod(*one)).collect::<Vec<_>>().join(", ");
    let there = Saying::new(Truth::True, "AsSpecified", "there are as many as this object says");
    let (synced, again) = match step {
        Step::Nothing if set.ready < seen.wanted => (there, Again::In(UNDER_WAY)),
        Step::Nothing => (there, Again::Resync),
        Step::ScaleOut { to } if *to == seen.wanted => (there, Again::In(CHANGED_AGAIN)),
        Step::ScaleOut { to } => {
            said("KeepsReplicas", format!("{} gets its pod back: it keeps replicas", set.pod(to - 1)))
        }
        Step::Note { leaving } => said("Draining", format!("to leave: {}", all(leaving))),
        Step::Drain(nodes) => said("Draining", format!("replicas move away from {}", all(nodes))),
        Step::Undrain(nodes) => said("Undraining", format!("to stay after all: {}", all(nodes))),
        Step::Moves(node) => moves(set, seen, *node),
        Step::ScaleIn { to } => said("Leaving", format!("{} keeps nothing, and its pod goes", set.pod(*to))),
        Step::Leaves(pod) => waits("Leaving", format!("pod {} is about to go", set.pod(*pod))),
        Step::Remove(node) => said("Leaving", format!("{} is gone, and forgotten", set.pod(*node))),
    };
    Progress { moved: *step != Step::Nothing, synced, again }
}

/// What keeps a pod from going.
fn moves(set: &Set, seen: &Seen, last: Ordinal) -> (Saying, Again) {
    let saying = match seen.nodes.range(seen.wanted..).find_map(|(_, known)| known.stuck.clone()) {
        Some(why) => Saying::new(Truth::False, "CannotDrain", why),
        None => {
            let keeps = seen.nodes.get(&last).map_or(0, |known| known.keeps);
            Saying::new(Truth::False, "Draining", format!("{} drains, and still keeps {keeps} replicas", set.pod(last)))
        }
    };
    (saying, Again::In(UNDER_WAY))
}

#[cfg(test)]
mod tests;
