//! Records what Apache RocketMQ does in every scenario, and writes the table.
//!
//! `compat-record reference [SCENARIO...]` starts it, runs the scenarios and writes `tests/compat/reference`; `compat-record table`
//! writes `tests/compat/README.md` from that and `differences.toml`.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use apogee_tests::compat::differences::listed;
use apogee_tests::compat::scenarios::Scenario;
use apogee_tests::compat::target::Target;
use apogee_tests::compat::{folder, record, record_file, run, scenarios, table};

/// Apache RocketMQ looks after many things every few seconds, so more at a time take no longer.
const AT_A_TIME: usize = 8;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["reference", names @ ..] => record_reference(names).await?,
        ["table"] => {}
        _ => bail!("usage: compat-record reference [SCENARIO...] | table"),
    }
    let records = scenarios::all().iter().map(|scenario| record(scenario.name)).collect::<Result<Vec<_>, _>>()?;
    let page = folder().join("README.md");
    std::fs::write(&page, table::render(&records, &listed()?)).with_context(|| page.display().to_string())
}

/// All of them, or those of these names. Records of scenarios that are no more go.
async fn record_reference(names: &[&str]) -> anyhow::Result<()> {
    let chosen = |scenario: &Scenario| names.is_empty() || names.contains(&scenario.name);
    let chosen: Vec<_> = scenarios::all().into_iter().filter(chosen).collect();
    let mut target = Arc::new(Target::apache().await?);
    let transcripts = run(Arc::clone(&target), chosen, AT_A_TIME).await;
    if let Some(Target::Apache(apache)) = Arc::get_mut(&mut target) {
        apache.stop().await?;
    }
    let records = folder().join("reference");
    std::fs::create_dir_all(&records)?;
    let mut failed = Vec::new();
    for transcript in transcripts {
        match transcript {
            Ok(transcript) => std::fs::write(record_file(&transcript.scenario), transcript.to_string())?,
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    let known: Vec<_> = scenarios::all().iter().map(|scenario| record_file(scenario.name)).collect();
    for file in std::fs::read_dir(&records)? {
        let file = file?.path();
        if !known.contains(&file) {
            std::fs::remove_file(file)?;
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
