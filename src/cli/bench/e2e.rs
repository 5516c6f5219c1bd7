//! `apogee bench e2e`: everything that is sent is received, and nothing else counts.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::error::{CliError, RequestId};
use super::super::target::Target;
use super::client::Client;
use super::intake::{Expected, Intake};
use super::load::{Later, Load, Plan};
use super::report::Report;
use super::{Delay, Receiving, Run, Sending};

/// The group works through what older runs left, until one message of its own comes.
const FIRST_MAX: Duration = Duration::from_secs(60);
/// Messages that have not come by then, after the last one that did, are missing.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(super) async fn measure(
    run: &Run,
    sending: &Sending,
    receiving: &Receiving,
    delay: &Delay,
    target: &Target,
    id: &RequestId,
    stop: &CancellationToken,
) -> Result<Report, CliError> {
    let plan = Plan { later: delay.later(), ..sending.plan(run)? };
    let producer = Client::producer(target, run, id).await?;
    let consumer = Client::consumer(target, run, receiving, id).await?;
    let first = plan.later.map(|_| Later::Each(Duration::ZERO));
    first_message(&producer, &consumer, run, receiving, first, stop).await?;

    let load = Load::new(&producer, plan)?;
    let (began, start) = (Instant::now(), load.start);
    let expected = Expected { names: load.names, plan, start, expire: delay.expire() };
    let intake = Intake::new(Some(expected));
    let receivers = intake.start(&consumer, receiving);
    let sent = load.send(stop).await?;
    if !stop.is_cancelled() {
        let last = start + plan.visible(plan.messages.saturating_sub(1));
        let patience =
            SILENCE_MAX + delay.expire().unwrap_or_default() + last.saturating_duration_since(Instant::now());
        intake.until(sent.sends.latencies.0.len(), patience).await;
    }
    receivers.end().await;
    let mut taken = intake.end(began);
    if let Some(last) = taken.last.filter(|_| plan.later.is_some()) {
        taken.took = last.saturating_duration_since(start + plan.visible(0));
    }
    producer.end().await;
    consumer.end().await;
    let report = Report::new("e2e", run).sent(plan, &sent).taken(&taken).missing(&sent, &taken);
    report.distribution(run, &taken.latencies)?;
    Ok(report)
}

/// Waits until the consumer gets a message that was sent now, so that what older runs left is not measured.
async fn first_message(
    producer: &Client,
    consumer: &Client,
    run: &Run,
    receiving: &Receiving,
    later: Option<Later>,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    let plan = Plan { rate: 1, messages: 1, size: 1, in_flight: 1, later, ends: None };
    let load = Load::new(producer, plan)?;
    let intake = Intake::new(Some(Expected { names: load.names, plan, start: load.start, expire: None }));
    let receivers = intake.start(consumer, receiving);
    let sent = load.send(stop).await?;
    if let Some(reason) = sent.sends.failures.reasons.into_keys().next() {
        return Err(CliError::BenchFailed { what: format!("the first message could not be sent: {reason}") });
    }
    tokio::select! {
        () = intake.until(1, FIRST_MAX) => {}
        () = stop.cancelled() => return Err(CliError::Interrupted),
    }
    receivers.end().await;
    if intake.end(Instant::now()).latencies.0.is_empty() {
        let what =
            format!("group {} has not come to the end of topic {} within {FIRST_MAX:?}", receiving.group, run.topic);
        return Err(CliError::BenchFailed { what });
    }
    Ok(())
}
