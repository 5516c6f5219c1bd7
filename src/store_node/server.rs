//! How a store-node is put together, and how it comes down.

use std::sync::Arc;
use std::time::Duration;

use apogee_engine::BeginAgain;
use apogee_host::health::{Check, Health, health_routes, metrics_routes, serve};
use apogee_host::shutdown::{Ladder, Signals};
use apogee_host::telemetry::Metrics;
use apogee_host::{Entropy as _, Exit, Identity, OsEntropy, Stop, Tasks};
use apogee_model::NewNode;
use apogee_namesrv::{NamesrvClient, NamesrvClientParts};
use apogee_store_node::lanes::Lanes;
use apogee_store_node::raft::Replication;
use apogee_store_node::{serve_lanes, serve_replication};
use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use super::config::{Checked, Config};
use super::follow::follow;
use super::lives::End;
use super::member::{self, Membership};
use super::preferred::Leading;
use super::replicas::{REPLICAS, Replicas, ReplicasParts};
use super::wiring::Wiring;
use crate::process::data::Data;
use crate::process::ports::{Bound, PortError, bind};
use crate::process::shell;

/// How long another store-node may take to come back before this one stops all the same.
const TURN_MAX: Duration = Duration::from_secs(90);
/// Time for other replicas to take over when this one stops.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// Lanes take up to this long to end.
const LANES_MAX: Duration = Duration::from_secs(6);
/// From SIGTERM to the end of the last lane.
const DRAIN_MAX: Duration = TURN_MAX.saturating_add(HAND_OVER_MAX).saturating_add(LANES_MAX);
/// Time for the tasks to end after that: a little more than each replica has for its own.
const CLOSE_MAX: Duration = Duration::from_secs(6);

const LISTENERS: &str = "listeners";
const RECOVERY: &str = "recovery";

/// Starts everything and runs until somebody asks to stop, something fails that everything needs, or a replica has to
/// begin again. Ports that the operating system chose are in `config` then, for the next life.
pub(super) async fn run(
    config: &mut Config,
    checked: Checked,
    identity: &Identity,
    signals: &mut Signals,
) -> Result<End, Stop> {
    let tasks = Tasks::new();
    let health = Health::new(&[LISTENERS, RECOVERY]);
    let starting = start(config, checked, identity, &tasks, &health);
    let Some(mut started) = shell::started(starting, &tasks, signals).await? else {
        return Ok(End::Exit(Exit::Clean));
    };
    let ladder = Ladder { health, tasks, drain_max: DRAIN_MAX, close_max: CLOSE_MAX };
    tokio::select! {
        biased;
        exit = ladder.wait(signals) => Ok(End::Exit(ladder.walk_down(exit, signals, started.leave()).await)),
        Some(why) = started.again.recv() => close(&ladder, started, signals, why).await,
    }
}

/// The end of a life before the next one, unless somebody asks to stop or something fails meanwhile.
async fn close(ladder: &Ladder, started: Started, signals: &mut Signals, why: BeginAgain) -> Result<End, Stop> {
    tracing::info!(event = "closing", why = %why.why, "the store-node is closed, to begin again");
    let exit = tokio::select! {
        exit = ladder.walk(started.close()) => exit,
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
    membership: Membership,
    replicas: Replicas,
    lanes: Lanes,
    /// A replica has to begin again.
    again: mpsc::Receiver<BeginAgain>,
}

impl Started {
    /// Waits for the turn of this store-node, then closes.
    async fn leave(self) -> Result<(), Stop> {
        let Started { membership, replicas, lanes, .. } = self;
        membership.leave(TURN_MAX).await;
        end(&replicas, &lanes).await
    }

    /// Others lead from now on, if there are others; then what was asked here is answered, and the lanes end.
    async fn close(self) -> Result<(), Stop> {
        end(&self.replicas, &self.lanes).await
    }
}

async fn end(replicas: &Replicas, lanes: &Lanes) -> Result<(), Stop> {
    replicas.hand_over(HAND_OVER_MAX).await;
    lanes.drain().await;
    Ok(())
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
    checked: Checked,
    identity: &Identity,
    tasks: &Tasks,
    health: &Health,
) -> Result<Started, Stop> {
    let Checked { name, advertise, token, settings } = checked;
    let data = Data::open(Some(&config.data))?;
    let ports = Ports::bind(config)?;
    ports.remember(config);
    let (lanes_port, replication_port) = (config.lanes.port, config.replication.port);
    let metrics = Metrics::new(identity)?;
    serve(tasks, "health", ports.health.listener, health_routes(health.clone(), identity, tasks));
    serve(tasks, "metrics", ports.metrics.listener, metrics_routes(metrics.clone()));

    data.check_format().await?;
    let Data { folder, disk, .. } = data;
    let disk = Arc::new(disk);
    let kept = Wiring::read(&*disk).await?;
    let client = NamesrvClientParts {
        addresses: config.namesrv.shuffled(&OsEntropy),
        token: token.clone(),
        cluster_id: kept.as_ref().map(|kept| kept.cluster_id),
        tasks: tasks.clone(),
    };
    let client = NamesrvClient::new(client).map_err(|error| Stop::new(Exit::Usage, error))?;
    let node = NewNode {
        name: name.clone(),
        lanes: format!("{advertise}:{lanes_port}"),
        replication: format!("{advertise}:{replication_port}"),
        zone: config.node.zone.clone(),
        incarnation: OsEntropy.next_u64(),
    };
    health.set(REPLICAS, Check::fail("not known yet"));
    let membership = member::join(client.clone(), node, health, tasks);
    let (wirings, leavings) = follow(&client, &name, kept, disk.clone(), tasks).await?;

    let cluster_id = wirings.borrow().cluster_id;
    let (lanes, replication) = (Lanes::new(cluster_id, tasks.clone()), Replication::default());
    serve_replication(tasks, ports.replication.listener, replication.clone(), token.clone());
    serve_lanes(tasks, ports.lanes.listener, &lanes, token.clone());
    health.set(LISTENERS, Check::ok());
    let parts = ReplicasParts {
        folder: folder.clone(),
        disk,
        settings,
        token,
        lanes: lanes.clone(),
        replication,
        leading: Leading { node: name.clone(), cluster: client.watch() },
        client,
        leavings,
        tasks: tasks.clone(),
        meter: metrics.meter(),
        health: health.clone(),
    };
    let (recovered, is_recovered) = oneshot::channel();
    let (replicas, again) = Replicas::host(parts, wirings, recovered);
    if is_recovered.await.is_err() {
        return std::future::pending().await; // the task has failed, and that ends the start
    }
    health.set(RECOVERY, Check::ok());
    tracing::info!(
        event = "serving",
        data = %folder.display(),
        node = %name,
        cluster_id = %format_args!("{cluster_id:016x}"),
        lanes = %format_args!("{advertise}:{lanes_port}"),
        replication = %format_args!("{advertise}:{replication_port}"),
        ack_mode = ?settings.ack_mode,
        "proxies and replicas are served"
    );
    Ok(Started { membership, replicas, lanes, again })
}
