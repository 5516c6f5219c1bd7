//! One `apogee store-node` process.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, bail, ensure};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::ports;
use crate::server::{LOOK_EVERY, START_MAX, STOP_MAX, apogee, errors_in, get, metrics, signal};

/// What a store-node says it does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    Leader,
}

/// A store-node that may be down. Killed when dropped.
#[derive(Debug)]
pub struct StoreNode {
    number: usize,
    pub(super) ports: Ports,
    folder: PathBuf,
    peers: String,
    child: Option<Child>,
}

/// Where a store-node listens, all on 127.0.0.1.
#[derive(Copy, Clone, Debug)]
pub(super) struct Ports {
    pub(super) lanes: u16,
    pub(super) replication: u16,
    health: u16,
    metrics: u16,
}

impl Ports {
    pub(super) fn free() -> anyhow::Result<Ports> {
        let [lanes, replication, health, metrics] = ports::free()?;
        Ok(Ports { lanes, replication, health, metrics })
    }
}

impl StoreNode {
    /// Replica `number`, which is down, with a folder of its own in `folder`.
    pub(super) fn new(number: usize, ports: Ports, folder: &Path, peers: String) -> StoreNode {
        StoreNode { number, ports, folder: folder.join(format!("store-{number}")), peers, child: None }
    }

    /// Starts the process and returns at once.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(!self.runs(), "store-node {} still runs", self.number);
        std::fs::create_dir_all(&self.folder)?;
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let Ports { lanes, replication, health, metrics } = self.ports;
        let mut command = apogee()?;
        command
            .args(["store-node", "--log-format", "json", "--cluster-id", "a1", "--peers", &self.peers])
            .args(["--replica", &self.number.to_string(), "--lanes-port", &lanes.to_string()])
            .args(["--replication-port", &replication.to_string(), "--set", &format!("health.port={health}")])
            .args(["--set", &format!("metrics.port={metrics}"), "--set", "store.segment=32MiB"])
            .arg("--data")
            .arg(self.data())
            .current_dir(&self.folder)
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        self.child = Some(command.spawn().context("starting apogee store-node")?);
        Ok(())
    }

    /// Waits until `/readyz` answers 200: it leads, or follows somebody who does.
    ///
    /// # Errors
    /// When it ends or is not ready within a minute; the error carries its log.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if get(self.ports.health, "/readyz").await.is_ok_and(|answer| answer.code == 200) {
                return Ok(());
            }
            if !self.runs() || Instant::now() > deadline {
                bail!("store-node {} is not ready; its log:\n{}", self.number, self.log()?);
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
    /// When it does not end within 30 s.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().context("it does not run")?;
        signal(child, rustix::process::Signal::TERM)?;
        Ok(timeout(STOP_MAX, child.wait()).await.context("the store-node ignores SIGTERM")??)
    }

    /// Removes all its data, as a lost disk does.
    ///
    /// # Errors
    /// When it runs.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        ensure!(!self.runs(), "store-node {} still runs", self.number);
        Ok(std::fs::remove_dir_all(self.data())?)
    }

    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What it says it does; `None` while it cannot be asked, or follows nobody.
    pub async fn role(&self) -> Option<Role> {
        let state = *metrics(self.ports.metrics).await.ok()?.get("rocketmq_store_replica_state")?;
        match state {
            1.0 => Some(Role::Follower),
            2.0 => Some(Role::Leader),
            _ => None,
        }
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What all lives of this store-node have logged: JSON lines.
    pub fn log(&self) -> std::io::Result<String> {
        std::fs::read_to_string(self.log_file())
    }

    /// The lines of its log that need a human.
    pub fn errors(&self) -> std::io::Result<Vec<String>> {
        Ok(errors_in(&self.log()?))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("store-node.log")
    }
}
