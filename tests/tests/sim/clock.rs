//! The clocks of a machine: a stopwatch that follows the simulation, and a wall clock that somebody sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use apogee_host::{Clock, Monotonic};
use apogee_model::Timestamp;
use tokio::time::Instant;

/// What the wall clocks show when the simulation begins, in milliseconds.
pub(crate) const BEGINNING: u64 = 1_767_225_600_000;

/// The wall clock of a machine, which survives its processes. Clones share it.
#[derive(Clone)]
pub(crate) struct Wall(Arc<AtomicU64>);

impl Wall {
    pub(crate) fn new() -> Wall {
        Wall(Arc::new(AtomicU64::new(BEGINNING)))
    }

    /// Sets it to run this much ahead of a clock that was `behind` from the beginning.
    pub(crate) fn set(&self, ahead: Duration, behind: Duration) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).expect("clocks are set by hours at most");
        self.0.store(BEGINNING + millis(ahead) - millis(behind), Ordering::Relaxed);
    }
}

/// The clock of one process. It is made on the runtime of that process and follows its time.
pub(crate) struct ProcessClock {
    wall: Wall,
    began: Instant,
    /// Age of the simulation then.
    age: Duration,
}

impl ProcessClock {
    pub(crate) fn new(wall: Wall, age: Duration) -> ProcessClock {
        ProcessClock { wall, began: Instant::now(), age }
    }
}

impl Clock for ProcessClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.wall.0.load(Ordering::Relaxed)).plus(self.age + self.began.elapsed())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_duration(self.age + self.began.elapsed())
    }
}
