//! Three members over the loopback network, their store-nodes, and clients that know only addresses.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::net::listen;
use apogee_host::{ManualClock, SeededEntropy, SimDisk, Tasks};
use apogee_model::{Cluster, MetadataError, NodeName, NodeStanding, ProxyNode, ReplicaGroupId, ReplicaId};
use apogee_namesrv::{
    Member, Namesrv, NamesrvClient, NamesrvClientParts, NamesrvParts, serve_consensus, serve_registry,
};
use apogee_proto::token::ClusterToken;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use support::*;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A group of namesrv, each of which may be up or down.
struct Group {
    members: Vec<Member>,
    disks: Vec<SimDisk>,
    up: Vec<Option<Up>>,
    token: Option<ClusterToken>,
    lives: u64,
}

/// A namesrv in a runtime of its own, so that it can end in the middle of everything.
struct Up {
    namesrv: Namesrv,
    tasks: Tasks,
    runtime: Runtime,
}

/// Registry and consensus.
type Ports = (std::net::TcpListener, std::net::TcpListener);

impl Group {
    async fn new(token: Option<ClusterToken>) -> Group {
        let (mut ports, mut members) = (Vec::new(), Vec::new());
        for id in 1..=3 {
            let bound = (bind("127.0.0.1:0").await, bind("127.0.0.1:0").await);
            let address = |listener: &std::net::TcpListener| listener.local_addr().unwrap().to_string();
            members.push(Member { id, registry: address(&bound.0), consensus: address(&bound.1) });
            ports.push(bound);
        }
        let disks = (1..=3).map(SimDisk::new).collect();
        let mut group = Group { members, disks, up: vec![None, None, None], token, lives: 0 };
        for (at, ports) in ports.into_iter().enumerate() {
            group.begin(at, ports).await;
        }
        group
    }

    async fn begin(&mut self, at: usize, (registry, consensus): Ports) {
        self.lives += 1;
        let (tasks, token) = (Tasks::new(), self.token.clone());
        let parts = NamesrvParts {
            disk: Arc::new(self.disks[at].clone()),
            clock: Arc::new(ManualClock::default()),
            entropy: Arc::new(SeededEntropy::new(self.lives)),
            tasks: tasks.clone(),
            members: self.members.clone(),
            me: self.members[at].id,
            replication_factor: 3,
            token: self.token.clone(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let owner = tasks.clone();
        let opened = runtime.spawn(async move {
            let namesrv = Namesrv::open(parts).await.unwrap();
            serve_registry(&owner, TcpListener::from_std(registry).unwrap(), namesrv.clone(), token.clone());
            serve_consensus(&owner, TcpListener::from_std(consensus).unwrap(), namesrv.clone(), token);
            namesrv
        });
        let namesrv = opened.await.unwrap();
        self.up[at] = Some(Up { namesrv, tasks, runtime });
    }

    /// Again, on the disk as a power cut left it.
    async fn start(&mut self, at: usize) {
        let ports = (bind(&self.members[at].registry).await, bind(&self.members[at].consensus).await);
        self.begin(at, ports).await;
    }

    /// Ends it without any farewell.
    fn kill(&mut self, at: usize) {
        let up = self.up[at].take().unwrap();
        self.disks[at] = self.disks[at].power_cut();
        up.runtime.shutdown_background();
    }

    fn namesrv(&self, at: usize) -> Namesrv {
        self.up[at].as_ref().unwrap().namesrv.clone()
    }

    fn client(&self, tasks: &Tasks) -> NamesrvClient {
        let addresses = self.members.iter().map(|member| member.registry.clone()).collect();
        let (token, tasks) = (self.token.clone(), tasks.clone());
        NamesrvClient::new(NamesrvClientParts { addresses, token, cluster_id: None, tasks }).unwrap()
    }

    /// The place of the leader, once all that are up agree.
    async fn leader(&self) -> usize {
        let agreed = async {
            loop {
                let up = self.up.iter().flatten();
                let leaders: BTreeSet<Option<u64>> = up.map(|up| up.namesrv.members().1).collect();
                if let (1, Some(Some(leader))) = (leaders.len(), leaders.first()) {
                    return self.members.iter().position(|member| member.id == *leader).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, agreed).await.expect("a leader is elected")
    }

    async fn end(self) {
        for up in self.up.into_iter().flatten() {
            assert!(up.tasks.close(PATIENCE).await.is_empty());
            up.runtime.shutdown_background();
        }
    }
}

/// Binds as soon as whoever had the port is gone.
async fn bind(address: &str) -> std::net::TcpListener {
    let bound = async {
        loop {
            if let Ok(listener) = listen(address.parse().unwrap()) {
                return listener.into_std().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, bound).await.expect("the port is free")
}

async fn until(client: &NamesrvClient, what: impl FnMut(&Cluster) -> bool) -> Arc<Cluster> {
    let (mut watch, mut what) = (client.watch(), what);
    let seen = timeout(PATIENCE, watch.wait_for(|cluster| cluster.as_ref().is_some_and(|cluster| what(cluster)))).await;
    seen.expect("it comes to be").unwrap().clone().unwrap()
}

async fn register_three(client: &NamesrvClient) {
    for name in ["a", "b", "c"] {
        client.register(node(name)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_the_leader_is_no_loss() {
    let (mut group, tasks) = (Group::new(None).await, Tasks::new());
    let client = group.client(&tasks);
    register_three(&client).await;
    let cluster = client.cluster().unwrap();
    assert_eq!((cluster.nodes.len(), cluster.replica_groups.len(), cluster.replication_factor), (3, 3, 3));
    let first = client.create_topic(new_topic("before", 6)).await.unwrap();
    assert_eq!(first.replica_groups().len(), 3);
    assert_eq!(client.cluster().unwrap().topics[&topic("before")], first);

    let leader = group.leader().await;
    group.kill(leader);
    let second = client.create_topic(new_topic("after", 6)).await.unwrap();
    let cluster = client.cluster().unwrap();
    assert_eq!(cluster.topics.values().cloned().collect::<Vec<_>>(), [second.clone(), first.clone()]);

    group.start(leader).await;
    let back = group.namesrv(leader);
    let mut watch = back.watch();
    let there = |cluster: &Option<Arc<Cluster>>| cluster.as_ref().is_some_and(|cluster| cluster.topics.len() == 2);
    timeout(PATIENCE, watch.wait_for(there)).await.expect("it catches up").unwrap();
    assert_eq!(back.cluster().unwrap().topics, client.cluster().unwrap().topics);
    tasks.close(PATIENCE).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_tells_every_watcher_and_names_the_leader() {
    let (group, tasks) = (Group::new(None).await, Tasks::new());
    let leader = group.leader().await;
    let follower = (leader + 1) % 3;
    let one = |at: usize| {
        let addresses = vec![group.members[at].registry.clone()];
        NamesrvClient::new(NamesrvClientParts { addresses, token: None, cluster_id: None, tasks: tasks.clone() })
    };
    let clients: Vec<NamesrvClient> = (0..3).map(|at| one(at).unwrap()).collect();
    register_three(&clients[follower]).await;
    let created = clients[follower].create_topic(new_topic("t", 3)).await.unwrap();
    for client in &clients {
        let seen = until(client, |cluster| cluster.topics.contains_key(&created.topic)).await;
        assert_eq!(seen.topics[&created.topic], created);
    }
    clients[follower].delete_topic(&created.topic).await.unwrap();
    for client in &clients {
        until(client, |cluster| cluster.topics.is_empty()).await;
    }
    let refused = group.namesrv(follower).create_topic(new_topic("u", 1)).await;
    let address = group.members[leader].registry.clone();
    assert_eq!(refused, Err(MetadataError::NotLeader { leader: Some(address) }));
    assert_eq!(clients[0].members().await.unwrap().0, group.members);
    tasks.close(PATIENCE).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_node_that_is_there_is_not_removed() {
    let (group, tasks) = (Group::new(None).await, Tasks::new());
    let client = group.client(&tasks);
    let name = NodeName::parse("a").unwrap();
    client.register(node("a")).await.unwrap();
    let refused = client.remove_node(&name).await;
    assert_eq!(refused, Err(MetadataError::Refused { why: "store-node a does not drain".to_owned() }));
    client.drain_node(&name).await.unwrap();
    let refused = client.remove_node(&name).await;
    assert!(matches!(&refused, Err(MetadataError::Refused { why }) if why.contains("stop it first")), "{refused:?}");
    for other in ["b", "c", "d"] {
        client.register(node(other)).await.unwrap();
    }
    client.drain_node(&NodeName::parse("b").unwrap()).await.unwrap();
    let refused = client.remove_node(&NodeName::parse("b").unwrap()).await;
    assert!(matches!(refused, Err(MetadataError::KeepsReplicas { replicas: 3, .. })), "{refused:?}");
    let version = client.cluster().unwrap().version;
    client.move_ready(ReplicaGroupId(0), ReplicaId(4)).await.unwrap();
    client.move_done(ReplicaGroupId(0), ReplicaId(4)).await.unwrap();
    assert_eq!(client.cluster().unwrap().version, version, "no such move is under way");
    tasks.close(PATIENCE).await;
    group.end().await;
}

/// Proxies are remembered by the leader alone, and tell its successor within a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_find_each_other_and_a_new_leader_hears_them_again() {
    let (mut group, tasks) = (Group::new(None).await, Tasks::new());
    let client = group.client(&tasks);
    let proxy = |name: &str| ProxyNode {
        name: NodeName::parse(name).unwrap(),
        admin: format!("{name}.example:8088"),
        incarnation: 7,
    };
    let version = until(&client, |_| true).await.version;
    assert!(client.age() < Duration::from_secs(5), "somebody says every second what is new");
    for name in ["p2", "p1"] {
        client.hear_proxy(&proxy(name)).await.unwrap();
    }
    assert_eq!(client.proxies().await.unwrap(), [proxy("p1"), proxy("p2")]);
    let nowhere = ProxyNode { admin: String::new(), ..proxy("p3") };
    assert!(client.hear_proxy(&nowhere).await.is_err());

    let leader = group.leader().await;
    group.kill(leader);
    client.hear_proxy(&proxy("p1")).await.unwrap();
    assert_eq!(client.proxies().await.unwrap(), [proxy("p1")]);
    client.forget_proxy(&proxy("p1")).await.unwrap();
    assert_eq!(client.proxies().await.unwrap(), []);
    assert_eq!(client.cluster().unwrap().version, version, "nothing of this is in the journal");
    tasks.close(PATIENCE).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_know_the_token_is_told_so() {
    let token = |digit: &str| ClusterToken::parse(&digit.repeat(64)).unwrap();
    let (group, tasks) = (Group::new(Some(token("a"))).await, Tasks::new());
    let inside = group.client(&tasks);
    let cluster = until(&inside, |_| true).await;
    let addresses: Vec<String> = group.members.iter().map(|member| member.registry.clone()).collect();
    let outside = |token: Option<ClusterToken>, cluster_id: Option<u64>| {
        let (addresses, tasks) = (addresses.clone(), tasks.clone());
        NamesrvClient::new(NamesrvClientParts { addresses, token, cluster_id, tasks }).unwrap()
    };
    let why = |refused: Result<Arc<Cluster>, MetadataError>| refused.err().unwrap().to_string();
    let refused = outside(Some(token("b")), None).register(node("x")).await;
    assert!(why(refused).contains("the cluster token is not the one of this cluster"));
    let refused = outside(None, None).register(node("x")).await;
    assert!(why(refused).contains("needs the header"));
    let refused = why(outside(Some(token("a")), Some(5)).register(node("x")).await);
    assert!(refused.contains(&format!("{:016x}", cluster.cluster_id)) && refused.contains("0000000000000005"));
    tasks.close(PATIENCE).await;
    group.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_disk_comes_back() {
    let (mut group, tasks) = (Group::new(None).await, Tasks::new());
    let client = group.client(&tasks);
    register_three(&client).await;
    let follower = (group.leader().await + 1) % 3;
    group.kill(follower);
    group.disks[follower] = SimDisk::new(77);
    client.create_topic(new_topic("t", 3)).await.unwrap();
    group.start(follower).await;
    let back = group.namesrv(follower);
    let mut watch = back.watch();
    let there = |cluster: &Option<Arc<Cluster>>| cluster.as_ref().is_some_and(|cluster| !cluster.topics.is_empty());
    timeout(PATIENCE, watch.wait_for(there)).await.expect("it catches up").unwrap();

    // It counts again: without the other follower, a majority needs it.
    let leader = group.leader().await;
    let other = (0..3).find(|at| *at != follower && *at != leader).unwrap();
    group.kill(other);
    client.create_topic(new_topic("u", 3)).await.unwrap();
    tasks.close(PATIENCE).await;
    group.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_node_that_is_not_heard_is_suspect_until_it_is() {
    let life = start(&SimDisk::new(1), 1).await.unwrap();
    let (silent, noisy) = (node("silent"), node("noisy"));
    life.namesrv.register(silent.clone()).await.unwrap();
    life.namesrv.register(noisy.clone()).await.unwrap();
    let standing = |name: &str| life.cluster().nodes[&node(name).name].standing;
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        life.namesrv.heartbeat(&noisy.name, 1).await.unwrap();
    }
    assert_eq!((standing("silent"), standing("noisy")), (NodeStanding::Alive, NodeStanding::Alive));
    let groups = life.cluster().replica_groups.clone();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        life.namesrv.heartbeat(&noisy.name, 1).await.unwrap();
    }
    assert_eq!((standing("silent"), standing("noisy")), (NodeStanding::Suspect, NodeStanding::Alive));
    assert_eq!(life.cluster().replica_groups, groups);
    life.namesrv.heartbeat(&silent.name, 1).await.unwrap();
    assert_eq!(standing("silent"), NodeStanding::Alive);

    let stranger = MetadataError::OtherIncarnation { node: silent.name.clone() };
    assert_eq!(life.namesrv.heartbeat(&silent.name, 2).await, Err(stranger));
    life.namesrv.unregister(&silent.name, 1).await.unwrap();
    assert_eq!(standing("silent"), NodeStanding::Suspect);
    let missing = MetadataError::NoSuchNode { node: node("x").name };
    assert_eq!(life.namesrv.heartbeat(&node("x").name, 1).await, Err(missing));
}
