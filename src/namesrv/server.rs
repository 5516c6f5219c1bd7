//! How a namesrv is put together, and how it comes down.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::health::{Check, Health, health_routes, metrics_routes, serve};
use apogee_host::shutdown::{Ladder, Signals};
use apogee_host::telemetry::Metrics;
use apogee_host::{Exit, Identity, OnError, OsEntropy, RealClock, Stop, Tasks};
use apogee_namesrv::{Namesrv, NamesrvParts, serve_consensus, serve_registry};
use tokio::time::{MissedTickBehavior, interval};

use super::config::{Checked, Config};
use crate::process::data::Data;
use crate::process::ports::bind;
use crate::process::shell;

/// Nothing is drained: whoever asks meanwhile turns to another member.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// Time for the tasks to end; the lead is handed over in it.
const CLOSE_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether this member is in touch with the others.
const LOOK_EVERY: Duration = Duration::from_millis(250);

const LISTENERS: &str = "listeners";
const CONSENSUS: &str = "consensus";

/// Starts everything and runs until somebody asks to stop or something fails that everything needs.
pub(super) async fn run(config: &Config, checked: Checked, identity: &Identity) -> Result<Exit, Stop> {
    let mut signals = Signals::install()?;
    let tasks = Tasks::new();
    let health = Health::new(&[LISTENERS]);
    health.set(CONSENSUS, Check::fail("starting"));
    let starting = start(config, checked, identity, &tasks, &health);
    if shell::started(starting, &tasks, &mut signals).await?.is_none() {
        return Ok(Exit::Clean);
    }
    let ladder = Ladder { health, tasks, drain_max: DRAIN_MAX, close_max: CLOSE_MAX };
    Ok(ladder.run(&mut signals, || async { Ok(()) }).await)
}

async fn start(
    config: &Config,
    checked: Checked,
    identity: &Identity,
    tasks: &Tasks,
    health: &Health,
) -> Result<(), Stop> {
    let Checked { me, members, token } = checked;
    let data = Data::open(Some(&config.data))?;
    let [registry, raft, metrics_port, health_port] = config.ports().map(|(key, port)| bind(key, config.listen, port));
    let (registry, raft, metrics_port, health_port) = (registry?, raft?, metrics_port?, health_port?);
    let metrics = Metrics::new(identity)?;
    serve(tasks, "health", health_port.listener, health_routes(health.clone(), identity, tasks));
    serve(tasks, "metrics", metrics_port.listener, metrics_routes(metrics.clone()));

    data.check_format().await?;
    let Data { folder, disk, .. } = data;
    let alone = members.len() == 1;
    let parts = NamesrvParts {
        disk: Arc::new(disk),
        clock: Arc::new(RealClock),
        entropy: Arc::new(OsEntropy),
        tasks: tasks.clone(),
        members,
        me,
        replication_factor: config.replication_factor,
        token: token.clone(),
    };
    let namesrv = Namesrv::open(parts).await.map_err(|error| {
        let stop = Stop::from(error);
        Stop::new(stop.exit, format!("in data folder {}: {stop}", folder.display()))
    })?;
    namesrv.observe(&metrics.meter());
    if !alone {
        serve_consensus(tasks, raft.listener, namesrv.clone(), token.clone());
    }
    serve_registry(tasks, registry.listener, namesrv.clone(), token);
    health.set(LISTENERS, Check::ok());
    tell_touch(namesrv, tasks, health);
    tracing::info!(
        event = "serving",
        data = %folder.display(),
        member = me,
        alone,
        registry = %registry.address,
        raft = %raft.address,
        "store-nodes and proxies are served"
    );
    Ok(())
}

/// Ready while this member leads a majority, or hears who does.
fn tell_touch(namesrv: Namesrv, tasks: &Tasks, health: &Health) {
    let (health, stop) = (health.clone(), tasks.token());
    tasks.spawn("touch", OnError::StopProcess, async move {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let check = match (namesrv.is_in_touch(), namesrv.cluster()) {
                (true, Some(_)) => Check::ok(),
                (true, None) => Check::fail("the cluster is not born yet"),
                (false, _) => Check::fail("no majority of the namesrv is in touch with this one"),
            };
            health.set(CONSENSUS, check);
        }
        Ok::<_, Infallible>(())
    });
}
