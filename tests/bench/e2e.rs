//! `bench e2e`: producers, receive loops, and an own AckMessage for every message.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::args::E2e;
use crate::client::Session;
use crate::consume::{Consumption, consume};
use crate::report::Report;
use crate::send::{Pace, join, measure_cpu, prepare, produce};
use crate::tally::Window;

/// How long messages may still come after the last send.
const LAST_MESSAGES: Duration = Duration::from_secs(20);
/// Between two looks at whether a message came.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two sends while the group begins; after `PRIME_TRIES` of them something is wrong.
const PRIME_EVERY: Duration = Duration::from_millis(200);
const PRIME_TRIES: u64 = 300;

pub(crate) async fn run(e2e: &E2e) -> anyhow::Result<Report> {
    let load = &e2e.load;
    let connections = prepare(load).await?;
    let consumption = Arc::new(Consumption::new(e2e));
    let mut consumers = JoinSet::new();
    for n in 0..e2e.receivers {
        consumers.spawn(consume(connections.session(n), Arc::clone(&consumption)));
    }
    prime(connections.session(0), &consumption, &mut consumers).await?;

    let window = Window::after(load.warm_up(), load.length());
    consumption.measure(window);
    let mut producers = JoinSet::new();
    for n in 0..load.in_flight {
        let sent_at = Some(Arc::clone(&consumption.sent_at));
        let outgoing = Arc::clone(&consumption.outgoing);
        let pace = Pace::new(load, n);
        producers.spawn(produce(connections.session(n), outgoing, window, pace, load.check, sent_at));
    }
    let cpu = measure_cpu(&load.pid, window).await?;
    let produced = join(producers).await?;
    let rest = Instant::now() + LAST_MESSAGES;
    while consumption.acked() < produced.sent && Instant::now() < rest {
        sleep(LOOK_EVERY).await;
    }
    broken(&mut consumers)?;
    consumers.shutdown().await; // parked long polls have nothing more to give

    let consumed = consumption.take();
    let mut failures = produced.failures;
    failures.merge(consumed.failures);
    let acked = consumption.acked();
    if acked < produced.sent {
        failures.add("messages are missing", format_args!("{} sent, {acked} acked", produced.sent));
    }
    Ok(Report {
        length: load.length(),
        sends: produced.tally,
        deliveries: Some(consumed.deliveries),
        acks: Some(consumed.acks),
        failures,
        cpu,
    })
}

/// Sends until a message of ours was acked, which proves that the group exists, sees what is sent from now on, and has
/// worked off what other runs left to it.
async fn prime(
    mut session: Session,
    consumption: &Consumption,
    consumers: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    for _ in 0..PRIME_TRIES {
        let (number, message) = consumption.outgoing.next();
        consumption.sent_at.note(number, Instant::now());
        if let Err(refused) = session.send(message).await.context("SendMessage")? {
            bail!("SendMessage: {refused}");
        }
        let next = Instant::now() + PRIME_EVERY;
        while Instant::now() < next {
            if consumption.is_primed() {
                return Ok(());
            }
            broken(consumers)?;
            sleep(LOOK_EVERY).await;
        }
    }
    let first = consumption.take().failures.first.unwrap_or_else(|| "every answer was fine".to_owned());
    bail!("no message arrived after {PRIME_TRIES} sends; {first}")
}

/// Receive loops end by themselves only when their connection is broken.
fn broken(consumers: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    match consumers.try_join_next() {
        Some(ended) => ended?,
        None => Ok(()),
    }
}
