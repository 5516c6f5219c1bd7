//! A store-node in this process: an engine on a simulated disk, its lanes on a loopback port, and the words of the tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Engine, EngineParts, Role, SEGMENT_MIN, Settings};
use apogee_host::{Entropy as _, OsEntropy, RealClock, SimDisk, Tasks, net};
use apogee_model::store::{Append, GroupRef, LeaseTerms, Pop, Popped, RequestId, TopicRef};
use apogee_model::{
    ClientId, ConsumerGroup, DeliveryOrder, Epoch, Filter, GroupId, InvisibleDuration, QueueId, ReplicaGroupId,
    ReplicaId, StoredMessage, Topic, TopicId,
};
use apogee_proxy::{RemoteGroup, RemoteGroupParts, StoreMetrics};
use apogee_store_node::lanes::{Lanes, Served};
use apogee_store_node::serve_lanes;
use bytes::Bytes;
use tokio::sync::watch;

pub(crate) const SOON: Duration = Duration::from_secs(10);
pub(crate) const GROUP: ReplicaGroupId = ReplicaGroupId(3);
pub(crate) const FOLLOWER: Role = Role::Follower { leader: None };

pub(crate) fn leader(epoch: u64) -> Role {
    Role::Leader { epoch: Epoch(epoch) }
}

/// A running store-node.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) lanes: Lanes,
    pub(crate) address: SocketAddr,
    pub(crate) tasks: Tasks,
}

impl Site {
    pub(crate) async fn new(replica: u64, role: Role) -> Self {
        Self::of_cluster(7, replica, role).await
    }

    pub(crate) async fn of_cluster(cluster_id: u64, replica: u64, role: Role) -> Self {
        let tasks = Tasks::new();
        let parts = EngineParts {
            disk: Arc::new(SimDisk::new(replica)),
            clock: Arc::new(RealClock),
            tasks: tasks.clone(),
            meter: opentelemetry::global::meter("test"),
        };
        let settings = Settings { segment_bytes: SEGMENT_MIN, ..Settings::default() };
        let engine = Engine::open(parts, settings).await.expect("an empty disk opens");
        let role = watch::Sender::new(role);
        let lanes = Lanes::new(cluster_id, tasks.clone());
        let served = Served { replica: ReplicaId(replica), engine: engine.clone(), role: role.subscribe() };
        lanes.serve(GROUP, served);
        let listener = net::listen(([127, 0, 0, 1], 0).into()).expect("some port is free");
        let address = listener.local_addr().expect("a listener has an address");
        serve_lanes(&tasks, listener, &lanes, None);
        Self { engine, role, lanes, address, tasks }
    }
}

/// A proxy's view of some store-nodes.
pub(crate) fn stores(sites: &[&Site], tasks: &Tasks) -> RemoteGroup {
    let addresses: Vec<_> = sites.iter().map(|site| site.address.to_string()).collect();
    let parts = RemoteGroupParts {
        group: GROUP,
        connections: Arc::default(),
        incarnation: OsEntropy.next_u64(),
        tasks: tasks.clone(),
        stop: tasks.token(),
        metrics: Arc::new(StoreMetrics::new(&opentelemetry::global::meter("test"))),
    };
    let group = RemoteGroup::new(parts);
    group.at(&addresses).expect("the addresses are good");
    group
}

pub(crate) fn topic() -> TopicRef {
    TopicRef { id: TopicId(1), name: Topic::parse("", "orders").expect("a good name"), queues: 4 }
}

pub(crate) fn group() -> GroupRef {
    GroupRef { id: GroupId(1), name: ConsumerGroup::parse("", "billing").expect("a good name") }
}

pub(crate) fn append(queue: u16, sequence: u64, body: impl Into<Bytes>) -> Append {
    let message = StoredMessage { body_part: body.into(), properties_part: Bytes::new() };
    let request = RequestId { proxy_incarnation: 1, sequence };
    Append {
        topic: topic(),
        queue: QueueId(queue),
        message,
        request,
        due: None,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    }
}

pub(crate) fn receive(batch: usize) -> Pop {
    let lease = LeaseTerms::Fixed(InvisibleDuration::for_receive(SOON).expect("in range"));
    Pop {
        group: group(),
        topic: topic(),
        filter: Filter::default(),
        batch,
        lease,
        attempt_id: None,
        client: ClientId::parse("host@1@1").expect("not blank"),
        dead_letters: None,
        order: DeliveryOrder::Concurrent,
        priority: None,
        lite: false,
    }
}

pub(crate) fn bodies(popped: &Popped) -> Vec<Bytes> {
    popped.messages.iter().map(|delivery| delivery.message.body_part.clone()).collect()
}
