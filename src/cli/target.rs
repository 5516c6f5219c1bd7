//! Which server a command talks to: as the flags say, else the `apogee dev` of this user, else this machine.

use std::path::PathBuf;
use std::time::Duration;

use apogee_proto::admin::v1::admin_client::AdminClient;
use apogee_proto::token::ClusterToken;
use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::error::{CliError, RequestId};
use crate::record::DevRecord;

/// A connection is there by then, or the server is not.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Deadline of one admin call.
const ADMIN_CALL_MAX: Duration = Duration::from_secs(10);
/// Largest answer taken: some receives bring 32 bodies of 4 MiB.
const ANSWER_MAX: usize = 160 << 20;

/// Flags that say where the server is.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Address of the message port [default: the running `apogee dev`, or 127.0.0.1:8081]
    #[arg(long, global = true, env = "APOGEE_ENDPOINT", value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// Address of the admin port [default: the running `apogee dev`, or 127.0.0.1:8088]
    #[arg(long, global = true, env = "APOGEE_ADMIN_ENDPOINT", value_name = "HOST:PORT")]
    admin_endpoint: Option<String>,
    /// File with the admin token [default: that of the running `apogee dev`]
    #[arg(long, global = true, env = "APOGEE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The admin API of one server, with the token on every call.
pub(crate) struct Admin {
    pub(crate) api: AdminClient<InterceptedService<Channel, WithHeaders>>,
    pub(crate) address: String,
}

/// The message API of one server, with the headers of a client on every call.
pub(crate) struct Messaging {
    pub(crate) api: MessagingServiceClient<InterceptedService<Channel, WithHeaders>>,
    pub(crate) address: String,
}

impl Target {
    pub(crate) async fn admin(&self, id: &RequestId) -> Result<Admin, CliError> {
        let record = DevRecord::find();
        let recorded = record.as_ref().map(|record| record.admin_address.to_string());
        let address = self.admin_endpoint.clone().or(recorded).unwrap_or_else(|| "127.0.0.1:8088".to_owned());
        if record.is_none() && self.admin_endpoint.is_none() && self.token_file.is_none() {
            return Err(CliError::NoServerKnown);
        }
        let channel = connect(&address, Some(ADMIN_CALL_MAX)).await?; // first: without a server no token helps
        let token = self.token(&address, record)?;
        let headers = WithHeaders(vec![("authorization", token.header()), ("x-mq-request-id", header(id.as_str()))]);
        Ok(Admin { api: AdminClient::with_interceptor(channel, headers), address })
    }

    pub(crate) async fn messaging(&self, client_id: &str, id: &RequestId) -> Result<Messaging, CliError> {
        let recorded = DevRecord::find().map(|record| record.grpc_address.to_string());
        let address = self.endpoint.clone().or(recorded).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
        let headers = WithHeaders(vec![
            ("x-mq-client-id", header(client_id)),
            ("x-mq-language", header("RUST")),
            ("x-mq-client-version", header(env!("CARGO_PKG_VERSION"))),
            ("x-mq-protocol", header("v2")),
            ("x-mq-request-id", header(id.as_str())),
        ]);
        let channel = connect(&address, None).await?;
        let api = MessagingServiceClient::with_interceptor(channel, headers).max_decoding_message_size(ANSWER_MAX);
        Ok(Messaging { api, address })
    }

    fn token(&self, address: &str, record: Option<DevRecord>) -> Result<ClusterToken, CliError> {
        let path = self.token_file.clone().or(record.map(|record| record.token_path));
        let path = path.ok_or_else(|| CliError::NoToken { address: address.to_owned() })?;
        let unreadable = |cause: String| CliError::Token { path: path.clone(), cause };
        let text = std::fs::read_to_string(&path).map_err(|cause| unreadable(cause.to_string()))?;
        ClusterToken::parse(&text).map_err(|cause| unreadable(cause.to_string()))
    }
}

/// Puts the same headers on every call.
#[derive(Clone)]
pub(crate) struct WithHeaders(Vec<(&'static str, MetadataValue<Ascii>)>);

impl Interceptor for WithHeaders {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, value.clone());
        }
        Ok(request)
    }
}

fn header(text: &str) -> MetadataValue<Ascii> {
    let ascii: String = text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '_' }).collect();
    ascii.parse().expect("printable ASCII makes a header")
}

async fn connect(address: &str, call_max: Option<Duration>) -> Result<Channel, CliError> {
    let bad = || CliError::Address { given: address.to_owned() };
    let uri = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let mut endpoint = Endpoint::from_shared(uri).map_err(|_| bad())?.connect_timeout(CONNECT_MAX);
    if endpoint.uri().host().is_none_or(str::is_empty) || endpoint.uri().port().is_none() {
        return Err(bad());
    }
    if let Some(max) = call_max {
        endpoint = endpoint.timeout(max);
    }
    endpoint.connect().await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        CliError::NoServer { address: address.to_owned(), cause: cause.to_string() }
    })
}
