//! `bench`: drives a running proxy with a closed loop of gRPC calls, and reports rates, latencies and CPU.
//!
//! It speaks `apache.rocketmq.v2` as SDKs do (one message per SendMessage, one entry per AckMessage) and spends as
//! little as it can itself: bare HTTP/2 connections, headers and body built once, one or two worker threads.
//!
//! Reading order: `args`, `client` (the calls), `outgoing` (what is sent), `tally` (what is counted), `send`, `consume` and `e2e`,
//! `report`; then `parked`, and `machine`, which needs no proxy.

mod args;
mod client;
mod consume;
mod cpu;
mod e2e;
mod machine;
mod outgoing;
mod parked;
mod report;
mod seen;
mod send;
mod tally;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(args.workers()).enable_all().build()?;
    let (report, load) = match &args.command {
        Command::Send(load) => (runtime.block_on(send::run(load))?, load),
        Command::E2e(e2e) => (runtime.block_on(e2e::run(e2e))?, &e2e.load),
        Command::Parked(parked) => {
            let figures = runtime.block_on(parked::run(parked))?;
            say(&if parked.json { figures.json() } else { figures.text() })?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Machine(machine) => {
            let figures = runtime.block_on(machine::run(machine))?;
            say(&if machine.json { figures.json() } else { figures.text() })?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    say(&if load.json { report.json()? } else { report.text() })?;
    Ok(if report.failures.count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{text}")
}
