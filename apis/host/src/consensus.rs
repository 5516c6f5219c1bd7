//! The runtime seam of consensus: openraft on tokio, so that one seed is one run.

mod runtime;
mod watch;

use std::future::Future;
use std::time::Duration;

use openraft::Config;
use openraft::impls::TokioRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;

pub use runtime::Runtime;
pub use watch::{FairWatch, Receiver, Seen, Sender};

/// Everything of openraft that starts a task or draws a number needs to know the seed.
pub fn seeded<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
    DeterministicRng::<TokioRuntime>::scope(seed, future)
}

/// Entries of one request; bytes cut it before.
const ENTRIES_MAX: u64 = 64;

/// How soon a leader is missed: it says that it lives every `heartbeat`, and is replaced when it did not for
/// `election_max` and, by chance, a time between the two.
#[derive(Copy, Clone, Debug)]
pub struct Pace {
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}

/// What all our groups ask of openraft; how their logs are cut is their own matter. `alone`: a group of one.
///
/// # Panics
/// When a time of the pace has more than 2^64 milliseconds.
pub fn config(pace: Pace, alone: bool) -> Config {
    let millis = |time: Duration| u64::try_from(time.as_millis()).expect("timeouts are short");
    Config {
        heartbeat_interval: millis(pace.heartbeat),
        election_timeout_min: millis(pace.election_min),
        election_timeout_max: millis(pace.election_max),
        max_payload_entries: ENTRIES_MAX,
        // A leader that lost its newest entries with the power must not go on in the same term: it would give their
        // places to others.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        // Nobody else can call an election; the only voter calls its own when it starts.
        enable_tick: !alone,
        ..Config::default()
    }
}
