//! A port to talk to, and clients for it.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apogee_proxy::listen::{
    ClosedConnection, ConnectionBytes, ConnectionId, DrainSettings, Drained, ListenMetrics, ListenSettings, Listener,
    PeerAddr, Tls, TlsSettings,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Longer than anything here takes.
pub(crate) const SECONDS: Duration = Duration::from_secs(20);

/// A listener that runs until it is dropped or stopped.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    run: JoinSet<Drained>,
    closed: mpsc::Receiver<ClosedConnection>,
}

/// A request that arrived at [`Port::echo`]. `/wait` is answered after `go_on`; everything else at once.
pub(crate) struct Asked {
    pub(crate) peer: PeerAddr,
    pub(crate) connection: ConnectionId,
    pub(crate) bytes: ConnectionBytes,
    pub(crate) go_on: oneshot::Sender<()>,
}

/// No lame duck, no jitter, ample grace.
pub(crate) fn at_once() -> DrainSettings {
    DrainSettings { lame_duck: Duration::ZERO, spread: Duration::ZERO, grace: SECONDS }
}

pub(crate) fn settings() -> ListenSettings {
    ListenSettings { drain: at_once(), ..ListenSettings::default() }
}

macro_rules! start {
    ($service:expr, $settings:expr, $tls:expr) => {{
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = tcp.local_addr().expect("bound");
        let metrics = ListenMetrics::new(&opentelemetry::global::meter("test"));
        let tls = Tls::open($tls).await.expect("usable").poll_every(Duration::from_millis(20));
        let (tell, closed) = mpsc::channel(64);
        let on_closed = Arc::new(move |id| tell.try_send(id).expect("tests close few connections"));
        let listener = Listener::new(tcp, $service, $settings, tls, metrics).on_closed(on_closed);
        let stop = CancellationToken::new();
        let mut run = JoinSet::new();
        run.spawn(listener.run(stop.clone()));
        Port { address, stop, run, closed }
    }};
}

impl Port {
    /// Serves the gRPC health service by tonic.
    pub(crate) async fn health(settings: ListenSettings, tls: &TlsSettings) -> Port {
        let (_reporter, health) = tonic_health::server::health_reporter();
        start!(tonic::service::Routes::new(health), settings, tls)
    }

    /// Serves empty answers and reports each request.
    pub(crate) async fn echo(settings: ListenSettings) -> (Port, mpsc::Receiver<Asked>) {
        let (tell, asked) = mpsc::channel(64);
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let (go_on, gone_on) = oneshot::channel();
            let peer = *request.extensions().get().expect("every request has a peer");
            let connection = *request.extensions().get().expect("every request has a connection");
            let bytes = request.extensions().get::<ConnectionBytes>().expect("every request has a counter").clone();
            let told = tell.try_send(Asked { peer, connection, bytes, go_on });
            async move {
                if told.is_ok() && request.uri().path() == "/wait" {
                    gone_on.await.expect("the test answers");
                }
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        });
        (start!(service, settings, &TlsSettings::default()), asked)
    }

    /// Waits for the end of one connection.
    pub(crate) async fn closed(&mut self) {
        let closed = tokio::time::timeout(SECONDS, self.closed.recv()).await.expect("a connection ends");
        closed.expect("the port still runs");
    }

    /// Stops the port and waits for its end.
    pub(crate) async fn stop(mut self) -> Drained {
        self.stop.cancel();
        let ended = tokio::time::timeout(2 * SECONDS, self.run.join_next()).await.expect("the drain ends");
        ended.expect("one task").expect("no panic")
    }

    /// A connection that sent `bytes` and nothing else.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("the port accepts");
        stream.write_all(bytes).await.expect("sent");
        stream
    }

    pub(crate) async fn plaintext(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an endpoint");
        endpoint.connect().await.expect("connected")
    }

    pub(crate) async fn tls(&self, ca: &str) -> Channel {
        self.try_tls(ca).await.expect("connected")
    }

    /// Connects as a client that trusts `ca` only.
    pub(crate) async fn try_tls(&self, ca: &str) -> Result<Channel, tonic::transport::Error> {
        let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
        Endpoint::from_shared(format!("https://{}", self.address))?.tls_config(trust)?.connect().await
    }

    pub(crate) async fn h2(&self) -> H2Client {
        let stream = TcpStream::connect(self.address).await.expect("the port accepts");
        let address = stream.local_addr().expect("connected");
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("handshake");
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        H2Client { address, send, _driver: driver }
    }
}

/// One HTTP/2 connection; dropped, it is closed.
pub(crate) struct H2Client {
    pub(crate) address: SocketAddr,
    send: SendRequest<Empty<Bytes>>,
    _driver: JoinSet<()>,
}

impl H2Client {
    /// Sends a request and returns the status of its answer.
    pub(crate) async fn ask(&mut self, path: &str) -> hyper::Result<u16> {
        self.begin(path).join_next().await.expect("one request").expect("no panic")
    }

    /// Sends a request whose answer is to come.
    pub(crate) fn begin(&mut self, path: &str) -> JoinSet<hyper::Result<u16>> {
        let request = Request::get(format!("http://proxy{path}")).body(Empty::new()).expect("a request");
        let answer = self.send.send_request(request);
        let mut asked = JoinSet::new();
        asked.spawn(async move { answer.await.map(|answer| answer.status().as_u16()) });
        asked
    }
}

/// Certificate files for localhost.
pub(crate) struct CertificateFiles {
    pub(crate) settings: TlsSettings,
    folder: TempDir,
}

/// Fresh files and the certificate to trust.
pub(crate) fn certificate() -> (CertificateFiles, String) {
    let folder = TempDir::new().expect("a folder");
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let settings = TlsSettings { cert: Some(cert), key: Some(key), ..TlsSettings::default() };
    let files = CertificateFiles { settings, folder };
    let ca = files.renew();
    (files, ca)
}

impl CertificateFiles {
    /// Replaces the files and returns the certificate to trust from now on.
    pub(crate) fn renew(&self) -> String {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(self.folder.path().join("tls.key"), issued.signing_key.serialize_pem()).expect("written");
        fs::write(self.folder.path().join("tls.crt"), issued.cert.pem()).expect("written");
        issued.cert.pem()
    }
}

/// Whether the server ends the connection, politely or not.
pub(crate) async fn closed_by_server(stream: TcpStream) -> bool {
    bytes_until_closed(stream).await.is_some()
}

/// How much still came before the end; nothing when there is no end.
pub(crate) async fn bytes_until_closed(mut stream: impl AsyncRead + Unpin) -> Option<usize> {
    let mut rest = Vec::new();
    tokio::time::timeout(SECONDS, stream.read_to_end(&mut rest)).await.ok()?.ok().or(Some(0))
}

/// The part of an HTTP/2 frame header the tests look at.
pub(crate) struct FrameHeader {
    pub(crate) length: usize,
    pub(crate) kind: u8,
}

pub(crate) async fn frame_header(stream: &mut (impl AsyncRead + Unpin)) -> FrameHeader {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.expect("a frame header");
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
    FrameHeader { length: usize::try_from(length).expect("24 bits"), kind: header[3] }
}
