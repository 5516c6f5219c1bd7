//! A cluster of real processes on loopback: namesrv, store-nodes and proxies, each of which may be killed, stopped and
//! started again.

mod balancer;
mod ports;
mod process;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use apogee_host::{Entropy, OsEntropy};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::server::{LOOK_EVERY, Ran, START_MAX, apogee, ran};
pub use balancer::Balancer;
pub(crate) use ports::free as free_ports;
pub use process::{Ports, Process};

/// How many processes of each role. Three store-nodes make three replica groups of three.
#[derive(Copy, Clone, Debug)]
pub struct Shape {
    /// 1 or 3.
    pub namesrvs: usize,
    pub stores: usize,
    /// 1, 3 or 5.
    pub replication_factor: usize,
    pub proxies: usize,
}

impl Shape {
    /// What `make cluster` starts.
    pub const WHOLE: Shape = Shape { namesrvs: 3, stores: 3, replication_factor: 3, proxies: 2 };
}

/// Killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    pub namesrvs: Vec<Process>,
    pub stores: Vec<Process>,
    pub proxies: Vec<Process>,
    /// Holds the folders of all processes.
    folder: TempDir,
}

impl Cluster {
    /// Starts all processes and waits until clients are served. `args` are more flags of every proxy.
    ///
    /// # Errors
    /// When one of them ends or is not ready within a minute; the error carries its log.
    pub async fn start(shape: Shape, args: &[&str]) -> anyhow::Result<Cluster> {
        let folder = tempfile::tempdir()?;
        let mut cluster = lay_out(shape, folder, args)?;
        // They wait for each other.
        for process in cluster.all() {
            process.start()?;
        }
        if let Err(unready) = cluster.all_ready().await {
            // One waits for another that has ended.
            let ended = cluster.all().filter_map(|process| (!process.runs()).then(|| process.log()));
            let ended = ended.collect::<Result<Vec<_>, _>>()?;
            return Err(unready.context(format!("the logs of those that ended: {}", ended.join("\n"))));
        }
        cluster.led(shape.stores).await?;
        Ok(cluster)
    }

    async fn all_ready(&mut self) -> anyhow::Result<()> {
        for process in self.all() {
            process.ready().await?;
        }
        Ok(())
    }

    /// Every process, in the order of an upgrade: namesrv, store-nodes, proxies.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Process> {
        self.namesrvs.iter_mut().chain(&mut self.stores).chain(&mut self.proxies)
    }

    /// The store-node that leads a replica group, as soon as one does.
    ///
    /// # Errors
    /// When none does within a minute; the error carries all logs.
    pub async fn leader_of(&self, group: &str) -> anyhow::Result<usize> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            for (at, store) in self.stores.iter().enumerate() {
                if store.leads().await.iter().any(|led| led == group) {
                    return Ok(at);
                }
            }
            sleep(LOOK_EVERY).await;
        }
        bail!("nobody leads {group}; the logs:\n{}", self.store_logs()?)
    }

    /// Waits until so many replica groups are led.
    async fn led(&self, groups: usize) -> anyhow::Result<()> {
        for group in 0..groups {
            self.leader_of(&format!("broker-{group}")).await?;
        }
        Ok(())
    }

    /// Waits until the store-nodes together have logged an event so many times.
    ///
    /// # Errors
    /// When they did not within a minute; the error carries all logs.
    pub async fn logged(&self, event: &str, times: usize) -> anyhow::Result<()> {
        let (deadline, wanted) = (Instant::now() + START_MAX, format!("\"event\":\"{event}\""));
        loop {
            let logs = self.store_logs()?;
            let seen = logs.matches(&wanted).count();
            if seen >= times {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{event} was logged {seen} times, not {times}:\n{logs}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// `host:port` of every proxy.
    pub fn endpoints(&self) -> Vec<String> {
        self.proxies.iter().map(|proxy| format!("127.0.0.1:{}", proxy.ports().first)).collect()
    }

    /// One more process, which is down, with a role and flags of the caller's choice; `{first}` and `{second}` are ports of
    /// its own, and `{namesrv}` is where this cluster's namesrv are.
    ///
    /// # Errors
    /// When there are hardly any ports.
    pub fn another(&self, name: &str, role: &str, args: &[&str]) -> anyhow::Result<Process> {
        let registries = self.namesrvs.iter().map(|namesrv| format!("127.0.0.1:{}", namesrv.ports().first));
        let role = role.replace("{namesrv}", &registries.collect::<Vec<_>>().join(","));
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Ok(Process::new(name.to_owned(), &role, Ports::free()?, self.folder.path(), &args))
    }

    /// File with the cluster token.
    pub fn token_file(&self) -> PathBuf {
        token_file(self.folder.path())
    }

    /// Runs the CLI against the admin port of a proxy.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn cli(&self, proxy: usize, args: &[&str]) -> anyhow::Result<Ran> {
        let ports = self.proxies.get(proxy).context("there is no such proxy")?.ports();
        let mut command = apogee()?;
        command
            .env("APOGEE_ENDPOINT", format!("127.0.0.1:{}", ports.first))
            .env("APOGEE_ADMIN_ENDPOINT", format!("127.0.0.1:{}", ports.second))
            .env("APOGEE_TOKEN_FILE", token_file(self.folder.path()))
            .env("XDG_STATE_HOME", self.folder.path())
            .args(args)
            .current_dir("/");
        ran(command).await
    }

    /// The lines of all logs that need a human.
    pub fn errors(&self) -> std::io::Result<Vec<String>> {
        let mut errors = Vec::new();
        for process in self.namesrvs.iter().chain(&self.stores).chain(&self.proxies) {
            errors.extend(process.errors()?.into_iter().map(|line| format!("{}: {line}", process.name())));
        }
        Ok(errors)
    }

    fn store_logs(&self) -> std::io::Result<String> {
        let logs = self.stores.iter().map(Process::log).collect::<Result<Vec<_>, _>>()?;
        Ok(logs.join("\n"))
    }
}

fn token_file(folder: &Path) -> PathBuf {
    folder.join("token")
}

/// The processes, all down, with ports and a cluster token.
fn lay_out(shape: Shape, folder: TempDir, args: &[&str]) -> anyhow::Result<Cluster> {
    let home = folder.path();
    let token: String = (0..4).map(|_| format!("{:016x}", OsEntropy.next_u64())).collect();
    std::fs::write(token_file(home), token)?;
    let common = ["--token-file".to_owned(), token_file(home).to_string_lossy().into_owned()];
    let with = |more: &[String]| [more, &common].concat();
    let free = |count: usize| (0..count).map(|_| Ports::free()).collect::<anyhow::Result<Vec<_>>>();

    let ports = free(shape.namesrvs)?;
    let numbered = || (1..).zip(&ports);
    let member = |(id, ports): (usize, &Ports)| format!("{id}=127.0.0.1:{}/{}", ports.first, ports.second);
    let members = numbered().map(member).collect::<Vec<_>>().join(",");
    let registries = ports.iter().map(|ports| format!("127.0.0.1:{}", ports.first)).collect::<Vec<_>>().join(",");
    let namesrv = |(id, ports): (usize, &Ports)| {
        let role = format!(
            "namesrv --data {} --id {id} --members {members} --replication-factor {} --port {{first}} --raft-port {{second}}",
            process::DATA,
            shape.replication_factor
        );
        Process::new(format!("namesrv-{id}"), &role, *ports, home, &with(&[]))
    };
    let namesrvs = numbered().map(namesrv).collect();

    let store = |(id, ports): (usize, Ports)| {
        let role = format!(
            "store-node --data {} --name store-{id} --namesrv {registries} --lanes-port {{first}} --replication-port {{second}}",
            process::DATA
        );
        Process::new(
            format!("store-{id}"),
            &role,
            ports,
            home,
            &with(&["--set".to_owned(), "store.segment=32MiB".to_owned()]),
        )
    };
    let stores = (1..).zip(free(shape.stores)?).map(store).collect();

    let more: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let proxy = |(id, ports): (usize, Ports)| {
        let role = format!("proxy --namesrv {registries} --port {{first}} --admin-port {{second}}");
        Process::new(format!("proxy-{id}"), &role, ports, home, &with(&more))
    };
    let proxies = (1..).zip(free(shape.proxies)?).map(proxy).collect();
    Ok(Cluster { namesrvs, stores, proxies, folder })
}
