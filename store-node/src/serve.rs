//! The two ports of a store-node.

use std::time::Duration;

use apogee_host::{Exit, OnError, Stop, Tasks};
use apogee_proto::token::{CLUSTER_TOKEN, ClusterToken, TokenCheck};
use tokio::net::TcpListener;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::lanes::Lanes;
use crate::raft::Replication;

/// Bytes on their way before this side read them.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A connection whose other end does not answer pings is closed after these two together.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_MAX: Duration = Duration::from_secs(4);
/// Streams and calls of one connection.
const STREAMS_MAX: u32 = 4096;

/// Serves proxies on `listener` until the tasks close. [`Lanes::drain`] ends the lanes before that. Whoever does not show
/// `token` is refused.
pub fn serve_lanes(tasks: &Tasks, listener: TcpListener, lanes: &Lanes, token: Option<ClusterToken>) {
    let (stop, service) = (tasks.token().cancelled_owned(), lanes.service());
    let server = server()
        .layer(InterceptorLayer::new(TokenCheck::new(token, CLUSTER_TOKEN)))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener), stop);
    tasks.spawn("lanes", OnError::StopProcess, async move { server.await.map_err(|error| Stop::new(Exit::Io, error)) });
}

/// Serves other replicas on `listener` until the tasks close. Whoever does not show `token` is refused.
pub fn serve_replication(tasks: &Tasks, listener: TcpListener, replication: Replication, token: Option<ClusterToken>) {
    let stop = tasks.token();
    let server = server()
        .layer(InterceptorLayer::new(TokenCheck::new(token, CLUSTER_TOKEN)))
        .add_service(replication.until(stop.clone()).service())
        .serve_with_incoming(incoming(listener));
    tasks.spawn("replication", OnError::StopProcess, async move {
        // A pipeline never ends by itself, so nobody waits for the end of one.
        let served = stop.run_until_cancelled(server).await.unwrap_or(Ok(()));
        served.map_err(|error| Stop::new(Exit::Io, error))
    });
}

fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_MAX))
}

fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}
