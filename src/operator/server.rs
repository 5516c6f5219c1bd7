//! How an operator is put together, and how it comes down.

use std::future::ready;
use std::time::Duration;

use apogee_host::health::{Check, Health, health_routes, metrics_routes, serve};
use apogee_host::shutdown::{Ladder, Signals};
use apogee_host::telemetry::Metrics;
use apogee_host::{Exit, Identity, Stop, Tasks};
use apogee_operator::Settings;
use apogee_proto::token::ClusterToken;

use super::config::Config;
use crate::process::ports::bind;
use crate::process::shell;

/// Nothing is to be done before the tasks end.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// Time to let the Lease go.
const CLOSE_MAX: Duration = Duration::from_secs(10);

const LISTENERS: &str = "listeners";

/// Starts everything and runs until somebody asks to stop or something fails that everything needs.
pub(super) async fn run(config: &Config, token: Option<ClusterToken>, identity: &Identity) -> Result<Exit, Stop> {
    let mut signals = Signals::install()?;
    let tasks = Tasks::new();
    let health = Health::new(&[LISTENERS]);
    let starting = start(config, token, identity, &tasks, &health);
    if shell::started(starting, &tasks, &mut signals).await?.is_none() {
        return Ok(Exit::Clean);
    }
    let ladder = Ladder { health, tasks, drain_max: DRAIN_MAX, close_max: CLOSE_MAX };
    Ok(ladder.run(&mut signals, || ready(Ok(()))).await)
}

async fn start(
    config: &Config,
    token: Option<ClusterToken>,
    identity: &Identity,
    tasks: &Tasks,
    health: &Health,
) -> Result<(), Stop> {
    let [metrics_port, health_port] = config.ports().map(|(key, port)| bind(key, config.listen, port));
    let (metrics_port, health_port) = (metrics_port?, health_port?);
    let metrics = Metrics::new(identity)?;
    serve(tasks, "health", health_port.listener, health_routes(health.clone(), identity, tasks));
    serve(tasks, "metrics", metrics_port.listener, metrics_routes(metrics.clone()));
    let settings = Settings {
        cluster_name: config.cluster.name.clone(),
        admin: config.admin.address.clone(),
        token,
        namespaces: config.namespaces(),
        store_nodes: config.watch.store_nodes,
        lease: config.lease.name.clone(),
        resync: config.resync.0,
        me: identity.node.clone(),
    };
    apogee_operator::start(settings, tasks, health, &metrics.meter()).await?;
    health.set(LISTENERS, Check::ok());
    let (admin, watched) = (&config.admin.address, config.namespaces());
    tracing::info!(
        event = "ready",
        admin,
        ?watched,
        store_nodes = config.watch.store_nodes,
        lease = config.lease.name,
        "ready: keeps what objects say"
    );
    Ok(())
}
