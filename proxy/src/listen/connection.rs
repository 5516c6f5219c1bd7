//! The life of one connection: first byte, TLS handshake, HTTP/2, end.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::Activity;
use super::departure::{Departure, Stage};
use super::metrics::{Closed, IsTls, ListenMetrics};
use super::served::Served;
use super::settings::{AgeSettings, ConnectionLimits};
use super::stream::ConnectionService;
use super::tls::Tls;
use super::{ConnectionBytes, ConnectionId, PeerAddr};

/// A 4 MiB message never waits for a window update.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Two such messages at a time; more than that is back-pressure for the client.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const HEADER_LIST_MAX: u32 = 32 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// From the news that a connection has reached its age to its GOAWAY: long enough for its streams to pass the news on.
const ANNOUNCE: Duration = Duration::from_millis(100);
/// How long a peer without open streams may take to answer our GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer that was told goodbye may take to close.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// What all connections of a port share.
pub(super) struct Shared {
    pub(super) limits: ConnectionLimits,
    pub(super) age: AgeSettings,
    pub(super) spread: Duration,
    pub(super) tls: Tls,
    pub(super) metrics: ListenMetrics,
    /// Cancelled when the port has closed.
    pub(super) drain: CancellationToken,
    /// The request tasks of all connections; each ends with its connection.
    pub(super) streams: TaskTracker,
}

/// One accepted connection.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) peer: PeerAddr,
    pub(super) shared: Arc<Shared>,
}

/// What bytes come and go by.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Io for IO {}

/// A connection whose first byte told what it speaks.
enum Greeted {
    Plaintext(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Serves the connection to its end.
    pub(super) async fn run(self, stream: TcpStream, service: impl Served) -> Closed {
        let greeted = tokio::select! {
            () = self.shared.drain.cancelled() => return Closed::Drain,
            greeted = self.greet(stream) => greeted,
        };
        match greeted {
            Ok(Greeted::Plaintext(stream)) => self.serve(stream, service, IsTls(false)).await,
            Ok(Greeted::Tls(stream)) => self.serve(stream, service, IsTls(true)).await,
            Err(closed) => closed,
        }
    }

    /// Tells TLS from plaintext by the first byte, which stays unread: a TLS record of a handshake begins with 0x16,
    /// the HTTP/2 preface with `P`. Whoever comes next checks the rest.
    async fn greet(&self, stream: TcpStream) -> Result<Greeted, Closed> {
        let Shared { limits, tls, .. } = &*self.shared;
        stream.set_nodelay(true).map_err(|_| Closed::Client)?;
        let mut first = [0];
        match timeout(limits.first_request, stream.peek(&mut first)).await {
            Err(_) => return Err(Closed::Idle),
            Ok(Err(_) | Ok(0)) => return Err(Closed::Client),
            Ok(Ok(_)) => {}
        }
        match (first, tls.acceptor()) {
            ([0x16], Some(acceptor)) => match timeout(limits.tls_handshake, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Ok(Greeted::Tls(Box::new(stream))),
                Ok(Err(error)) => Err(self.broken("TLS handshake failed", &error)),
                Err(late) => Err(self.broken("TLS handshake took too long", &late)),
            },
            ([b'P'], _) if tls.plaintext() => Ok(Greeted::Plaintext(stream)),
            ([b'P'], _) => Err(self.broken("plaintext is refused", &"tls.mode is required")),
            ([0x16], None) => Err(self.broken("TLS is refused", &"tls.mode is disabled")),
            ([other], _) => Err(self.broken("neither TLS nor HTTP/2", &format_args!("first byte {other:#04x}"))),
        }
    }

    /// Serves a connection that has been greeted, and lingers if the end was our wish.
    async fn serve(self, mut io: impl Io, service: impl Served, tls: IsTls) -> Closed {
        let _open = self.shared.metrics.open(tls);
        let closed = self.speak(&mut io, service).await;
        if let Closed::Age | Closed::Drain | Closed::Idle = closed {
            let _it_is_over = timeout(LINGER_MAX, linger(io)).await;
        }
        closed
    }

    /// Speaks HTTP/2 until the peer leaves, or until a reason of ours to close and then the end of the open streams.
    async fn speak(&self, io: &mut impl Io, service: impl Served) -> Closed {
        let limits = &self.shared.limits;
        let (activity, departure) = (Activity::new(), Departure::open());
        let service = ConnectionService {
            service,
            peer: self.peer,
            id: self.id,
            bytes: ConnectionBytes::default(),
            departure: departure.clone(),
            activity: Arc::clone(&activity),
        };
        let connection = http2(&self.shared).serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);

        let reason = tokio::select! {
            ended = connection.as_mut() => return self.ended(ended),
            () = activity.idle(limits.first_request, limits.idle) => Closed::Idle,
            () = self.grows_old() => Closed::Age,
            () = self.told_to_leave() => Closed::Drain,
        };
        if reason == Closed::Age {
            departure.advance(Stage::Announced);
            if timeout(ANNOUNCE, connection.as_mut()).await.is_ok() {
                return reason;
            }
        }
        connection.as_mut().graceful_shutdown();
        // The GOAWAY goes out with the next step of the connection. Whatever ends because of it comes behind it.
        if futures::poll!(connection.as_mut()).is_ready() {
            return reason;
        }
        departure.advance(if reason == Closed::Drain { Stage::Ends } else { Stage::Left });
        let last_calls =
            async { while timeout(GOAWAY_TIMEOUT, connection.as_mut()).await.is_err() && activity.is_busy() {} };
        tokio::select! {
            () = last_calls => {}
            () = self.cut(reason) => {}
            () = self.ends_with_the_others(&departure) => {}
        }
        reason
    }

    /// Waits for the age of this connection.
    async fn grows_old(&self) {
        match self.shared.age.max {
            Duration::ZERO => std::future::pending().await,
            max => tokio::time::sleep(max * 3 / 4 + turn(self.id, max / 2)).await,
        }
    }

    /// Waits until a connection that was asked to leave for this reason is cut. The drain cuts all that are left itself.
    async fn cut(&self, reason: Closed) {
        match reason {
            Closed::Age => tokio::time::sleep(self.shared.age.grace).await,
            _ => std::future::pending().await,
        }
    }

    /// A drain may begin while a connection is on its way out for another reason. Never returns.
    async fn ends_with_the_others(&self, departure: &Departure) {
        self.told_to_leave().await;
        departure.advance(Stage::Ends);
        std::future::pending().await
    }

    /// Waits for the drain, and then for the turn of this connection within its spread.
    async fn told_to_leave(&self) {
        self.shared.drain.cancelled().await;
        tokio::time::sleep(turn(self.id, self.shared.spread)).await;
    }

    fn ended(&self, ended: hyper::Result<()>) -> Closed {
        match ended {
            Ok(()) => Closed::Client,
            Err(error) if is_disconnect(&error) => Closed::Client,
            Err(error) => self.broken("connection failed", &error),
        }
    }

    /// Whoever can reach the port can cause these, so they are not worth more than DEBUG and a count.
    fn broken(&self, what: &str, why: &dyn std::fmt::Display) -> Closed {
        tracing::debug!(event = "connection_broken", peer = %self.peer.0, connection = self.id.0, %why, "{what}");
        Closed::Error
    }
}

/// Says that nothing more comes, and reads into nothing until the peer closes. A socket that closes while bytes are on their
/// way to it resets the connection, and a peer that learns so while it writes may never read what has come to it: answers,
/// and the GOAWAY that tells which of its calls were not taken and can be made elsewhere.
async fn linger(mut io: impl Io) -> io::Result<()> {
    io.shutdown().await?;
    tokio::io::copy(&mut io, &mut tokio::io::sink()).await.map(drop)
}

/// The place of a connection within `spread`. Multiplying the id by the golden ratio spreads any run of ids evenly,
/// more so than chance would.
fn turn(id: ConnectionId, spread: Duration) -> Duration {
    let place = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
    spread * u32::try_from(place).unwrap_or(0) / 65_536
}

/// HTTP/2 as the operations contract asks (section 12). Pings of clients are answered, however many; h2's own caps on
/// resets, CONTINUATION frames and empty DATA frames stay as they are.
fn http2(shared: &Shared) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(Streams(shared.streams.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(shared.limits.streams)
        .max_header_list_size(HEADER_LIST_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Starts one task per request. hyper ends it when the stream or the connection ends.
#[derive(Clone)]
struct Streams(TaskTracker);

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, request: F) {
        self.0.spawn(request);
    }
}

/// Whether the peer just went away, which clients do when they end.
fn is_disconnect(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
            let gone = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof];
            return gone.contains(&io.kind());
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
