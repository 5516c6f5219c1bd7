//! A namesrv on a simulated disk, and short words for what tests ask of it.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its part")]

use std::sync::Arc;
use std::time::Duration;

use apogee_host::{ManualClock, SeededEntropy, SimDisk, Tasks};
use apogee_model::Cluster;
use apogee_model::{
    ConsumerGroup, DeliveryOrder, NewGroup, NewNode, NewTopic, NodeName, Permission, PriorityFactor, RetryPolicy,
    Topic, TopicType,
};
use apogee_namesrv::{Member, Namesrv, NamesrvParts, OpenError};

pub const JOURNAL: &str = "namesrv/journal-0000000001";
pub const FORMAT: &str = "namesrv/FORMAT";

/// The list of a namesrv without others.
pub fn alone() -> Vec<Member> {
    vec![Member { id: 1, registry: String::new(), consensus: String::new() }]
}

/// One life of the process.
pub struct Life {
    pub namesrv: Namesrv,
    pub tasks: Tasks,
    pub clock: ManualClock,
}

impl Life {
    /// What it shows.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.namesrv.cluster().unwrap()
    }

    /// Ends as after SIGTERM.
    pub async fn end(self) {
        assert!(self.tasks.close(Duration::from_secs(5)).await.is_empty());
    }
}

pub async fn start(disk: &SimDisk, seed: u64) -> Result<Life, OpenError> {
    let (tasks, clock) = (Tasks::new(), ManualClock::default());
    let namesrv = Namesrv::open(NamesrvParts {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(SeededEntropy::new(seed)),
        tasks: tasks.clone(),
        members: alone(),
        me: 1,
        replication_factor: 1,
        token: None,
    })
    .await?;
    Ok(Life { namesrv, tasks, clock })
}

/// A store-node in its first life.
pub fn node(name: &str) -> NewNode {
    let name = NodeName::parse(name).unwrap();
    NewNode { lanes: format!("{name}:1"), replication: format!("{name}:2"), zone: String::new(), incarnation: 1, name }
}

/// [`start`], and a store-node to put topics on.
pub async fn start_with_node(disk: &SimDisk, seed: u64) -> Result<Life, OpenError> {
    let life = start(disk, seed).await?;
    life.namesrv.register(node("n1")).await.unwrap();
    Ok(life)
}

pub fn topic(name: &str) -> Topic {
    Topic::parse("", name).unwrap()
}

pub fn group(name: &str) -> ConsumerGroup {
    ConsumerGroup::parse("", name).unwrap()
}

pub fn new_topic(name: &str, queues: u16) -> NewTopic {
    NewTopic {
        topic: topic(name),
        topic_type: TopicType::Mixed,
        queues,
        permission: Permission::ReadWrite,
        lite_expiration: None,
        key_index: true,
    }
}

pub fn new_group(name: &str, max_attempts: u32) -> NewGroup {
    let (order, retry) = (DeliveryOrder::Concurrent, RetryPolicy::default());
    NewGroup { group: group(name), order, max_attempts, retry, priority_factor: PriorityFactor::default(), lite: None }
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
