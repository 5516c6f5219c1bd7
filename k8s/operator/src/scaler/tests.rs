use std::sync::Mutex;

use apogee_host::health::Health;
use apogee_host::{RealClock, SeededEntropy};
use futures::future::ready as now;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::conditions::READY;
use crate::fake::FakeApi;
use crate::trouble::Troubles;

const OBJECTS: &str = "/apis/apogeemq.io/v1alpha1/namespaces/queues/storenodes";
const SET: &str = "/apis/apps/v1/namespaces/queues/statefulsets/store";
const PODS: &str = "/api/v1/namespaces/queues/pods";

/// Store-nodes in memory, with the replicas they keep.
#[derive(Default)]
struct FakeNodes(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    /// Whether it drains, and what it keeps.
    nodes: BTreeMap<String, (bool, usize)>,
    stuck: BTreeMap<String, String>,
    /// Those that let themselves be heard.
    heard: BTreeSet<String>,
    /// What it shows until somebody drains a store-node.
    old: Option<BTreeMap<String, (bool, usize)>>,
    /// What it was asked for, apart from descriptions.
    asked: Vec<String>,
    away: bool,
}

impl FakeNodes {
    fn inside<T>(&self, with: impl FnOnce(&mut Inside) -> T) -> T {
        with(&mut self.0.lock().expect("no test panics inside"))
    }

    fn ask(&self, verb: &str, name: &str, with: impl FnOnce(&mut Inside)) -> Result<(), ClusterError> {
        self.inside(|it| {
            if it.away {
                return Err(ClusterError::Unreachable { message: "nobody is there".to_owned() });
            }
            it.asked.push(format!("{verb} {name}"));
            with(it);
            Ok(())
        })
    }

    fn stand(&self, name: &str, drains: bool, keeps: usize) {
        self.inside(|it| it.nodes.insert(name.to_owned(), (drains, keeps)));
    }

    fn asked(&self) -> Vec<String> {
        self.inside(|it| std::mem::take(&mut it.asked))
    }
}

impl Inside {
    fn describe(&self) -> admin::DescribeClusterResponse {
        let known = self.old.as_ref().unwrap_or(&self.nodes);
        let standing = |drains, keeps| match (drains, keeps) {
            (false, _) => admin::NodeStanding::Alive,
            (true, 0) => admin::NodeStanding::Drained,
            (true, _) => admin::NodeStanding::Draining,
        };
        let node = |(name, (drains, keeps)): (&String, &(bool, usize))| admin::StoreNode {
            name: name.clone(),
            standing: standing(*drains, *keeps).into(),
            ..admin::StoreNode::default()
        };
        let replica = |name: &String| admin::Replica { id: 1, node: name.clone() };
        let group = |(name, (_, keeps)): (&String, &(bool, usize))| admin::ReplicaGroup {
            replicas: vec![replica(name); *keeps],
            ..admin::ReplicaGroup::default()
        };
        let problem = |(name, why): (&String, &String)| admin::Problem {
            kind: admin::ProblemKind::NodeCannotDrain.into(),
            subject: name.clone(),
            detail: why.clone(),
        };
        admin::DescribeClusterResponse {
            replication_factor: 3,
            nodes: known.iter().map(node).collect(),
            replica_groups: known.iter().map(group).collect(),
            problems: self.stuck.iter().map(problem).collect(),
            ..admin::DescribeClusterResponse::default()
        }
    }
}

impl Nodes for FakeNodes {
    fn describe(&self) -> BoxFuture<'_, Result<admin::DescribeClusterResponse, ClusterError>> {
        let away = ClusterError::Unreachable { message: "nobody is there".to_owned() };
        Box::pin(now(self.inside(|it| if it.away { Err(away) } else { Ok(it.describe()) })))
    }

    fn drain<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(now(self.ask("drain", name, |it| {
            it.old = None;
            it.nodes.entry(name.to_owned()).and_modify(|node| node.0 = true);
        })))
    }

    fn undrain<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(now(self.ask("undrain", name, |it| {
            it.nodes.entry(name.to_owned()).and_modify(|node| node.0 = false);
        })))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        if self.inside(|it| it.heard.contains(name)) {
            let message = format!("store-node {name} lets itself be heard");
            return Box::pin(now(Err(ClusterError::Refused { reason: "Refused", message })));
        }
        Box::pin(now(self.ask("remove", name, |it| it.nodes.retain(|known, _| known != name))))
    }
}

/// An API server, a cluster, and an operator that is asked to look.
struct Lab {
    api: FakeApi,
    cluster: Arc<FakeNodes>,
    scaler: Arc<Scaler>,
    objects: reflector::store::Writer<StoreNodes>,
}

impl Lab {
    /// Three store-nodes with two replicas each, and an object that wants three.
    fn new() -> Lab {
        let (api, cluster) = (FakeApi::default(), Arc::new(FakeNodes::default()));
        let (store, objects) = reflector::store();
        let troubles = Troubles::new(Health::new(&[]));
        let client = api.client();
        let scaler = Scaler {
            client: client.clone(),
            cluster: cluster.clone(),
            stores: vec![store],
            report: Report::new(client, "test", troubles, &opentelemetry::global::meter("test")),
            pace: Pace {
                resync: Duration::from_secs(15),
                clock: Arc::new(RealClock),
                entropy: Arc::new(SeededEntropy::new(1)),
            },
        };
        let mut lab = Lab { api, cluster, scaler: Arc::new(scaler), objects };
        lab.scale_set(3);
        lab.settle();
        lab.apply("apogee", 3);
        lab
    }

    /// As `kubectl scale storenodes`.
    fn apply(&mut self, name: &str, replicas: u32) {
        let path = format!("{OBJECTS}/{name}");
        let mut object = self.api.get::<StoreNodes>(&path).unwrap_or_else(|| {
            let spec = json!({ "statefulSet": "store", "replicas": 3 });
            let mut object = StoreNodes::new(name, serde_json::from_value(spec).expect("a spec"));
            object.metadata.namespace = Some("queues".to_owned());
            object
        });
        object.spec.replicas = replicas;
        self.write(&object);
    }

    fn write(&mut self, object: &StoreNodes) {
        let object = self.api.put(&format!("{OBJECTS}/{}", object.name_any()), object);
        self.objects.apply_watcher_event(&Event::Apply(object));
    }

    /// As `kubectl scale statefulset`.
    fn scale_set(&self, replicas: u32) {
        let labels = json!({ "role": "store" });
        let set = json!({
            "metadata": { "name": "store", "namespace": "queues" },
            "spec": {
                "serviceName": "store", "replicas": replicas, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels } },
            },
            "status": { "replicas": replicas, "readyReplicas": replicas },
        });
        self.api.put::<StatefulSet>(SET, &serde_json::from_value(set).expect("a StatefulSet"));
    }

    fn replicas(&self) -> u32 {
        let set = self.api.get::<StatefulSet>(SET).expect("it is there");
        count(set.spec.and_then(|spec| spec.replicas))
    }

    /// Pods come and go as the StatefulSet says, and their store-nodes come with them.
    fn settle(&self) {
        let replicas = self.replicas();
        for ordinal in 0..10 {
            let (name, path) = (format!("store-{ordinal}"), format!("{PODS}/store-{ordinal}"));
            if ordinal < replicas {
                self.api.put(&path, &json!({ "metadata": { "name": name, "namespace": "queues" } }));
                self.cluster.inside(|it| {
                    it.nodes.entry(name).or_insert((false, 2));
                });
            } else {
                self.api.remove(&path);
            }
        }
        self.scale_set(replicas);
    }

    fn object(&self) -> StoreNodes {
        self.api.get::<StoreNodes>(&format!("{OBJECTS}/apogee")).expect("it is there")
    }

    async fn look(&mut self) -> Result<StoreNodes, ShelfError> {
        let object = self.object();
        Arc::clone(&self.scaler).look(Arc::new(object)).await?;
        let object = self.object();
        self.objects.apply_watcher_event(&Event::Apply(object.clone()));
        Ok(object)
    }

    /// The object after some more looks.
    async fn seen(&mut self, looks: usize) -> StoreNodes {
        for _ in 1..looks {
            self.look().await.expect("the API server takes all");
        }
        self.look().await.expect("the API server takes all")
    }
}

fn count(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

/// Status and reason of both conditions.
fn said(object: &StoreNodes) -> [(&str, &str); 2] {
    let all = Watched::conditions(object);
    [READY, SYNCED].map(|kind| find(all, kind).map_or(("", ""), |it| (it.status.as_str(), it.reason.as_str())))
}

fn message(object: &StoreNodes) -> &str {
    find(Watched::conditions(object), SYNCED).map_or("", |synced| &synced.message)
}

fn leaving(object: &StoreNodes) -> Vec<&str> {
    object.status.iter().flat_map(|known| &known.leaving).map(String::as_str).collect()
}

const FINE: [(&str, &str); 2] = [("True", "Serves"), ("True", "AsSpecified")];

#[tokio::test]
async fn more_are_made_and_told_of_when_they_are_ready() {
    let mut lab = Lab::new();
    let object = lab.seen(1).await;
    assert_eq!(said(&object), FINE);
    let status = object.status.as_ref().expect("a status");
    assert_eq!((status.replicas, status.selector.as_deref()), (Some(3), Some("role=store")));
    let version = object.resource_version();
    assert_eq!(lab.seen(1).await.resource_version(), version, "another look writes nothing");

    lab.apply("apogee", 5);
    assert_eq!(said(&lab.seen(1).await), [("False", "NotAllReady"), ("True", "AsSpecified")]);
    assert_eq!(lab.replicas(), 5);
    lab.settle();
    let object = lab.seen(1).await;
    assert_eq!((said(&object), object.status.as_ref().and_then(|status| status.replicas)), (FINE, Some(5)));
    let mut events = lab.api.events();
    events.sort_unstable();
    assert_eq!(events, ["Altered", "AsSpecified"]);
    assert!(lab.cluster.asked().is_empty());
}

#[tokio::test]
async fn fewer_go_when_they_keep_nothing() {
    let mut lab = Lab::new();
    lab.scale_set(5);
    lab.settle();
    let object = lab.seen(1).await;
    assert_eq!((leaving(&object), lab.cluster.asked().len()), (vec!["store-3", "store-4"], 0), "noted first");
    assert_eq!(said(&object), [("True", "Serves"), ("False", "Draining")]);
    lab.seen(1).await;
    assert_eq!(lab.cluster.asked(), ["drain store-3", "drain store-4"]);
    let object = lab.seen(3).await;
    assert_eq!((lab.replicas(), message(&object)), (5, "store-4 drains, and still keeps 2 replicas"));
    // The other one is sooner, and waits.
    lab.cluster.stand("store-3", true, 0);
    lab.seen(2).await;
    assert_eq!((lab.replicas(), lab.cluster.asked().len()), (5, 0));

    lab.cluster.stand("store-4", true, 0);
    lab.cluster.inside(|it| it.heard.insert("store-4".to_owned()));
    assert_eq!(said(&lab.seen(1).await)[1], ("False", "Leaving"));
    assert_eq!(lab.replicas(), 4);
    let object = lab.seen(2).await;
    assert_eq!((lab.replicas(), message(&object)), (4, "pod store-4 is about to go"));
    lab.settle();
    let object = lab.seen(2).await;
    assert_eq!((lab.replicas(), message(&object)), (4, "store-node store-4 lets itself be heard"));
    lab.cluster.inside(|it| it.heard.clear());
    assert_eq!(lab.cluster.asked(), ["drain store-4"], "to see that nobody shows an old picture");
    lab.seen(1).await;
    assert_eq!(lab.cluster.asked(), ["remove store-4"]);

    assert_eq!(leaving(&lab.seen(1).await), ["store-3"]);
    lab.seen(1).await;
    assert_eq!(lab.replicas(), 3);
    lab.settle();
    let object = lab.seen(3).await;
    assert_eq!((said(&object), leaving(&object).len()), (FINE, 0));
    assert_eq!(lab.cluster.asked(), ["drain store-3", "remove store-3"]);
}

#[tokio::test]
async fn who_was_to_leave_stays_when_more_are_wanted_again() {
    let mut lab = Lab::new();
    lab.apply("apogee", 6);
    lab.seen(1).await;
    lab.settle();
    lab.cluster.stand("store-3", true, 1);
    lab.apply("apogee", 3);
    assert_eq!(leaving(&lab.seen(2).await), ["store-4", "store-5"], "somebody drained the other one");
    lab.cluster.stand("store-5", true, 0);
    lab.seen(1).await;
    assert_eq!(lab.replicas(), 5);
    lab.cluster.asked();
    lab.apply("apogee", 6);
    let object = lab.seen(1).await;
    assert_eq!(lab.cluster.asked(), ["undrain store-4", "undrain store-5"]);
    assert_eq!((leaving(&object).len(), said(&object)[1].1), (0, "Undraining"));
    lab.seen(1).await;
    assert_eq!(lab.replicas(), 6);
    lab.settle();
    assert_eq!(said(&lab.seen(1).await), FINE);
    assert!(lab.cluster.inside(|it| it.nodes["store-3"].0), "who drained it knows why");
    assert!(lab.cluster.asked().is_empty());
}

#[tokio::test]
async fn an_old_picture_takes_nobody_away() {
    let mut lab = Lab::new();
    lab.apply("apogee", 4);
    lab.seen(1).await;
    lab.settle();
    lab.apply("apogee", 3);
    lab.seen(2).await;
    lab.cluster.inside(|it| {
        let mut old = it.nodes.clone();
        old.insert("store-3".to_owned(), (true, 0));
        it.old = Some(old);
    });
    let looked = lab.look().await.expect_err("it looks different now");
    assert!(matches!(looked, ShelfError::Changed) && lab.replicas() == 4);
    assert_eq!(message(&lab.seen(1).await), "store-3 drains, and still keeps 2 replicas");
}

#[tokio::test]
async fn what_others_did_to_the_stateful_set_is_taken_back() {
    let mut lab = Lab::new();
    lab.seen(1).await;
    lab.scale_set(1);
    lab.settle();
    lab.seen(1).await;
    assert_eq!(lab.replicas(), 3);
    assert!(lab.api.events().contains(&"DriftCorrected".to_owned()), "{:?}", lab.api.events());
    lab.settle();
    assert_eq!(said(&lab.seen(1).await), FINE);
    // Too soon: two store-nodes are gone, and keep replicas.
    lab.apply("apogee", 5);
    lab.seen(1).await;
    lab.settle();
    lab.apply("apogee", 3);
    lab.seen(2).await;
    lab.scale_set(3);
    lab.settle();
    assert_eq!(said(&lab.seen(1).await)[1], ("False", "KeepsReplicas"));
    assert_eq!(lab.replicas(), 5);
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_a_sentence() {
    let mut lab = Lab::new();
    lab.seen(1).await;
    lab.apply("apogee", 2);
    let object = lab.seen(1).await;
    assert_eq!((said(&object), lab.replicas()), ([("True", "Serves"), ("False", "TooFew")], 3));
    assert!(
        message(&object).starts_with("2 store-nodes are too few: every replica group has 3"),
        "{}",
        message(&object)
    );

    lab.apply("apogee", 4);
    lab.seen(1).await;
    lab.settle();
    lab.apply("apogee", 3);
    let why = "store-node store-3 drains, but no other could take its 2 replicas";
    lab.cluster.inside(|it| it.stuck.insert("store-3".to_owned(), why.to_owned()));
    let object = lab.seen(3).await;
    assert_eq!(said(&object), [("True", "Serves"), ("False", "CannotDrain")]);
    assert_eq!(message(&object), why);

    lab.cluster.inside(|it| it.away = true);
    assert_eq!(said(&lab.seen(1).await), [("True", "Serves"), ("Unknown", "ClusterUnreachable")]);
    lab.api.remove(SET);
    assert_eq!(said(&lab.seen(1).await), [("False", "NoStatefulSet"); 2]);
}

#[tokio::test]
async fn nobody_drains_before_it_is_written_down() {
    let mut lab = Lab::new();
    lab.scale_set(4);
    lab.settle();
    lab.api.refuse(Some((403, |_, path| path.ends_with("/status"))));
    for _ in 0..3 {
        let error = lab.look().await.expect_err("the status is not taken").to_string();
        assert!(error.contains("may not patch storenodes.apogeemq.io/status in namespace queues"), "{error}");
    }
    assert!(lab.cluster.asked().is_empty());
    lab.api.refuse(Some((403, |_, path| path.ends_with("/scale"))));
    lab.seen(2).await;
    lab.cluster.stand("store-3", true, 0);
    let error = lab.look().await.expect_err("the scale is not taken").to_string();
    assert!(error.contains("may not patch statefulsets.apps/scale in namespace queues"), "{error}");
}

#[tokio::test]
async fn a_stateful_set_that_changed_meanwhile_is_looked_at_again() {
    let mut lab = Lab::new();
    let set = lab.scaler.sets("queues").look("store").await.expect("it answers").expect("it is there");
    lab.scale_set(4);
    let error = lab.scaler.sets("queues").scale(&set, 2).await.expect_err("it is another one now");
    assert!(matches!(error, ShelfError::Changed) && lab.replicas() == 4);
    lab.settle();
    assert_eq!(leaving(&lab.seen(1).await), ["store-3"]);
}

#[tokio::test]
async fn of_two_objects_for_one_stateful_set_the_older_one_scales_it() {
    let mut lab = Lab::new();
    let mut older = lab.object();
    older.metadata.name = Some("before".to_owned());
    older.metadata.creation_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let mut younger = lab.object();
    younger.metadata.creation_timestamp = Some(Time(Timestamp::UNIX_EPOCH + Duration::from_secs(1)));
    younger.spec.replicas = 5;
    lab.write(&older);
    lab.write(&younger);
    let object = lab.seen(1).await;
    assert_eq!((said(&object), lab.replicas()), ([("False", "KeptByAnother"); 2], 3));
    assert_eq!(message(&object), "StatefulSet store is scaled by the object before");
}

#[tokio::test]
async fn an_object_that_goes_leaves_all_as_it_is() {
    let mut lab = Lab::new();
    lab.apply("apogee", 4);
    lab.seen(1).await;
    lab.settle();
    lab.apply("apogee", 3);
    lab.seen(2).await;
    lab.cluster.asked();
    let mut object = lab.object();
    object.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    lab.write(&object);
    lab.cluster.stand("store-3", true, 0);
    lab.seen(3).await;
    assert!(lab.cluster.asked().is_empty() && lab.replicas() == 4);
}
