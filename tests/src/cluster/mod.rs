//! A replica group of three `apogee store-node` processes, and an `apogee dev` that runs proxy and namesrv against them.

mod ports;
mod store_node;

use anyhow::{bail, ensure};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::server::{LOOK_EVERY, Options, START_MAX, Server};
use store_node::Ports;
pub use store_node::{Role, StoreNode};

/// Replicas of the replica group.
const REPLICAS: usize = 3;

/// Killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    pub front: Server,
    pub stores: Vec<StoreNode>,
    /// Holds the folders of all store-nodes.
    _folder: TempDir,
}

impl Cluster {
    /// Starts all processes and waits until clients are served.
    ///
    /// # Errors
    /// When one of them ends or is not ready within a minute; the error carries its log.
    pub async fn start() -> anyhow::Result<Cluster> {
        let folder = tempfile::tempdir()?;
        let ports = (0..REPLICAS).map(|_| Ports::free()).collect::<anyhow::Result<Vec<_>>>()?;
        let numbered = || (1..).zip(&ports);
        let peers = numbered().map(|(number, ports)| format!("{number}=127.0.0.1:{}", ports.replication));
        let peers = peers.collect::<Vec<_>>().join(",");
        let mut stores: Vec<_> =
            numbered().map(|(number, ports)| StoreNode::new(number, *ports, folder.path(), peers.clone())).collect();
        // A founding replica may wait for the others.
        for store in &mut stores {
            store.start()?;
        }
        for store in &mut stores {
            store.ready().await?;
        }
        let lanes = ports.iter().map(|ports| format!("127.0.0.1:{}", ports.lanes)).collect::<Vec<_>>().join(",");
        let front = Server::start(Options { args: vec!["--stores".to_owned(), lanes], ..Options::default() }).await?;
        Ok(Cluster { front, stores, _folder: folder })
    }

    /// Which store-node leads, as soon as one does.
    ///
    /// # Errors
    /// When none does within a minute; the error carries all logs.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            for (at, store) in self.stores.iter().enumerate() {
                if store.role().await == Some(Role::Leader) {
                    return Ok(at);
                }
            }
            sleep(LOOK_EVERY).await;
        }
        let logs = self.stores.iter().map(StoreNode::log).collect::<std::io::Result<Vec<_>>>()?;
        bail!("nobody leads; the logs:\n{}", logs.join("\n"))
    }

    /// Waits until the store-nodes together have logged an event so many times.
    ///
    /// # Errors
    /// When they did not within a minute; the error carries all logs.
    pub async fn logged(&self, event: &str, times: usize) -> anyhow::Result<()> {
        let (deadline, wanted) = (Instant::now() + START_MAX, format!("\"event\":\"{event}\""));
        loop {
            let logs = self.stores.iter().map(StoreNode::log).collect::<std::io::Result<Vec<_>>>()?;
            let seen: usize = logs.iter().map(|log| log.matches(&wanted).count()).sum();
            if seen >= times {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{event} was logged {seen} times, not {times}:\n{}", logs.join("\n"));
            sleep(LOOK_EVERY).await;
        }
    }

    /// The lines of all logs that need a human.
    pub fn errors(&self) -> std::io::Result<Vec<String>> {
        let mut errors = self.front.errors()?;
        for store in &self.stores {
            errors.extend(store.errors()?);
        }
        Ok(errors)
    }
}
