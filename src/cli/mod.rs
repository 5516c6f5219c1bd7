//! The command line for people and scripts: `apogee <noun> <verb> [name] [flags]`.
//!
//! Data goes to stdout, all else to stderr. Every error ends with a next step and one of the exit codes of `error`.
//! Reading order: this table of contents, `target` (which server), `error`, `output`, then the nouns.

mod client;
mod confirm;
mod error;
mod group;
mod message;
mod output;
mod target;
mod topic;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use self::error::USAGE;
use self::error::{CliError, RequestId};
use self::output::Format;
pub(crate) use self::output::Output;
use self::target::Target;

/// The nouns.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates, shows and deletes topics
    Topic(Noun<topic::Verb>),
    /// Creates, shows and deletes consumer groups
    Group(Noun<group::Verb>),
    /// Sends and receives messages
    Message(Noun<message::Verb>),
    /// Shows who is connected
    Client(Noun<client::Verb>),
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

/// Runs one command to its end.
pub(crate) fn run(command: Command, output: &Output) -> ExitCode {
    let id = RequestId::draw();
    let outcome = match command {
        Command::Topic(noun) => wait(topic::run(noun.verb, &noun.target, output, &id)),
        Command::Group(noun) => wait(group::run(noun.verb, &noun.target, output, &id)),
        Command::Message(noun) => wait(message::run(noun.verb, &noun.target, output, &id)),
        Command::Client(noun) => wait(client::run(noun.verb, &noun.target, output, &id)),
        Command::Version => version::run(output),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(output.format, &id),
    }
}

/// Runs on a runtime of its own: one thread is enough for one command.
fn wait(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(work)
}

/// Whether a command line that could not be parsed asks for JSON.
pub(crate) fn wants_json(args: &[OsString]) -> bool {
    let joined = ["-ojson", "-o=json", "--output=json"];
    args.iter().any(|arg| joined.iter().any(|json| arg == json))
        || args.windows(2).any(|pair| (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "json")
}

/// A command line that could not be parsed, reported as JSON.
pub(crate) fn refuse_usage(refused: &clap::Error) -> ExitCode {
    let text = refused.render().to_string();
    let told = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let told: Vec<_> = told.map(str::trim).filter(|line| !line.is_empty()).collect();
    let message = told.join(" ").trim_start_matches("error: ").to_owned();
    CliError::Usage { message }.report(Format::Json, &RequestId::draw())
}
