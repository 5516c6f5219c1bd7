//! The life of a role's process: the flags every role has, how an error is told, and the end of its threads.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use apogee_host::config::Loaded;
use apogee_host::shutdown::{self, Signals};
use apogee_host::telemetry::init_logs;
use apogee_host::{Exit, Identity, Stop, Tasks};
use tokio::runtime::{Builder, Runtime};
use toml::Value;

use super::config::{Format, Log, setting};

/// Time for the threads to end.
const THREADS_MAX: Duration = Duration::from_secs(10);

/// Flags of every role. A flag that was not given leaves its key to the environment, the file or the default.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    listen: Option<IpAddr>,
    /// How log lines look [default: auto]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// Any other key of the configuration, such as health.port=0; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, Value)>,
    /// TOML file with the configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Checks the configuration and the files it names, and ends
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Prints every value with where it came from, and ends
    #[arg(long)]
    print_config: bool,
}

impl Common {
    /// What the flags say, by dotted key; `more` are those of one role.
    pub(crate) fn flags(&self, more: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> toml::Table {
        let mut flags = toml::Table::new();
        flags.extend(self.settings.iter().cloned());
        let common = [
            ("listen", self.listen.map(|ip| ip.to_string().into())),
            ("log.format", self.log_format.and_then(|format| Value::try_from(format).ok())),
        ];
        let given = common.into_iter().chain(more);
        flags.extend(given.filter_map(|(key, value)| Some((key.to_owned(), value?))));
        flags
    }

    /// Shows the configuration, if that is what was asked for.
    pub(crate) fn print<T>(&self, loaded: &Loaded<T>) -> std::io::Result<()> {
        if self.print_config {
            std::io::stdout().write_all(loaded.print().as_bytes())?;
        }
        Ok(())
    }

    /// Whether the process ends once the configuration was looked at.
    pub(crate) fn only_looks(&self) -> bool {
        self.check_config || self.print_config
    }
}

/// A path on the command line as the value of a key.
pub(crate) fn path(path: Option<&Path>) -> Option<Value> {
    path.map(|path| path.to_string_lossy().into_owned().into())
}

/// The same for a number.
pub(crate) fn number(number: Option<impl Into<i64>>) -> Option<Value> {
    number.map(|number| number.into().into())
}

/// Starts the logs and runs a role on a runtime of its own.
pub(crate) fn serve(
    log: &Log,
    identity: &Identity,
    role: impl Future<Output = Result<Exit, Stop>>,
) -> Result<Exit, Stop> {
    init_logs(&log.settings(), identity)?;
    shutdown::install_panic_hook();
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(role);
    end(runtime);
    exit
}

/// What `start` makes; `None` when somebody asked to stop before it was over.
///
/// # Errors
/// Those of `start`, and the failure of a task.
pub(crate) async fn started<T>(
    start: impl Future<Output = Result<T, Stop>>,
    tasks: &Tasks,
    signals: &mut Signals,
) -> Result<Option<T>, Stop> {
    tokio::select! {
        started = start => started.map(Some),
        failure = tasks.failed() => Err(Stop::new(failure.stop.exit, failure.to_string())),
        signal = signals.next() => {
            tracing::info!(event = "start_interrupted", signal, "asked to stop before the start was over");
            Ok(None)
        }
    }
}

/// Runs a role to its end. An error that prevents the start goes to stderr.
pub(crate) fn run(live: impl FnOnce() -> Result<Exit, Stop>) -> ExitCode {
    match live() {
        Ok(exit) => exit.into(),
        Err(stop) => {
            let _nobody_listens = writeln!(std::io::stderr(), "error: {stop}");
            stop.exit.into()
        }
    }
}

/// Waits for the threads: whatever still runs was named by the ladder, and a database that closes while the process exits
/// finds its locks gone, and aborts.
pub(crate) fn end(runtime: Runtime) {
    runtime.shutdown_timeout(THREADS_MAX);
}
