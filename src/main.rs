//! The one binary: the only place where the roles meet. Nothing is initialised before its sub-command is chosen.
//!
//! Reading order: this table of contents, `record` (how the CLI finds `apogee dev`), `cli`, `dev`, `namesrv`,
//! `store_node`, `proxy`, `operator`, and `process` (what roles have in common).

mod cli;
mod dev;
mod namesrv;
mod operator;
mod process;
mod proxy;
mod record;
mod store_node;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use apogee_host::Exit;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A cloud-native message queue that official RocketMQ 5 SDKs use unchanged.
#[derive(Debug, Parser)]
#[command(name = "apogee", version, propagate_version = true)]
struct Apogee {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: cli::Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all roles in one process, data in ./apogee-data
    Dev(dev::Args),
    /// Keeps the metadata of a cluster, alone or as one of three
    Namesrv(namesrv::Args),
    /// Keeps messages, in replicas shared with other store-nodes
    StoreNode(store_node::Args),
    /// Serves SDKs; any number of them
    Proxy(proxy::Args),
    /// Keeps topics, consumer groups and the number of store-nodes as objects of Kubernetes say
    Operator(operator::Args),
    #[command(flatten)]
    Cli(cli::Command),
}

/// Sub-commands that are servers.
const ROLES: [&str; 5] = ["dev", "namesrv", "store-node", "proxy", "operator"];

fn main() -> ExitCode {
    let args = match cli::understood(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(exit) => return exit,
    };
    match Apogee::try_parse_from(&args) {
        Ok(Apogee { command: Command::Dev(args), .. }) => dev::run(args),
        Ok(Apogee { command: Command::Namesrv(args), .. }) => namesrv::run(args),
        Ok(Apogee { command: Command::StoreNode(args), .. }) => store_node::run(args),
        Ok(Apogee { command: Command::Proxy(args), .. }) => proxy::run(args),
        Ok(Apogee { command: Command::Operator(args), .. }) => operator::run(args),
        Ok(Apogee { command: Command::Cli(command), output }) => cli::run::<Apogee>(command, &output),
        Err(refused) => usage(&refused, &args),
    }
}

/// Help and version go to stdout and are no failure. A role that was started wrongly ends like one with a bad
/// configuration, a CLI command as the CLI promises.
fn usage(refused: &clap::Error, args: &[OsString]) -> ExitCode {
    let server = sub_command(args).is_some_and(|name| ROLES.iter().any(|role| name == role));
    if refused.use_stderr() && !server && cli::wants_json(args) {
        return cli::refuse_usage(refused);
    }
    let _nobody_listens = refused.print();
    let _nobody_listens = std::io::stdout().flush();
    match (refused.use_stderr(), server) {
        (false, _) => ExitCode::SUCCESS,
        (true, true) => Exit::Usage.into(),
        (true, false) => ExitCode::from(cli::USAGE),
    }
}

/// The first word that is neither a flag nor the value of a flag that may stand before it.
fn sub_command(args: &[OsString]) -> Option<&OsString> {
    let word = |pair: &&[OsString]| {
        !pair[1].to_string_lossy().starts_with('-')
            && !["-o", "--output", "--color"].iter().any(|flag| pair[0] == *flag)
    };
    args.windows(2).find(word).map(|pair| &pair[1])
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Apogee::command().debug_assert();
    }

    #[test]
    fn the_shape_of_the_output_may_come_before_the_sub_command() {
        for (line, name) in [
            ("dev --x", Some("dev")),
            ("-o json dev", Some("dev")),
            ("--color never -q dev", Some("dev")),
            ("-ojson topic dev", Some("topic")),
            ("--no-headers", None),
        ] {
            let args: Vec<OsString> = "apogee".split(' ').chain(line.split(' ')).map(OsString::from).collect();
            assert_eq!(sub_command(&args).map(|name| name.to_string_lossy().into_owned()).as_deref(), name, "{line}");
        }
    }
}
