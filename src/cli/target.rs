//! Which server a command talks to: as the flags say, else as the profile does, else the `apogee dev` of this user, else
//! this machine.

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

use super::duration;
use super::error::{CliError, RequestId};
use super::profile::Profiles;
use crate::record::DevRecord;

/// A connection is there by then, or the server is not.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Deadline of one call when nobody says otherwise.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Largest answer taken: some receives bring 32 bodies of 4 MiB.
const ANSWER_MAX: usize = 160 << 20;

/// Flags that say where the server is.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Address of the message port [default: of the profile, of the running `apogee dev`, or 127.0.0.1:8081]
    #[arg(long, global = true, env = "APOGEE_ENDPOINT", value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// Address of the admin port [default: of the profile, of the running `apogee dev`, or 127.0.0.1:8088]
    #[arg(long, global = true, env = "APOGEE_ADMIN_ENDPOINT", value_name = "HOST:PORT")]
    admin_endpoint: Option<String>,
    /// File with the admin token [default: of the profile, or of the running `apogee dev`]
    #[arg(long, global = true, env = "APOGEE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Server to talk to, by its name in the configuration [default: the one in use, see `apogee profile`]
    #[arg(long, global = true, env = "APOGEE_PROFILE", value_name = "NAME")]
    profile: Option<String>,
    /// Longest wait for one answer [default: 10s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

/// What is known of a server that no flag named.
#[derive(Default)]
struct Known {
    endpoint: Option<String>,
    admin_endpoint: Option<String>,
    token_file: Option<PathBuf>,
}

/// The admin API of one server, with the token on every call.
pub(crate) struct Admin {
    pub(crate) api: AdminClient<InterceptedService<Channel, WithHeaders>>,
    pub(crate) address: String,
}

/// The calls that SDKs make.
pub(crate) type Api = MessagingServiceClient<InterceptedService<Channel, WithHeaders>>;

/// The message API of one server, with the headers of a client on every call.
#[derive(Clone)]
pub(crate) struct Messaging {
    pub(crate) api: Api,
    pub(crate) address: String,
}

impl Target {
    pub(crate) async fn admin(&self, id: &RequestId) -> Result<Admin, CliError> {
        let known = self.known()?;
        let token_file = self.token_file.clone().or(known.token_file);
        let address = self.admin_endpoint.clone().or(known.admin_endpoint);
        if address.is_none() && token_file.is_none() {
            return Err(CliError::NoServerKnown);
        }
        let address = address.unwrap_or_else(|| "127.0.0.1:8088".to_owned());
        let channel = connect(&address, self.timeout(), true).await?; // first: without a server no token helps
        let token = token(&address, token_file)?;
        let headers = WithHeaders(vec![("authorization", token.header()), ("x-mq-request-id", header(id.as_str()))]);
        Ok(Admin { api: AdminClient::with_interceptor(channel, headers), address })
    }

    pub(crate) async fn messaging(&self, client_id: &str, id: &RequestId) -> Result<Messaging, CliError> {
        let known = if self.endpoint.is_some() { self.endpoint.clone() } else { self.known()?.endpoint };
        let address = known.unwrap_or_else(|| "127.0.0.1:8081".to_owned());
        let headers = WithHeaders(vec![
            ("x-mq-client-id", header(client_id)),
            ("x-mq-language", header("RUST")),
            ("x-mq-client-version", header(env!("CARGO_PKG_VERSION"))),
            ("x-mq-protocol", header("v2")),
            ("x-mq-request-id", header(id.as_str())),
        ]);
        let channel = connect(&address, self.timeout(), false).await?;
        let api = MessagingServiceClient::with_interceptor(channel, headers).max_decoding_message_size(ANSWER_MAX);
        Ok(Messaging { api, address })
    }

    /// Longest wait for one answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(CALL_MAX)
    }

    /// What `--timeout` says.
    pub(crate) fn given_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    fn known(&self) -> Result<Known, CliError> {
        if let Some((_, profile)) = Profiles::open()?.pick(self.profile.as_deref())? {
            let profile = profile.clone();
            let (endpoint, admin_endpoint) = (profile.endpoint, profile.admin_endpoint);
            return Ok(Known { endpoint, admin_endpoint, token_file: profile.token_file });
        }
        Ok(DevRecord::find().map_or_else(Known::default, |record| Known {
            endpoint: Some(record.grpc_address.to_string()),
            admin_endpoint: Some(record.admin_address.to_string()),
            token_file: Some(record.token_path),
        }))
    }
}

fn token(address: &str, path: Option<PathBuf>) -> Result<ClusterToken, CliError> {
    let path = path.ok_or_else(|| CliError::NoToken { address: address.to_owned() })?;
    let unreadable = |cause: String| CliError::Token { path: path.clone(), cause };
    let text = std::fs::read_to_string(&path).map_err(|cause| unreadable(cause.to_string()))?;
    ClusterToken::parse(&text).map_err(|cause| unreadable(cause.to_string()))
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

/// Connects now, within `timeout`; with `limits_calls` every call ends by then, too.
async fn connect(address: &str, timeout: Duration, limits_calls: bool) -> Result<Channel, CliError> {
    let bad = || CliError::Address { given: address.to_owned() };
    let uri = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let mut endpoint = Endpoint::from_shared(uri).map_err(|_| bad())?;
    endpoint = endpoint.connect_timeout(timeout.min(CONNECT_MAX)).tcp_nodelay(true);
    if endpoint.uri().host().is_none_or(str::is_empty) || endpoint.uri().port().is_none() {
        return Err(bad());
    }
    if limits_calls {
        endpoint = endpoint.timeout(timeout);
    }
    endpoint.connect().await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        CliError::NoServer { address: address.to_owned(), cause: cause.to_string() }
    })
}
