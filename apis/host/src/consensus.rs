//! The runtime seam of consensus: openraft on tokio, so that one seed is one run.

mod runtime;
mod watch;

use std::future::Future;

use openraft::impls::TokioRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;

pub use runtime::Runtime;
pub use watch::{FairWatch, Receiver, Seen, Sender};

/// Everything of openraft that starts a task or draws a number needs to know the seed.
pub fn seeded<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
    DeterministicRng::<TokioRuntime>::scope(seed, future)
}
