//! Frames between replicas, over loopback: to the right one, in order, again after a break.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use apogee_engine::{Ear, Peers as _};
use apogee_host::{Tasks, net};
use apogee_model::{ReplicaGroupId, ReplicaId};
use apogee_proto::store::v1::Frame;
use apogee_proto::store::v1::replication_server::{Replication as Service, ReplicationServer};
use apogee_store_node::raft::{Identity, Replication, TonicPeers};
use apogee_store_node::serve_replication;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

const SOON: Duration = Duration::from_secs(10);

fn identity(cluster_id: u64, replica: u64) -> Identity {
    Identity { cluster_id, group: ReplicaGroupId(3), replica: ReplicaId(replica) }
}

fn listen(address: SocketAddr) -> (TcpListener, SocketAddr) {
    let listener = net::listen(address).expect("the port is free");
    let address = listener.local_addr().expect("a listener has an address");
    (listener, address)
}

fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn peers(me: Identity, other: u64, address: SocketAddr) -> TonicPeers {
    let addresses = BTreeMap::from([(ReplicaId(other), address.to_string()), (me.replica, "here:1".to_owned())]);
    let peers = TonicPeers::new(me, None);
    peers.at(&addresses).expect("the addresses are good");
    peers
}

/// Says everything back; the engine's frames are its own business.
struct Echo;

#[tonic::async_trait]
impl Service for Echo {
    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let Frame { wiring, payload } = request.into_inner();
        assert!(wiring.is_some(), "a call says whom it is for");
        Ok(Response::new(Frame { wiring: None, payload }))
    }

    type PipelineStream = BoxStream<'static, Result<Frame, Status>>;

    async fn pipeline(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::PipelineStream>, Status> {
        let mut frames = request.into_inner();
        assert!(frames.message().await?.is_some_and(|opening| opening.wiring.is_some() && opening.payload.is_empty()));
        Ok(Response::new(frames.boxed()))
    }
}

fn echo(tasks: &Tasks, listener: TcpListener) {
    const LARGE: usize = 32 << 20;
    let service = ReplicationServer::new(Echo).max_decoding_message_size(LARGE).max_encoding_message_size(LARGE);
    let server = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
    let stop = tasks.token();
    tasks.spawn("echo", apogee_host::OnError::LogAndEnd, async move {
        stop.run_until_cancelled(server).await;
        Ok::<_, std::convert::Infallible>(())
    });
}

#[tokio::test]
async fn frames_come_back_in_order_large_ones_too() {
    let (tasks, (listener, address)) = (Tasks::new(), listen(anywhere()));
    echo(&tasks, listener);
    let peers = peers(identity(7, 1), 2, address);
    let large = Bytes::from(vec![3; apogee_engine::FRAME_MAX]);
    assert_eq!(peers.call(ReplicaId(2), large.clone()).await, Ok(large));
    let sent: Vec<Bytes> = (0..500_u16).map(|number| Bytes::from(number.to_be_bytes().repeat(2000))).collect();
    let answers = peers.pipeline(ReplicaId(2), stream::iter(sent.clone()).boxed());
    assert_eq!(timeout(SOON, answers.try_collect::<Vec<_>>()).await.unwrap(), Ok(sent));
}

#[tokio::test]
async fn a_replica_that_comes_back_is_reached_again() {
    let (listener, address) = listen(anywhere());
    drop(listener);
    let peers = peers(identity(7, 1), 2, address);
    let call = || peers.call(ReplicaId(2), Bytes::from_static(b"vote"));
    assert_eq!(call().await.unwrap_err().to, ReplicaId(2));
    let unreachable = peers.pipeline(ReplicaId(2), stream::empty().boxed()).collect::<Vec<_>>().await;
    assert!(matches!(unreachable.as_slice(), [Err(_)]), "an error, then the end");

    let tasks = Tasks::new();
    echo(&tasks, listen(address).0);
    let reached = async {
        while call().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(2), reached).await.expect("tried again after half a second at most");
}

#[tokio::test]
async fn whoever_asks_again_at_once_does_not_spin() {
    let (listener, address) = listen(anywhere());
    drop(listener);
    let peers = peers(identity(7, 1), 2, address);
    let mut tries = 0;
    let spinning = async {
        loop {
            let _away = peers.pipeline(ReplicaId(2), stream::empty().boxed()).collect::<Vec<_>>().await;
            tries += 1;
        }
    };
    let _for_ever = timeout(Duration::from_millis(300), spinning).await;
    assert!((1..10).contains(&tries), "{tries}");
}

#[tokio::test]
async fn an_unknown_replica_is_out_of_reach() {
    let peers = peers(identity(7, 1), 2, anywhere());
    let told = peers.call(ReplicaId(5), Bytes::new()).await.unwrap_err();
    assert_eq!(told.to_string(), "replica 5 is out of reach: its address is not known here");
    assert!(peers.call(ReplicaId(1), Bytes::new()).await.is_err(), "nobody speaks to himself");
    let bad = BTreeMap::from([(ReplicaId(2), "no port".to_owned())]);
    let refused = TonicPeers::new(identity(7, 1), None).at(&bad).unwrap_err();
    assert_eq!(refused.to_string(), "\"no port\" of replica 2 is not host:port");
}

#[tokio::test]
async fn nobody_listens_for_a_replica_that_is_forgotten() {
    let tasks = Tasks::new();
    let (listener, address) = listen(anywhere());
    let replication = Replication::default();
    replication.listen(identity(7, 2), Ear::default());
    serve_replication(&tasks, listener, replication.clone(), None);
    let peers = peers(identity(7, 1), 2, address);
    let call = || peers.call(ReplicaId(2), Bytes::from_static(b"rubbish"));
    assert!(call().await.unwrap_err().why.contains("cannot be read"));
    let pipeline = peers.pipeline(ReplicaId(2), stream::pending().boxed());
    replication.forget(ReplicaGroupId(3));
    let ended = timeout(SOON, pipeline.collect::<Vec<_>>()).await;
    ended.expect("the pipeline ends, though there was no end of what it was sent");
    assert_eq!(call().await.unwrap_err().why, "this store-node has no replica of broker-3");
}

#[tokio::test]
async fn a_wrong_wiring_is_refused_by_name() {
    let tasks = Tasks::new();
    let (listener, address) = listen(anywhere());
    let replication = Replication::default();
    replication.listen(identity(7, 2), Ear::default());
    serve_replication(&tasks, listener, replication, None);

    let called = |from: Identity, to: u64| async move {
        let call = peers(from, to, address).call(ReplicaId(to), Bytes::from_static(b"rubbish")).await;
        call.unwrap_err().why
    };
    let piped = |from: Identity, to: u64| async move {
        let pipeline = peers(from, to, address).pipeline(ReplicaId(to), stream::empty().boxed());
        timeout(SOON, pipeline.try_collect::<Vec<_>>()).await.expect("it ends").map_err(|error| error.why)
    };
    let (cluster, replica) = ("the frame is from cluster 0000000000000008", "the frame is for replica 3");
    assert!(called(identity(8, 1), 2).await.contains(cluster));
    assert!(piped(identity(8, 1), 2).await.unwrap_err().contains(cluster));
    assert!(called(identity(7, 1), 3).await.contains(replica));
    assert!(piped(identity(7, 1), 3).await.unwrap_err().contains(replica));
    assert!(called(identity(7, 1), 2).await.contains("cannot be read"));
    assert_eq!(piped(identity(7, 1), 2).await, Ok(Vec::new()));
}
