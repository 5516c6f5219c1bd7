//! What clients reach: the gRPC port with the proxy and its health, and the admin port.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::health::Health;
use apogee_host::{Exit, OnError, Stop, Tasks};
use apogee_proto::token::ClusterToken;
use apogee_proxy::admin;
use apogee_proxy::listen::{DrainSettings, ListenMetrics, ListenSettings, Listener, Tls};
use apogee_proxy::{Proxy, ProxyParts, ProxySettings, Routes, Stores};
use opentelemetry::metrics::Meter;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

use super::config::Config;
use super::server::Seams;
use crate::process::ports::Bound;

/// The services whose health clients may ask for: the whole port, and what SDKs use.
const HEALTH_OF: [&str; 2] = ["", "apache.rocketmq.v2.MessagingService"];
/// Nobody balances connections of one process: they all go at once, and calls in flight get this long.
const DRAIN: DrainSettings =
    DrainSettings { lame_duck: Duration::ZERO, spread: Duration::ZERO, grace: Duration::from_secs(10) };
/// Deadline of one admin call.
const ADMIN_CALL_MAX: Duration = Duration::from_secs(10);
/// Admin calls of one connection at a time.
const ADMIN_CALLS: usize = 64;

/// The running front.
pub(super) struct Front {
    proxy: Proxy,
    stop: CancellationToken,
    drained: oneshot::Receiver<()>,
}

/// What the front is made of.
pub(super) struct FrontParts<'a> {
    pub(super) config: &'a Config,
    pub(super) grpc: Bound,
    pub(super) admin: Bound,
    pub(super) tls: Tls,
    pub(super) routes: Arc<dyn Routes>,
    pub(super) stores: Stores,
    pub(super) token: ClusterToken,
    pub(super) seams: &'a Seams,
    pub(super) tasks: &'a Tasks,
    pub(super) meter: Meter,
    pub(super) health: &'a Health,
}

impl Front {
    /// Starts to serve both ports.
    pub(super) async fn open(parts: FrontParts<'_>) -> Result<Front, Stop> {
        let FrontParts { config, grpc, admin, tls, routes, stores, token, seams, tasks, meter, health } = parts;
        serve_admin(tasks, admin.listener, admin::service(Arc::clone(&routes), stores.clone(), token, tasks.token()));

        let proxy_parts = ProxyParts {
            routes,
            stores,
            clock: Arc::clone(&seams.clock),
            entropy: Arc::clone(&seams.entropy),
            tasks: tasks.clone(),
            meter: meter.clone(),
        };
        let proxy = Proxy::new(proxy_parts, proxy_settings(config, &grpc));
        let services = tonic::service::Routes::new(proxy.service()).add_service(grpc_health(tasks, health)).prepare();
        let settings = ListenSettings { drain: DRAIN, ..ListenSettings::default() };
        let watched = proxy.clone();
        let listener = Listener::new(grpc.listener, services, settings, tls, ListenMetrics::new(&meter))
            .on_closed(Arc::new(move |connection| watched.connection_closed(connection)));
        let stop = CancellationToken::new();
        let (done, drained) = oneshot::channel();
        let serving = listener.run(stop.clone());
        tasks.spawn("grpc", OnError::StopProcess, async move {
            serving.await;
            let _nobody_waits = done.send(());
            Ok::<_, Infallible>(())
        });
        Ok(Front { proxy, stop, drained })
    }

    /// No new calls, long polls end empty, calls in flight finish.
    pub(super) async fn drain(self) -> Result<(), Stop> {
        self.proxy.drain();
        self.stop.cancel();
        let _a_panic_is_known_to_the_tasks = self.drained.await;
        Ok(())
    }
}

/// Reads the certificate and its key, or makes a pair where none are named.
pub(super) async fn open_tls(config: &Config) -> Result<Tls, Stop> {
    Tls::open(&config.tls_settings()).await.map_err(|error| {
        let cause = Stop::new(Exit::Usage, error);
        let next = "name the PEM files of a certificate and of its private key as tls.cert and tls.key, or set none";
        Stop::new(cause.exit, format!("{cause}; {next}"))
    })
}

fn proxy_settings(config: &Config, grpc: &Bound) -> ProxySettings {
    ProxySettings {
        cluster_name: config.cluster.name.clone(),
        auto_create: config.auto_create,
        store_host: grpc.local().to_string(),
        ..ProxySettings::default()
    }
}

/// `grpc.health.v1`, which says what `/readyz` says.
fn grpc_health(
    tasks: &Tasks,
    health: &Health,
) -> tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health + use<>> {
    let (reporter, service) = tonic_health::server::health_reporter();
    let (mut ready, stop) = (health.ready(), tasks.token());
    tasks.spawn("grpc-health", OnError::LogAndEnd, async move {
        let mirror = async {
            loop {
                let status =
                    if *ready.borrow_and_update() { ServingStatus::Serving } else { ServingStatus::NotServing };
                for name in HEALTH_OF {
                    reporter.set_service_status(name, status).await;
                }
                if ready.changed().await.is_err() {
                    return;
                }
            }
        };
        stop.run_until_cancelled(mirror).await;
        Ok::<_, Infallible>(())
    });
    service
}

/// Serves until the tasks close, so that an operator can watch the drain.
fn serve_admin(tasks: &Tasks, listener: TcpListener, service: admin::Service) {
    let stop = tasks.token();
    let server = Server::builder()
        .timeout(ADMIN_CALL_MAX)
        .concurrency_limit_per_connection(ADMIN_CALLS)
        .add_service(service)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.cancelled_owned());
    tasks.spawn("admin", OnError::StopProcess, async move { server.await.map_err(|error| Stop::new(Exit::Io, error)) });
}
