mod cluster;
mod messages;
mod offsets;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use apogee_model::store::{
    Append, Appended, Checked, CommitOffset, DeliveryKey, EndTransaction, Fetch, Fetched, FetchedMessage, Find, Found,
    GroupQueue, GroupRef, GroupStatus, GroupTrace, HalfId, LiteList, LiteStatus, LiteSubscribed, LiteSubscription,
    OffsetCommitted, OpenTransaction, Pop, Popped, QueueReset, QueueStatus, Recall, Recalled, Reset, Seal, Sealed,
    Settled, Settlement, StoreError, TopicRef, Trace, TransactionEnded,
};
use apogee_model::{
    ClientId, Cluster, ConsumerGroup, Filter, GroupChanges, GroupConfig, GroupId, MacKey, MacKeys, MetadataError,
    NamesrvMember, NamesrvMembers, NewGroup, NewTopic, NodeName, NodeStanding, ProxyNode, QueueId, QueueOffset,
    ReplicaGroup, ReplicaGroupId, ReplicaId, StoreNodeConfig, Timestamp, Topic, TopicChanges, TopicConfig, TopicId,
};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::admin_client::AdminClient;
use apogee_proto::token::ClusterToken;
use futures::future::{BoxFuture, FutureExt as _, ready};
use http::{Request, Version};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tower::ServiceExt as _;
use tower::util::MapRequest;

use super::{AdminParts, Service, service};
use crate::{Checks, ClientHeard, Routes, StoreNode, Stores, Watch};

type Answer<'a, T> = BoxFuture<'a, Result<T, MetadataError>>;

struct FakeRoutes(Mutex<Cluster>);

impl FakeRoutes {
    fn change<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        change(&mut self.0.lock().expect("no test panics inside"))
    }

    fn stands(&self, node: &NodeName, standing: NodeStanding) -> Answer<'static, ()> {
        let changed = self.change(|cluster| {
            let known = cluster.nodes.get_mut(node).ok_or_else(|| MetadataError::NoSuchNode { node: node.clone() })?;
            *known = Arc::new(StoreNodeConfig { standing, ..(**known).clone() });
            Ok(())
        });
        ready(changed).boxed()
    }
}

impl Routes for FakeRoutes {
    fn cluster(&self) -> Arc<Cluster> {
        Arc::new(self.change(|cluster| cluster.clone()))
    }

    fn changed(&self, _: u64) -> BoxFuture<'_, ()> {
        unreachable!("no admin call follows the cluster")
    }

    fn create_topic(&self, new: NewTopic) -> Answer<'_, Arc<TopicConfig>> {
        let NewTopic { topic, topic_type, queues, permission, lite_expiration, key_index } = new;
        let created = Timestamp(1_700_000_000_123);
        let placement = vec![ReplicaGroupId(0); usize::from(queues)];
        let topic_id = TopicId(7);
        let id = topic_id;
        let made = TopicConfig {
            topic: topic.clone(),
            id,
            topic_type,
            queues,
            placement,
            permission,
            lite_expiration,
            key_index,
            epoch: 0,
            growing: None,
            created,
        };
        let made = Arc::new(made);
        let before = self.change(|cluster| cluster.topics.insert(topic.clone(), Arc::clone(&made)));
        ready(if before.is_some() { Err(MetadataError::TopicExists { topic }) } else { Ok(made) }).boxed()
    }

    fn alter_topic(&self, changes: TopicChanges) -> Answer<'_, Arc<TopicConfig>> {
        let TopicChanges { topic, queues, permission, .. } = changes;
        let altered = self.change(|cluster| {
            let known = cluster.topics.get_mut(&topic).ok_or(MetadataError::NoSuchTopic { topic })?;
            let (queues, permission) = (queues.unwrap_or(known.queues), permission.unwrap_or(known.permission));
            *known = Arc::new(TopicConfig { queues, permission, ..(**known).clone() });
            Ok(Arc::clone(known))
        });
        ready(altered).boxed()
    }

    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> Answer<'a, Arc<TopicConfig>> {
        let removed = self.change(|cluster| cluster.topics.remove(topic));
        ready(removed.ok_or_else(|| MetadataError::NoSuchTopic { topic: topic.clone() })).boxed()
    }

    fn create_group(&self, new: NewGroup) -> Answer<'_, Arc<GroupConfig>> {
        let NewGroup { group, order, max_attempts, retry, priority_factor, lite } = new;
        let (id, created) = (GroupId(9), Timestamp(0));
        let made = GroupConfig { group: group.clone(), id, order, max_attempts, retry, priority_factor, lite, created };
        let made = Arc::new(made);
        self.change(|cluster| cluster.groups.insert(group, Arc::clone(&made)));
        ready(Ok(made)).boxed()
    }

    fn alter_group(&self, changes: GroupChanges) -> Answer<'_, Arc<GroupConfig>> {
        let GroupChanges { group, max_attempts, retry, priority_factor } = changes;
        let altered = self.change(|cluster| {
            let known = cluster.groups.get_mut(&group).ok_or(MetadataError::NoSuchGroup { group })?;
            let mut altered = (**known).clone();
            (altered.max_attempts, altered.retry) =
                (max_attempts.unwrap_or(altered.max_attempts), retry.unwrap_or(altered.retry));
            altered.priority_factor = priority_factor.unwrap_or(altered.priority_factor);
            *known = Arc::new(altered);
            Ok(Arc::clone(known))
        });
        ready(altered).boxed()
    }

    fn proxies(&self) -> Answer<'_, Vec<ProxyNode>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn delete_group<'a>(&'a self, group: &'a ConsumerGroup) -> Answer<'a, Arc<GroupConfig>> {
        let removed = self.change(|cluster| cluster.groups.remove(group));
        ready(removed.ok_or_else(|| MetadataError::NoSuchGroup { group: group.clone() })).boxed()
    }

    fn drain_node<'a>(&'a self, node: &'a NodeName) -> Answer<'a, ()> {
        self.stands(node, NodeStanding::Draining)
    }

    fn undrain_node<'a>(&'a self, node: &'a NodeName) -> Answer<'a, ()> {
        self.stands(node, NodeStanding::Alive)
    }

    fn remove_node<'a>(&'a self, node: &'a NodeName) -> Answer<'a, ()> {
        let removed = self.change(|cluster| {
            let replicas = cluster.hosted(node).count();
            if replicas > 0 {
                return Err(MetadataError::KeepsReplicas { node: node.clone(), replicas });
            }
            let known = cluster.nodes.remove(node);
            known.map(drop).ok_or_else(|| MetadataError::NoSuchNode { node: node.clone() })
        });
        ready(removed).boxed()
    }

    fn members(&self) -> Answer<'_, NamesrvMembers> {
        let member = |id| NamesrvMember { id, address: format!("n{id}:9876") };
        ready(Ok(NamesrvMembers { members: vec![member(1), member(2)], leader: Some(2) })).boxed()
    }
}

/// Remembers what was dropped and reset; has counters for the queues of every topic and group, and some messages.
#[derive(Default)]
struct FakeStore {
    dropped: Mutex<Vec<String>>,
    resets: Mutex<Vec<Reset>>,
    /// Of the process that serves it.
    stop: CancellationToken,
    /// Of each queue, from offset 0 on.
    stored: Mutex<BTreeMap<QueueId, Vec<FetchedMessage>>>,
    /// Instead of replica 1.
    leader: Option<ReplicaId>,
}

impl StoreNode for FakeStore {
    fn leads(&self) -> bool {
        true
    }

    fn leader(&self) -> Option<ReplicaId> {
        self.leader.or(Some(ReplicaId(1)))
    }

    fn append(&self, _: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, StoreError>> {
        unreachable!("the admin API sends nothing")
    }

    fn pop(&self, _: Pop) -> BoxFuture<'_, Result<Popped, StoreError>> {
        unreachable!("the admin API receives nothing")
    }

    fn settle(&self, _: DeliveryKey, _: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        unreachable!("the admin API settles nothing")
    }

    fn release(&self, _: Vec<DeliveryKey>) {}

    fn confirm(&self, _: Vec<DeliveryKey>) {}

    fn heard(&self, _: Vec<ClientHeard>) {}

    fn hung_up(&self, _: Vec<ClientHeard>) {}

    fn lost(&self, _: ClientId) {}

    fn watch(&self, _: GroupRef, _: TopicRef, _: Filter) -> Box<dyn Watch> {
        unreachable!("the admin API waits for nothing")
    }

    fn watch_lite(&self, _: GroupRef, _: TopicRef, _: ClientId) -> Box<dyn Watch> {
        unreachable!("the admin API waits for nothing")
    }

    fn lite_subscribe(&self, _: LiteSubscription) -> BoxFuture<'_, Result<LiteSubscribed, StoreError>> {
        unreachable!("the admin API subscribes to nothing")
    }

    fn seal(&self, _: Seal) -> BoxFuture<'_, Result<Sealed, StoreError>> {
        unreachable!("no topic gets more queues here")
    }

    fn find(&self, _: Find) -> BoxFuture<'_, Result<Vec<Found>, StoreError>> {
        unreachable!("nobody looks for messages here")
    }

    fn trace(&self, _: Trace) -> BoxFuture<'_, Result<Vec<GroupTrace>, StoreError>> {
        unreachable!("nobody looks for messages here")
    }

    fn lite_list(&self, _: LiteList) -> BoxFuture<'_, Result<Vec<LiteStatus>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn topic_status(&self, _: TopicId) -> BoxFuture<'_, Result<Vec<QueueStatus>, StoreError>> {
        let stored = self.stored.lock().expect("no test panics inside");
        if !stored.is_empty() {
            return ready(Ok(stored.iter().map(messages::status).collect())).boxed();
        }
        let second = QueueStatus { queue: QueueId(1), min: QueueOffset(3), max: QueueOffset(10), delayed: 0 };
        ready(Ok(vec![second])).boxed() // nothing was ever sent to the first
    }

    fn group_status(&self, _: GroupId) -> BoxFuture<'_, Result<Vec<GroupStatus>, StoreError>> {
        let row = |topic, queue| GroupStatus {
            topic: TopicId(topic),
            queue: QueueId(queue),
            floor: QueueOffset(3),
            cursor: QueueOffset(5),
            max: QueueOffset(10),
            in_flight: 2,
            pulled: (queue == 1).then_some(QueueOffset(4)),
        };
        ready(Ok(vec![row(7, 1), row(7, 0), row(1000, 0)])).boxed() // topic 1000 was deleted a moment ago
    }

    fn reset_offset(&self, reset: Reset) -> BoxFuture<'_, Result<Vec<QueueReset>, StoreError>> {
        self.resets.lock().expect("no test panics inside").push(reset);
        let row = |queue| QueueReset {
            queue: QueueId(queue),
            before: QueueOffset(3),
            after: QueueOffset(queue.into()),
            in_flight: 2,
        };
        ready(Ok(vec![row(1), row(0)])).boxed()
    }

    fn recall(&self, _: Recall) -> BoxFuture<'_, Result<Recalled, StoreError>> {
        ready(Ok(Recalled::Done)).boxed()
    }

    fn end_transaction(&self, end: EndTransaction) -> BoxFuture<'_, Result<TransactionEnded, StoreError>> {
        ready(Ok(transactions::ended(end))).boxed()
    }

    fn transactions(
        &self,
        _: TopicId,
        from: HalfId,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<OpenTransaction>, StoreError>> {
        ready(Ok(transactions::open(from, max))).boxed()
    }

    fn checks(&self, _: BTreeSet<TopicId>) -> Box<dyn Checks> {
        unreachable!("the admin API asks nobody")
    }

    fn checked(&self, _: Checked) {}

    fn fetch(&self, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, StoreError>> {
        let stored = self.stored.lock().expect("no test panics inside");
        ready(Ok(messages::fetched(stored.get(&fetch.queue).map_or(&[], Vec::as_slice), &fetch))).boxed()
    }

    fn commit_offset(&self, _: CommitOffset) -> BoxFuture<'_, Result<OffsetCommitted, StoreError>> {
        unreachable!("the admin API commits nothing")
    }

    fn committed_offset(&self, _: GroupQueue) -> BoxFuture<'_, Result<Option<QueueOffset>, StoreError>> {
        unreachable!("the admin API asks for all of a group")
    }

    fn drop_topic(&self, topic: TopicId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.dropped.lock().expect("no test panics inside").push(format!("topic {topic}"));
        ready(Ok(())).boxed()
    }

    fn drop_group(&self, _: GroupId) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Err(StoreError::Busy { what: "inbox" })).boxed()
    }
}

fn token() -> ClusterToken {
    ClusterToken::new([7; 32])
}

/// Store-node s1 has the only replica of two groups.
fn small_cluster() -> Cluster {
    let mac_keys = Arc::new(MacKeys { current: MacKey { generation: 0, secret: [0; 32] }, previous: None });
    let mut cluster = Cluster::born(1, 1, mac_keys);
    let name = NodeName::parse("s1").expect("a good name");
    let (lanes, replication, zone) = ("s1:10911".to_owned(), "s1:10912".to_owned(), "z".to_owned());
    let standing = NodeStanding::Alive;
    let node = StoreNodeConfig { name: name.clone(), lanes, replication, zone, standing, incarnation: 1 };
    cluster.nodes.insert(name.clone(), Arc::new(node));
    for id in [ReplicaGroupId(0), ReplicaGroupId(1)] {
        let group = ReplicaGroup::new(id, [(ReplicaId(1), name.clone())].into(), ReplicaId(1));
        cluster.replica_groups.insert(id, Arc::new(group));
    }
    cluster
}

fn served(cluster: Cluster, store: Arc<FakeStore>) -> Service {
    let stop = store.stop.clone();
    service(AdminParts {
        cluster_name: "apogee".to_owned(),
        routes: Arc::new(FakeRoutes(Mutex::new(cluster))),
        stores: Stores::one(ReplicaGroupId(0), store),
        token: Some(token()),
        stop,
    })
}

type WireRequest = Request<tonic::body::Body>;
type Client = AdminClient<MapRequest<Service, fn(WireRequest) -> WireRequest>>;

fn client(store: &Arc<FakeStore>) -> Client {
    client_of(small_cluster(), store)
}

fn client_of(cluster: Cluster, store: &Arc<FakeStore>) -> Client {
    AdminClient::new(MapRequest::new(served(cluster, Arc::clone(store)), |mut request| {
        let header = format!("Bearer {}", token().reveal()).parse().expect("hexadecimal digits make a header");
        request.headers_mut().insert("authorization", header);
        request
    }))
}

fn new_topic(name: &str) -> v1::CreateTopicRequest {
    let r#type = v1::TopicType::Normal.into();
    let (read_queues, write_queues, lite_expiration_ms) = (2, 2, None);
    let (namespace, name) = (String::new(), name.to_owned());
    v1::CreateTopicRequest {
        namespace,
        name,
        r#type,
        read_queues,
        write_queues,
        lite_expiration_ms,
        no_key_index: false,
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, Status>) -> (Code, String) {
    let status = answer.expect_err("the test expects a refusal");
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn every_rpc_wants_the_token() {
    let files = prost_types::FileDescriptorSet::decode(apogee_proto::DESCRIPTORS).expect("our own descriptors");
    let admin = files.file.iter().filter(|file| file.package() == "apogee.admin.v1").flat_map(|file| &file.service);
    let paths: Vec<_> = admin
        .flat_map(|service| {
            service.method.iter().map(|rpc| format!("/apogee.admin.v1.{}/{}", service.name(), rpc.name()))
        })
        .collect();
    assert!(paths.len() >= 17, "{paths:?}");
    for path in paths {
        let request = Request::post(&path).version(Version::HTTP_2).header("content-type", "application/grpc");
        let request = request.body(tonic::body::Body::empty()).expect("a valid request");
        let response =
            served(small_cluster(), Arc::default()).oneshot(request).await.expect("the service is infallible");
        assert_eq!(response.headers()["grpc-status"], "16", "{path}");
    }
}

#[tokio::test]
async fn a_topic_from_birth_to_death() {
    let store = Arc::<FakeStore>::default();
    let mut admin = client(&store);
    let made = admin.create_topic(new_topic("orders")).await.expect("a fair wish").into_inner().topic.expect("a topic");
    assert_eq!((made.id, made.write_queues, made.r#type()), (7, 2, v1::TopicType::Normal));
    assert_eq!(made.created.expect("a time").to_string(), "2023-11-14T22:13:20.123Z");
    let again = refused(admin.create_topic(new_topic("orders")).await);
    assert_eq!(again, (Code::AlreadyExists, "topic orders exists already".to_owned()));

    let ask = v1::DescribeTopicRequest { namespace: String::new(), name: "orders".to_owned() };
    let described = admin.describe_topic(ask).await.expect("it is there").into_inner();
    assert_eq!(described.queues.iter().map(|queue| queue.max_offset).collect::<Vec<_>>(), [0, 10]);
    let listed = admin.list_topics(v1::ListTopicsRequest::default()).await.expect("a fair question").into_inner();
    assert_eq!((listed.topics.len(), listed.next_page_token.as_str()), (1, ""));

    let ask = v1::DeleteTopicRequest { namespace: String::new(), name: "orders".to_owned() };
    admin.delete_topic(ask.clone()).await.expect("it is there");
    assert_eq!(*store.dropped.lock().expect("no test panics inside"), ["topic 7"]);
    assert_eq!(refused(admin.delete_topic(ask).await).0, Code::NotFound);
}

#[tokio::test]
async fn progress_is_in_order_and_without_deleted_topics() {
    let mut admin = client(&Arc::default());
    admin.create_topic(new_topic("orders")).await.expect("a fair wish");
    let order = v1::DeliveryOrder::Orderly.into();
    let (namespace, name, max_attempts, retry) = (String::new(), "g".to_owned(), 3, None);
    let ask = v1::CreateGroupRequest { namespace, name, order, max_attempts, retry, priority_factor: None, lite: None };
    admin.create_group(ask).await.expect("a fair wish");
    let mut ask = v1::DescribeGroupRequest { namespace: String::new(), name: "g".to_owned(), settings_only: true };
    let described = admin.describe_group(ask.clone()).await.expect("it is there").into_inner();
    assert!(described.progress.is_empty() && described.group.is_some());
    ask.settings_only = false;
    let described = admin.describe_group(ask).await.expect("it is there").into_inner();
    let rows: Vec<_> = described.progress.iter().map(|row| (row.topic.as_str(), row.queue_id, row.committed)).collect();
    assert_eq!(rows, [("orders", 0, 3), ("orders", 1, 3)]);
    let pulled: Vec<_> = described.progress.iter().map(|row| row.pull_offset).collect();
    assert_eq!(pulled, [None, Some(4)]);
    assert_eq!(described.group.expect("a group").order(), v1::DeliveryOrder::Orderly);

    let ask = v1::DeleteGroupRequest { namespace: String::new(), name: "g".to_owned() };
    let told = "group g is deleted, but its room on disk is not free yet: \
                the store has no room for this request now: inbox is full";
    assert_eq!(refused(admin.delete_group(ask).await), (Code::Unavailable, told.to_owned()));
}

#[tokio::test]
async fn bad_wishes_name_the_value_and_the_limit() {
    let mut admin = client(&Arc::default());
    let mut check = async |change: fn(&mut v1::CreateTopicRequest), told: &str| {
        let mut ask = new_topic("orders");
        change(&mut ask);
        assert_eq!(refused(admin.create_topic(ask).await), (Code::InvalidArgument, told.to_owned()));
    };
    check(
        |ask| ask.name = "a b".to_owned(),
        "topic name \"a b\" has the character ' '; allowed are letters, digits and % | - _",
    )
    .await;
    check(|ask| ask.read_queues = 3, "read queues 3 and write queues 2 differ; they must be equal").await;
    let many = "number of queues is 70000, allowed are 1 to 1024";
    check(|ask| (ask.read_queues, ask.write_queues) = (70_000, 70_000), many).await;
    let types = "which is none of NORMAL, FIFO, DELAY, TRANSACTION, PRIORITY, LITE, MIXED";
    check(|ask| ask.r#type = 0, &format!("topic type is 0, {types}")).await;
    check(|ask| ask.r#type = 99, &format!("topic type is 99, {types}")).await;

    let ask = v1::ListTopicsRequest { page_size: 1001, page_token: String::new() };
    let told = "page size is 1001, at most 1000 are allowed".to_owned();
    assert_eq!(refused(admin.list_topics(ask).await), (Code::InvalidArgument, told));
    let ask = v1::DescribeTopicRequest { namespace: String::new(), name: "nowhere".to_owned() };
    assert_eq!(refused(admin.describe_topic(ask).await), (Code::NotFound, "topic nowhere does not exist".to_owned()));
}

#[tokio::test]
async fn a_topic_is_altered_where_something_is_said() {
    let mut admin = client(&Arc::default());
    admin.create_topic(new_topic("orders")).await.expect("a fair wish");
    let mut alter = async |queues, permission| {
        let ask = v1::AlterTopicRequest {
            namespace: String::new(),
            name: "orders".to_owned(),
            queues,
            permission,
            key_index: None,
        };
        let altered = admin.alter_topic(ask).await.map(tonic::Response::into_inner);
        altered.map(|altered| altered.topic.map(|topic| (topic.write_queues, topic.permission())))
    };
    let (any, read) = (v1::Permission::Unspecified.into(), v1::Permission::Read);
    assert_eq!(alter(0, read.into()).await.expect("a fair wish"), Some((2, read)));
    assert_eq!(alter(4, any).await.expect("a fair wish"), Some((4, read)));
    assert_eq!(alter(70_000, any).await.expect_err("too many").code(), Code::InvalidArgument);
    assert_eq!(alter(4, 99).await.expect_err("none of them").code(), Code::InvalidArgument);
}
