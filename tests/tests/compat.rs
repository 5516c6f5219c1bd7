//! Scenarios against this system, compared with what Apache RocketMQ did: the records are in `tests/compat/reference`.

use std::sync::Arc;

use anyhow::ensure;
use apogee_tests::compat::differences::{complaints, listed, strays};
use apogee_tests::compat::target::Target;
use apogee_tests::compat::{folder, record, run, scenarios, table};

/// All of them: they wait for time to pass.
const AT_A_TIME: usize = 64;

#[tokio::test]
async fn ours_agrees_with_the_reference_or_says_why() -> anyhow::Result<()> {
    let listed = listed()?;
    let mut wrong = Vec::new();
    for ours in run(Arc::new(Target::ours().await?), scenarios::all(), AT_A_TIME).await {
        match ours {
            Ok(ours) => wrong.extend(complaints(&record(&ours.scenario)?, &ours, &listed)),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_scenario_is_recorded_and_the_table_is_true() -> anyhow::Result<()> {
    let listed = listed()?;
    let records = scenarios::all().iter().map(|scenario| record(scenario.name)).collect::<Result<Vec<_>, _>>()?;
    let stray = strays(&records, &listed);
    ensure!(stray.is_empty(), "{}", stray.join("\n"));
    let files = std::fs::read_dir(folder().join("reference"))?.count();
    ensure!(files == records.len(), "{files} records of {} scenarios", records.len());
    let page = std::fs::read_to_string(folder().join("README.md"))?;
    ensure!(
        page == table::render(&records, &listed),
        "tests/compat/README.md is not true any more: `make compat-table`"
    );
    Ok(())
}
