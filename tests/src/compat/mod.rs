//! One scenario, two targets: what the bare gRPC contract does here and in Apache RocketMQ must agree, or be listed.
//!
//! A scenario is written once, against `apache.rocketmq.v2`. Each of its steps leaves a line in a transcript: the call,
//! its code, and what could be seen, without ids, clocks and sentences. The transcripts of Apache RocketMQ are kept in
//! `tests/compat/reference`; ours are compared with them by the test, and what is different on purpose is in
//! `tests/compat/differences.toml`.
//!
//! Reading order: `scenarios` (what is asked), `script` (one run of one of them), `client`, `consumer`, `draft` (the calls),
//! `transcript`, `differences`, `table` (what becomes of it), `target`, `apache`, `remoting` (whom it is asked of).

pub mod apache;
pub mod client;
pub mod consumer;
pub mod differences;
pub mod draft;
mod remoting;
pub mod scenarios;
pub mod script;
pub mod table;
pub mod target;
pub mod transcript;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use futures::{StreamExt, stream};

use scenarios::Scenario;
use target::Target;
use transcript::Transcript;

/// Runs the scenarios, some at a time because most of them wait, in the order they are given.
///
/// An error means that a scenario could not be carried out; what a server answers never is one.
pub async fn run(target: Arc<Target>, scenarios: Vec<Scenario>, at_a_time: usize) -> Vec<anyhow::Result<Transcript>> {
    let runs = scenarios.into_iter().map(|scenario| {
        let target = Arc::clone(&target);
        async move {
            let mut script = script::Script::new(scenario.name, target);
            (scenario.run)(&mut script).await.with_context(|| format!("{}\n{}", scenario.name, script.transcript))?;
            Ok(script.transcript)
        }
    });
    stream::iter(runs).buffered(at_a_time).collect().await
}

/// `tests/compat` of this checkout.
pub fn folder() -> PathBuf {
    crate::sdk::ours("compat")
}

/// Reads what Apache RocketMQ did in a scenario.
///
/// # Errors
/// When there is no record of it; `make compat-reference` makes one.
pub fn record(scenario: &str) -> anyhow::Result<Transcript> {
    let file = record_file(scenario);
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("{}: no record; `make compat-reference` makes one", file.display()))?;
    Transcript::parse(scenario, &text)
}

/// Where the record of a scenario is kept.
pub fn record_file(scenario: &str) -> PathBuf {
    folder().join("reference").join(format!("{scenario}.txt"))
}
