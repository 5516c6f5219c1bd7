//! Why a command failed: what it says, what to do next, and how the process ends.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use apogee_host::{Entropy as _, OsEntropy};
use apogee_proto::v2;
use serde_json::json;
use tonic::{Code, Status};

use super::output::Output;
use super::paint::Paint;

const FAILED: u8 = 1;
/// A command line that says too little or something wrong.
pub(crate) const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const CONFLICT: u8 = 4;
const DENIED: u8 = 5;
const UNAVAILABLE: u8 = 6;
const UNHEALTHY: u8 = 7;
const DIFFERS: u8 = 8;
/// 128 and the number of SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// The situations a command can end in, other than well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{message}")]
    Usage { message: String },
    #[error("deleting {what} cannot be undone and was not confirmed")]
    NotConfirmed { what: String },
    #[error("{what} was not changed, because the plan was not confirmed")]
    PlanOnly { what: String },
    #[error("{given:?} is no address")]
    Address { given: String },
    #[error("no server answers at {address}: {cause}")]
    NoServer { address: String, cause: String },
    #[error("no running server is known: `apogee dev` of this user has left no address")]
    NoServerKnown,
    #[error("{address} does not serve this API")]
    WrongPort { address: String },
    #[error("{} cannot be used: {cause}", path.display())]
    Profiles { path: PathBuf, cause: String },
    #[error("there is no profile {name:?}; there {}", known_text(known))]
    NoProfile { name: String, known: Vec<String> },
    #[error("no admin token for {address} is known")]
    NoToken { address: String },
    #[error("the admin token in {path} cannot be read: {cause}")]
    Token { path: PathBuf, cause: String },
    #[error("{}", .0.message())]
    Admin(Box<Status>),
    #[error("{message} ({})", .code.as_str_name())]
    Refused { code: v2::Code, message: String },
    #[error("no message came from {topic} for group {group} within {waited:?}")]
    NothingCame { topic: String, group: String, waited: Duration },
    #[error("{what} exists already")]
    Exists { what: String },
    #[error("there is no store-node {name:?}")]
    NoNode { name: String },
    #[error("store-node {name} drains no more: somebody has taken the mark away")]
    DrainsNoMore { name: String },
    #[error("store-node {name} is not drained yet: {left}")]
    NotDrained { name: String, left: String },
    /// No other store-node could take what is left.
    #[error("{why}")]
    CannotDrain { why: String },
    #[error("{why}")]
    NotRemoved { why: String },
    #[error("group {group} has never received from topic {topic}")]
    NeverReceived { group: String, topic: String },
    #[error("client {client} did not consume the message: {code}")]
    NotConsumed { client: String, code: String },
    #[error("{problems}")]
    Unhealthy { problems: String },
    /// A rehearsal has found something to do.
    #[error("{what}; nothing was changed")]
    WouldChange { what: String },
    #[error("{what}")]
    BenchFailed { what: String },
    #[error("interrupted")]
    Interrupted,
    #[error("the server at {address} stopped")]
    TailEnded { address: String },
    #[error("the answer of the server has no {what}")]
    Incomplete { what: &'static str },
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
    #[error("the runtime does not start")]
    Runtime(#[source] io::Error),
}

/// Ties a command to the calls it makes, in our errors and in the logs of the server.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn draw() -> RequestId {
        RequestId(format!("{:016x}", OsEntropy.next_u64()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<io::Error> for CliError {
    fn from(cause: io::Error) -> CliError {
        CliError::Output(cause)
    }
}

impl CliError {
    /// The gRPC error of a call to `address`.
    pub(crate) fn call(address: &str, status: Status) -> CliError {
        match status.code() {
            Code::Unavailable if status.message().is_empty() || std::error::Error::source(&status).is_some() => {
                CliError::NoServer { address: address.to_owned(), cause: innermost(&status) }
            }
            // No message: no handler has seen the call, only the router of the port.
            Code::Unimplemented if status.message().is_empty() => CliError::WrongPort { address: address.to_owned() },
            _ => CliError::Admin(Box::new(status)),
        }
    }

    /// Whether the same command may succeed a moment later: nobody answers for now.
    pub(crate) fn passes(&self) -> bool {
        self.exit().0 == UNAVAILABLE
    }

    /// Whether there is something of the name already.
    pub(crate) fn exists_already(&self) -> bool {
        matches!(self, CliError::Admin(status) if status.code() == Code::AlreadyExists)
    }

    /// Whether there is nothing of the name.
    pub(crate) fn is_not_found(&self) -> bool {
        self.exit().0 == NOT_FOUND
    }

    /// Tells stderr, and with which code to end.
    pub(crate) fn report(&self, output: &Output, id: &RequestId) -> ExitCode {
        let (exit, code) = self.exit();
        if matches!(self, CliError::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::from(exit); // whoever reads the output has seen enough
        }
        if output.errors_are_json() {
            self.report_json(&code, id);
        } else {
            self.report_text(output.paint_errors());
        }
        ExitCode::from(exit)
    }

    /// Tells what is wrong with a command line before its flags are known.
    pub(crate) fn report_usage(message: String, as_json: bool) -> ExitCode {
        let usage = CliError::Usage { message };
        let (exit, code) = usage.exit();
        if as_json {
            usage.report_json(&code, &RequestId::draw());
        } else {
            usage.report_text(Paint::none());
        }
        ExitCode::from(exit)
    }

    fn report_text(&self, paint: Paint) {
        let (error, told, hint) = (paint.error("error:"), self.told(), self.hint());
        let _nobody_listens = writeln!(io::stderr().lock(), "{error} {told}\nnext: {hint}");
    }

    fn report_json(&self, code: &str, id: &RequestId) {
        let error = json!({ "code": code, "message": self.told(), "hint": self.hint(), "request_id": id.0 });
        let _nobody_listens = writeln!(io::stderr().lock(), "{}", json!({ "error": error }));
    }

    /// The message with its causes.
    fn told(&self) -> String {
        let mut told = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            told = format!("{told}: {error}");
            cause = error.source();
        }
        told
    }

    fn exit(&self) -> (u8, String) {
        match self {
            CliError::Usage { .. } => (USAGE, "usage".into()),
            CliError::NotConfirmed { .. } => (USAGE, "not_confirmed".into()),
            CliError::PlanOnly { .. } => (USAGE, "not_confirmed".into()),
            CliError::Address { .. } => (USAGE, "bad_address".into()),
            CliError::NoServer { .. } | CliError::NoServerKnown | CliError::TailEnded { .. } => {
                (UNAVAILABLE, "unavailable".into())
            }
            CliError::WrongPort { .. } => admin_exit(Code::Unimplemented),
            CliError::Profiles { .. } => (USAGE, "bad_config".into()),
            CliError::NoProfile { .. } => (NOT_FOUND, "no_profile".into()),
            CliError::NoToken { .. } | CliError::Token { .. } => (DENIED, "no_token".into()),
            CliError::Admin(status) => admin_exit(status.code()),
            CliError::Refused { code, .. } => (refused_exit(*code), code.as_str_name().to_lowercase()),
            CliError::NothingCame { .. } => (NOT_FOUND, "message_not_found".into()),
            CliError::Exists { .. } => (CONFLICT, "already_exists".into()),
            CliError::NoNode { .. } | CliError::NeverReceived { .. } => (NOT_FOUND, "not_found".into()),
            CliError::DrainsNoMore { .. } => (CONFLICT, "conflict".into()),
            CliError::NotDrained { .. } | CliError::CannotDrain { .. } => admin_exit(Code::DeadlineExceeded),
            CliError::NotRemoved { .. } => admin_exit(Code::FailedPrecondition),
            CliError::NotConsumed { .. } => (FAILED, "not_consumed".into()),
            CliError::Unhealthy { .. } => (UNHEALTHY, "unhealthy".into()),
            CliError::WouldChange { .. } => (DIFFERS, "would_change".into()),
            CliError::BenchFailed { .. } => (FAILED, "bench_failed".into()),
            CliError::Interrupted => (INTERRUPTED, "interrupted".into()),
            CliError::Incomplete { .. } => (FAILED, "incomplete_answer".into()),
            CliError::Output(_) | CliError::Runtime(_) => (FAILED, "io".into()),
        }
    }

    /// The next step.
    fn hint(&self) -> &'static str {
        match self {
            CliError::Usage { .. } => "see `apogee --help`",
            CliError::NotConfirmed { .. } | CliError::PlanOnly { .. } => "repeat the command with --yes if you mean it",
            CliError::Address { .. } => "write it as host:port, for example 127.0.0.1:8081",
            CliError::NoServer { .. } => {
                "start one with `apogee dev`, or say where it is with --endpoint and --admin-endpoint"
            }
            CliError::NoServerKnown => {
                "start one with `apogee dev`, or say where it is with --admin-endpoint and --token-file"
            }
            CliError::WrongPort { .. } => "is this the admin port (8088) or the message port (8081)?",
            CliError::Profiles { .. } => "correct the file, or take it away",
            CliError::NoProfile { .. } => "see what there is with `apogee profile list`",
            CliError::NoToken { .. } => "name the file of the token with --token-file",
            CliError::Token { .. } => {
                "run the command as the user of the server, or name another file with --token-file"
            }
            CliError::Admin(status) => admin_hint(status.code()),
            CliError::Refused { code, .. } => refused_hint(*code),
            CliError::NothingCame { .. } => "send one with `apogee message send`, or look with `apogee group describe`",
            CliError::Exists { .. } => admin_hint(Code::AlreadyExists),
            CliError::NoNode { .. } => "see what there is with `apogee node list`",
            CliError::DrainsNoMore { .. } => "ask who wants it to stay, or drain it again",
            CliError::NotDrained { .. } => "see what moves with `apogee node describe`, or wait longer",
            CliError::CannotDrain { .. } => "start another store-node, or let this one stay with `apogee node undrain`",
            CliError::NotRemoved { .. } => {
                "drain it with `apogee node drain --wait`, stop it, and try again 10 s later"
            }
            CliError::NeverReceived { .. } => "see what it receives with `apogee group lag` and no --topic",
            CliError::NotConsumed { .. } => "look into the log of the client",
            CliError::Unhealthy { .. } => "look at `apogee cluster info` and into the logs of what is named",
            CliError::WouldChange { .. } => "repeat the command without --dry-run to do it",
            CliError::BenchFailed { .. } => "look into the log of the server, or ask for less with --rate",
            CliError::Interrupted => "run the command again",
            CliError::TailEnded { .. } => "begin again when it is back",
            CliError::Incomplete { .. } => "compare `apogee version` with the version of the server",
            CliError::Output(_) => "look at what reads the output, or at the disk it goes to",
            CliError::Runtime(_) => "look at the limits of this user, such as open files",
        }
    }
}

fn known_text(known: &[String]) -> String {
    if known.is_empty() { "is none at all".to_owned() } else { format!("are {}", known.join(", ")) }
}

fn innermost(status: &Status) -> String {
    let mut told = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        told = error.to_string();
        cause = error.source();
    }
    told
}

fn admin_exit(code: Code) -> (u8, String) {
    let (exit, name) = match code {
        Code::InvalidArgument => (USAGE, "invalid_argument"),
        Code::NotFound => (NOT_FOUND, "not_found"),
        Code::AlreadyExists => (CONFLICT, "already_exists"),
        Code::FailedPrecondition | Code::Aborted => (CONFLICT, "conflict"),
        Code::Unauthenticated => (DENIED, "unauthenticated"),
        Code::PermissionDenied => (DENIED, "permission_denied"),
        Code::Unavailable => (UNAVAILABLE, "unavailable"),
        Code::DeadlineExceeded | Code::Cancelled => (UNAVAILABLE, "deadline_exceeded"),
        Code::Unimplemented => (FAILED, "unimplemented"),
        Code::ResourceExhausted => (FAILED, "resource_exhausted"),
        _ => (FAILED, "internal"),
    };
    (exit, name.to_owned())
}

fn admin_hint(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "correct the value and try again",
        Code::NotFound => "see what there is with `apogee topic list` and `apogee group list`",
        Code::AlreadyExists => "use it as it is, or look at it with the verb `describe`",
        Code::Unauthenticated | Code::PermissionDenied => {
            "name the token of this server with --token-file; `apogee dev` keeps it as admin.token in its data folder"
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => "try again in a moment",
        Code::Unimplemented => "compare `apogee version` with the version of the server",
        _ => "look into the log of the server",
    }
}

/// Source: the code table of the v2 API; thousands follow HTTP.
fn refused_exit(code: v2::Code) -> u8 {
    match code as i32 {
        40100 | 40300 => DENIED,
        40400..=40499 => NOT_FOUND,
        42900 | 50002 | 50400..=50402 => UNAVAILABLE,
        40000..=40099 | 41300..=43199 => USAGE,
        _ => FAILED,
    }
}

fn refused_hint(code: v2::Code) -> &'static str {
    match code {
        v2::Code::TopicNotFound => "create it with `apogee topic create`",
        v2::Code::ConsumerGroupNotFound => "create it with `apogee group create`",
        v2::Code::NotImplemented => "compare `apogee version` with the version of the server",
        v2::Code::TooManyRequests => "try again in a moment",
        code => match refused_exit(code) {
            USAGE => "correct the value and try again",
            UNAVAILABLE => "try again in a moment; the message may have been stored",
            _ => "look into the log of the server",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_the_promised_exits() {
        for (code, exit) in [
            (v2::Code::TopicNotFound, NOT_FOUND),
            (v2::Code::Unauthorized, DENIED),
            (v2::Code::TooManyRequests, UNAVAILABLE),
            (v2::Code::IllegalTopic, USAGE),
            (v2::Code::MessageBodyTooLarge, USAGE),
            (v2::Code::PayloadTooLarge, USAGE),
            (v2::Code::NotImplemented, FAILED),
        ] {
            assert_eq!(refused_exit(code), exit, "{code:?}");
        }
        assert_eq!(admin_exit(Code::AlreadyExists).0, CONFLICT);
    }
}
