//! The official Java SDK at work (`tests/compat/java`, `Endure`): it sends and receives until it is told to finish.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use crate::sdk::java;

/// Longest time until messages come and go.
const BEGIN_MAX: Duration = Duration::from_secs(60);
/// Longest time from the end of its input to its own end.
const FINISH_MAX: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A call that was successful. Times since whenever.
#[derive(Copy, Clone, Debug)]
pub struct Call {
    pub began: Duration,
    pub ended: Duration,
}

/// What becomes of the connections of the program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Connections {
    /// They end in peace, if at all.
    Stay,
    /// The SDK sends again what may have been sent already.
    Break,
}

/// The running program. Killed when dropped.
pub struct Endure {
    child: Child,
    /// Its home, and what it prints.
    folder: TempDir,
}

/// What it did.
#[derive(Debug, Default)]
pub struct Endured {
    /// Successful calls since the Unix epoch; receives only that brought something.
    pub sent: Vec<Call>,
    pub received: Vec<Call>,
    /// Calls that threw, as printed.
    pub failed: Vec<String>,
    /// What was lost, and what came again after its ack, as printed.
    pub broken: Vec<String>,
}

impl Endure {
    /// Returns when messages come and go.
    ///
    /// # Errors
    /// When they do not within a minute; the error carries what the program printed.
    pub async fn start(endpoint: &str, connections: Connections) -> anyhow::Result<Endure> {
        let folder = tempfile::tempdir()?;
        let output = File::create(folder.path().join(OUTPUT))?;
        let mut command = java("apogee.compat.Endure", folder.path())?;
        command.arg(endpoint);
        if connections == Connections::Break {
            command.arg("resends");
        }
        command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let child = command.spawn().context("java does not start; `make test` sets it up")?;
        let mut endure = Endure { child, folder };
        let deadline = Instant::now() + BEGIN_MAX;
        while !endure.output()?.lines().any(|line| line == "begun") {
            if endure.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("the Java SDK does not begin; it printed:\n{}", endure.output()?);
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(endure)
    }

    /// Lets it end, and says what it did.
    ///
    /// # Errors
    /// When it breaks down, or does not end.
    pub async fn finish(mut self) -> anyhow::Result<Endured> {
        drop(self.child.stdin.take());
        timeout(FINISH_MAX, self.child.wait()).await.context("the Java SDK does not end")??;
        let output = self.output()?;
        let endured = read(&output);
        ensure!(output.contains("\nover "), "the Java SDK broke down; it printed:\n{output}");
        Ok(endured)
    }

    fn output(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join(OUTPUT))?)
    }
}

const OUTPUT: &str = "output";

fn read(output: &str) -> Endured {
    let mut endured = Endured::default();
    for line in output.lines() {
        let mut words = line.split(' ');
        let what = words.next().unwrap_or_default();
        let mut time = || Some(Duration::from_millis(words.next()?.parse().ok()?));
        match what {
            "sent" => endured.sent.extend(time().zip(time()).map(|(began, ended)| Call { began, ended })),
            "received" => endured.received.extend(time().zip(time()).map(|(began, ended)| Call { began, ended })),
            "failed" => endured.failed.push(line.to_owned()),
            "lost" | "again" => endured.broken.push(line.to_owned()),
            _ => {}
        }
    }
    endured
}
