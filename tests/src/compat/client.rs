//! The bare calls, by a client that follows no rule of its own.

use std::time::Duration;

use apogee_proto::v2;
use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use futures::SinkExt;
use futures::channel::mpsc;
use tokio::time::timeout;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

/// Deadline of a call that waits for nothing.
pub const CALL_MAX: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const ANSWER_MAX: usize = 16 << 20;

/// Some client of the target.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    /// Sent as `x-mq-client-id` unless empty.
    pub id: String,
    /// Where it is connected to.
    pub address: v2::Address,
}

/// An open telemetry stream. Its client is unregistered some time after it is dropped.
pub struct Session {
    /// Its end would be the end of the stream.
    _commands: mpsc::Sender<v2::TelemetryCommand>,
    answers: Streaming<v2::TelemetryCommand>,
}

impl Client {
    /// Connects with the first call.
    ///
    /// # Errors
    /// When the endpoint is not `host:port`.
    pub fn new(endpoint: &str, id: &str) -> anyhow::Result<Client> {
        let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| anyhow::anyhow!("no port in {endpoint}"))?;
        let address = v2::Address { host: host.to_owned(), port: port.parse()? };
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))?.tcp_nodelay(true).connect_lazy();
        Ok(Client { channel, id: id.to_owned(), address })
    }

    /// The service, for any call.
    pub fn stub(&self) -> MessagingServiceClient<Channel> {
        MessagingServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// A request with the metadata of an SDK, and a deadline.
    pub fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("x-mq-language", AsciiMetadataValue::from_static("JAVA"));
        metadata.insert("x-mq-client-version", AsciiMetadataValue::from_static("5.2.0"));
        metadata.insert("x-mq-protocol", AsciiMetadataValue::from_static("GRPC_V2"));
        if !self.id.is_empty() {
            metadata.insert("x-mq-client-id", self.id.parse().expect("scenarios use plain letters"));
        }
        request.set_timeout(deadline);
        request
    }

    /// One request of a call that waits for nothing.
    pub fn ask<T>(&self, message: T) -> Request<T> {
        self.request(message, CALL_MAX)
    }

    /// Its address, as a client tells it.
    pub fn endpoints(&self) -> v2::Endpoints {
        v2::Endpoints { scheme: v2::AddressScheme::IPv4.into(), addresses: vec![self.address.clone()] }
    }

    /// The route of a topic.
    pub async fn route(&self, topic: &str) -> Result<v2::QueryRouteResponse, tonic::Status> {
        let endpoints = Some(self.endpoints());
        let request = v2::QueryRouteRequest { topic: Some(resource(topic)), endpoints };
        Ok(self.stub().query_route(self.ask(request)).await?.into_inner())
    }

    /// A heartbeat; without a group as producers say it.
    pub async fn heartbeat(&self, client_type: v2::ClientType, group: Option<&str>) -> Answered {
        let request = v2::HeartbeatRequest { group: group.map(resource), client_type: client_type.into() };
        self.stub().heartbeat(self.ask(request)).await.map(|answer| answer.into_inner().status)
    }

    /// Opens the telemetry stream and tells settings; with what came back.
    pub async fn settle(&self, settings: v2::Settings) -> (Option<Session>, Result<v2::TelemetryCommand, String>) {
        let (mut commands, outgoing) = mpsc::channel(8);
        let mut request = self.request(outgoing, CALL_MAX);
        request.metadata_mut().remove("grpc-timeout");
        let command = v2::telemetry_command::Command::Settings(settings);
        let first = v2::TelemetryCommand { command: Some(command), ..v2::TelemetryCommand::default() };
        if commands.send(first).await.is_err() {
            return (None, Err("no stream".to_owned()));
        }
        let opened = timeout(CALL_MAX, self.stub().telemetry(request)).await;
        let answers = match opened {
            Ok(Ok(answers)) => answers.into_inner(),
            Ok(Err(status)) => return (None, Err(grpc(&status))),
            Err(_) => return (None, Err("no answer".to_owned())),
        };
        let mut session = Session { _commands: commands, answers };
        let answer = session.next(CALL_MAX).await;
        (Some(session), answer)
    }
}

impl Session {
    /// The next command of the server.
    ///
    /// # Errors
    /// What happened instead, in words.
    pub async fn next(&mut self, within: Duration) -> Result<v2::TelemetryCommand, String> {
        match timeout(within, self.answers.message()).await {
            Ok(Ok(Some(command))) => Ok(command),
            Ok(Ok(None)) => Err("end of stream".to_owned()),
            Ok(Err(status)) => Err(grpc(&status)),
            Err(_) => Err("silence".to_owned()),
        }
    }
}

/// The status of an answer, or the failure of gRPC.
pub type Answered = Result<Option<v2::Status>, tonic::Status>;

/// The name of the code, which is all that is stable of a status.
pub fn told(answered: &Answered) -> String {
    match answered {
        Ok(status) => code(status.as_ref()),
        Err(status) => grpc(status),
    }
}

/// The name of the code of a status.
pub fn code(status: Option<&v2::Status>) -> String {
    status.map_or("no status", |status| status.code().as_str_name()).to_owned()
}

/// A failure of gRPC itself.
pub fn grpc(status: &tonic::Status) -> String {
    format!("gRPC {:?}", status.code())
}

pub fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

pub fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).expect("some hours");
    prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
}
