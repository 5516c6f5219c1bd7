use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use apogee_host::health::Health;
use apogee_host::{RealClock, SeededEntropy};
use apogee_proto::admin::v1 as admin;
use futures::future::ready;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::conditions::READY;
use crate::crds::Topic;
use crate::fake::FakeApi;
use crate::kept::ADOPT;
use crate::trouble::Troubles;
use crate::watched::Watched;

const ORDERS: &str = "/apis/apogeemq.io/v1alpha1/namespaces/queues/topics/orders";

/// Topics in memory, and answers that get lost.
#[derive(Default)]
struct FakeCluster(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    topics: BTreeMap<String, admin::Topic>,
    made: u32,
    /// Makes and changes what it is asked for, and says nothing.
    mute: bool,
    /// Does nothing, and says nothing.
    away: bool,
    creates: usize,
}

impl FakeCluster {
    fn inside<T>(&self, with: impl FnOnce(&mut Inside) -> T) -> T {
        with(&mut self.0.lock().expect("no test panics inside"))
    }

    fn there(&self, name: &str) -> Option<admin::Topic> {
        self.inside(|it| it.topics.get(name).cloned())
    }

    /// As another one of its clients.
    fn make(&self, name: &str) {
        let ask = admin::CreateTopicRequest {
            name: name.to_owned(),
            r#type: admin::TopicType::Normal.into(),
            write_queues: 8,
            ..admin::CreateTopicRequest::default()
        };
        self.inside(|it| it.create(ask)).expect("it is not there");
    }

    fn answer<T>(&self, answer: impl FnOnce(&mut Inside) -> Result<T, ClusterError>) -> Result<T, ClusterError> {
        self.inside(|it| if it.away { Err(lost()) } else { answer(it) })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inside) -> Result<T, ClusterError>) -> Result<T, ClusterError> {
        let answer = self.answer(change);
        if self.inside(|it| it.mute) { Err(lost()) } else { answer }
    }
}

fn lost() -> ClusterError {
    ClusterError::Unreachable { message: "nobody is there".to_owned() }
}

impl Inside {
    fn create(&mut self, ask: admin::CreateTopicRequest) -> Result<admin::Topic, ClusterError> {
        if self.topics.contains_key(&ask.name) {
            return Err(ClusterError::Exists { message: "it is there".to_owned() });
        }
        if ask.write_queues > 1_024 {
            return Err(ClusterError::Refused { reason: "Impossible", message: "too many queues".to_owned() });
        }
        (self.creates, self.made) = (self.creates + 1, self.made + 1);
        let topic = admin::Topic {
            name: ask.name.clone(),
            r#type: ask.r#type,
            write_queues: ask.write_queues,
            id: self.made,
            permission: admin::Permission::ReadWrite.into(),
            no_key_index: ask.no_key_index,
            ..admin::Topic::default()
        };
        self.topics.insert(ask.name, topic.clone());
        Ok(topic)
    }

    fn alter(&mut self, ask: &admin::AlterTopicRequest) -> admin::Topic {
        let topic = self.topics.get_mut(&ask.name).expect("it was there");
        topic.write_queues = topic.write_queues.max(ask.queues);
        if ask.permission != 0 {
            topic.permission = ask.permission;
        }
        topic.clone()
    }
}

impl Cluster<Topic> for FakeCluster {
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<admin::Topic>, ClusterError>> {
        Box::pin(ready(self.answer(|it| {
            if name.contains('.') {
                return Err(ClusterError::Refused { reason: "Impossible", message: "a dot".to_owned() });
            }
            Ok(it.topics.get(name).cloned())
        })))
    }

    fn create(&self, ask: admin::CreateTopicRequest) -> BoxFuture<'_, Result<admin::Topic, ClusterError>> {
        Box::pin(ready(self.change(|it| it.create(ask))))
    }

    fn alter(&self, ask: admin::AlterTopicRequest) -> BoxFuture<'_, Result<admin::Topic, ClusterError>> {
        Box::pin(ready(self.change(|it| Ok(it.alter(&ask)))))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        let deleted = self.change(|it| Ok(it.topics.remove(name)));
        Box::pin(ready(deleted.map(drop)))
    }
}

/// An API server, a cluster, and an operator that is asked to look.
struct Lab {
    api: FakeApi,
    cluster: Arc<FakeCluster>,
    keeper: Arc<Keeper<Topic>>,
    objects: reflector::store::Writer<Topic>,
}

impl Lab {
    fn new() -> Lab {
        let (api, cluster) = (FakeApi::default(), Arc::new(FakeCluster::default()));
        let (store, objects) = reflector::store();
        let troubles = Troubles::new(Health::new(&[]));
        let client = api.client();
        let keeper = Keeper {
            client: client.clone(),
            cluster: cluster.clone(),
            cluster_name: "here".to_owned(),
            stores: vec![store],
            report: Report::new(client, "test", troubles, &opentelemetry::global::meter("test")),
            pace: Pace {
                resync: Duration::from_secs(15),
                clock: Arc::new(RealClock),
                entropy: Arc::new(SeededEntropy::new(1)),
            },
        };
        Lab { api, cluster, keeper: Arc::new(keeper), objects }
    }

    /// As `kubectl apply`: what the operator wrote stays.
    fn apply(&mut self, name: &str, spec: serde_json::Value) -> Topic {
        let path = path(name);
        let mut topic = self.api.get::<Topic>(&path).unwrap_or_else(|| {
            let mut topic = Topic::new(name, serde_json::from_value(json!({})).expect("a spec"));
            topic.metadata.namespace = Some("queues".to_owned());
            topic
        });
        topic.spec = serde_json::from_value(spec).expect("a spec");
        self.write(&topic)
    }

    fn write(&mut self, topic: &Topic) -> Topic {
        let topic = self.api.put(&path(&topic.name_any()), topic);
        self.objects.apply_watcher_event(&Event::Apply(topic.clone()));
        topic
    }

    /// As `kubectl delete`.
    fn delete(&mut self, name: &str) {
        let mut topic = self.api.get::<Topic>(&path(name)).expect("it is there");
        topic.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        self.write(&topic);
    }

    async fn look(&self, name: &str) -> Result<Action, ShelfError> {
        let topic = self.api.get::<Topic>(&path(name)).expect("it is there");
        Arc::clone(&self.keeper).reconcile(Arc::new(topic)).await
    }

    /// The object, as the operator left it after another look.
    async fn seen(&mut self, name: &str) -> Topic {
        self.look(name).await.expect("the API server takes all");
        let topic = self.api.get::<Topic>(&path(name)).expect("it is there");
        self.objects.apply_watcher_event(&Event::Apply(topic.clone()));
        topic
    }
}

fn path(name: &str) -> String {
    ORDERS.replace("orders", name)
}

/// Status and reason of both conditions.
fn said(topic: &Topic) -> [(&str, &str); 2] {
    [READY, SYNCED].map(|kind| {
        find(Watched::conditions(topic), kind).map_or(("", ""), |it| (it.status.as_str(), it.reason.as_str()))
    })
}

const FINE: [(&str, &str); 2] = [("True", "InCluster"), ("True", "AsSpecified")];

#[tokio::test]
async fn what_an_object_says_is_made_and_remembered() {
    let mut lab = Lab::new();
    lab.apply("orders", json!({"queues": 3, "permission": "Read"}));
    let topic = lab.seen("orders").await;
    let there = lab.cluster.there("orders").expect("it was made");
    assert_eq!((there.write_queues, there.permission()), (3, admin::Permission::Read));
    assert_eq!((topic.held(), said(&topic)), (Held { id: Some(1), claimed: false }, FINE));
    let status = topic.status.as_ref().expect("a status");
    assert_eq!((status.observed_generation, status.queues), (1, Some(3)));
    assert_eq!(lab.api.events(), ["Created"]);
    // Another look writes nothing.
    let again = lab.seen("orders").await;
    assert_eq!(again.resource_version(), topic.resource_version());
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_belongs_to_the_object() {
    let mut lab = Lab::new();
    lab.apply("orders", json!({}));
    lab.cluster.inside(|it| it.mute = true);
    let topic = lab.seen("orders").await;
    assert_eq!((topic.held(), said(&topic)[1]), (Held { id: None, claimed: true }, ("Unknown", "ClusterUnreachable")));
    assert!(lab.cluster.there("orders").is_some());
    lab.cluster.inside(|it| it.mute = false);
    let topic = lab.seen("orders").await;
    assert_eq!((topic.held(), said(&topic)), (Held { id: Some(1), claimed: false }, FINE));
    assert_eq!(lab.cluster.inside(|it| it.creates), 1);
}

#[tokio::test]
async fn nothing_is_made_before_it_is_written_down_for_whom() {
    let mut lab = Lab::new();
    lab.apply("orders", json!({}));
    lab.api.refuse(Some((403, |_, path| path.ends_with("/status"))));
    let error = lab.look("orders").await.expect_err("the status is not taken").to_string();
    assert!(error.contains("may not patch topics.apogeemq.io/status in namespace queues"), "{error}");
    assert!(lab.cluster.there("orders").is_none());
}

#[tokio::test]
async fn what_comes_between_look_and_create_is_looked_at_again() {
    let mut lab = Lab::new();
    lab.apply("orders", json!({}));
    // The proxy that was asked did not know yet.
    struct Late(Arc<FakeCluster>);
    impl Cluster<Topic> for Late {
        fn look<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<admin::Topic>, ClusterError>> {
            Box::pin(ready(Ok(None)))
        }
        fn create(&self, ask: admin::CreateTopicRequest) -> BoxFuture<'_, Result<admin::Topic, ClusterError>> {
            self.0.create(ask)
        }
        fn alter(&self, ask: admin::AlterTopicRequest) -> BoxFuture<'_, Result<admin::Topic, ClusterError>> {
            self.0.alter(ask)
        }
        fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
            self.0.delete(name)
        }
    }
    lab.cluster.make("orders");
    let late = Arc::new(Late(Arc::clone(&lab.cluster)));
    Arc::get_mut(&mut lab.keeper).expect("nobody else has it").cluster = late;
    let topic = lab.seen("orders").await;
    assert_eq!((topic.held(), said(&topic)), (Held::default(), [("False", "Exists"); 2]));
    // Who asked before does not know who made it, and looks again.
    let topic = lab.api.get::<Topic>(ORDERS).expect("it is there");
    let status = topic.status(Held { id: None, claimed: true }, None, Vec::new());
    write_status(&lab.keeper.client, &topic, status).await.expect("it takes that");
    let error = lab.look("orders").await.expect_err("it is there");
    assert!(matches!(error, ShelfError::Changed));
}

#[tokio::test]
async fn what_others_did_is_taken_back() {
    let mut lab = Lab::new();
    lab.apply("orders", json!({}));
    lab.seen("orders").await;
    lab.cluster.inside(|it| it.topics.get_mut("orders").expect("made").permission = admin::Permission::None.into());
    assert_eq!(said(&lab.seen("orders").await), FINE);
    assert_eq!(lab.cluster.there("orders").expect("made").permission(), admin::Permission::ReadWrite);
    lab.cluster.inside(|it| it.topics.clear());
    let topic = lab.seen("orders").await;
    assert_eq!((topic.held().id, said(&topic)), (Some(2), FINE));
    let mut events = lab.api.events();
    events.sort_unstable();
    assert_eq!(events[0], "Created");
    assert!(events[1..].iter().all(|reason| reason == "DriftCorrected") && events.len() >= 2, "{events:?}");
    // What its own people change is no drift.
    lab.apply("orders", json!({"queues": 9}));
    lab.seen("orders").await;
    assert!(lab.api.events().contains(&"Altered".to_owned()));
}

#[tokio::test]
async fn what_was_there_before_is_refused_until_it_is_adopted() {
    let mut lab = Lab::new();
    lab.cluster.make("orders");
    lab.apply("orders", json!({"queues": 12, "deletionPolicy": "Delete"}));
    let mut topic = lab.seen("orders").await;
    assert_eq!((topic.held(), said(&topic)), (Held::default(), [("False", "NotOurs"), ("False", "NotOurs")]));
    assert_eq!(lab.cluster.there("orders").expect("made").write_queues, 8);
    topic.metadata.annotations = Some([(ADOPT.to_owned(), "true".to_owned())].into());
    lab.write(&topic);
    let topic = lab.seen("orders").await;
    assert_eq!((topic.held().id, said(&topic)), (Some(1), FINE));
    assert_eq!(lab.cluster.there("orders").expect("made").write_queues, 12);
}

#[tokio::test]
async fn what_it_does_not_own_stays_when_it_goes() {
    let mut lab = Lab::new();
    lab.cluster.make("orders");
    lab.apply("orders", json!({"deletionPolicy": "Delete"}));
    lab.seen("orders").await;
    lab.delete("orders");
    lab.look("orders").await.expect("it may go");
    assert!(lab.api.get::<Topic>(ORDERS).is_none() && lab.cluster.there("orders").is_some());
}

#[tokio::test]
async fn the_policy_says_what_goes_with_the_object() {
    let mut lab = Lab::new();
    lab.apply("kept", json!({}));
    assert!(lab.seen("kept").await.finalizers().is_empty());
    lab.apply("orders", json!({"deletionPolicy": "Delete"}));
    assert_eq!(lab.seen("orders").await.finalizers(), [FINALIZER]);
    // Whoever changes his mind is heard.
    lab.apply("orders", json!({"deletionPolicy": "Retain"}));
    assert!(lab.seen("orders").await.finalizers().is_empty());
    lab.apply("orders", json!({"deletionPolicy": "Delete"}));
    lab.seen("orders").await;

    lab.cluster.inside(|it| it.away = true);
    lab.delete("orders");
    let topic = lab.seen("orders").await;
    assert_eq!((topic.finalizers(), said(&topic)[1]), (&[FINALIZER.to_owned()][..], ("Unknown", "ClusterUnreachable")));
    lab.cluster.inside(|it| it.away = false);
    lab.look("orders").await.expect("it may go");
    assert!(lab.api.get::<Topic>(ORDERS).is_none() && lab.cluster.there("orders").is_none());
    assert!(lab.cluster.there("kept").is_some());
}

#[tokio::test]
async fn the_impossible_is_told_and_may_go() {
    let mut lab = Lab::new();
    lab.apply("a.b", json!({"deletionPolicy": "Delete"}));
    assert_eq!(said(&lab.seen("a.b").await), [("False", "Impossible"); 2]);
    lab.delete("a.b");
    lab.look("a.b").await.expect("it may go");
    assert!(lab.api.get::<Topic>(&path("a.b")).is_none());

    lab.apply("orders", json!({"queues": 2_000}));
    let topic = lab.seen("orders").await;
    assert_eq!((topic.held(), said(&topic)), (Held::default(), [("False", "Impossible"); 2]));
    let message = &find(Watched::conditions(&topic), SYNCED).expect("a condition").message;
    assert_eq!(message, "the cluster refuses: too many queues");
    lab.apply("orders", json!({"queues": 20}));
    assert_eq!(said(&lab.seen("orders").await), FINE);
    // Fewer than there are: it serves, and is not as wanted.
    lab.apply("orders", json!({"queues": 10}));
    assert_eq!(said(&lab.seen("orders").await), [("True", "InCluster"), ("False", "FewerQueues")]);
}

#[tokio::test]
async fn of_two_objects_for_one_topic_the_first_keeps_it() {
    let mut lab = Lab::new();
    lab.apply("orders", json!({}));
    lab.seen("orders").await;
    lab.apply("again", json!({"topicName": "orders", "deletionPolicy": "Delete"}));
    let topic = lab.seen("again").await;
    assert_eq!((topic.held(), said(&topic)), (Held::default(), [("False", "KeptByAnother"); 2]));
    assert!(find(Watched::conditions(&topic), READY).expect("a condition").message.contains("queues/orders"));
    assert_eq!(said(&lab.seen("orders").await), FINE);
    lab.delete("again");
    lab.look("again").await.expect("it may go");
    assert!(lab.cluster.there("orders").is_some());
}

#[tokio::test]
async fn objects_of_other_clusters_are_left_alone() {
    let mut lab = Lab::new();
    lab.apply("orders", json!({"clusterRef": "elsewhere", "deletionPolicy": "Delete"}));
    let topic = lab.seen("orders").await;
    assert!(topic.status.is_none() && topic.finalizers().is_empty() && lab.cluster.there("orders").is_none());
    // They are no rivals either.
    lab.apply("here", json!({"clusterRef": "here", "topicName": "orders"}));
    assert_eq!(said(&lab.seen("here").await), FINE);
}

#[tokio::test]
async fn who_read_an_old_object_writes_nothing() {
    let mut lab = Lab::new();
    let old = lab.apply("orders", json!({}));
    lab.apply("orders", json!({"queues": 3}));
    let error = Arc::clone(&lab.keeper).reconcile(Arc::new(old)).await.expect_err("it is another one now");
    assert!(matches!(error, ShelfError::Changed) && lab.cluster.there("orders").is_none());
}
