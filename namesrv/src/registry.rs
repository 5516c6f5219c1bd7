//! What store-nodes, proxies and people reach.

use std::sync::Arc;

use apogee_host::{Exit, OnError, Stop, Tasks};
use apogee_model::{Cluster, MetadataError, NodeName, ReplicaGroupId, ReplicaId};
use apogee_proto::Malformed;
use apogee_proto::namesrv::v1;
use apogee_proto::namesrv::v1::registry_server::{Registry, RegistryServer};
use apogee_proto::token::{CLUSTER_TOKEN, ClusterToken, TokenCheck};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::leases::BEAT;
use crate::server::Namesrv;
use crate::state::{Change, Command};
use crate::wire::{self, status_of};

type Reply<T> = Result<Response<T>, Status>;

/// Serves everybody on `listener` until the tasks close. Whoever does not show `token` is refused.
pub fn serve_registry(tasks: &Tasks, listener: TcpListener, namesrv: Namesrv, token: Option<ClusterToken>) {
    let stop = tasks.token();
    let service = RegistryServer::new(Door { namesrv, stop: stop.clone() });
    let server = Server::builder()
        .layer(InterceptorLayer::new(TokenCheck::new(token, CLUSTER_TOKEN)))
        .add_service(service)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop.cancelled_owned());
    tasks.spawn("namesrv-registry", OnError::StopProcess, async move {
        server.await.map_err(|error| Stop::new(Exit::Io, error))
    });
}

struct Door {
    namesrv: Namesrv,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Registry for Door {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Reply<v1::Changed> {
        let request = request.into_inner();
        self.check_cluster(request.cluster_id)?;
        let new = wire::read_new_node(request.node).map_err(malformed)?;
        let cluster = self.namesrv.register(new).await.map_err(refused)?;
        Ok(Response::new(v1::Changed { version: cluster.version }))
    }

    async fn heartbeat(&self, request: Request<v1::Life>) -> Reply<v1::HeartbeatReply> {
        let (node, incarnation) = self.life(&request.into_inner())?;
        self.namesrv.heartbeat(&node, incarnation).await.map_err(refused)?;
        Ok(Response::new(v1::HeartbeatReply {}))
    }

    async fn unregister(&self, request: Request<v1::Life>) -> Reply<v1::Changed> {
        let (node, incarnation) = self.life(&request.into_inner())?;
        self.change(Command::NodeHeard { node, incarnation, alive: false }).await
    }

    async fn leave(&self, request: Request<v1::Life>) -> Reply<v1::Changed> {
        let (node, incarnation) = self.life(&request.into_inner())?;
        let version = self.namesrv.leave_in_turn(node, incarnation).await.map_err(refused)?;
        Ok(Response::new(v1::Changed { version }))
    }

    type WatchStream = BoxStream<'static, Result<v1::Update, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Reply<Self::WatchStream> {
        self.check_cluster(request.into_inner().cluster_id)?;
        let watcher = Watcher { namesrv: self.namesrv.clone(), published: self.namesrv.watch(), seen: None };
        let updates = stream::unfold(Some(watcher), |watcher| async { watcher?.next().await });
        let updates = updates.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(updates.boxed()))
    }

    async fn create_topic(&self, request: Request<v1::CreateTopicRequest>) -> Reply<v1::Topic> {
        let new = wire::read_new_topic(request.into_inner()).map_err(malformed)?;
        let created = self.namesrv.shared().clock.wall();
        self.topic(Command::CreateTopic { new, created }).await
    }

    async fn alter_topic(&self, request: Request<v1::AlterTopicRequest>) -> Reply<v1::Topic> {
        let changes = wire::read_topic_changes(request.into_inner()).map_err(malformed)?;
        self.topic(Command::AlterTopic { changes }).await
    }

    async fn delete_topic(&self, request: Request<v1::Name>) -> Reply<v1::Topic> {
        let topic = wire::read_topic_name(Some(request.into_inner())).map_err(malformed)?;
        self.topic(Command::DeleteTopic { topic }).await
    }

    async fn create_group(&self, request: Request<v1::CreateGroupRequest>) -> Reply<v1::Group> {
        let new = wire::read_new_group(request.into_inner()).map_err(malformed)?;
        let created = self.namesrv.shared().clock.wall();
        self.group(Command::CreateGroup { new, created }).await
    }

    async fn alter_group(&self, request: Request<v1::AlterGroupRequest>) -> Reply<v1::Group> {
        let changes = wire::read_group_changes(request.into_inner()).map_err(malformed)?;
        self.group(Command::AlterGroup { changes }).await
    }

    async fn delete_group(&self, request: Request<v1::Name>) -> Reply<v1::Group> {
        let group = wire::read_group_name(Some(request.into_inner())).map_err(malformed)?;
        self.group(Command::DeleteGroup { group }).await
    }

    async fn rotate_mac_keys(&self, _: Request<v1::RotateMacKeysRequest>) -> Reply<v1::Changed> {
        self.change(Command::RotateMacKey { secret: self.namesrv.shared().draw_secret() }).await
    }

    async fn drain_node(&self, request: Request<v1::NodeRequest>) -> Reply<v1::Changed> {
        let node = wire::read_node_name(&request.into_inner().name).map_err(malformed)?;
        self.change(Command::DrainNode { node }).await
    }

    async fn undrain_node(&self, request: Request<v1::NodeRequest>) -> Reply<v1::Changed> {
        let node = wire::read_node_name(&request.into_inner().name).map_err(malformed)?;
        self.change(Command::UndrainNode { node }).await
    }

    async fn remove_node(&self, request: Request<v1::NodeRequest>) -> Reply<v1::Changed> {
        let node = wire::read_node_name(&request.into_inner().name).map_err(malformed)?;
        let version = self.namesrv.remove_node(node).await.map_err(refused)?;
        Ok(Response::new(v1::Changed { version }))
    }

    async fn report_move(&self, request: Request<v1::MoveReport>) -> Reply<v1::Changed> {
        let report = request.into_inner();
        self.check_cluster(report.cluster_id)?;
        let (group, comes) = (ReplicaGroupId(report.replica_group), ReplicaId(report.comes));
        let command = match report.reached() {
            v1::MoveReached::Unspecified => return Err(malformed(Malformed { what: "how far a move has come" })),
            v1::MoveReached::Ready => Command::MoveReady { group, comes },
            v1::MoveReached::Done => Command::MoveDone { group, comes },
        };
        self.change(command).await
    }

    async fn hear_proxy(&self, request: Request<v1::HearProxyRequest>) -> Reply<v1::HearProxyReply> {
        let v1::HearProxyRequest { cluster_id, proxy, leaves } = request.into_inner();
        self.check_cluster(cluster_id)?;
        let proxy = wire::read_proxy(proxy.unwrap_or_default()).map_err(malformed)?;
        let heard = if leaves { self.namesrv.forget_proxy(&proxy) } else { self.namesrv.hear_proxy(proxy) };
        heard.map_err(refused)?;
        Ok(Response::new(v1::HearProxyReply {}))
    }

    async fn list_proxies(&self, _: Request<v1::ListProxiesRequest>) -> Reply<v1::Proxies> {
        let proxies = self.namesrv.proxies().map_err(refused)?;
        Ok(Response::new(v1::Proxies { proxies: proxies.into_iter().map(wire::proxy).collect() }))
    }

    async fn list_members(&self, _: Request<v1::ListMembersRequest>) -> Reply<v1::Members> {
        let (members, leader) = self.namesrv.members();
        let member = |member: crate::Member| v1::Member {
            id: member.id,
            registry: member.registry,
            consensus: member.consensus,
        };
        let members = members.into_iter().map(member).collect();
        Ok(Response::new(v1::Members { members, leader: leader.unwrap_or_default() }))
    }
}

impl Door {
    async fn change(&self, command: Command) -> Reply<v1::Changed> {
        let (version, _) = self.namesrv.ask(command).await.map_err(refused)?;
        Ok(Response::new(v1::Changed { version }))
    }

    async fn topic(&self, command: Command) -> Reply<v1::Topic> {
        match self.namesrv.ask(command).await.map_err(refused)? {
            (version, Change::TopicCreated(topic) | Change::TopicAltered(topic) | Change::TopicDeleted(topic)) => {
                Ok(Response::new(wire::topic(version, &topic)))
            }
            (_, other) => Err(Status::internal(format!("{other:?} is no answer to this question"))),
        }
    }

    async fn group(&self, command: Command) -> Reply<v1::Group> {
        match self.namesrv.ask(command).await.map_err(refused)? {
            (version, Change::GroupCreated(group, _) | Change::GroupAltered(group) | Change::GroupDeleted(group)) => {
                Ok(Response::new(wire::group(version, &group)))
            }
            (_, other) => Err(Status::internal(format!("{other:?} is no answer to this question"))),
        }
    }

    /// Whose life it is, and which, if it is one of this cluster.
    fn life(&self, life: &v1::Life) -> Result<(NodeName, u64), Status> {
        self.check_cluster(life.cluster_id)?;
        Ok((wire::read_node_name(&life.name).map_err(malformed)?, life.incarnation))
    }

    /// Refuses those of another cluster.
    fn check_cluster(&self, theirs: u64) -> Result<(), Status> {
        match self.namesrv.cluster().map(|cluster| cluster.cluster_id) {
            Some(ours) if theirs != 0 && theirs != ours => Err(Status::failed_precondition(format!(
                "this is namesrv {} of cluster {ours:016x}, the call is from cluster {theirs:016x}",
                self.namesrv.shared().me
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

/// One stream of updates.
struct Watcher {
    namesrv: Namesrv,
    published: watch::Receiver<Option<Arc<Cluster>>>,
    seen: Option<Arc<Cluster>>,
}

impl Watcher {
    /// The next update: a change, or none for a beat. The last one is a failure.
    async fn next(mut self) -> Option<(Result<v1::Update, Status>, Option<Self>)> {
        let ended = match &self.seen {
            Some(_) => matches!(timeout(BEAT, self.published.changed()).await, Ok(Err(_))),
            None => matches!(timeout(BEAT, self.published.wait_for(Option::is_some)).await, Ok(Err(_))),
        };
        if ended || !self.namesrv.is_in_touch() {
            let gone = MetadataError::Unreachable { why: "this namesrv has lost touch with the others".to_owned() };
            return Some((Err(status_of(&gone)), None));
        }
        let Some(cluster) = self.published.borrow_and_update().clone() else {
            return Some((Ok(v1::Update::default()), Some(self)));
        };
        let update = wire::between(self.seen.as_deref(), &cluster);
        self.seen = Some(cluster);
        Some((Ok(update), Some(self)))
    }
}

fn malformed(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn refused(error: MetadataError) -> Status {
    status_of(&error)
}
