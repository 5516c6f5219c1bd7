//! How a store-node is put together, and how it comes down.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{BeginAgain, Ear, Engine, EngineParts, ReplicaParts, RocksSettings, RocksViewStore, Role};
use apogee_host::health::{Check, Health, health_routes, metrics_routes, serve};
use apogee_host::shutdown::{Ladder, Signals};
use apogee_host::telemetry::Metrics;
use apogee_host::{Exit, Identity, OnError, OsEntropy, RealClock, Stop, Tasks};
use apogee_model::ReplicaGroupId;
use apogee_store_node::lanes::{Lanes, Served};
use apogee_store_node::raft::{self, Replication, TonicPeers};
use apogee_store_node::{serve_lanes, serve_replication};
use futures::FutureExt as _;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::config::{Config, Wiring};
use super::lives::End;
use crate::process::data::Data;
use crate::process::ports::{Bound, PortError, bind};

/// Time for another replica to take over when this one stops.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// From SIGTERM to the end of the last lane.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// Time for the tasks to end after that.
const CLOSE_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(HAND_OVER_MAX.as_secs() + 5 < DRAIN_MAX.as_secs(), "lanes take up to 5 s to end");

const LISTENERS: &str = "listeners";
const RECOVERY: &str = "recovery";
const REPLICA_GROUP: &str = "replica_group";
/// The only one there is.
const REPLICA_GROUP_NAME: &str = "broker-0";
pub(super) const THE_GROUP: ReplicaGroupId = ReplicaGroupId(0);

/// Starts everything and runs until somebody asks to stop, something fails that everything needs, or the replica has to
/// begin again. Ports that the operating system chose are in `config` then, for the next life.
pub(super) async fn run(
    config: &mut Config,
    wiring: Wiring,
    identity: &Identity,
    signals: &mut Signals,
) -> Result<End, Stop> {
    let tasks = Tasks::new();
    let health = Health::new(&[LISTENERS, RECOVERY]);
    let started = tokio::select! {
        started = start(config, wiring, identity, &tasks, &health) => started?,
        failure = tasks.failed() => return Err(Stop::new(failure.stop.exit, failure.to_string())),
        signal = signals.next() => {
            tracing::info!(event = "start_interrupted", signal, "asked to stop before the start was over");
            return Ok(End::Exit(Exit::Clean));
        }
    };
    let ladder = Ladder { health, tasks, drain_max: DRAIN_MAX, close_max: CLOSE_MAX };
    let engine = started.engine.clone();
    tokio::select! {
        biased;
        exit = ladder.wait(signals) => Ok(End::Exit(ladder.walk_down(exit, signals, drain(started)).await)),
        why = engine.again() => close(&ladder, started, signals, why).await,
    }
}

/// The end of a life before the next one, unless somebody asks to stop or something fails meanwhile.
async fn close(ladder: &Ladder, started: Started, signals: &mut Signals, why: BeginAgain) -> Result<End, Stop> {
    tracing::info!(event = "closing", why = %why.why, "the replica is closed, to begin again");
    let exit = tokio::select! {
        exit = ladder.walk(drain(started)) => exit,
        signal = signals.next() => {
            tracing::info!(event = "stopped_early", signal, "asked to stop before the next life");
            return Ok(End::Exit(Exit::Clean));
        }
    };
    match (ladder.tasks.failed().now_or_never(), exit) {
        (Some(failure), _) => Ok(End::Exit(failure.stop.exit)),
        (None, Exit::Clean) => Ok(End::Again(why)),
        (None, exit) => Ok(End::Exit(exit)),
    }
}

/// What the way down needs.
struct Started {
    engine: Engine,
    lanes: Lanes,
}

/// The bound ports.
struct Ports {
    lanes: Bound,
    replication: Bound,
    metrics: Bound,
    health: Bound,
}

impl Ports {
    fn bind(config: &Config) -> Result<Ports, PortError> {
        let [lanes, replication, metrics, health] = config.ports().map(|(key, port)| bind(key, config.listen, port));
        Ok(Ports { lanes: lanes?, replication: replication?, metrics: metrics?, health: health? })
    }

    fn remember(&self, config: &mut Config) {
        config.lanes.port = self.lanes.address.port();
        config.replication.port = self.replication.address.port();
        config.metrics.port = self.metrics.address.port();
        config.health.port = self.health.address.port();
    }
}

async fn start(
    config: &mut Config,
    wiring: Wiring,
    identity: &Identity,
    tasks: &Tasks,
    health: &Health,
) -> Result<Started, Stop> {
    let data = Data::open(Some(&config.data))?;
    let ports = Ports::bind(config)?;
    ports.remember(config);
    let (lanes_address, replication_address) = (ports.lanes.address, ports.replication.address);
    let metrics = Metrics::new(identity)?;
    serve(tasks, "health", ports.health.listener, health_routes(health.clone(), identity, tasks));
    serve(tasks, "metrics", ports.metrics.listener, metrics_routes(metrics.clone()));

    data.check_format().await?;
    health.set(REPLICA_GROUP, Check::fail("not there yet"));
    let ear = Ear::default();
    let me = raft::Identity { cluster_id: wiring.members.cluster_id, group: THE_GROUP, replica: wiring.members.me };
    let folder = data.folder.clone();
    // From the beginning on, because a replica that has no log needs the others to come up, and they need it.
    let replication = Replication::default();
    replication.listen(me, ear.clone());
    serve_replication(tasks, ports.replication.listener, replication);
    let opened = open_engine(config, wiring, me, data, tasks, metrics.meter(), ear.clone());
    let engine = tokio::select! {
        engine = opened => engine,
        never = tell_waits(&ear, health) => match never {},
    };
    let engine = engine.map_err(|stop| Stop::new(stop.exit, format!("in data folder {}: {stop}", folder.display())))?;
    health.set(RECOVERY, Check::ok());

    let lanes = Lanes::new(me.cluster_id, tasks.clone());
    lanes.serve(me.group, Served { replica: me.replica, engine: engine.clone(), role: engine.role() });
    serve_lanes(tasks, ports.lanes.listener, &lanes);
    health.set(LISTENERS, Check::ok());
    tell_role(&engine, tasks, health, &metrics.meter());
    tracing::info!(
        event = "serving",
        data = %folder.display(),
        replica = %me.replica,
        cluster_id = %format_args!("{:016x}", me.cluster_id),
        lanes = %lanes_address,
        replication = %replication_address,
        ack_mode = ?config.store.ack_mode,
        "proxies and replicas are served"
    );
    Ok(Started { engine, lanes })
}

async fn open_engine(
    config: &Config,
    wiring: Wiring,
    me: raft::Identity,
    data: Data,
    tasks: &Tasks,
    meter: Meter,
    ear: Ear,
) -> Result<Engine, Stop> {
    let Wiring { members, addresses, retention } = wiring;
    let peers = TonicPeers::new(me, &addresses).map_err(|error| Stop::new(Exit::Usage, error))?;
    let views = views(&data.folder)?;
    let engine = EngineParts { disk: Arc::new(data.disk), clock: Arc::new(RealClock), tasks: tasks.clone(), meter };
    let parts = ReplicaParts { engine, views, peers: Arc::new(peers), entropy: Arc::new(OsEntropy), ear };
    Ok(Engine::open_replica(parts, members, config.engine(retention)).await?)
}

fn views(folder: &Path) -> Result<Arc<RocksViewStore>, Stop> {
    Ok(Arc::new(RocksViewStore::new(folder, RocksSettings::default())?))
}

/// Why the replica does not take part yet, while it is opened.
async fn tell_waits(ear: &Ear, health: &Health) -> Infallible {
    let mut waits = ear.waits();
    loop {
        if let Some(why) = waits.borrow_and_update().clone() {
            health.set(REPLICA_GROUP, Check::fail(why));
        }
        if waits.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Ready while the replica leads, or follows somebody who does. The gauge is 0 without a leader, 1 for a follower, 2 for
/// a leader.
fn tell_role(engine: &Engine, tasks: &Tasks, health: &Health, meter: &Meter) {
    let (mut role, health, stop) = (engine.role(), health.clone(), tasks.token());
    let (shown, group) = (engine.role(), [KeyValue::new("group", REPLICA_GROUP_NAME)]);
    meter
        .u64_observable_gauge("rocketmq_store_replica_state")
        .with_callback(move |gauge| gauge.observe(state(*shown.borrow()), &group))
        .build();
    tasks.spawn("role", OnError::StopProcess, async move {
        let tell = async {
            loop {
                let now = *role.borrow_and_update();
                tracing::info!(event = "role", role = ?now, "what this replica does");
                health.set(REPLICA_GROUP, check(now));
                if role.changed().await.is_err() {
                    return;
                }
            }
        };
        stop.run_until_cancelled(tell).await;
        Ok::<_, Infallible>(())
    });
}

fn state(role: Role) -> u64 {
    match role {
        Role::Follower { leader: None } => 0,
        Role::Follower { leader: Some(_) } => 1,
        Role::Leader { .. } => 2,
    }
}

fn check(role: Role) -> Check {
    match role {
        Role::Leader { .. } | Role::Follower { leader: Some(_) } => Check::ok(),
        Role::Follower { leader: None } => Check::fail("no leader is known"),
    }
}

/// Somebody else leads from now on, if there is somebody; then what was asked here is answered, and the lanes end.
async fn drain(started: Started) -> Result<(), Stop> {
    let Started { engine, lanes } = started;
    if let Err(error) = engine.hand_over(HAND_OVER_MAX).await {
        tracing::warn!(event = "not_handed_over", %error, "no other replica took the lead");
    }
    lanes.drain().await;
    Ok(())
}
