//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Measures a running proxy by a closed loop of gRPC calls.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// SendMessage only.
    Send(Load),
    /// SendMessage, ReceiveMessage and one AckMessage per message.
    E2e(E2e),
    /// ReceiveMessage calls that wait for messages nobody sends: memory and CPU of the server.
    Parked(Parked),
    /// What disk and loopback take by themselves; needs no proxy.
    Machine(Machine),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Machine {
    /// A folder on the disk in question.
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Parked {
    /// Host and port of the proxy; plaintext.
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub(crate) endpoint: String,
    /// Topic to receive from; nobody may send to it.
    #[arg(long, default_value = "bench-parked")]
    pub(crate) topic: String,
    /// ReceiveMessage calls at a time, each of which waits 20 s.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) receives: usize,
    /// HTTP/2 connections, each of a client of its own.
    #[arg(long, default_value_t = 200)]
    pub(crate) connections: usize,
    /// Consumer groups the clients belong to.
    #[arg(long, default_value_t = 20)]
    pub(crate) groups: usize,
    /// Give every call an attempt id, as push consumers do.
    #[arg(long)]
    pub(crate) attempts: bool,
    /// Length of the measurement in whole polls, after all calls have waited once.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Process id of the server, on this machine.
    #[arg(long)]
    pub(crate) pid: u32,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Host and port of the proxy; plaintext.
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub(crate) endpoint: String,
    /// Topic to send to; created by the first QueryRoute where the server does that.
    #[arg(long, default_value = "bench")]
    pub(crate) topic: String,
    /// Topics to send to in turn, numbered from 0 behind the name of the topic; `e2e` has one.
    #[arg(long, default_value_t = 1)]
    pub(crate) topics: usize,
    /// Sends waiting for their answer at any time, over all connections.
    #[arg(long, default_value_t = 64)]
    pub(crate) in_flight: usize,
    /// Sends per second in all, spread evenly over those in flight; as many as there are answers when not given.
    #[arg(long)]
    rate: Option<u32>,
    /// Body size in bytes.
    #[arg(long, default_value_t = 1024)]
    pub(crate) size: usize,
    /// Length of the measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds of the same load before it, not counted.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// HTTP/2 connections to spread the calls over.
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// Threads of this program.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
    /// Look into every answer: ids, offsets, bodies, attempts, duplicates, losses.
    #[arg(long)]
    pub(crate) check: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    /// Process ids of the server, on this machine: also report the CPU time of all of them per message.
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct E2e {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Consumer group.
    #[arg(long, default_value = "bench-group")]
    pub(crate) group: String,
    /// ReceiveMessage calls at a time.
    #[arg(long, default_value_t = 4)]
    pub(crate) receivers: usize,
    /// Messages asked for by one receive; servers give at most 32.
    #[arg(long, default_value_t = 32)]
    pub(crate) batch: i32,
    /// AckMessage calls at a time.
    #[arg(long, default_value_t = 64)]
    pub(crate) acks_in_flight: usize,
}

impl Args {
    pub(crate) fn workers(&self) -> usize {
        match &self.command {
            Command::Send(load) | Command::E2e(E2e { load, .. }) => load.workers,
            Command::Parked(_) | Command::Machine(_) => 1,
        }
    }
}

impl Parked {
    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl Load {
    /// The names of all topics.
    pub(crate) fn topics(&self) -> Vec<String> {
        match self.topics {
            0 | 1 => vec![self.topic.clone()],
            many => (0..many).map(|number| format!("{}-{number}", self.topic)).collect(),
        }
    }

    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Time from one send to the next of one of those in flight.
    pub(crate) fn pace(&self) -> Duration {
        let all = u32::try_from(self.in_flight).unwrap_or(u32::MAX);
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * all / rate.max(1))
    }

    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs(self.warm_up)
    }
}
