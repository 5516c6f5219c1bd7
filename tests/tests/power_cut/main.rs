//! Power cuts, kills and failing syncs at random points of random histories, through the engine's door.
//!
//! `POWER_CUT_SEED=n` runs one seed only, and prints its history if that is not as it should be.

mod clock;
mod damage;
mod direct;
mod run;

use apogee_engine::{AfterCommit, AnswerRule, Ticket};
use apogee_tests::history::Invariant;

use run::{Plan, Verdict, run};

/// Seeds of one part, and the power cuts it has to see at least. The parts run side by side.
const SEEDS: u64 = 32;
const CUTS: u64 = 256;
/// Lives of one store.
const LIVES: u64 = 14;

/// Answers when the block is on its way to the disk: what a build looks like that forgets to wait.
#[derive(Copy, Clone)]
struct BeforeCommit;

impl AnswerRule for BeforeCommit {
    fn answerable(&self, _committed: Ticket, proposed: Ticket) -> Ticket {
        proposed
    }
}

#[test]
fn nothing_is_lost_part_1() {
    part(0);
}

#[test]
fn nothing_is_lost_part_2() {
    part(1);
}

#[test]
fn nothing_is_lost_part_3() {
    part(2);
}

#[test]
fn nothing_is_lost_part_4() {
    part(3);
}

#[test]
fn one_seed_is_one_history() {
    for seed in [3, 1004, 2005] {
        assert!(judged(honest(seed)) == judged(honest(seed)), "seed {seed} is not reproducible");
    }
}

#[test]
fn a_disk_whose_sync_does_nothing_is_caught() {
    // Mostly the log itself proves that more of it was committed, and the store refuses to open.
    let lying = |seed| run(Plan { sync_lies: true, lives: 1, ..honest(seed) });
    let noticed = |seed: &u64| match lying(*seed) {
        Ok(verdict) => verdict.violations.iter().any(|violation| violation.invariant == Invariant::I01),
        Err(_refused) => true,
    };
    let count = (0..SEEDS).filter(noticed).count();
    assert!(count > 8, "a lost log was noticed in {count} seeds only");
}

#[test]
fn a_receive_that_is_answered_before_its_lease_is_committed_is_caught() {
    let hasty = |seed| run(Plan { seed, rule: BeforeCommit, sync_lies: false, lives: LIVES });
    for invariant in [Invariant::I01, Invariant::I04, Invariant::I06] {
        caught(invariant, |seed| hasty(seed).ok());
    }
}

fn honest(seed: u64) -> Plan<AfterCommit> {
    Plan { seed, rule: AfterCommit, sync_lies: false, lives: LIVES }
}

fn part(part: u64) {
    let (seeds, cuts_min) = match chosen_seed() {
        Some(seed) if part == 0 => (vec![seed], 0),
        Some(_) => (vec![], 0),
        None => ((part * 1000..part * 1000 + SEEDS).collect(), CUTS),
    };
    let (mut cuts, mut calls, mut rolled) = (0, 0, 0);
    for seed in &seeds {
        let verdict = judged(honest(*seed));
        cuts += verdict.cuts;
        calls += verdict.calls.len();
        rolled += u64::from(verdict.rolled);
    }
    eprintln!("{cuts} power cuts in {} seeds, {calls} calls judged, {rolled} logs of several segments", seeds.len());
    assert!(cuts >= cuts_min, "only {cuts} power cuts");
    assert!(rolled > 0 || cuts_min == 0, "no log outgrew its first segment");
}

fn chosen_seed() -> Option<u64> {
    let seed = std::env::var_os("POWER_CUT_SEED")?;
    Some(seed.to_string_lossy().parse().expect("POWER_CUT_SEED is a number"))
}

/// Runs a seed that must pass.
fn judged(plan: Plan<AfterCommit>) -> Verdict {
    let seed = plan.seed;
    let replay = format!("POWER_CUT_SEED={seed} cargo test --release -p apogee-tests --test power_cut nothing_is_lost");
    let verdict = std::panic::catch_unwind(|| run(plan)).unwrap_or_else(|_| panic!("seed {seed} panicked; {replay}"));
    let verdict = verdict.unwrap_or_else(|error| panic!("seed {seed}: {error:#}; {replay}"));
    let told: Vec<_> = verdict.violations.iter().map(ToString::to_string).collect();
    if !told.is_empty() && chosen_seed().is_some() {
        verdict.calls.iter().for_each(|call| eprintln!("{} {:?}", call.span, call.what));
    }
    assert!(told.is_empty(), "seed {seed}:\n{}\n{replay}", told.join("\n"));
    assert_eq!(verdict.unsettled, 0, "seed {seed}: the engine holds messages after the drain; {replay}");
    verdict
}

/// A broken build breaks `invariant` in some history, and the checker says so.
fn caught(invariant: Invariant, run: impl Fn(u64) -> Option<Verdict>) {
    let mut broken = (0..SEEDS).filter_map(|seed| {
        let violation = run(seed)?.violations.into_iter().find(|violation| violation.invariant == invariant)?;
        Some((seed, violation))
    });
    let (seed, violation) = broken.next().expect("a broken build breaks its promises");
    eprintln!("caught by seed {seed}: {violation}");
}
