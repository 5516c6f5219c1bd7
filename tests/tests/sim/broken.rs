//! Builds that forget something, and the promises they break.

use apogee_tests::history::Invariant;

use crate::rule::Rule;
use crate::run::{Plan, run};
use crate::steward::Government;

/// Some of the first seeds see it.
const SEEDS: u64 = 60;

#[test]
fn an_answer_before_a_majority_has_it_is_caught() {
    let broken = |seed| Plan { rule: Rule::BeforeCommit, ..Plan::honest(seed) };
    caught(&[Invariant::I01, Invariant::I04, Invariant::I06], broken);
}

#[test]
fn a_sync_that_does_nothing_is_caught() {
    let broken = |seed| Plan { sync_lies: true, ..Plan::honest(seed) };
    caught(&[Invariant::I01, Invariant::I06, Invariant::I14], broken);
}

#[test]
fn a_leader_that_decides_before_it_knows_what_was_committed_is_caught() {
    let broken = |seed| Plan { rule: Rule::Hasty, ..Plan::honest(seed) };
    caught(&[Invariant::I04, Invariant::I06, Invariant::I10, Invariant::I12, Invariant::I14], broken);
}

#[test]
fn a_vote_that_nobody_allowed_is_caught() {
    let broken = |seed| Plan { government: Government::Eager, ..Plan::honest(seed) };
    caught(&[Invariant::I01, Invariant::I15], broken);
}

#[test]
fn files_that_are_removed_while_they_count_are_missed() {
    let broken = |seed| Plan { government: Government::Careless, ..Plan::honest(seed) };
    caught(&[Invariant::I01, Invariant::I04, Invariant::I06, Invariant::I14, Invariant::I15], broken);
}

/// Some seed shows that the build breaks one of these promises, or that a store cannot go on after it did.
fn caught(promises: &[Invariant], broken: impl Fn(u64) -> Plan) {
    let told = (0..SEEDS).find_map(|seed| {
        let plan = broken(seed);
        let outcome = std::panic::catch_unwind(|| run(plan));
        match outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))) {
            Ok(verdict) => {
                let mut violations = verdict.violations.into_iter();
                let violation = violations.find(|violation| promises.contains(&violation.invariant))?;
                Some(format!("seed {seed}: {violation}"))
            }
            Err(error) => Some(format!("seed {seed}: {}", error.root_cause())),
        }
    });
    eprintln!("caught by {}", told.expect("a broken build breaks its promises"));
}
