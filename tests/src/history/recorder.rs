//! Collects the calls of many clients in one history.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Call, Moment, Span, What};

/// A history that grows. Clones share it.
#[derive(Clone)]
pub struct History {
    elapsed: Arc<dyn Fn() -> Duration + Send + Sync>,
    facts: Arc<Mutex<Facts>>,
}

#[derive(Debug, Default)]
struct Facts {
    order: u64,
    calls: Vec<Call>,
}

impl History {
    /// An empty history that begins now. Time is tokio's, so a paused runtime makes it reproducible.
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> History {
        let began = Instant::now();
        History::timed(move || began.elapsed())
    }

    /// An empty history of a system that has its own time: `elapsed` tells how much of it passed since the beginning.
    pub fn timed(elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> History {
        History { elapsed: Arc::new(elapsed), facts: Arc::default() }
    }

    /// The start of a call.
    pub fn start(&self) -> Moment {
        self.facts().next((self.elapsed)())
    }

    /// The end of a call that began at `start`.
    pub fn end(&self, start: Moment, what: What) {
        self.end_all(start, [what]);
    }

    /// The end of a call that did several things at once.
    pub fn end_all(&self, start: Moment, all: impl IntoIterator<Item = What>) {
        let mut facts = self.facts();
        let span = Span { start, end: facts.next((self.elapsed)()) };
        facts.calls.extend(all.into_iter().map(|what| Call { span, what }));
    }

    /// All calls so far, in the order of their ends.
    pub fn calls(&self) -> Vec<Call> {
        self.facts().calls.clone()
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn next(&mut self, at: Duration) -> Moment {
        self.order += 1;
        Moment { order: self.order, at }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts().fmt(f)
    }
}
