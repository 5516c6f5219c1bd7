//! One process of a cluster.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::ports;
use crate::server::{LOOK_EVERY, START_MAX, apogee, errors_in, get, signal};

/// Longest time a polite stop may take: a proxy gives its clients 40 s.
const STOP_MAX: Duration = Duration::from_secs(60);

/// A role that may be down. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// Such as `store-2`.
    name: String,
    args: Vec<String>,
    ports: Ports,
    folder: PathBuf,
    child: Option<Child>,
}

/// Where a process listens, all on 127.0.0.1.
#[derive(Copy, Clone, Debug)]
pub struct Ports {
    /// For whoever the role serves: SDKs, proxies, or everybody.
    pub first: u16,
    /// For its equals, or for people.
    pub second: u16,
    pub health: u16,
    pub metrics: u16,
}

impl Ports {
    pub(super) fn free() -> anyhow::Result<Ports> {
        let [first, second, health, metrics] = ports::free()?;
        Ok(Ports { first, second, health, metrics })
    }

    /// The flags that say so.
    fn args(self) -> [String; 4] {
        let Ports { health, metrics, .. } = self;
        ["--set".to_owned(), format!("health.port={health}"), "--set".to_owned(), format!("metrics.port={metrics}")]
    }
}

impl Process {
    /// A process that is down, with a folder of its own in `folder`. `role` is the sub-command with the flags for its first
    /// two ports.
    pub(super) fn new(name: String, role: &str, ports: Ports, folder: &Path, args: &[String]) -> Process {
        let folder = folder.join(&name);
        let role = role.replace("{first}", &ports.first.to_string()).replace("{second}", &ports.second.to_string());
        let words = role.split(' ').map(str::to_owned);
        let args = words.chain(args.iter().cloned()).chain(ports.args()).collect();
        Process { name, args, ports, folder, child: None }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The id of the process while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts the process and returns at once.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(!self.runs(), "{} still runs", self.name);
        std::fs::create_dir_all(&self.folder)?;
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = apogee()?;
        command
            .args(&self.args)
            .args(["--log-format", "json"])
            .current_dir(&self.folder)
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.name))?);
        Ok(())
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it ends or is not ready within a minute; the error carries its log.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        loop {
            let answer = get(self.ports.health, "/readyz").await;
            if answer.as_ref().is_ok_and(|answer| answer.code == 200) {
                return Ok(());
            }
            if !self.runs() || Instant::now() > deadline {
                let said = answer.map(|answer| answer.body).unwrap_or_default();
                bail!("{} is not ready: {said}; its log:\n{}", self.name, self.log()?);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// `kill -9`, then waits for its end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.as_mut().context("it does not run")?.kill().await?)
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().context("it does not run")?;
        signal(child, rustix::process::Signal::TERM)?;
        Ok(timeout(STOP_MAX, child.wait()).await.with_context(|| format!("{} ignores SIGTERM", self.name))??)
    }

    /// Removes all its data, as a lost disk does.
    ///
    /// # Errors
    /// When it runs.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        ensure!(!self.runs(), "{} still runs", self.name);
        Ok(std::fs::remove_dir_all(self.data())?)
    }

    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The replica groups that a store-node leads: `broker-0` and so on. None while it cannot be asked.
    pub async fn leads(&self) -> Vec<String> {
        let states = self.replica_states().await;
        states.into_iter().filter(|(_, state)| state == "2").map(|(group, _)| group).collect()
    }

    /// What the replicas of a store-node do, by replica group: 0 without a leader, 1 follows, 2 leads.
    async fn replica_states(&self) -> BTreeMap<String, String> {
        let Ok(page) = get(self.ports.metrics, "/metrics").await else { return BTreeMap::new() };
        let state = |line: &str| {
            let (series, state) = line.rsplit_once(' ')?;
            let labels = series.strip_prefix("rocketmq_store_replica_state{")?;
            let group = labels.split("group=\"").nth(1)?.split('"').next()?;
            Some((group.to_owned(), state.to_owned()))
        };
        page.body.lines().filter_map(state).collect()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join(DATA)
    }

    /// What all lives of this process have logged: JSON lines.
    pub fn log(&self) -> std::io::Result<String> {
        std::fs::read_to_string(self.log_file())
    }

    /// The lines of its log that need a human.
    pub fn errors(&self) -> std::io::Result<Vec<String>> {
        Ok(errors_in(&self.log()?))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// The data folder, in the folder of the process.
pub(super) const DATA: &str = "data";
