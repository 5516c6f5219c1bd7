//! `apogee message …`. Sending and receiving is a plain client of the v2 API, with no rights an SDK does not have; looking
//! at messages without consuming them is the admin API.

mod find;
mod get;
mod recall;
mod receive;
mod send;
pub(super) mod stored;
mod tail;
mod trace;
mod verify;
mod which;

use std::process;
use std::time::Duration;

use apogee_proto::v2;
use clap::Subcommand;
use rustix::system::uname;
use tonic::Request;

use super::error::{CliError, RequestId};
use super::output::Output;
use super::target::{Messaging, Target};
use super::topic::split;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Sends one message
    Send(send::Args),
    /// Takes a delayed message back, by the handle that sending it showed
    Recall(recall::Args),
    /// Receives by one long poll: prints and acknowledges each message as it comes; exit code 3 when nothing came
    Receive(receive::Args),
    /// Shows one stored message, by its id or by its place; nothing is consumed
    Get(get::Args),
    /// Lists stored messages by a key of theirs, or by the time they were stored; nothing is consumed
    Find(find::Args),
    /// Tells what became of one message in every group that reads its topic
    Trace(trace::Args),
    /// Lets a consumer work on one stored message, and shows what it says; nothing is consumed
    Verify(verify::Args),
    /// Prints the messages of a topic as they are stored, until interrupted; nothing is consumed
    Tail(tail::Args),
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    let client_id = format!("{}@{}@cli", hostname(), process::id());
    match verb {
        Verb::Send(args) => send::run(args, target.messaging(&client_id, id).await?, target.timeout(), output).await,
        Verb::Recall(args) => {
            recall::run(args, target.messaging(&client_id, id).await?, target.timeout(), output).await
        }
        Verb::Receive(args) => receive::run(args, target.messaging(&client_id, id).await?, output).await,
        Verb::Get(args) => get::run(args, target.admin(id).await?, output).await,
        Verb::Find(args) => find::run(args, target.admin(id).await?, output).await,
        Verb::Trace(args) => trace::run(args, target.admin(id).await?, output).await,
        Verb::Verify(args) => verify::run(args, target.given_timeout(), &mut target.admin(id).await?, output).await,
        Verb::Tail(args) => tail::run(args, target.admin(id).await?, output).await,
    }
}

pub(super) fn hostname() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

pub(super) fn resource(full_name: &str) -> v2::Resource {
    let (resource_namespace, name) = split(full_name);
    v2::Resource { resource_namespace, name }
}

/// A request whose answer is worth waiting for so long.
pub(super) fn timely<T>(ask: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(ask);
    request.set_timeout(timeout);
    request
}

/// The error of a response that is not OK.
pub(super) fn check(status: Option<v2::Status>) -> Result<(), CliError> {
    let status = status.ok_or(CliError::Incomplete { what: "status" })?;
    match status.code() {
        v2::Code::Ok => Ok(()),
        code => Err(CliError::Refused { code, message: status.message }),
    }
}

/// Where the client believes the server to be; routes repeat it.
pub(super) fn endpoints(messaging: &Messaging) -> v2::Endpoints {
    let address = messaging.address.split("://").last().unwrap_or_default();
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    let host = host.trim_matches(['[', ']']);
    let scheme = match host.parse() {
        Ok(std::net::IpAddr::V4(_)) => v2::AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => v2::AddressScheme::IPv6,
        Err(_) => v2::AddressScheme::DomainName,
    };
    let port = port.trim_end_matches('/').parse().unwrap_or(0);
    v2::Endpoints { scheme: scheme.into(), addresses: vec![v2::Address { host: host.to_owned(), port }] }
}
