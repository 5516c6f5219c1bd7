//! `apogee bench …`: what a proxy takes and gives, measured as its clients see it.
//!
//! The load is open: messages are due at times fixed in advance, whether or not the server keeps up, and latency counts
//! from the time a message was due. So a server that stalls cannot hide it by slowing the client down.
//!
//! Reading order: this file (the verbs), `client` (one client of the proxy, as an SDK is one), `pace` (when to send),
//! `load` (sending), `intake` (receiving), `tally` and `report` (numbers).

mod client;
mod e2e;
mod intake;
mod load;
mod pace;
mod report;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use self::client::Client;
use self::intake::Intake;
use self::load::{Ends, Later, Load, Plan};
use self::report::Report;
use super::error::{CliError, RequestId};
use super::output::Output;
use super::target::Target;

/// Messages of one run are numbered by 32 bits.
const MESSAGES_MAX: u64 = u32::MAX as u64;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Sends at a steady rate; latency is from the time a send was due to its OK
    Produce {
        #[command(flatten)]
        run: Run,
        #[command(flatten)]
        sending: Sending,
    },
    /// Receives and acknowledges; latency is from the birth of a message, by the clock of its producer, to its arrival
    Consume {
        #[command(flatten)]
        run: Run,
        #[command(flatten)]
        receiving: Receiving,
    },
    /// Sends at a steady rate and receives it all; latency is from the time a send was due to the arrival
    E2e {
        #[command(flatten)]
        run: Run,
        #[command(flatten)]
        sending: Sending,
        #[command(flatten)]
        receiving: Receiving,
        #[command(flatten)]
        delay: Delay,
    },
    /// Sends half messages at a steady rate and ends each transaction at once; latency is from the time a send was due
    Transactions {
        #[command(flatten)]
        run: Run,
        #[command(flatten)]
        sending: Sending,
        /// Of a hundred transactions, so many are rolled back and the others are committed
        #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
        rollback: u32,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Delay {
    /// Sends delayed messages, due so many seconds after they are sent; latency is then from that time to the arrival,
    /// and a message that comes before it is a failure
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    delay: Option<u32>,
    /// All of them are due at the same time, that of the last one
    #[arg(long, requires = "delay")]
    together: bool,
    /// Leaves the first delivery of each message alone, with an invisible duration of so many seconds; latency is then from
    /// its end to the next arrival
    #[arg(long, value_name = "SECONDS", conflicts_with = "delay", value_parser = clap::value_parser!(u32).range(10..=3_600))]
    expire: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Topic to use; created where the server does that
    #[arg(long, default_value = "apogee-bench")]
    topic: String,
    /// Length of the measurement
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Connections to spread the calls over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Also writes the distribution of the latency to this file, as HdrHistogram tools read it (.hgrm)
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sending {
    /// Messages per second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Bytes of a body
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    size: u32,
    /// Sends, or transactions, without an answer at most; what is due then waits, and the report says how long
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Receiving {
    /// Consumer group
    #[arg(long, default_value = "apogee-bench")]
    group: String,
    /// Long polls at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    receivers: u16,
}

impl Run {
    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl Delay {
    fn later(&self) -> Option<Later> {
        let by = Duration::from_secs(self.delay?.into());
        Some(if self.together { Later::Together(by) } else { Later::Each(by) })
    }

    fn expire(&self) -> Option<Duration> {
        self.expire.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

impl Sending {
    fn plan(&self, run: &Run) -> Result<Plan, CliError> {
        let messages = u64::from(self.rate) * run.seconds;
        let too_many = || CliError::Usage { message: format!("{messages} messages are more than {MESSAGES_MAX}") };
        let messages = u32::try_from(messages).map_err(|_| too_many())?;
        Ok(Plan { rate: self.rate, messages, size: self.size, in_flight: self.in_flight, later: None, ends: None })
    }
}

/// Runs to its end, or until SIGINT: what was measured by then is told, too.
pub(crate) fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let interrupt = async {
            match tokio::signal::ctrl_c().await {
                Ok(()) => stop.cancel(),
                Err(_) => std::future::pending().await,
            }
            std::future::pending::<()>().await;
        };
        let report = tokio::select! {
            report = measure(&verb, target, id, &stop) => report?,
            () = interrupt => Report::default(), // never: it does not end
        };
        report.show(output)?;
        if stop.is_cancelled() { Err(CliError::Interrupted) } else { report.verdict() }
    })
}

async fn measure(verb: &Verb, target: &Target, id: &RequestId, stop: &CancellationToken) -> Result<Report, CliError> {
    match verb {
        Verb::Produce { run, sending } => {
            let plan = sending.plan(run)?;
            let client = Client::producer(target, run, id).await?;
            let sent = Load::new(&client, plan)?.send(stop).await?;
            client.end().await;
            let report = Report::new("produce", run).sent(plan, &sent);
            report.distribution(run, &sent.sends.latencies)?;
            Ok(report)
        }
        Verb::Consume { run, receiving } => {
            let client = Client::consumer(target, run, receiving, id).await?;
            let intake = Intake::new(None);
            let taken = intake.take_for(&client, receiving, run.length(), stop).await;
            client.end().await;
            let report = Report::new("consume", run).taken(&taken);
            report.distribution(run, &taken.latencies)?;
            Ok(report)
        }
        Verb::E2e { run, sending, receiving, delay } => {
            e2e::measure(run, sending, receiving, delay, target, id, stop).await
        }
        Verb::Transactions { run, sending, rollback } => {
            let ends = Ends { rollbacks: *rollback };
            let plan = Plan { ends: Some(ends), ..sending.plan(run)? };
            let client = Client::producer(target, run, id).await?;
            let sent = Load::new(&client, plan)?.send(stop).await?;
            client.end().await;
            let report = Report::new("transactions", run).sent(plan, &sent).ended(ends, &sent);
            report.distribution(run, &sent.commits.latencies.clone().and(&sent.rollbacks.latencies))?;
            Ok(report)
        }
    }
}
