//! How the roles are put together, and how they come down.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Engine, EngineParts, Settings};
use apogee_host::health::{Check, Health, health_routes, metrics_routes, serve};
use apogee_host::shutdown::{Ladder, Signals};
use apogee_host::telemetry::Metrics;
use apogee_host::{Clock, Disk, Entropy, Exit, Identity, OsEntropy, RealClock, Stop, Tasks};
use apogee_namesrv::{Namesrv, NamesrvParts};
use apogee_proxy::{Routes, StoreNode};
use opentelemetry::metrics::Meter;

use super::adapters::{LocalRoutes, LocalStore};
use super::config::Config;
use super::data::Data;
use super::front::{Front, FrontParts, open_tls};
use super::ports::Ports;
use crate::record::{DevRecord, Published};

/// Small segments: a laptop has no use for large ones.
const SEGMENT_BYTES: u64 = 32 << 20;
/// From SIGTERM to the end of the last call.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// Time for the tasks to end after that.
const CLOSE_MAX: Duration = Duration::from_secs(5);

const LISTENERS: &str = "listeners";
const RECOVERY: &str = "recovery";

/// Starts everything and runs until somebody asks to stop or something fails that everything needs.
pub(super) async fn run(config: Config, identity: &Identity) -> Result<Exit, Stop> {
    let mut signals = Signals::install()?;
    let tasks = Tasks::new();
    let health = Health::new(&[LISTENERS, RECOVERY]);
    let started = tokio::select! {
        started = start(config, identity, &tasks, &health) => started?,
        failure = tasks.failed() => return Err(Stop::new(failure.stop.exit, failure.to_string())),
        signal = signals.next() => {
            tracing::info!(event = "start_interrupted", signal, "asked to stop before the start was over");
            return Ok(Exit::Clean);
        }
    };
    let Started { front, data_guard, published } = started;
    let ladder = Ladder { health, tasks, drain_max: DRAIN_MAX, close_max: CLOSE_MAX };
    let exit = ladder.run(signals, || front.drain()).await;
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
    let tls = open_tls(&config).await?; // a mistake in it is told before anything is touched
    let data = Data::open(&config)?;
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
    let store = open_engine(&seams, tasks, metrics.meter()).await.map_err(|stop| of_folder(&folder, &stop))?;
    health.set(RECOVERY, Check::ok());

    let front = Front::open(FrontParts {
        config: &config,
        grpc: ports.grpc,
        admin: ports.admin,
        tls,
        routes,
        store,
        token,
        seams: &seams,
        tasks,
        meter: metrics.meter(),
        health,
    });
    let front = front.await?;
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
pub(super) struct Seams {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

async fn open_namesrv(seams: &Seams, tasks: &Tasks) -> Result<Arc<dyn Routes>, Stop> {
    let parts = NamesrvParts {
        disk: Arc::clone(&seams.disk),
        clock: Arc::clone(&seams.clock),
        entropy: Arc::clone(&seams.entropy),
        tasks: tasks.clone(),
    };
    Ok(Arc::new(LocalRoutes(Namesrv::open(parts).await?)))
}

async fn open_engine(seams: &Seams, tasks: &Tasks, meter: Meter) -> Result<Arc<dyn StoreNode>, Stop> {
    let parts =
        EngineParts { disk: Arc::clone(&seams.disk), clock: Arc::clone(&seams.clock), tasks: tasks.clone(), meter };
    let settings = Settings { segment_bytes: SEGMENT_BYTES, ..Settings::default() };
    Ok(Arc::new(LocalStore(Engine::open(parts, settings).await?)))
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
