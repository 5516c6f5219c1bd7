//! `bench send`: producers only.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use apogee_proto::v2;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::Load;
use crate::client::{Connections, Session, ok};
use crate::cpu;
use crate::outgoing::{Outgoing, resource};
use crate::report::{CpuTimes, Report};
use crate::seen::SentAt;
use crate::tally::{Failures, Tally, Window};

/// After a refusal, so that a server that refuses everything is not asked a million times.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) async fn run(load: &Load) -> anyhow::Result<Report> {
    let connections = prepare(load).await?;
    let topics = load.topics();
    for topic in topics.iter().skip(1) {
        connections.session(0).query_route(resource(topic), &load.endpoint).await?;
    }
    let outgoing = Arc::new(Outgoing::to_all(topics.iter().map(|topic| resource(topic)).collect(), load.size));
    let window = Window::after(load.warm_up(), load.length());
    let mut producers = JoinSet::new();
    for n in 0..load.in_flight {
        let pace = Pace::new(load, n);
        producers.spawn(produce(connections.session(n), Arc::clone(&outgoing), window, pace, load.check, None));
    }
    let cpu = measure_cpu(&load.pid, window).await?;
    let produced = join(producers).await?;
    Ok(Report {
        length: load.length(),
        sends: produced.tally,
        acks: None,
        deliveries: None,
        failures: produced.failures,
        cpu,
    })
}

/// Connects and makes sure the topic is there.
pub(crate) async fn prepare(load: &Load) -> anyhow::Result<Connections> {
    let client_id = format!("bench@{}", std::process::id());
    let connections = Connections::open(&load.endpoint, load.connections, &client_id).await?;
    connections.session(0).query_route(resource(&load.topics()[0]), &load.endpoint).await?;
    Ok(connections)
}

/// When a producer sends.
pub(crate) struct Pace {
    next: Instant,
    each: Duration,
}

impl Pace {
    /// Producers take turns; `nth` is one of those in flight.
    pub(crate) fn new(load: &Load, nth: usize) -> Pace {
        let each = load.pace();
        let (nth, all) = (u32::try_from(nth).unwrap_or(u32::MAX), u32::try_from(load.in_flight).unwrap_or(u32::MAX));
        Pace { next: Instant::now() + each * nth / all.max(1), each }
    }

    /// Waits for the next turn. One that was missed is not made up for.
    async fn turn(&mut self) {
        if !self.each.is_zero() {
            tokio::time::sleep_until(self.next).await;
            self.next = (self.next + self.each).max(Instant::now());
        }
    }
}

/// What a producer did.
pub(crate) struct Produced {
    pub(crate) tally: Tally,
    /// Messages the server said OK to, in the window or not.
    pub(crate) sent: u64,
    pub(crate) failures: Failures,
}

impl Produced {
    fn new() -> Produced {
        Produced { tally: Tally::new(), sent: 0, failures: Failures::default() }
    }
}

/// Sends one message after the other until the window closes. A broken connection is an error, a refusal is counted.
pub(crate) async fn produce(
    mut session: Session,
    outgoing: Arc<Outgoing>,
    window: Window,
    mut pace: Pace,
    check: bool,
    sent_at: Option<Arc<SentAt>>,
) -> anyhow::Result<Produced> {
    let mut produced = Produced::new();
    loop {
        pace.turn().await;
        let begun = Instant::now();
        if begun >= window.closes {
            return Ok(produced);
        }
        let (number, message) = outgoing.next();
        if let Some(sent_at) = &sent_at {
            sent_at.note(number, begun);
        }
        let answer = session.send(message).await.context("SendMessage")?;
        let answer = answer.and_then(|answer| if check { checked(answer, &outgoing.id(number)) } else { Ok(()) });
        match answer {
            Ok(()) => {
                produced.sent += 1;
                let ended = Instant::now();
                if window.holds(ended) {
                    produced.tally.count(begun, ended);
                }
            }
            Err(refused) => {
                produced.failures.add("SendMessage", refused);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Adds up all producers.
pub(crate) async fn join(mut producers: JoinSet<anyhow::Result<Produced>>) -> anyhow::Result<Produced> {
    let mut total = Produced::new();
    while let Some(produced) = producers.join_next().await {
        let produced = produced??;
        total.tally.add(&produced.tally);
        total.sent += produced.sent;
        total.failures.merge(produced.failures);
    }
    Ok(total)
}

/// What the server and this program spend inside the window; returns when it closes.
pub(crate) async fn measure_cpu(server: &[u32], window: Window) -> anyhow::Result<CpuTimes> {
    let all = || server.iter().copied().map(cpu::spent).sum::<anyhow::Result<Duration>>();
    let read = || anyhow::Ok((all()?, cpu::spent(std::process::id())?));
    tokio::time::sleep_until(window.opens).await;
    let before = read()?;
    tokio::time::sleep_until(window.closes).await;
    let after = read()?;
    let server = (!server.is_empty()).then(|| after.0.saturating_sub(before.0));
    Ok(CpuTimes { server, client: after.1.saturating_sub(before.1) })
}

/// One entry, for our message, stored somewhere.
fn checked(answer: v2::SendMessageResponse, id: &str) -> Result<(), String> {
    let [entry] = answer.entries.as_slice() else {
        return Err(format!("{} entries for one message", answer.entries.len()));
    };
    ok(entry.status.clone())?;
    if entry.message_id != id {
        return Err(format!("answer for {} instead of {id}", entry.message_id));
    }
    if entry.offset < 0 {
        return Err(format!("offset {} for {id}", entry.offset));
    }
    Ok(())
}
