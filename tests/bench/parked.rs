//! `bench parked`: receives that wait for messages which never come, and what they cost the server while they wait.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use apogee_proto::v2;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::args::Parked;
use crate::client::{Connections, Session};
use crate::cpu;
use crate::outgoing::resource;

/// As long as SDKs wait.
const POLL: Duration = Duration::from_secs(20);
/// All have begun by then, and none of them ends before [`FIRST_ENDS`].
const ALL_WAIT: Duration = Duration::from_secs(8);
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
const FIRST_ENDS: Duration = Duration::from_secs(19);
/// Connections that are opened at a time: a server may have a short queue of new ones.
const OPEN_AT_ONCE: usize = 50;

/// What a run measured.
pub(crate) struct Figures {
    receives: usize,
    connections: usize,
    /// Resident bytes of the server: before any connection, and the most that was seen while all waited.
    before: u64,
    parked: u64,
    /// Of one core, while all waited and nothing else happened.
    waiting_cpu: f64,
    /// Of one core, over a time in which each ended, found nothing and began again.
    server_cpu: f64,
    client_cpu: f64,
    /// Polls that were answered in that time, all of them empty.
    answered: u64,
    length: Duration,
}

pub(crate) async fn run(parked: &Parked) -> anyhow::Result<Figures> {
    let before = resident(parked.pid)?;
    let mut connections = Vec::with_capacity(parked.connections);
    while connections.len() < parked.connections {
        let some = (connections.len()..parked.connections).take(OPEN_AT_ONCE).map(|n| open(parked, n));
        connections.extend(futures::future::try_join_all(some).await?);
    }
    let mut first = connections.first().context("at least one connection is needed")?.session(0);
    first.query_route(resource(&parked.topic), &parked.endpoint).await?;

    let answered = Arc::new(AtomicU64::new(0));
    let (start, mut polls) = (Instant::now(), JoinSet::new());
    let receives = u32::try_from(parked.receives).context("so many receives are not possible")?;
    for n in 0..parked.receives {
        let begins = start + BEGIN_WITHIN * u32::try_from(n).unwrap_or(0) / receives;
        let session = connections[n % connections.len()].session(0);
        let ask = ask(parked, n % connections.len());
        let attempts = parked.attempts.then(|| format!("parked-{n}"));
        polls.spawn(poll(session, ask, attempts, begins, Arc::clone(&answered)));
    }
    sleep_until(start + ALL_WAIT).await;
    let still = Window::begin(parked.pid, &answered)?;
    sleep_until(start + FIRST_ENDS).await;
    let still = still.end(&answered)?;
    ensure!(still.answered == 0, "{} polls ended before their time", still.answered);

    sleep_until(start + POLL).await;
    let turning = Window::begin(parked.pid, &answered)?;
    // Whole polls: each of them ends as often as any other.
    let polled = u32::try_from(parked.length().as_secs() / POLL.as_secs()).unwrap_or(1).max(1);
    let (ends, mut most) = (start + POLL + POLL * polled, 0);
    while Instant::now() < ends {
        if let Some(ended) = polls.try_join_next() {
            ended??;
        }
        most = most.max(resident(parked.pid)?);
        sleep_until(ends.min(Instant::now() + Duration::from_secs(1))).await;
    }
    let turning = turning.end(&answered)?;
    Ok(Figures {
        receives: parked.receives,
        connections: parked.connections,
        before,
        parked: most,
        waiting_cpu: still.server_cpu,
        server_cpu: turning.server_cpu,
        client_cpu: turning.client_cpu,
        answered: turning.answered,
        length: turning.length,
    })
}

/// A time in which is measured, while it runs.
struct Window {
    pid: u32,
    begun: Instant,
    server: Duration,
    client: Duration,
    answered: u64,
}

/// What was measured: shares of one core, polls answered.
struct Measured {
    server_cpu: f64,
    client_cpu: f64,
    answered: u64,
    length: Duration,
}

impl Window {
    fn begin(pid: u32, answered: &AtomicU64) -> anyhow::Result<Self> {
        let (server, client) = (cpu::spent(pid)?, cpu::spent(std::process::id())?);
        Ok(Self { pid, begun: Instant::now(), server, client, answered: answered.load(Ordering::Relaxed) })
    }

    fn end(self, answered: &AtomicU64) -> anyhow::Result<Measured> {
        let now = Self::begin(self.pid, answered)?;
        let length = now.begun - self.begun;
        let cores =
            |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() / length.as_secs_f64();
        Ok(Measured {
            server_cpu: cores(self.server, now.server),
            client_cpu: cores(self.client, now.client),
            answered: now.answered - self.answered,
            length,
        })
    }
}

/// One connection of a client of its own.
async fn open(parked: &Parked, n: usize) -> anyhow::Result<Connections> {
    let client_id = format!("parked-{n}@{}", std::process::id());
    Connections::open_polling(&parked.endpoint, 1, &client_id, POLL).await
}

/// The poll of a client, which is one of some groups: a line of receives is bounded.
fn ask(parked: &Parked, client: usize) -> v2::ReceiveMessageRequest {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let topic = Some(resource(&parked.topic));
    v2::ReceiveMessageRequest {
        group: Some(resource(&format!("parked-{}", client % parked.groups.max(1)))),
        message_queue: Some(v2::MessageQueue { topic, id: -1, ..Default::default() }),
        filter_expression: Some(v2::FilterExpression {
            r#type: v2::FilterType::Tag.into(),
            expression: "*".to_owned(),
        }),
        batch_size: 32,
        invisible_duration: seconds(30),
        long_polling_timeout: seconds(20),
        ..Default::default()
    }
}

/// Polls for ever. Ends with an error when an answer is not an empty one.
async fn poll(
    mut session: Session,
    mut ask: v2::ReceiveMessageRequest,
    attempts: Option<String>,
    begins: Instant,
    answered: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    sleep_until(begins).await;
    for number in 0_u64.. {
        ask.attempt_id = attempts.as_ref().map(|attempts| format!("{attempts}-{number}"));
        match session.receive(ask.clone()).await.context("ReceiveMessage")? {
            Ok(messages) if messages.is_empty() => answered.fetch_add(1, Ordering::Relaxed),
            Ok(messages) => bail!("{} messages came, where none was sent", messages.len()),
            Err(refused) => bail!("ReceiveMessage: {refused}"),
        };
    }
    Ok(())
}

/// Resident bytes of a process, from `/proc/<pid>/status` (proc(5)).
fn resident(pid: u32) -> anyhow::Result<u64> {
    let file = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{file} has no VmRSS"))? * 1024)
}

impl Figures {
    pub(crate) fn text(&self) -> String {
        let mib = |bytes: u64| f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0;
        let mut text = String::new();
        let _ = writeln!(text, "parked         {:>9} receives on {} connections", self.receives, self.connections);
        let _ = writeln!(text, "server memory  {:>9.1} MiB  before: {:.1} MiB", mib(self.parked), mib(self.before));
        let _ = writeln!(text, "server cpu     {:>9.2} % of a core while all wait", self.waiting_cpu * 100.0);
        let _ = writeln!(text, "answered       {:>9.0}/s, then begun again", self.per_second());
        let _ = writeln!(text, "server cpu     {:>9.2} % of a core meanwhile", self.server_cpu * 100.0);
        let _ = write!(text, "client cpu     {:>9.2} % of a core meanwhile", self.client_cpu * 100.0);
        text
    }

    pub(crate) fn json(&self) -> String {
        json!({
            "receives": self.receives,
            "connections": self.connections,
            "answered_per_second": self.per_second(),
            "server_rss_bytes": self.parked,
            "server_rss_before_bytes": self.before,
            "server_cores_waiting": self.waiting_cpu,
            "server_cores": self.server_cpu,
            "client_cores": self.client_cpu,
        })
        .to_string()
    }

    fn per_second(&self) -> f64 {
        f64::from(u32::try_from(self.answered).unwrap_or(u32::MAX)) / self.length.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_somewhere() {
        assert!(resident(std::process::id()).is_ok_and(|bytes| bytes > 100_000));
        assert!(resident(u32::MAX).is_err());
    }
}
