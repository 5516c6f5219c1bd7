//! Many seeds, on all processors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use apogee_host::{Clock, Monotonic, RealClock};

use crate::run::{Plan, Verdict, run};
use crate::tally::Tally;
use crate::witness::{Reports, Witness};

/// How long seeds are tried when nobody says.
const SECONDS: u64 = 45;
/// In so many seeds everything happens that can happen,
const ENOUGH: u64 = 100;
/// and in so many the stores report all of this.
const PLENTY: u64 = 1000;
const REPORTS: [&str; 9] = [
    "base_taken_over",
    "hands_over",
    "joined",
    "leads_no_more",
    "messages_trimmed",
    "proposal_refused",
    "segment_removed",
    "torn_tail_cut",
    "unsettled_trimmed",
];
/// How often the number of seeds is said meanwhile.
const NEWS: Duration = Duration::from_secs(60);
/// Failing seeds that are told before it ends.
const FAILURES: usize = 8;
/// A seed that takes longer, in true time, does not come to an end: time stands still in it.
const SEED_MAX: Duration = Duration::from_secs(120);

/// What was done.
#[derive(Default)]
struct Work {
    seeds: AtomicU64,
    calls: AtomicU64,
    happened: Mutex<(Tally, Reports)>,
    failures: Mutex<Vec<String>>,
    /// What runs, and since when.
    running: Mutex<BTreeMap<u64, Monotonic>>,
}

#[test]
fn many_seeds_keep_every_promise() {
    if let Some(seed) = number("SIM_SEED") {
        let log = tracing_subscriber::EnvFilter::from_env("SIM_LOG");
        tracing_subscriber::fmt().without_time().with_ansi(false).with_env_filter(log).init();
        let told = judged(seed).err();
        assert!(told.is_none(), "{}", told.unwrap_or_default());
        return;
    }
    let (from, seconds) = (number("SIM_FROM").unwrap_or(0), number("SIM_SECONDS").unwrap_or(SECONDS));
    let (next, work) = (AtomicU64::new(from), Work::default());
    tracing::subscriber::set_global_default(Witness).expect("no other test of this program listens");
    let began = RealClock.monotonic();
    let time_left = || RealClock.monotonic().saturating_sub(began) < Duration::from_secs(seconds);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let (alive, ended) = channel::<()>();
        for _ in 0..threads {
            let (alive, work, next) = (alive.clone(), &work, &next);
            scope.spawn(move || {
                while time_left() && work.failed() < FAILURES {
                    work.judge(next.fetch_add(1, Ordering::Relaxed));
                }
                drop(alive);
            });
        }
        drop(alive);
        work.watch(&ended);
    });
    let (seeds, calls) = (work.seeds.into_inner(), work.calls.into_inner());
    let (tally, reports) = work.happened.into_inner().expect("nobody panics with it in hand");
    eprintln!("{seeds} seeds from {from} on, {calls} calls judged: {tally}\nreported by the stores: {reports:?}");
    let failures = work.failures.into_inner().expect("nobody panics with it in hand");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let missing = tally.missing();
    assert!(seeds < ENOUGH || missing.is_empty(), "{missing:?} did not happen in {seeds} seeds");
    let unheard: Vec<_> = REPORTS.iter().filter(|report| !reports.contains_key(**report)).collect();
    assert!(seeds < PLENTY || unheard.is_empty(), "no store reported {unheard:?} in {seeds} seeds");
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 2, 3, 4, 5, 6] {
        let (one, other) = (run(Plan::honest(seed)), run(Plan::honest(seed)));
        let (one, other) = (one.expect("it runs"), other.expect("it runs"));
        assert_eq!(one.log, other.log, "seed {seed}");
        for (one, other) in one.calls.iter().zip(&other.calls) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert!(one == other, "seed {seed} is not reproducible");
    }
}

impl Work {
    fn judge(&self, seed: u64) {
        self.running().insert(seed, RealClock.monotonic());
        let verdict = judged(seed);
        self.running().remove(&seed);
        self.seeds.fetch_add(1, Ordering::Relaxed);
        match verdict {
            Ok(verdict) => {
                self.calls.fetch_add(u64::try_from(verdict.calls.len()).expect("a count"), Ordering::Relaxed);
                let mut happened = self.happened.lock().expect("nobody panics with it in hand");
                happened.0.add_all(&verdict.tally);
                for (event, times) in Witness::take() {
                    *happened.1.entry(event).or_default() += times;
                }
            }
            Err(told) => {
                eprintln!("{told}");
                self.failures.lock().expect("nobody panics with it in hand").push(told);
            }
        }
    }

    /// Returns when all threads are through. Ends the process when a seed does not end.
    fn watch(&self, ended: &Receiver<()>) {
        let mut told = RealClock.monotonic();
        while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            let now = RealClock.monotonic();
            if now.saturating_sub(told) > NEWS {
                told = now;
                eprintln!("{} seeds so far", self.seeds.load(Ordering::Relaxed));
            }
            let endless = |since: &Monotonic| now.saturating_sub(*since) > SEED_MAX;
            if let Some((seed, _)) = self.running().iter().find(|(_, since)| endless(since)) {
                eprintln!("seed {seed} does not come to an end\n{}", replay(*seed));
                std::process::exit(1);
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Monotonic>> {
        self.running.lock().expect("nobody panics with it in hand")
    }

    fn failed(&self) -> usize {
        self.failures.lock().expect("nobody panics with it in hand").len()
    }
}

/// Runs a seed that must pass; otherwise says what was wrong, and how to see it again.
fn judged(seed: u64) -> Result<Verdict, String> {
    let replay = replay(seed);
    let outcome = std::panic::catch_unwind(|| run(Plan::honest(seed)));
    let outcome = outcome.map_err(|_| format!("seed {seed} panicked\n{replay}"))?;
    let verdict = outcome.map_err(|error| format!("seed {seed}: {error:#}\n{replay}"))?;
    if number("SIM_SEED").is_some() {
        tell(&verdict);
    }
    if verdict.violations.is_empty() { Ok(verdict) } else { Err(format!("seed {seed}:\n{}\n{replay}", verdict.told())) }
}

fn replay(seed: u64) -> String {
    format!("SIM_SEED={seed} cargo test --release --workspace --test sim many_seeds -- --nocapture")
}

/// The whole story.
fn tell(verdict: &Verdict) {
    verdict.log.iter().for_each(|line| eprintln!("{line}"));
    verdict.calls.iter().for_each(|call| eprintln!("{} {:?}", call.span, call.what));
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var_os(variable)?;
    Some(value.to_string_lossy().parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
