//! The cluster, what moves in it, and store-nodes that leave.

use apogee_model::{MoveStage, ReplicaMove};

use super::*;

#[tokio::test]
async fn the_cluster_and_its_routes_say_who_leads() {
    let mut admin = client(&Arc::default());
    admin.create_topic(new_topic("orders")).await.expect("a fair wish");
    let cluster = admin.describe_cluster(v1::DescribeClusterRequest {}).await.expect("always answered").into_inner();
    assert_eq!((cluster.name.as_str(), cluster.topics, cluster.replication_factor), ("apogee", 1, 1));
    let namesrv: Vec<_> = cluster.namesrv.iter().map(|one| (one.id, one.address.as_str(), one.leads)).collect();
    assert_eq!(namesrv, [(1, "n1:9876", false), (2, "n2:9876", true)]);
    let groups: Vec<_> = cluster.replica_groups.iter().map(|one| (one.name.as_str(), one.leader, one.queues)).collect();
    assert_eq!(groups, [("broker-0", 1, 2), ("broker-1", 0, 0)]); // the proxy has not heard of the second
    let problems: Vec<_> = cluster.problems.iter().map(|one| (one.kind(), one.subject.as_str())).collect();
    assert_eq!(problems, [(v1::ProblemKind::NoLeader, "broker-1")]);

    let ask = v1::DescribeTopicRouteRequest { namespace: String::new(), name: "orders".to_owned() };
    let route = admin.describe_topic_route(ask).await.expect("it is there").into_inner();
    let queues: Vec<_> = route.queues.iter().map(|one| (one.queue_id, one.replica_group, &*one.leader_node)).collect();
    assert_eq!(queues, [(0, 0, "s1"), (1, 0, "s1")]);
}

#[tokio::test]
async fn a_store_node_is_drained_and_stays_after_all() {
    let mut admin = client(&Arc::default());
    let standing = async |admin: &mut Client| {
        let cluster = admin.describe_cluster(v1::DescribeClusterRequest {}).await.expect("always answered");
        cluster.into_inner().nodes[0].standing()
    };
    assert_eq!(standing(&mut admin).await, v1::NodeStanding::Alive);
    admin.drain_node(v1::DrainNodeRequest { name: "s1".to_owned() }).await.expect("it is there");
    assert_eq!(standing(&mut admin).await, v1::NodeStanding::Draining);
    admin.undrain_node(v1::UndrainNodeRequest { name: "s1".to_owned() }).await.expect("it is there");
    assert_eq!(standing(&mut admin).await, v1::NodeStanding::Alive);
    let mut drained = async |name: &str| {
        let ask = v1::DrainNodeRequest { name: name.to_owned() };
        refused(admin.drain_node(ask).await)
    };
    assert_eq!(drained("s9").await, (Code::NotFound, "store-node s9 has not registered".to_owned()));
    assert_eq!(drained("S 9").await.0, Code::InvalidArgument);
}

fn name(name: &str) -> NodeName {
    NodeName::parse(name).expect("a good name")
}

/// The only replica of broker-0 gives its place to replica 2 on s2, and leads, or the one that comes does.
fn moving(stage: MoveStage) -> Cluster {
    let mut cluster = small_cluster();
    let s2 = StoreNodeConfig { name: name("s2"), ..(*cluster.nodes[&name("s1")]).clone() };
    cluster.nodes.insert(name("s2"), Arc::new(s2));
    let moving = Some(ReplicaMove { leaves: ReplicaId(1), comes: ReplicaId(2), to: name("s2"), stage });
    let group = ReplicaGroup { moving, ..(*cluster.replica_groups[&ReplicaGroupId(0)]).clone() };
    cluster.replica_groups.insert(group.id, Arc::new(group));
    cluster
}

#[tokio::test]
async fn a_replica_group_says_which_replica_moves() {
    for (stage, told) in [(MoveStage::Joins, v1::MoveStage::Joins), (MoveStage::Swaps, v1::MoveStage::Swaps)] {
        let mut admin = client_of(moving(stage), &Arc::default());
        let cluster =
            admin.describe_cluster(v1::DescribeClusterRequest {}).await.expect("always answered").into_inner();
        let [first, second] = &cluster.replica_groups[..] else { panic!("{cluster:?}") };
        let replicas: Vec<_> = first.replicas.iter().map(|one| (one.id, one.node.as_str())).collect();
        assert_eq!((replicas, &second.moving), (vec![(1, "s1"), (2, "s2")], &None));
        let moving = v1::ReplicaMove { leaves: 1, comes: 2, node: "s2".to_owned(), stage: told.into() };
        assert_eq!(first.moving, Some(moving));
    }
}

#[tokio::test]
async fn the_replica_that_comes_may_lead() {
    let store = Arc::new(FakeStore { leader: Some(ReplicaId(2)), ..FakeStore::default() });
    let mut admin = client_of(moving(MoveStage::Swaps), &store);
    admin.create_topic(new_topic("orders")).await.expect("a fair wish");
    let ask = v1::DescribeTopicRouteRequest { namespace: String::new(), name: "orders".to_owned() };
    let route = admin.describe_topic_route(ask).await.expect("it is there").into_inner();
    assert_eq!((route.queues[0].leader, route.queues[0].leader_node.as_str()), (2, "s2"));
}

#[tokio::test]
async fn a_store_node_without_replicas_is_drained_and_can_be_removed() {
    let mut cluster = moving(MoveStage::Joins);
    let s3 = StoreNodeConfig { name: name("s3"), ..(*cluster.nodes[&name("s1")]).clone() };
    cluster.nodes.insert(name("s3"), Arc::new(s3));
    let mut admin = client_of(cluster, &Arc::default());
    for node in ["s1", "s2", "s3"] {
        admin.drain_node(v1::DrainNodeRequest { name: node.to_owned() }).await.expect("it is there");
    }
    let standings = async |admin: &mut Client| -> Vec<_> {
        let cluster =
            admin.describe_cluster(v1::DescribeClusterRequest {}).await.expect("always answered").into_inner();
        cluster.nodes.iter().map(v1::StoreNode::standing).collect()
    };
    let (draining, drained) = (v1::NodeStanding::Draining, v1::NodeStanding::Drained);
    assert_eq!(standings(&mut admin).await, [draining, draining, drained], "s2 is about to get a replica");

    let mut remove = async |name: &str| admin.remove_node(v1::RemoveNodeRequest { name: name.to_owned() }).await;
    let told = "store-node s1 keeps 2 replicas; drain it, and wait until it keeps none".to_owned();
    assert_eq!(refused(remove("s1").await), (Code::FailedPrecondition, told));
    remove("s3").await.expect("it keeps nothing");
    assert_eq!(refused(remove("s3").await), (Code::NotFound, "store-node s3 has not registered".to_owned()));
    assert_eq!(refused(remove("S 3").await).0, Code::InvalidArgument);
    assert_eq!(standings(&mut admin).await, [draining, draining]);
}
