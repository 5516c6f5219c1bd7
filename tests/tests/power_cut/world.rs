//! The machine under the engine: a clock that jumps, and the disk as one process sees it.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use apogee_host::{Clock, Disk, DiskFuture, FileId, Monotonic, SimDisk};
use apogee_model::Timestamp;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::dice::Dice;

/// The wall clock runs ahead of its own past by at most this much.
pub const CLOCK_BOUND: Duration = Duration::from_millis(200);

/// Time follows tokio's; the wall shows seeded nonsense on top of it.
pub struct SimClock {
    began: Instant,
    /// Milliseconds the wall shows at the beginning, and how far ahead it is for the moment.
    wall: Mutex<(u64, u64)>,
}

impl SimClock {
    pub fn new() -> SimClock {
        SimClock { began: Instant::now(), wall: Mutex::new((1_767_225_600_000, 0)) }
    }

    /// An operator or NTP sets the wall clock: up to an hour back for good, or a little ahead for a while.
    pub fn jump(&self, dice: &Dice) {
        let mut wall = self.wall.lock().expect("nobody panics with the clock in hand");
        if dice.one_in(4) {
            wall.0 -= dice.below(3_600_000);
        }
        wall.1 = dice.below(u64::try_from(CLOCK_BOUND.as_millis()).expect("a short time"));
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Timestamp {
        let (base, ahead) = *self.wall.lock().expect("nobody panics with the clock in hand");
        Timestamp(base + ahead).plus(self.began.elapsed())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_duration(self.began.elapsed())
    }
}

/// What one process sees of a [`SimDisk`]: it takes its time, and is gone when the process is killed, while the page
/// cache lives on.
pub struct ProcessDisk {
    disk: SimDisk,
    dice: Dice,
    /// Mutating operations until the process is killed.
    left: AtomicU64,
    slow: bool,
}

impl ProcessDisk {
    pub fn new(disk: SimDisk, dice: Dice, slow: bool) -> ProcessDisk {
        ProcessDisk { disk, dice, left: AtomicU64::new(u64::MAX), slow }
    }

    /// kill -9 in the midst of a mutating operation, after `operations` good ones.
    pub fn kill_at_op(&self, operations: u64) {
        self.left.store(operations, Ordering::Relaxed);
    }

    /// An operation takes effect at once and is answered later, or the other way round.
    async fn mutate<T>(&self, operation: DiskFuture<'_, T>) -> io::Result<T> {
        self.alive()?;
        if self.slow {
            sleep(self.dice.millis(10)).await;
        }
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 && self.dice.one_in(2) {
            return Err(killed());
        }
        let outcome = operation.await;
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 0 {
            return Err(killed());
        }
        if self.slow {
            sleep(self.dice.millis(20)).await;
        }
        outcome
    }

    fn alive(&self) -> io::Result<()> {
        if self.left.load(Ordering::Relaxed) == 0 && self.dice.one_in(4) { Err(killed()) } else { Ok(()) }
    }
}

fn killed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the simulated process was killed")
}
