//! A proxy in front of a small store in memory, and a client that reaches it through a pipe.

mod routes;
mod store;

use std::sync::Arc;

use apogee_host::{ManualClock, OnError, SeededEntropy, Tasks};
use apogee_model::ReplicaGroupId;
use apogee_proto::v2;
use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use apogee_proxy::listen::{ConnectionBytes, ConnectionId, Departure};
use apogee_proxy::{Proxy, ProxyParts, ProxySettings, Routes, StoreNode, Stores};
use hyper_util::rt::TokioIo;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tokio::io::DuplexStream;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Server};

pub(crate) use self::routes::FakeRoutes;
pub(crate) use self::store::FakeStore;

/// The one connection of a world, whose end a test has to tell itself.
pub(crate) const CONNECTION: ConnectionId = ConnectionId(1);

pub(crate) type Client = MessagingServiceClient<Channel>;

/// Everything a test needs to hold.
pub(crate) struct World {
    pub client: Client,
    pub proxy: Proxy,
    pub store: Arc<FakeStore>,
    pub routes: Arc<FakeRoutes>,
    pub tasks: Tasks,
    /// How the connection leaves.
    pub departure: Departure,
    scrapes: prometheus::Registry,
    meters: SdkMeterProvider,
}

/// A world where first use creates topics and groups.
pub(crate) async fn world() -> World {
    world_with(ProxySettings { cluster_name: "testing".into(), ..ProxySettings::default() }).await
}

pub(crate) async fn world_with(settings: ProxySettings) -> World {
    let (store, routes, tasks) = (Arc::new(FakeStore::default()), Arc::new(FakeRoutes::default()), Tasks::new());
    let scrapes = prometheus::Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(scrapes.clone());
    let exporter = exporter.without_units().without_counter_suffixes().scope_info_enabled(false).build().unwrap();
    let meters = SdkMeterProvider::builder().with_reader(exporter).build();
    let parts = ProxyParts {
        routes: Arc::clone(&routes) as Arc<dyn Routes>,
        stores: Stores::one(ReplicaGroupId(0), Arc::clone(&store) as Arc<dyn StoreNode>),
        clock: Arc::new(ManualClock::default()),
        entropy: Arc::new(SeededEntropy::new(1)),
        tasks: tasks.clone(),
        meter: meters.meter("test"),
    };
    let proxy = Proxy::new(parts, settings);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let incoming = tokio_stream_of(ours);
    let (bytes, departure) = (ConnectionBytes::default(), Departure::open());
    let leaves = departure.clone();
    let known = move |mut request: Request<()>| {
        request.extensions_mut().insert(CONNECTION);
        request.extensions_mut().insert(bytes.clone());
        request.extensions_mut().insert(leaves.clone());
        Ok(request)
    };
    let known = tonic::service::InterceptorLayer::new(known);
    let server = Server::builder()
        .http2_max_local_error_reset_streams(Some(0)) // nothing a client does here may end its connection
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .layer(known)
        .add_service(proxy.service())
        .serve_with_incoming(incoming);
    tasks.spawn("server", OnError::LogAndEnd, async move { server.await.map_err(std::io::Error::other) });
    let client = MessagingServiceClient::new(connect(theirs).await).max_decoding_message_size(32 << 20);
    World { client, proxy, store, routes, tasks, departure, scrapes, meters }
}

fn tokio_stream_of(one: DuplexStream) -> impl futures::Stream<Item = std::io::Result<DuplexStream>> {
    futures::StreamExt::chain(futures::stream::once(async { Ok(one) }), futures::stream::pending())
}

async fn connect(stream: DuplexStream) -> Channel {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("there is one connection"));
        async move { stream }
    });
    Endpoint::from_static("http://proxy").connect_with_connector(connector).await.unwrap()
}

/// A request as an SDK makes it.
pub(crate) fn sdk<T>(message: T) -> Request<T> {
    from("client-1", message)
}

pub(crate) fn from<T>(client: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let headers = request.metadata_mut();
    headers.insert("x-mq-client-id", client.parse().unwrap());
    headers.insert("x-mq-language", MetadataValue::from_static("JAVA"));
    headers.insert("x-mq-client-version", MetadataValue::from_static("5.0.7"));
    request
}

pub(crate) fn resource(name: &str) -> Option<v2::Resource> {
    Some(v2::Resource { resource_namespace: String::new(), name: name.into() })
}

pub(crate) fn endpoints() -> Option<v2::Endpoints> {
    let addresses = vec![v2::Address { host: "mq.example".into(), port: 30081 }];
    Some(v2::Endpoints { scheme: v2::AddressScheme::DomainName.into(), addresses })
}

pub(crate) fn message(topic: &str, id: &str, body: &str) -> v2::Message {
    v2::Message {
        topic: resource(topic),
        system_properties: Some(v2::SystemProperties { message_id: id.into(), ..Default::default() }),
        body: body.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn receive(topic: &str, group: &str) -> v2::ReceiveMessageRequest {
    v2::ReceiveMessageRequest {
        group: resource(group),
        message_queue: Some(v2::MessageQueue { topic: resource(topic), ..Default::default() }),
        batch_size: 16,
        invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        long_polling_timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..Default::default()
    }
}

/// The code and words of a status that must be there.
#[track_caller]
pub(crate) fn status(status: Option<v2::Status>) -> (i32, String) {
    let status = status.expect("every response carries a status");
    (status.code, status.message)
}

impl World {
    /// What somebody who scrapes reads: every series with its labels, in order of their names.
    pub(crate) fn scrape(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.scrapes.gather()).unwrap()
    }

    pub(crate) fn meter(&self) -> opentelemetry::metrics::Meter {
        self.meters.meter("test")
    }

    /// Makes the topic known, as the SDK's first call does.
    pub(crate) async fn route(&mut self, topic: &str) -> v2::QueryRouteResponse {
        let query = v2::QueryRouteRequest { topic: resource(topic), endpoints: endpoints() };
        self.client.query_route(sdk(query)).await.unwrap().into_inner()
    }

    pub(crate) async fn send(&mut self, messages: Vec<v2::Message>) -> v2::SendMessageResponse {
        self.client.send_message(sdk(v2::SendMessageRequest { messages })).await.unwrap().into_inner()
    }

    /// All parts of a receive.
    pub(crate) async fn receive(
        &mut self,
        ask: v2::ReceiveMessageRequest,
    ) -> Vec<v2::receive_message_response::Content> {
        let mut stream = self.client.receive_message(sdk(ask)).await.unwrap().into_inner();
        let mut parts = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            parts.push(part.content.expect("no part is empty"));
        }
        parts
    }

    /// Messages of a receive.
    pub(crate) async fn take(&mut self, topic: &str, group: &str) -> Vec<v2::Message> {
        let parts = self.receive(receive(topic, group)).await;
        let message = |part| match part {
            v2::receive_message_response::Content::Message(message) => Some(message),
            _ => None,
        };
        parts.into_iter().filter_map(message).collect()
    }

    pub(crate) async fn ack(&mut self, topic: &str, group: &str, handles: &[&str]) -> v2::AckMessageResponse {
        let entry = |(index, handle): (usize, &&str)| v2::AckMessageEntry {
            message_id: format!("id-{index}"),
            receipt_handle: (*handle).into(),
            lite_topic: None,
        };
        let entries = handles.iter().enumerate().map(entry).collect();
        let ack = v2::AckMessageRequest { group: resource(group), topic: resource(topic), entries };
        self.client.ack_message(sdk(ack)).await.unwrap().into_inner()
    }
}
