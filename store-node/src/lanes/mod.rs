//! What proxies ask of this store-node: lanes, each with one owner.
//!
//! A proxy opens one lane of each kind to each replica of this store-node. Its requests are carried out side by side by one task, the driver; answers wait
//! in an outbox until the transport takes all of them at once. When a lane ends, whatever the transport did not take is
//! undone: pops under way are dropped and batches in the outbox are released. What it did take may have arrived; the
//! proxy asks for it again under the same attempt id, on a new lane. That is safe because a new lane of a proxy serves
//! nothing before the end of its earlier lane is complete, so a late release cannot hit a batch that was replayed.
//!
//! Reading order: this file, `driver`, `work` (one request), `outbox`, `watches`, `register` (one lane of a kind).

mod driver;
mod outbox;
mod register;
mod watches;
mod work;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use apogee_engine::{Engine, Role};
use apogee_host::{OnError, Tasks};
use apogee_model::{ReplicaGroupId, ReplicaId};
use apogee_proto::store::v1::lane_server::{Lane, LaneServer};
use apogee_proto::store::v1::{LaneHello, LaneKind, LaneRequests, LaneWelcome, Standing};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use self::driver::Driver;
use self::outbox::{Outbox, Outgoing};
use self::register::Register;

/// How long a lane may be open without saying whose it is.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// Largest frame that is read: one largest append and then some.
const FRAME_MAX: usize = 20 << 20;

/// A replica that proxies reach.
#[derive(Clone)]
pub struct Served {
    pub replica: ReplicaId,
    pub engine: Engine,
    /// What it is doing; proxies are told every change.
    pub role: watch::Receiver<Role>,
}

/// The lanes of a store-node. Clones share them.
#[derive(Clone)]
pub struct Lanes {
    shared: Arc<Shared>,
}

struct Shared {
    cluster_id: u64,
    /// Owns a task per lane.
    tasks: Tasks,
    replicas: RwLock<BTreeMap<ReplicaGroupId, Served>>,
    register: Register,
    draining: CancellationToken,
}

impl Lanes {
    /// Lanes to no replica yet. `tasks` owns a task per lane.
    pub fn new(cluster_id: u64, tasks: Tasks) -> Self {
        let (replicas, register, draining) = (RwLock::default(), Register::default(), CancellationToken::new());
        Self { shared: Arc::new(Shared { cluster_id, tasks, replicas, register, draining }) }
    }

    /// Lets proxies reach a replica from now on.
    pub fn serve(&self, group: ReplicaGroupId, served: Served) {
        self.shared.replicas.write().unwrap_or_else(PoisonError::into_inner).insert(group, served);
    }

    /// Lets nobody reach the replica of this group any more. Returns when the last lane to it ended.
    pub async fn forget(&self, group: ReplicaGroupId) {
        self.shared.replicas.write().unwrap_or_else(PoisonError::into_inner).remove(&group);
        self.shared.register.end(group).await;
    }

    /// As a tower service.
    pub fn service(&self) -> LaneServer<impl Lane> {
        LaneServer::new(self.clone()).max_decoding_message_size(FRAME_MAX).max_encoding_message_size(FRAME_MAX)
    }

    /// Lets no new lane begin, answers what was asked, and ends all lanes. Returns when the last one ended, each after
    /// 5 s at most.
    pub async fn drain(&self) {
        self.shared.draining.cancel();
        self.shared.register.empty().await;
    }
}

impl Shared {
    fn served(&self, group: ReplicaGroupId) -> Option<Served> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()
    }
}

#[tonic::async_trait]
impl Lane for Lanes {
    type WorkStream = Outgoing;

    async fn work(&self, request: Request<Streaming<LaneRequests>>) -> Result<Response<Outgoing>, Status> {
        let mut requests = request.into_inner();
        let first = timeout(HELLO_MAX, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the lane does not say whose it is"))??;
        let LaneRequests { hello, requests: early } = first.unwrap_or_default();
        let LaneHello { proxy_incarnation, kind, replica_group } =
            hello.ok_or_else(|| Status::invalid_argument("the first frame of a lane says whose it is"))?;
        let kind = LaneKind::try_from(kind).ok().filter(|kind| *kind != LaneKind::Unspecified);
        let kind = kind.ok_or_else(|| Status::invalid_argument("the lane is of no known kind"))?;
        let Shared { cluster_id, tasks, register, draining, .. } = &*self.shared;
        if draining.is_cancelled() {
            return Err(Status::unavailable("this store-node is about to stop"));
        }
        let group = ReplicaGroupId(replica_group);
        let nobody = || Status::not_found(format!("this store-node has no replica of broker-{group}"));
        let Served { replica, engine, mut role } = self.shared.served(group).ok_or_else(nobody)?;
        let seat = register.take((proxy_incarnation, group, kind)).await?;
        if self.shared.served(group).is_none() {
            return Err(nobody()); // it was forgotten before this lane could be told to end
        }
        let welcome = LaneWelcome { cluster_id: *cluster_id, replica_id: replica.0 };
        let outbox = Arc::new(Outbox::new(welcome, standing(*role.borrow_and_update())));
        let driver = Driver {
            engine,
            role,
            outbox: Arc::clone(&outbox),
            stop: seat.stop(),
            killed: tasks.token(),
            draining: draining.clone(),
        };
        tasks.spawn("lane", OnError::LogAndEnd, async move {
            driver.run(early, requests).await;
            drop(seat);
            Ok::<_, Infallible>(())
        });
        Ok(Response::new(Outgoing::new(outbox)))
    }
}

/// A role as proxies are told.
fn standing(role: Role) -> Standing {
    match role {
        Role::Leader { epoch } => Standing { epoch: Some(epoch.0), leader: None },
        Role::Follower { leader } => Standing { epoch: None, leader: leader.map(|replica| replica.0) },
    }
}
