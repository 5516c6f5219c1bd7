//! Alerts and the dashboard speak of metrics that there are, and of commands that there are.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use apogee_tests::sdk::ours;
use apogee_tests::server::binary;

use super::chart;

const WATCHERS: [&str; 2] = ["rules/apogee.yaml", "dashboards/apogee.json"];

#[test]
fn metrics_are_known() -> anyhow::Result<()> {
    let mut known = BTreeSet::new();
    for role in ["proxy", "store-node", "namesrv"] {
        sources(&ours("..").join(role), &mut |text| {
            known.extend(names(text).filter(|name| text.contains(&format!("\"{name}\""))).map(str::to_owned));
        })?;
    }
    ensure!(known.len() > 30, "{known:?}");
    for file in WATCHERS {
        let text = std::fs::read_to_string(chart().join(file))?;
        let used: BTreeSet<_> = names(&text).collect();
        ensure!(used.len() > 10, "{file}: {used:?}");
        for name in used {
            let base = name.trim_end_matches("_bucket");
            ensure!(known.contains(base), "{file}: nothing has the metric {name}");
        }
    }
    Ok(())
}

#[test]
fn commands_are_known() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(chart().join("rules/apogee.yaml"))?;
    let commands: Vec<_> = text.split('`').skip(1).step_by(2).collect();
    ensure!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let verbs = command.strip_prefix("apogee ").with_context(|| command.to_owned())?;
        let output = Command::new(binary()?).args(verbs.split(' ')).arg("--help").output()?;
        ensure!(output.status.success(), "there is no `{command}`");
    }
    Ok(())
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    words.filter(|word| word.starts_with("rocketmq_"))
}

fn sources(folder: &Path, each: &mut impl FnMut(&str)) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, each)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}
