//! How the roles are put together, and how they come down.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Ear, Engine, EngineParts, Members, Nobody, ReplicaParts, RocksSettings, RocksViewStore, Settings};
use apogee_host::health::{Check, Health, health_routes, metrics_routes, serve};
use apogee_host::shutdown::{Ladder, Signals};
use apogee_host::telemetry::Metrics;
use apogee_host::{Clock, Disk, Entropy, Exit, Identity, OnError, OsEntropy, RealClock, Stop, Tasks};
use apogee_model::{NewNode, NodeName, ReplicaGroupId};
use apogee_namesrv::{Member, Namesrv, NamesrvParts};
use apogee_proxy::listen::{DrainSettings, ListenSettings};
use apogee_proxy::{ProxySettings, Routes, StoreNode, Stores};
use opentelemetry::metrics::Meter;
use tokio_util::sync::CancellationToken;

use super::adapters::{LocalRoutes, LocalStore};
use super::config::{Config, SEGMENT_BYTES};
use super::ports::Ports;
use crate::process::data::Data;
use crate::process::front::{Front, FrontParts};
use crate::process::ports::Bound;
use crate::process::shell;
use crate::record::{DevRecord, Published};

/// Memory of the views.
const VIEWS_BYTES: usize = 32 << 20;
/// From SIGTERM to the end of the last call.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// Time for the tasks to end after that.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// Nobody balances connections of one process: they all go at once, and calls in flight get this long.
const DRAIN: DrainSettings =
    DrainSettings { lame_duck: Duration::ZERO, spread: Duration::ZERO, grace: Duration::from_secs(10) };
/// The one store-node of this process, as namesrv knows it.
const NODE: &str = "dev";
/// The first one that namesrv creates, and the only one.
const REPLICA_GROUP: ReplicaGroupId = ReplicaGroupId(0);

const LISTENERS: &str = "listeners";
const RECOVERY: &str = "recovery";

/// Starts everything and runs until somebody asks to stop or something fails that everything needs.
pub(super) async fn run(config: Config, identity: &Identity) -> Result<Exit, Stop> {
    let mut signals = Signals::install()?;
    let tasks = Tasks::new();
    let health = Health::new(&[LISTENERS, RECOVERY]);
    let starting = Box::pin(start(config, identity, &tasks, &health));
    let Some(started) = shell::started(starting, &tasks, &mut signals).await? else { return Ok(Exit::Clean) };
    let Started { front, data_guard, published } = started;
    let ladder = Ladder { health, tasks, drain_max: DRAIN_MAX, close_max: CLOSE_MAX };
    let exit = ladder.run(&mut signals, || front.drain()).await;
    drop((published, data_guard));
    Ok(exit)
}

/// What lives as long as the process.
struct Started {
    front: Front,
    /// Removes an ephemeral data folder.
    data_guard: Option<tempfile::TempDir>,
    published: Option<Published>,
}

async fn start(config: Config, identity: &Identity, tasks: &Tasks, health: &Health) -> Result<Started, Stop> {
    let tls = config.tls.open().await?; // a mistake in it is told before anything is touched
    let data = Data::open((!config.ephemeral).then_some(config.data.as_path()))?;
    let ports = Ports::bind(&config)?;
    let record = record(&data, &ports);
    let metrics = Metrics::new(identity)?;
    serve(tasks, "health", ports.health.listener, health_routes(health.clone(), identity, tasks));
    serve(tasks, "metrics", ports.metrics.listener, metrics_routes(metrics.clone()));

    data.check_format().await?;
    let token = data.token(&OsEntropy)?;
    let Data { folder, disk, temporary } = data;
    let seams = Seams { disk: Arc::new(disk), clock: Arc::new(RealClock), entropy: Arc::new(OsEntropy) };
    let routes = open_namesrv(&seams, tasks).await.map_err(|stop| of_folder(&folder, &stop))?;
    let opened = open_engine(&config, &folder, &seams, tasks, metrics.meter()).await;
    let store = opened.map_err(|stop| of_folder(&folder, &stop))?;
    let stores = Stores::one(REPLICA_GROUP, store);
    health.set(RECOVERY, Check::ok());

    let front = Front::open(FrontParts {
        settings: proxy_settings(&config, &ports.grpc),
        listen: ListenSettings { drain: DRAIN, ..ListenSettings::default() },
        grpc: ports.grpc,
        admin: ports.admin,
        tls,
        routes,
        stores,
        token: Some(token),
        clock: seams.clock,
        entropy: seams.entropy,
        tasks,
        meter: metrics.meter(),
        health,
    });
    let published = record.publish().inspect_err(|error| {
        tracing::warn!(event = "not_recorded", %error, "the CLI will need --admin-endpoint and --token-file");
    });
    health.set(LISTENERS, Check::ok());
    tracing::info!(
        event = "ready",
        data = %folder.display(),
        ephemeral = config.ephemeral,
        listen = %config.listen,
        grpc = %record.grpc_address,
        admin = %record.admin_address,
        metrics = %record.metrics_address,
        health = %record.health_address,
        auto_create = config.auto_create,
        "ready: SDKs connect to {}", record.grpc_address
    );
    Ok(Started { front, data_guard: temporary, published: published.ok() })
}

/// The world, as this process sees it.
struct Seams {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

fn proxy_settings(config: &Config, grpc: &Bound) -> ProxySettings {
    ProxySettings {
        cluster_name: config.cluster.name.clone(),
        auto_create: config.auto_create,
        store_host: grpc.local().to_string(),
        ..ProxySettings::default()
    }
}

async fn open_namesrv(seams: &Seams, tasks: &Tasks) -> Result<Arc<dyn Routes>, Stop> {
    let parts = NamesrvParts {
        disk: Arc::clone(&seams.disk),
        clock: Arc::clone(&seams.clock),
        entropy: Arc::clone(&seams.entropy),
        tasks: tasks.clone(),
        members: vec![Member { id: 1, registry: String::new(), consensus: String::new() }],
        me: 1,
        replication_factor: 1,
        token: None,
    };
    let namesrv = Namesrv::open(parts).await?;
    let myself = NewNode {
        name: NodeName::parse(NODE).map_err(|error| Stop::new(Exit::Bug, error))?,
        lanes: String::new(),
        replication: String::new(),
        zone: String::new(),
        incarnation: seams.entropy.next_u64(),
    };
    let (name, incarnation) = (myself.name.clone(), myself.incarnation);
    namesrv.register(myself).await.map_err(|error| Stop::new(Exit::Io, error))?;
    let (beating, stop) = (namesrv.clone(), tasks.token());
    tasks.spawn("heartbeat", OnError::StopProcess, async move {
        beat(&beating, &name, incarnation, stop).await;
        Ok::<_, Infallible>(())
    });
    Ok(Arc::new(LocalRoutes(namesrv)))
}

/// Lets the store-node be heard while the process lives.
async fn beat(namesrv: &Namesrv, name: &NodeName, incarnation: u64, stop: CancellationToken) {
    let mut beats = tokio::time::interval(apogee_namesrv::BEAT);
    while stop.run_until_cancelled(beats.tick()).await.is_some() {
        if let Err(error) = namesrv.heartbeat(name, incarnation).await {
            tracing::warn!(event = "heartbeat_refused", %error, "namesrv did not take the heartbeat");
        }
    }
}

async fn open_engine(
    config: &Config,
    folder: &Path,
    seams: &Seams,
    tasks: &Tasks,
    meter: Meter,
) -> Result<Arc<dyn StoreNode>, Stop> {
    let engine =
        EngineParts { disk: Arc::clone(&seams.disk), clock: Arc::clone(&seams.clock), tasks: tasks.clone(), meter };
    let views = Arc::new(RocksViewStore::new(folder, RocksSettings { views_bytes: VIEWS_BYTES })?);
    let parts = ReplicaParts {
        engine,
        views,
        peers: Arc::new(Nobody),
        entropy: Arc::clone(&seams.entropy),
        ear: Ear::default(),
    };
    let retention = config.retention()?;
    let settings = Settings { segment_bytes: SEGMENT_BYTES, retention, ..Settings::default() };
    Ok(Arc::new(LocalStore(Engine::open_replica(parts, Members::alone(), settings).await?)))
}

/// Recovery names files as the disk does, relative to its folder.
fn of_folder(folder: &Path, stop: &Stop) -> Stop {
    Stop::new(stop.exit, format!("in data folder {}: {stop}", folder.display()))
}

fn record(data: &Data, ports: &Ports) -> DevRecord {
    DevRecord {
        pid: std::process::id(),
        data_folder: data.folder.clone(),
        token_path: data.token_path(),
        grpc_address: ports.grpc.local(),
        admin_address: ports.admin.local(),
        metrics_address: ports.metrics.local(),
        health_address: ports.health.local(),
    }
}
