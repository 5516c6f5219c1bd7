//! The front door: one TCP port that speaks HTTP/2 in the clear and over TLS, for any tower service.
//!
//! We own the accept loop instead of using tonic's server, because the limits of a public port (connections per
//! address, handshake and idle time, drain with jitter) and the sniffing of TLS belong between `accept` and HTTP/2.
//!
//! Invariant: knows neither gRPC nor messages. Every task started here ends before [`Listener::run`] returns.
//!
//! Reading order: `settings`, `accept` (the loop and its drain), `connection` (the life of one connection), `departure`
//! (how its calls learn that it leaves), `activity` and `stream` (what "idle" means), `served`, `seats`, `tls`, `metrics`.

mod accept;
mod activity;
mod connection;
mod departure;
mod metrics;
mod seats;
mod served;
mod settings;
mod stream;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

pub use accept::{ClosedConnection, Drained, Listener, OnClosed};
pub use departure::{Departure, Stage};
pub use metrics::ListenMetrics;
pub use settings::{AgeSettings, ConnectionLimits, DrainSettings, ListenSettings};
pub use tls::{Tls, TlsError, TlsMode, TlsSettings};

/// Request extension: the address at the other end of the TCP connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

/// Request extension: the connection a request came in by. Unique within one [`Listener`], never reused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Request extension: one counter for all requests of a connection. Starts at 0; the service behind the port counts the
/// bytes of requests in progress on it, the listener only carries it.
#[derive(Clone, Debug, Default)]
pub struct ConnectionBytes(pub Arc<AtomicUsize>);
