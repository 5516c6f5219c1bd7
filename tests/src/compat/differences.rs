//! What we do otherwise on purpose, and whether that is still all.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

use super::transcript::Transcript;

/// One step in which a transcript of ours differs from the record, and why it should.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    pub scenario: String,
    /// Counted from 1.
    pub step: usize,
    /// What the step does, for the reader; it must be true.
    pub call: String,
    /// What Apache RocketMQ made of it.
    pub reference: String,
    /// What we make of it.
    pub ours: String,
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    difference: Vec<Difference>,
}

/// Reads `tests/compat/differences.toml`.
///
/// # Errors
/// When it cannot be read, has unknown keys, or lists a step twice.
pub fn listed() -> anyhow::Result<Vec<Difference>> {
    let file = super::folder().join("differences.toml");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let File { difference: listed } = toml::from_str(&text)?;
    let mut seen = BTreeMap::new();
    for Difference { scenario, step, reason, .. } in &listed {
        anyhow::ensure!(!reason.trim().is_empty(), "{scenario} step {step} has no reason");
        anyhow::ensure!(seen.insert((scenario, step), ()).is_none(), "{scenario} step {step} is listed twice");
    }
    Ok(listed)
}

/// What is wrong with a run, in words, with what would list it: steps that differ and are not listed, and listed ones that
/// agree by now.
pub fn complaints(record: &Transcript, ours: &Transcript, listed: &[Difference]) -> Vec<String> {
    let scenario = &record.scenario;
    let listed = |step| listed.iter().find(|difference| difference.scenario == *scenario && difference.step == step);
    let mut complaints = Vec::new();
    if record.steps.len() != ours.steps.len() {
        let (theirs, own) = (record.steps.len(), ours.steps.len());
        complaints
            .push(format!("{scenario}: {theirs} steps in the record, {own} now; `make compat-reference` records it"));
    }
    for (at, (theirs, own)) in record.steps.iter().zip(&ours.steps).enumerate() {
        let step = at + 1;
        if theirs.call != own.call {
            complaints.push(format!("{scenario} step {step}: `{}` in the record, `{}` now", theirs.call, own.call));
            continue;
        }
        let found = Difference {
            scenario: scenario.clone(),
            step,
            call: own.call.clone(),
            reference: theirs.result.clone(),
            ours: own.result.clone(),
            reason: String::new(),
        };
        match listed(step) {
            None if theirs.result == own.result => {}
            None => complaints.push(format!("not listed:\n{}", as_toml(&found))),
            Some(_) if theirs.result == own.result => {
                complaints
                    .push(format!("{scenario} step {step} is listed, and agrees: {} -> {}", own.call, own.result));
            }
            Some(known) if (Difference { reason: String::new(), ..known.clone() }) == found => {}
            Some(_) => complaints.push(format!("listed otherwise:\n{}", as_toml(&found))),
        }
    }
    complaints
}

/// Listed differences of scenarios or steps that do not exist.
pub fn strays(records: &[Transcript], listed: &[Difference]) -> Vec<String> {
    let exists = |difference: &&Difference| {
        records.iter().any(|record| record.scenario == difference.scenario && difference.step <= record.steps.len())
    };
    let stray = listed.iter().filter(|difference| !exists(difference));
    stray
        .map(|difference| format!("listed, but there is no step {} in {}", difference.step, difference.scenario))
        .collect()
}

fn as_toml(Difference { scenario, step, call, reference, ours, .. }: &Difference) -> String {
    format!(
        "[[difference]]\nscenario = {scenario:?}\nstep = {step}\ncall = {call:?}\nreference = {reference:?}\nours = {ours:?}\nreason = \"\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::transcript::Step;

    fn transcript(results: &[&str]) -> Transcript {
        let step = |result: &&str| Step { call: "ack".to_owned(), result: (*result).to_owned() };
        Transcript { scenario: "s".to_owned(), steps: results.iter().map(step).collect() }
    }

    fn difference(step: usize, reference: &str, ours: &str) -> Difference {
        let [scenario, call, reference, ours, reason] = ["s", "ack", reference, ours, "why"].map(str::to_owned);
        Difference { scenario, step, call, reference, ours, reason }
    }

    #[test]
    fn a_difference_must_be_listed_and_a_listed_one_must_be() {
        let (record, ours) = (transcript(&["OK", "NO"]), transcript(&["OK", "OK"]));
        assert_eq!(complaints(&record, &ours, &[]).len(), 1);
        assert_eq!(complaints(&record, &ours, &[difference(2, "NO", "OK")]), Vec::<String>::new());
        assert_eq!(complaints(&record, &ours, &[difference(2, "NO", "MAYBE")]).len(), 1);
        assert_eq!(complaints(&record, &record, &[difference(2, "NO", "OK")]).len(), 1);
        assert_eq!(complaints(&record, &transcript(&["OK"]), &[]).len(), 1);
        assert_eq!(strays(&[record], &[difference(3, "NO", "OK")]).len(), 1);
    }

    #[test]
    fn what_is_told_can_be_listed() -> anyhow::Result<()> {
        let told = as_toml(&difference(2, "a \"b\"", "c"));
        let File { difference: listed } = toml::from_str(&told)?;
        assert_eq!(listed[0].reference, "a \"b\"");
        Ok(())
    }
}
