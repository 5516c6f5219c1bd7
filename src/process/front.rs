//! What clients of a proxy reach: the gRPC port with its health, and the admin port.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::health::Health;
use apogee_host::{Clock, Entropy, Exit, ExitWith, OnError, Stop, Tasks};
use apogee_proto::token::ClusterToken;
use apogee_proxy::admin;
use apogee_proxy::listen::{ListenMetrics, ListenSettings, Listener, Tls, TlsMode, TlsSettings};
use apogee_proxy::{Proxy, ProxyParts, ProxySettings, Routes, Stores};
use opentelemetry::metrics::Meter;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

use super::ports::Bound;

/// The services whose health clients may ask for: the whole port, and what SDKs use.
const HEALTH_OF: [&str; 2] = ["", "apache.rocketmq.v2.MessagingService"];
/// Deadline of one admin call.
const ADMIN_CALL_MAX: Duration = Duration::from_secs(10);
/// Admin calls of one connection at a time.
const ADMIN_CALLS: usize = 64;

/// TLS of the gRPC port.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    /// PEM file with the certificate and its chain. Default: self-signed, made at every start.
    pub(crate) cert: Option<PathBuf>,
    /// PEM file with the private key of `tls.cert`.
    pub(crate) key: Option<PathBuf>,
}

/// One file without the other.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("tls.cert and tls.key go together, only one is set; set both, or none for a self-signed certificate")]
pub(crate) struct HalfTls;

impl ExitWith for HalfTls {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// The running front.
pub(crate) struct Front {
    proxy: Proxy,
    stop: CancellationToken,
    drained: oneshot::Receiver<()>,
}

/// What the front is made of.
pub(crate) struct FrontParts<'a> {
    pub(crate) grpc: Bound,
    pub(crate) admin: Bound,
    pub(crate) tls: Tls,
    pub(crate) settings: ProxySettings,
    pub(crate) listen: ListenSettings,
    pub(crate) routes: Arc<dyn Routes>,
    pub(crate) stores: Stores,
    /// Asked for on the admin port, if there is one.
    pub(crate) token: Option<ClusterToken>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) tasks: &'a Tasks,
    pub(crate) meter: Meter,
    pub(crate) health: &'a Health,
}

impl Front {
    /// Starts to serve both ports.
    pub(crate) fn open(parts: FrontParts<'_>) -> Front {
        let FrontParts { grpc, admin, tls, settings, listen, routes, stores, token, clock, entropy, .. } = parts;
        let (tasks, meter, health) = (parts.tasks, parts.meter, parts.health);
        let proxy_parts = ProxyParts { routes, stores, clock, entropy, tasks: tasks.clone(), meter: meter.clone() };
        let proxy = Proxy::new(proxy_parts, settings);
        serve_admin(tasks, admin.listener, proxy.admin(token, tasks.token()));
        let services = tonic::service::Routes::new(proxy.service()).add_service(grpc_health(tasks, health)).prepare();
        let watched = proxy.clone();
        let listener = Listener::new(grpc.listener, services, listen, tls, ListenMetrics::new(&meter))
            .on_closed(Arc::new(move |connection| watched.connection_closed(connection)));
        let stop = CancellationToken::new();
        let (done, drained) = oneshot::channel();
        let serving = listener.run(stop.clone());
        tasks.spawn("grpc", OnError::StopProcess, async move {
            serving.await;
            let _nobody_waits = done.send(());
            Ok::<_, Infallible>(())
        });
        Front { proxy, stop, drained }
    }

    /// No new calls, long polls end empty, calls in flight finish.
    pub(crate) async fn drain(self) -> Result<(), Stop> {
        self.stop.cancel();
        let _a_panic_is_known_to_the_tasks = self.drained.await;
        self.proxy.drain();
        Ok(())
    }
}

impl TlsFiles {
    pub(crate) fn check(&self) -> Result<(), HalfTls> {
        if self.cert.is_some() == self.key.is_some() { Ok(()) } else { Err(HalfTls) }
    }

    /// Reads the certificate and its key if they are named, and does nothing with them.
    pub(crate) fn try_out(&self) -> Result<(), Stop> {
        if self.cert.is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            runtime.block_on(self.open())?;
        }
        Ok(())
    }

    /// Reads the certificate and its key, or makes a pair where none are named.
    pub(crate) async fn open(&self) -> Result<Tls, Stop> {
        let settings = TlsSettings { mode: TlsMode::Permissive, cert: self.cert.clone(), key: self.key.clone() };
        Tls::open(&settings).await.map_err(|error| {
            let cause = Stop::new(Exit::Usage, error);
            let next =
                "name the PEM files of a certificate and of its private key as tls.cert and tls.key, or set none";
            Stop::new(cause.exit, format!("{cause}; {next}"))
        })
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
