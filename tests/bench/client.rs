//! The calls, over bare HTTP/2 connections: a tonic `Channel` would cost a queue and a task switch per call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use apogee_proto::v2;
use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, body::Body};

/// A server that needs longer is broken, not slow.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest the contract knows.
pub(crate) const LONG_POLL: Duration = Duration::from_secs(5);
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// A body of 4 MiB and what is around it.
const MESSAGE_MAX: usize = 8 * 1024 * 1024;

/// Open connections; closed when dropped.
pub(crate) struct Connections {
    sessions: Vec<Session>,
    _drivers: JoinSet<()>,
}

impl Connections {
    /// Opens `count` connections to `endpoint`, as one client.
    pub(crate) async fn open(endpoint: &str, count: usize, client_id: &str) -> anyhow::Result<Connections> {
        Connections::open_polling(endpoint, count, client_id, LONG_POLL).await
    }

    /// The same for a client whose receives wait this long.
    pub(crate) async fn open_polling(
        endpoint: &str,
        count: usize,
        client_id: &str,
        poll: Duration,
    ) -> anyhow::Result<Connections> {
        if count == 0 {
            bail!("at least one connection is needed");
        }
        let mut metadata = MetadataMap::new();
        metadata.insert("x-mq-client-id", client_id.parse()?);
        metadata.insert("x-mq-language", "RUST".parse()?);
        metadata.insert("grpc-timeout", format!("{}S", (poll + CALL_TIMEOUT).as_secs()).parse()?);
        let metadata = Arc::new(metadata);
        let origin: Uri = format!("http://{endpoint}").parse()?;
        let mut drivers = JoinSet::new();
        let mut sessions = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = TcpStream::connect(endpoint).await.with_context(|| format!("connecting to {endpoint}"))?;
            stream.set_nodelay(true)?;
            let (send, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(TokioIo::new(stream))
                .await?;
            drivers.spawn(async move { drop(connection.await) }); // calls tell what went wrong
            let client = MessagingServiceClient::with_origin(Http2(send), origin.clone());
            let client = client.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX);
            sessions.push(Session { client, metadata: Arc::clone(&metadata), poll });
        }
        Ok(Connections { sessions, _drivers: drivers })
    }

    /// The connection of the `n`-th loop.
    pub(crate) fn session(&self, n: usize) -> Session {
        self.sessions[n % self.sessions.len()].clone()
    }
}

/// One connection as the service to call. Errors are transport failures; a status other than OK comes back as text.
#[derive(Clone)]
pub(crate) struct Session {
    client: MessagingServiceClient<Http2>,
    metadata: Arc<MetadataMap>,
    /// How long its receives wait.
    poll: Duration,
}

/// Why the server did not do what was asked.
pub(crate) type Refused = String;

impl Session {
    fn request<T>(&self, message: T) -> tonic::Request<T> {
        tonic::Request::from_parts(MetadataMap::clone(&self.metadata), Extensions::default(), message)
    }

    /// Asks for the route of a topic, which creates it where the server does that.
    pub(crate) async fn query_route(&mut self, topic: v2::Resource, endpoint: &str) -> anyhow::Result<()> {
        let (host, port) = endpoint.rsplit_once(':').context("an endpoint is host:port")?;
        let address = v2::Address { host: host.to_owned(), port: port.parse()? };
        let scheme = match host.parse() {
            Ok(std::net::IpAddr::V4(_)) => v2::AddressScheme::IPv4,
            Ok(std::net::IpAddr::V6(_)) => v2::AddressScheme::IPv6,
            Err(_) => v2::AddressScheme::DomainName,
        };
        let endpoints = v2::Endpoints { scheme: scheme.into(), addresses: vec![address] };
        let request = self.request(v2::QueryRouteRequest { topic: Some(topic), endpoints: Some(endpoints) });
        let answer = timeout(CALL_TIMEOUT, self.client.query_route(request)).await??.into_inner();
        ok(answer.status).map_err(|refused| anyhow!("QueryRoute: {refused}"))
    }

    pub(crate) async fn send(
        &mut self,
        message: v2::Message,
    ) -> anyhow::Result<Result<v2::SendMessageResponse, Refused>> {
        let request = self.request(v2::SendMessageRequest { messages: vec![message] });
        let answer = timeout(CALL_TIMEOUT, self.client.send_message(request)).await??.into_inner();
        Ok(ok(answer.status.clone()).map(|()| answer))
    }

    /// One long poll; empty when nothing came.
    pub(crate) async fn receive(
        &mut self,
        ask: v2::ReceiveMessageRequest,
    ) -> anyhow::Result<Result<Vec<v2::Message>, Refused>> {
        let request = self.request(ask);
        timeout(self.poll + CALL_TIMEOUT, async {
            let mut stream = self.client.receive_message(request).await?.into_inner();
            let mut messages = Vec::new();
            let mut status = None;
            while let Some(part) = stream.message().await? {
                match part.content {
                    Some(v2::receive_message_response::Content::Message(message)) => messages.push(message),
                    Some(v2::receive_message_response::Content::Status(said)) => status = Some(said),
                    Some(v2::receive_message_response::Content::DeliveryTimestamp(_)) | None => {}
                }
            }
            let nothing = status.as_ref().is_some_and(|status| status.code() == v2::Code::MessageNotFound);
            Ok(if nothing { Ok(messages) } else { ok(status).map(|()| messages) })
        })
        .await?
    }

    pub(crate) async fn ack(&mut self, ack: v2::AckMessageRequest) -> anyhow::Result<Result<(), Refused>> {
        let request = self.request(ack);
        let answer = timeout(CALL_TIMEOUT, self.client.ack_message(request)).await??.into_inner();
        let entry = answer.entries.into_iter().next();
        Ok(ok(answer.status).and_then(|()| ok(entry.and_then(|entry| entry.status))))
    }
}

/// OK, or what the status says instead.
pub(crate) fn ok(status: Option<v2::Status>) -> Result<(), Refused> {
    match status {
        Some(status) if status.code() == v2::Code::Ok => Ok(()),
        Some(status) => Err(format!("{} {}", status.code, status.message)),
        None => Err("no status".to_owned()),
    }
}

/// An HTTP/2 connection as the service under a tonic client.
#[derive(Clone)]
struct Http2(SendRequest<Body>);

impl tower::Service<Request<Body>> for Http2 {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
