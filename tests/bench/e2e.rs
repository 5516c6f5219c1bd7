//! `bench e2e`: producers, receive loops, and an own AckMessage for every message.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::args::E2e;
use crate::client::Session;
use crate::consume::{Consumption, acknowledge, consume};
use crate::report::Report;
use crate::send::{join, measure_cpu, prepare, produce};
use crate::tally::Window;

/// How long messages may still come after the last send.
const LAST_MESSAGES: Duration = Duration::from_secs(20);
/// Between two tries to get a first message through a group that may begin at the end of its topic.
const PRIME_EVERY: Duration = Duration::from_millis(200);
const PRIME_TRIES: usize = 100;

pub(crate) async fn run(e2e: &E2e) -> anyhow::Result<Report> {
    let load = &e2e.load;
    let connections = prepare(load).await?;
    let mut window = Window::after(Duration::ZERO, Duration::ZERO);
    let primed = prime(connections.session(0), Consumption::new(e2e, window)).await?;
    window = Window::after(load.warm_up(), load.length());
    let consumption = Arc::new(primed.measure(window));

    let mut consumers = JoinSet::new();
    for n in 0..e2e.receivers {
        consumers.spawn(consume(connections.session(n), Arc::clone(&consumption)));
    }
    let mut producers = JoinSet::new();
    for n in 0..load.in_flight {
        let sent_at = Some(Arc::clone(&consumption.sent_at));
        let outgoing = Arc::clone(&consumption.outgoing);
        producers.spawn(produce(connections.session(n), outgoing, window, load.check, sent_at));
    }
    let cpu = measure_cpu(load.pid, window).await?;
    let produced = join(producers, window).await?;
    let rest = Instant::now() + LAST_MESSAGES;
    while consumption.acked.load(Ordering::Acquire) < produced.sent && Instant::now() < rest {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Some(ended) = consumers.try_join_next() {
        ended??;
    }
    consumers.shutdown().await; // parked long polls have nothing more to give

    let consumed = consumption.take();
    let acked = consumption.acked.load(Ordering::Acquire);
    let mut failures = produced.failures;
    failures.merge(consumed.failures);
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

/// Sends until a first message arrives, which proves that the group exists and sees what is sent from now on.
async fn prime(mut session: Session, consumption: Consumption) -> anyhow::Result<Consumption> {
    let mut receiver = session.clone();
    for _ in 0..PRIME_TRIES {
        let (number, message) = consumption.outgoing.next();
        consumption.sent_at.note(number, Instant::now());
        if let Err(refused) = session.send(message).await.context("SendMessage")? {
            bail!("SendMessage: {refused}");
        }
        let Ok(received) = timeout(PRIME_EVERY, receiver.receive(consumption.ask())).await else {
            continue;
        };
        match received.context("ReceiveMessage")? {
            Err(refused) => bail!("ReceiveMessage: {refused}"),
            Ok(messages) => {
                let mut ours = false;
                for message in messages {
                    ours |= consumption.number(&message).is_some();
                    acknowledge(&mut receiver, &consumption, message).await;
                }
                if ours {
                    return Ok(consumption);
                }
            }
        }
    }
    bail!("no message arrived after {PRIME_TRIES} sends")
}
