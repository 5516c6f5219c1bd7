//! A clock that jumps.

use std::sync::Mutex;
use std::time::Duration;

use apogee_host::{Clock, Monotonic};
use apogee_model::Timestamp;
use apogee_tests::clients::Dice;
use tokio::time::Instant;

/// The wall clock runs ahead of its own past by at most this much.
pub(crate) const CLOCK_BOUND: Duration = Duration::from_millis(200);

/// Time follows tokio's; the wall shows seeded nonsense on top of it.
pub(crate) struct SimClock {
    began: Instant,
    /// Milliseconds the wall shows at the beginning, and how far ahead it is for the moment.
    wall: Mutex<(u64, u64)>,
}

impl SimClock {
    pub(crate) fn new() -> SimClock {
        SimClock { began: Instant::now(), wall: Mutex::new((1_767_225_600_000, 0)) }
    }

    /// An operator or NTP sets the wall clock: up to an hour back for good, or a little ahead for a while.
    pub(crate) fn jump(&self, dice: &Dice) {
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
