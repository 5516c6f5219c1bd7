//! The accept loop: it owns the port and every connection task, and closes both.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Shared};
use super::metrics::{Closed, DrainState, ListenMetrics};
use super::seats::{Seat, Seats};
use super::served::Served;
use super::settings::ListenSettings;
use super::tls::Tls;
use super::{ConnectionId, PeerAddr};

/// Pause after the operating system refused a connection for lack of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Refused connections are logged at most this often; each is counted.
const LOG_REFUSED_EVERY: Duration = Duration::from_secs(10);
/// Request tasks end with their connection; this is only for the scheduler to get round to it.
const LAST_STREAMS: Duration = Duration::from_secs(1);

/// Called once when a connection is gone, whatever ended it; its last requests may still be about to be dropped.
/// Must not block.
pub type OnClosed = Arc<dyn Fn(ClosedConnection) + Send + Sync>;

/// A connection that is gone.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ClosedConnection {
    pub id: ConnectionId,
    /// We had asked the other end to connect again, by age or drain: it lives on elsewhere.
    pub sent_away: bool,
}

/// A bound port and the service behind it.
pub struct Listener<S> {
    tcp: TcpListener,
    service: S,
    settings: ListenSettings,
    seats: Arc<Seats>,
    shared: Arc<Shared>,
    on_closed: Option<OnClosed>,
    connections: JoinSet<()>,
    last_id: u64,
    refused_logged: Option<Instant>,
}

/// How the connections ended that were open when the port closed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Finished their calls and closed.
    pub finished: usize,
    /// Cut at the end of the grace period.
    pub cut: usize,
}

impl<S: Served> Listener<S> {
    /// Serves `service` on `tcp`, which is bound already, so that a taken port is known before any heavy work.
    pub fn new(tcp: TcpListener, service: S, settings: ListenSettings, tls: Tls, metrics: ListenMetrics) -> Self {
        let shared = Shared {
            limits: settings.limits.clone(),
            age: settings.age,
            spread: settings.drain.spread,
            tls,
            metrics,
            drain: CancellationToken::new(),
            streams: TaskTracker::new(),
        };
        Listener {
            tcp,
            service,
            seats: Seats::new(settings.limits.connections, settings.limits.connections_per_ip),
            settings,
            shared: Arc::new(shared),
            on_closed: None,
            connections: JoinSet::new(),
            last_id: 0,
            refused_logged: None,
        }
    }

    /// Tells `on_closed` about every connection that ends.
    #[must_use]
    pub fn on_closed(mut self, on_closed: OnClosed) -> Self {
        self.on_closed = Some(on_closed);
        self
    }

    /// Serves until `stop`, then drains: keeps accepting for the lame duck period, closes the port, asks every
    /// connection to finish within the spread, and cuts what is left after the grace period.
    ///
    /// Dropping this future cuts all connections at once.
    pub async fn run(mut self, stop: CancellationToken) -> Drained {
        let shared = Arc::clone(&self.shared);
        let serve = async move {
            self.accept_until(stop.cancelled()).await;
            self.shared.metrics.drains(DrainState::LameDuck);
            self.accept_until(sleep(self.settings.drain.lame_duck)).await;
            self.shared.metrics.drains(DrainState::Draining);
            self.drain().await
        };
        tokio::select! {
            drained = serve => drained,
            never = shared.tls.keep_fresh(&shared.metrics) => match never {},
        }
    }

    async fn accept_until(&mut self, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer),
                    Err(error) => accept_failed(&error).await,
                },
                Some(ended) = self.connections.join_next() => report(ended),
            }
        }
    }

    /// Starts the task of one connection, or closes it for want of a seat.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        self.shared.metrics.accepted();
        let seat = match self.seats.take(peer.ip()) {
            Ok(seat) => seat,
            Err(no_seat) => {
                self.shared.metrics.closed(Closed::Limit);
                if self.refused_logged.is_none_or(|last| last.elapsed() >= LOG_REFUSED_EVERY) {
                    self.refused_logged = Some(Instant::now());
                    tracing::warn!(event = "connection_refused", %peer, reason = %no_seat, "connection refused");
                }
                return;
            }
        };
        self.last_id += 1;
        let service = self.service.clone();
        let id = ConnectionId(self.last_id);
        let connection = Connection { id, peer: PeerAddr(peer), shared: Arc::clone(&self.shared) };
        let farewell = Farewell {
            id,
            reason: Closed::Drain, // unless the task gets to say otherwise before it is cut
            metrics: self.shared.metrics.clone(),
            on_closed: self.on_closed.clone(),
            seat: Some(seat),
        };
        self.connections.spawn(async move {
            let reason = connection.run(stream, service).await;
            farewell.because(reason);
        });
    }

    /// Closes the port and waits for the connections.
    async fn drain(self) -> Drained {
        let Listener { tcp, settings, shared, mut connections, .. } = self;
        drop(tcp);
        tracing::info!(event = "port_closed", connections = connections.len(), "port closed, connections are draining");
        shared.drain.cancel();
        let end = Instant::now() + settings.drain.spread + settings.drain.grace;
        let mut finished = 0;
        while let Ok(Some(ended)) = timeout_at(end, connections.join_next()).await {
            report(ended);
            finished += 1;
        }
        let cut = connections.len();
        connections.shutdown().await;
        shared.streams.close();
        if cut > 0 || timeout(LAST_STREAMS, shared.streams.wait()).await.is_err() {
            tracing::warn!(event = "drain_cut", cut, requests = shared.streams.len(), "calls were cut by the drain");
        }
        Drained { finished, cut }
    }
}

/// What is said and given back when a connection task ends, cut or not.
struct Farewell {
    id: ConnectionId,
    reason: Closed,
    metrics: ListenMetrics,
    on_closed: Option<OnClosed>,
    seat: Option<Seat>,
}

impl Farewell {
    fn because(mut self, reason: Closed) {
        self.reason = reason;
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        drop(self.seat.take());
        self.metrics.closed(if std::thread::panicking() { Closed::Error } else { self.reason });
        if let Some(on_closed) = &self.on_closed {
            on_closed(ClosedConnection { id: self.id, sent_away: matches!(self.reason, Closed::Age | Closed::Drain) });
        }
    }
}

/// A connection that broke between its handshake and accept is nobody's problem; for the rest, waiting helps most.
async fn accept_failed(error: &io::Error) {
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    tracing::warn!(event = "accept_failed", %error, pause = ?ACCEPT_PAUSE, "no connection can be accepted");
    sleep(ACCEPT_PAUSE).await;
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(event = "connection_panicked", %error, "a connection task panicked");
    }
}
