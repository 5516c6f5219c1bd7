//! Collects the calls of many clients in one history.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::{Call, Moment, Span, What};

/// A history that grows. Clones share it. Time is tokio's, so a paused runtime makes it reproducible.
#[derive(Clone, Debug)]
pub struct History {
    began: Instant,
    facts: Arc<Mutex<Facts>>,
}

#[derive(Debug, Default)]
struct Facts {
    order: u64,
    calls: Vec<Call>,
}

impl History {
    /// An empty history that begins now.
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> History {
        History { began: Instant::now(), facts: Arc::default() }
    }

    /// The start of a call.
    pub fn start(&self) -> Moment {
        self.facts().next(self.began)
    }

    /// The end of a call that began at `start`.
    pub fn end(&self, start: Moment, what: What) {
        self.end_all(start, [what]);
    }

    /// The end of a call that did several things at once.
    pub fn end_all(&self, start: Moment, all: impl IntoIterator<Item = What>) {
        let mut facts = self.facts();
        let span = Span { start, end: facts.next(self.began) };
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
    fn next(&mut self, began: Instant) -> Moment {
        self.order += 1;
        Moment { order: self.order, at: began.elapsed() }
    }
}
