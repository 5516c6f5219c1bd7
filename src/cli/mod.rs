//! The command line for people and scripts: `apogee <noun> <verb> [name] [flags]`.
//!
//! Data goes to stdout, all else to stderr. Every error ends with a next step and one of the exit codes of `error`.
//! Reading order: this table of contents, `target` (which server), `error`, `output`, then the nouns.

mod bench;
mod client;
mod cluster;
mod completion;
mod confirm;
mod dlq;
mod error;
mod group;
mod lite;
mod message;
mod mqadmin;
mod node;
mod output;
mod pages;
mod paint;
mod profile;
mod subscription;
mod table;
mod target;
mod topic;
mod transaction;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use apogee_host::config::HumanDuration;
use clap::{CommandFactory, Subcommand};

pub(crate) use self::error::USAGE;
use self::error::{CliError, RequestId};
pub(crate) use self::output::Output;
use self::target::Target;

/// The nouns.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the cluster and what is wrong with it
    Cluster(Noun<cluster::Verb>),
    /// Shows, drains and removes store-nodes
    Node(Noun<node::Verb>),
    /// Creates, shows and deletes topics
    Topic(Noun<topic::Verb>),
    /// Creates, shows and deletes consumer groups
    Group(Noun<group::Verb>),
    /// Shows dead letters, and sends them again
    Dlq(Noun<dlq::Verb>),
    /// Shows transactions that nobody has ended, and ends them
    Transaction(Noun<transaction::Verb>),
    /// Shows lite topics
    Lite(Noun<lite::Verb>),
    /// Sends and receives messages
    Message(Noun<message::Verb>),
    /// Shows who is connected
    Client(Noun<client::Verb>),
    /// Measures rate and latency as clients of the proxy have them
    Bench(Noun<bench::Verb>),
    /// Names servers, and which of them commands talk to
    Profile {
        #[command(subcommand)]
        verb: profile::Verb,
    },
    /// Prints what a shell needs to complete command lines
    Completion(completion::Args),
    /// Prints the version of this binary
    Version,
}

/// A noun with the flags all its verbs share.
#[derive(Debug, clap::Args)]
pub(crate) struct Noun<Verb: Subcommand> {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    target: Target,
}

/// Runs one command of `Line` to its end.
pub(crate) fn run<Line: CommandFactory>(command: Command, output: &Output) -> ExitCode {
    let id = RequestId::draw();
    let outcome = match command {
        Command::Cluster(noun) => wait(cluster::run(noun.verb, &noun.target, output, &id)),
        Command::Node(noun) => wait(node::run(noun.verb, &noun.target, output, &id)),
        Command::Topic(noun) => wait(topic::run(noun.verb, &noun.target, output, &id)),
        Command::Group(noun) => wait(group::run(noun.verb, &noun.target, output, &id)),
        Command::Dlq(noun) => wait(dlq::run(noun.verb, &noun.target, output, &id)),
        Command::Transaction(noun) => wait(transaction::run(noun.verb, &noun.target, output, &id)),
        Command::Lite(noun) => wait(lite::run(noun.verb, &noun.target, output, &id)),
        Command::Message(noun) => wait(message::run(noun.verb, &noun.target, output, &id)),
        Command::Client(noun) => wait(client::run(noun.verb, &noun.target, output, &id)),
        Command::Bench(noun) => bench::run(noun.verb, &noun.target, output, &id),
        Command::Profile { verb } => profile::run(verb, output),
        Command::Completion(args) => completion::run(&args, Line::command()),
        Command::Version => version::run(output),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(output, &id),
    }
}

/// Runs on a runtime of its own, until SIGINT: one thread is enough for one command.
fn wait(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            Ok(()) = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
        }
    })
}

/// A duration in words such as `30s` or `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<HumanDuration>().map(|duration| duration.0).map_err(|error| error.to_string())
}

/// The line to run: a line of `mqadmin` becomes one of ours, with hints on stderr.
///
/// # Errors
/// How to end when such a line cannot be meant.
pub(crate) fn understood(args: Vec<OsString>) -> Result<Vec<OsString>, ExitCode> {
    let names_a_server = |name| std::env::var_os(name).is_some();
    let server_is_named =
        ["APOGEE_ADMIN_ENDPOINT", "APOGEE_ENDPOINT", "APOGEE_PROFILE"].into_iter().any(names_a_server);
    match mqadmin::translate(&args, server_is_named) {
        None => Ok(args),
        Some(Ok(translated)) => {
            let quiet = wants_json(&args) || args.iter().any(|arg| arg == "-q" || arg == "--quiet");
            if !quiet {
                translated.hints.iter().for_each(|hint| output::hint(hint));
            }
            Ok(translated.args)
        }
        Some(Err(message)) => Err(CliError::report_usage(message, wants_json(&args))),
    }
}

/// Whether a command line that could not be parsed asks for JSON.
pub(crate) fn wants_json(args: &[OsString]) -> bool {
    let json = |shape: &str| shape == "json" || shape == "jsonl";
    let joined =
        |arg: &str| ["-o=", "-o", "--output="].iter().find_map(|flag| arg.strip_prefix(flag)).is_some_and(json);
    args.iter().any(|arg| joined(&arg.to_string_lossy()))
        || args.windows(2).any(|pair| (pair[0] == "-o" || pair[0] == "--output") && json(&pair[1].to_string_lossy()))
}

/// A command line that could not be parsed, reported as JSON.
pub(crate) fn refuse_usage(refused: &clap::Error) -> ExitCode {
    let text = refused.render().to_string();
    let told = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let told: Vec<_> = told.map(str::trim).filter(|line| !line.is_empty()).collect();
    CliError::report_usage(told.join(" ").trim_start_matches("error: ").to_owned(), true)
}
