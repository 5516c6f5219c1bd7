//! A real `apogee dev` process: start, kill, restart on the same data and ports, stop, and the CLI beside it.

mod binary;
mod probe;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

pub use binary::{apogee, binary};
pub use probe::{get, metrics};

/// Longest time a start may take before the test fails; a healthy one takes well under a second.
pub(crate) const START_MAX: Duration = Duration::from_secs(60);
/// Longest time a polite stop may take.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How the server is started. The default is an empty data folder of its own, automatic creation, no TLS files.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `None`: a temporary folder that lives as long as the [`Server`] and survives its restarts.
    pub data: Option<PathBuf>,
    /// `--ephemeral` instead of a data folder: nothing is left after a stop, and a restart starts empty.
    pub ephemeral: bool,
    /// `--auto-create=false`, for the tests of errors.
    pub no_auto_create: bool,
    /// Certificate chain and private key, PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// More arguments of `apogee dev`.
    pub args: Vec<String>,
    /// More environment of the process.
    pub env: Vec<(String, String)>,
}

/// Where the server listens, all on 127.0.0.1.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    pub grpc: u16,
    pub admin: u16,
    pub metrics: u16,
    pub health: u16,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    options: Options,
    child: Child,
    ports: Ports,
    /// Holds the state folder, the log and, unless told otherwise, the data.
    folder: TempDir,
}

/// What a CLI run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Exit code, -1 when a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Server {
    /// Starts `apogee dev` on ports of the operating system's choice and waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it ends or is not ready within a minute; the error carries its log.
    pub async fn start(options: Options) -> anyhow::Result<Server> {
        let folder = tempfile::tempdir()?;
        let any = Ports { grpc: 0, admin: 0, metrics: 0, health: 0 };
        let (child, ports) = launch(&options, folder.path(), any).await?;
        Ok(Server { options, child, ports, folder })
    }

    /// Ends the process as a power cut of the process would: `kill -9`, then waits for its end.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it does not end within 30 s.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        Ok(timeout(STOP_MAX, self.child.wait()).await.context("the server ignores SIGTERM")??)
    }

    /// Starts the process again after [`Server::kill`] or [`Server::stop`]: same data, same ports.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.try_wait()?.is_some(), "the server still runs");
        (self.child, self.ports) = launch(&self.options, self.folder.path(), self.ports).await?;
        Ok(())
    }

    /// Sends any signal, for example STOP and CONT.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self::signal(&self.child, signal)
    }

    /// Process id, `None` once it ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// `127.0.0.1:port`, as SDKs want it.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.grpc)
    }

    /// The data folder, also after a stop. With `ephemeral` there is none of that name.
    pub fn data(&self) -> PathBuf {
        data(&self.options, self.folder.path())
    }

    /// What all lives of this server have logged: JSON lines.
    pub fn log(&self) -> io::Result<String> {
        std::fs::read_to_string(log(self.folder.path()))
    }

    /// The lines of its log that need a human.
    pub fn errors(&self) -> io::Result<Vec<String>> {
        Ok(errors_in(&self.log()?))
    }

    /// Runs the CLI as the user of this server would, from another folder, and waits for its end.
    pub async fn cli<S: AsRef<str>>(&self, args: &[S]) -> anyhow::Result<Ran> {
        let mut command = self.cli_command()?;
        command.args(args.iter().map(AsRef::as_ref)).stdin(Stdio::null());
        ran(command).await
    }

    /// A CLI command that finds this server; add arguments and environment.
    pub fn cli_command(&self) -> anyhow::Result<Command> {
        let mut command = apogee()?;
        command.env("XDG_STATE_HOME", state(self.folder.path())).current_dir("/");
        Ok(command)
    }
}

/// Sends a signal to a process of ours that runs.
pub(crate) fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("the process has ended")?;
    Ok(kill_process(pid, signal)?)
}

/// The lines of a log that need a human.
pub(crate) fn errors_in(log: &str) -> Vec<String> {
    log.lines().filter(|line| has_level(line, "ERROR")).map(str::to_owned).collect()
}

/// Whether a line of a log has this level.
pub fn has_level(line: &str, level: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|entry| entry["level"] == level)
}

/// Runs a command to its end.
pub async fn ran(mut command: Command) -> anyhow::Result<Ran> {
    let output = timeout(START_MAX, command.kill_on_drop(true).output()).await.context("the command hangs")??;
    Ok(Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// Starts the process and waits until it is ready. It writes its addresses into the state folder once they are bound.
async fn launch(options: &Options, folder: &Path, ports: Ports) -> anyhow::Result<(Child, Ports)> {
    let mut child = command(options, folder, ports)?.spawn().context("starting apogee dev")?;
    let pid = child.id().context("the process has just been started")?;
    let deadline = Instant::now() + START_MAX;
    loop {
        if let Some(ports) = probe::recorded(&state(folder), pid)
            && get(ports.health, "/readyz").await.is_ok_and(|answer| answer.code == 200)
        {
            return Ok((child, ports));
        }
        if let Some(status) = child.try_wait()? {
            bail!("apogee dev ended with {status}; its log:\n{}", std::fs::read_to_string(log(folder))?);
        }
        if Instant::now() > deadline {
            bail!("apogee dev is not ready; its log:\n{}", std::fs::read_to_string(log(folder))?);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The command line of `apogee dev`; for tests that want to see it fail, run it with [`ran`].
pub fn command(options: &Options, folder: &Path, ports: Ports) -> anyhow::Result<Command> {
    std::fs::create_dir_all(state(folder))?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log(folder))?;
    let mut command = apogee()?;
    command.args(["dev", "--log-format", "json"]);
    match options.ephemeral {
        true => command.arg("--ephemeral"),
        false => command.arg("--data").arg(data(options, folder)),
    };
    if options.no_auto_create {
        command.arg("--auto-create=false");
    }
    if let Some((cert, key)) = &options.tls {
        command.env("APOGEE_TLS__CERT", cert).env("APOGEE_TLS__KEY", key);
    }
    command
        .env("APOGEE_GRPC__PORT", ports.grpc.to_string())
        .env("APOGEE_ADMIN__PORT", ports.admin.to_string())
        .env("APOGEE_METRICS__PORT", ports.metrics.to_string())
        .env("APOGEE_HEALTH__PORT", ports.health.to_string())
        .env("XDG_STATE_HOME", state(folder))
        .envs(options.env.iter().map(|(key, value)| (key, value)))
        .args(&options.args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    Ok(command)
}

fn data(options: &Options, folder: &Path) -> PathBuf {
    options.data.clone().unwrap_or_else(|| folder.join("data"))
}

fn state(folder: &Path) -> PathBuf {
    folder.join("state")
}

fn log(folder: &Path) -> PathBuf {
    folder.join("apogee.log")
}
