//! What proxies ask of this store-node: lanes, each with one owner.
//!
//! A proxy opens one lane of each kind. Its requests are carried out side by side by one task, the driver; answers wait
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

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Engine, Role};
use apogee_host::{OnError, Tasks};
use apogee_proto::store::v1::lane_server::{Lane, LaneServer};
use apogee_proto::store::v1::{LaneHello, LaneKind, LaneRequests, LaneWelcome, Standing};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use self::driver::Driver;
use self::outbox::{Outbox, Outgoing};
use self::register::Register;
use crate::raft::Identity;

/// How long a lane may be open without saying whose it is.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// Largest frame that is read: one largest append and then some.
const FRAME_MAX: usize = 20 << 20;

/// What lanes are made of.
pub struct LanesParts {
    pub engine: Engine,
    /// What the replica is doing; proxies are told every change.
    pub role: watch::Receiver<Role>,
    pub me: Identity,
    /// Owns a task per lane.
    pub tasks: Tasks,
}

/// The lanes of a store-node. Clones share them.
#[derive(Clone)]
pub struct Lanes {
    shared: Arc<Shared>,
}

struct Shared {
    parts: LanesParts,
    register: Register,
    draining: CancellationToken,
}

impl Lanes {
    pub fn new(parts: LanesParts) -> Self {
        let shared = Shared { parts, register: Register::default(), draining: CancellationToken::new() };
        Self { shared: Arc::new(shared) }
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

#[tonic::async_trait]
impl Lane for Lanes {
    type WorkStream = Outgoing;

    async fn work(&self, request: Request<Streaming<LaneRequests>>) -> Result<Response<Outgoing>, Status> {
        let mut requests = request.into_inner();
        let first = timeout(HELLO_MAX, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the lane does not say whose it is"))??;
        let LaneRequests { hello, requests: early } = first.unwrap_or_default();
        let LaneHello { proxy_incarnation, kind } =
            hello.ok_or_else(|| Status::invalid_argument("the first frame of a lane says whose it is"))?;
        let kind = LaneKind::try_from(kind).ok().filter(|kind| *kind != LaneKind::Unspecified);
        let kind = kind.ok_or_else(|| Status::invalid_argument("the lane is of no known kind"))?;
        let Shared { parts, register, draining } = &*self.shared;
        if draining.is_cancelled() {
            return Err(Status::unavailable("this store-node is about to stop"));
        }
        let seat = register.take(proxy_incarnation, kind).await?;
        let mut role = parts.role.clone();
        let welcome = LaneWelcome { cluster_id: parts.me.cluster_id, replica_id: parts.me.replica.0 };
        let outbox = Arc::new(Outbox::new(welcome, standing(*role.borrow_and_update())));
        let driver = Driver {
            engine: parts.engine.clone(),
            role,
            outbox: Arc::clone(&outbox),
            stop: seat.stop(),
            killed: parts.tasks.token(),
            draining: draining.clone(),
        };
        parts.tasks.spawn("lane", OnError::LogAndEnd, async move {
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
