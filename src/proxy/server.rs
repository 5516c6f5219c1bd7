//! How a proxy is put together, and how it comes down.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::health::{Check, Health, health_routes, metrics_routes, serve};
use apogee_host::shutdown::{Ladder, Signals};
use apogee_host::telemetry::Metrics;
use apogee_host::{Entropy as _, Exit, Identity, OsEntropy, RealClock, Stop, Tasks};
use apogee_model::Cluster;
use apogee_namesrv::{NamesrvClient, NamesrvClientParts};
use apogee_proto::token::ClusterToken;
use apogee_proxy::{Follower, ProxySettings, StoreMetrics, Stores};

use super::config::Config;
use super::register;
use super::routes::RemoteRoutes;
use crate::process::config::pod_name;
use crate::process::front::{Front, FrontParts};
use crate::process::ports::bind;
use crate::process::shell;

/// Beside the times of `drain`: connections that were cut end.
const DRAIN_SLACK: Duration = Duration::from_secs(2);
/// Time for the tasks to end after that.
const CLOSE_MAX: Duration = Duration::from_secs(5);

const LISTENERS: &str = "listeners";
const ROUTES: &str = "routes";

/// Starts everything and runs until somebody asks to stop or something fails that everything needs.
pub(super) async fn run(config: &Config, token: Option<ClusterToken>, identity: &Identity) -> Result<Exit, Stop> {
    let mut signals = Signals::install()?;
    let tasks = Tasks::new();
    let health = Health::new(&[LISTENERS, ROUTES]);
    let starting = start(config, token, identity, &tasks, &health);
    let Some(front) = shell::started(starting, &tasks, &mut signals).await? else { return Ok(Exit::Clean) };
    let drain = config.listen_settings().drain;
    let drain_max = drain.lame_duck + drain.spread + drain.grace + DRAIN_SLACK;
    let ladder = Ladder { health, tasks, drain_max, close_max: CLOSE_MAX };
    Ok(ladder.run(&mut signals, || front.drain()).await)
}

/// Returns when clients are served: not before some namesrv has told of the cluster, however long that takes.
async fn start(
    config: &Config,
    token: Option<ClusterToken>,
    identity: &Identity,
    tasks: &Tasks,
    health: &Health,
) -> Result<Front, Stop> {
    let tls = config.tls.open().await?;
    let [grpc, admin, metrics_port, health_port] = config.ports().map(|(key, port)| bind(key, config.listen, port));
    let (grpc, admin, metrics_port, health_port) = (grpc?, admin?, metrics_port?, health_port?);
    let metrics = Metrics::new(identity)?;
    serve(tasks, "health", health_port.listener, health_routes(health.clone(), identity, tasks));
    serve(tasks, "metrics", metrics_port.listener, metrics_routes(metrics.clone()));

    let client = NamesrvClientParts {
        addresses: config.namesrv.shuffled(&OsEntropy),
        token: token.clone(),
        cluster_id: None,
        tasks: tasks.clone(),
    };
    let client = NamesrvClient::new(client).map_err(|error| Stop::new(Exit::Usage, error))?;
    let cluster = first_cluster(&client, health).await;
    health.set(ROUTES, Check::ok());

    let stores = Stores::default();
    let follower = Follower {
        stores: stores.clone(),
        incarnation: OsEntropy.next_u64(),
        tasks: tasks.clone(),
        metrics: Arc::new(StoreMetrics::new(&metrics.meter())),
        token: token.clone(),
    };
    follower.begin(client.watch());
    let (grpc_address, admin_address) = (grpc.address, admin.address);
    let reached = config.reached_at(admin.local());
    let me = register::myself(pod_name().as_deref(), &identity.node, grpc_address, reached);
    let me = me.map_err(|error| Stop::new(Exit::Usage, error))?;
    let settings = ProxySettings {
        name: me.name.as_str().to_owned(),
        cluster_name: config.cluster.name.clone(),
        auto_create: config.auto_create,
        store_host: grpc.local().to_string(),
        ..ProxySettings::default()
    };
    register::show(client.clone(), me, tasks);
    let front = Front::open(FrontParts {
        grpc,
        admin,
        tls,
        settings,
        listen: config.listen_settings(),
        routes: Arc::new(RemoteRoutes::new(client, Arc::clone(&cluster))),
        stores,
        token,
        clock: Arc::new(RealClock),
        entropy: Arc::new(OsEntropy),
        tasks,
        meter: metrics.meter(),
        health,
    });
    health.set(LISTENERS, Check::ok());
    tracing::info!(
        event = "ready",
        cluster_id = %format_args!("{:016x}", cluster.cluster_id),
        grpc = %grpc_address,
        admin = %admin_address,
        auto_create = config.auto_create,
        "ready: SDKs connect to {grpc_address}"
    );
    Ok(front)
}

/// What namesrv tells first; until then the reason why none does is part of the health.
async fn first_cluster(client: &NamesrvClient, health: &Health) -> Arc<Cluster> {
    let (mut cluster, mut trouble) = (client.watch(), client.trouble());
    let tell = async {
        loop {
            let why = trouble.borrow_and_update().clone();
            health
                .set(ROUTES, Check::fail(why.unwrap_or_else(|| "namesrv has not told of the cluster yet".to_owned())));
            if trouble.changed().await.is_err() {
                std::future::pending::<Infallible>().await;
            }
        }
    };
    tokio::select! {
        told = cluster.wait_for(Option::is_some) => match told {
            Ok(told) => Arc::clone(told.as_ref().expect("waited for one")),
            Err(_) => std::future::pending().await, // the tasks have failed, and that ends the start
        },
        never = tell => never,
    }
}
