//! Judges a history.

mod dead;
mod delay;
mod fifo;
mod filter;
mod index;
mod lease;
mod order;
mod progress;
mod pull;
mod replicas;
mod reset;
mod service;
mod settle;
#[cfg(test)]
mod tests;
mod transaction;

use std::fmt;
use std::time::Duration;

use super::Call;
use index::Index;
pub use replicas::{Block, Replica, agree};

/// What a system owes its clients, numbered as in the operations contract.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Invariant {
    /// A message whose send returned OK is delivered to every group.
    I01,
    /// What is delivered was sent.
    I02,
    /// It comes as it was sent.
    I03,
    /// No two live deliveries of one message in a group inside its invisibility window.
    I04,
    /// An unacked message comes again when its window ends.
    I05,
    /// An acked message does not come again by a receive that began after the ack returned.
    I06,
    /// FIFO: of a message group, the next message is delivered when those before are settled, in the order of the queue.
    I07,
    /// A delayed message is never early.
    I08,
    /// A half message comes when it was committed, and not before; one that was rolled back never does.
    I09,
    /// Queue offsets are unique, dense, and grow with time.
    I10,
    /// The progress of a group never goes back.
    I11,
    /// Attempts are counted one by one.
    I12,
    /// A filter lets nothing through that it refuses; what it drops without a reason is lost, see I01.
    I13,
    /// Replicas agree: the same records at every position of the log that they hold, the same views of them.
    I14,
    /// When the faults end, service is back within 30 s, by itself.
    I15,
    /// No call outlives its deadline by more than a second.
    I16,
    /// A recalled message never comes.
    I19,
}

/// One broken promise, told with the ids and times that a person needs to find it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub told: String,
}

/// What the judgement depends on beyond the history.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How far a wall clock of the system may run ahead of true time, or of another one, for a moment.
    pub clock_bound: Duration,
    /// How long a client gives the system for any call. `None`: not judged.
    pub call_max: Option<Duration>,
    /// How long after its end a call without an answer may still take effect, as when the block of a leader that nobody
    /// hears is committed once it is heard again.
    pub late_effect: Duration,
}

impl Rules {
    /// A window may end this much early, and the clock bound.
    const WINDOW_ALLOWANCE: Duration = Duration::from_millis(50);
    /// A message may come again this much after its window.
    const RETURN_ALLOWANCE: Duration = Duration::from_secs(2);

    fn window_allowance(self) -> Duration {
        Self::WINDOW_ALLOWANCE + self.clock_bound
    }
}

/// Everything in `calls`, which end with a drain, that a correct system cannot have done.
pub fn check(calls: &[Call], rules: Rules) -> Vec<Violation> {
    let index = Index::new(calls, rules);
    let mut found = Vec::new();
    order::sends(&index, &mut found);
    order::places(&index, &mut found);
    lease::windows(&index, rules, &mut found);
    delay::early(&index, rules, &mut found);
    delay::recalled(&index, &mut found);
    transaction::ends(&index, &mut found);
    settle::returns(&index, rules, &mut found);
    settle::acks(&index, &mut found);
    settle::lost(&index, rules, &mut found);
    filter::leaks(&index, &mut found);
    reset::again(&index, &mut found);
    reset::skipped(&index, &mut found);
    dead::letters(&index, rules, &mut found);
    fifo::overtaken(&index, calls, &mut found);
    progress::attempts(&index, &mut found);
    progress::reports(&index, calls, &mut found);
    pull::offsets(calls, rules, &mut found);
    service::back(calls, &mut found);
    service::in_time(calls, rules, &mut found);
    found
}

impl Invariant {
    fn broken(self, told: String) -> Violation {
        Violation { invariant: self, told }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.told)
    }
}
