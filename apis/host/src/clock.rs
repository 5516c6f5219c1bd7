//! Time as a seam: what the calendar says, and what a stopwatch says.
#![expect(clippy::disallowed_methods, reason = "this module implements the Clock seam")]

use std::ops::Add;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apogee_model::Timestamp;

/// A reading of a stopwatch that started at an arbitrary moment: comparable within one process, meaningless outside it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The start of the stopwatch.
    pub const ZERO: Monotonic = Monotonic(Duration::ZERO);

    /// The reading `since_start` after the start.
    pub const fn from_duration(since_start: Duration) -> Monotonic {
        Monotonic(since_start)
    }

    /// How long `earlier` was ago; zero when it is not earlier.
    pub fn saturating_sub(self, earlier: Monotonic) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time so much earlier, or the beginning of the clock.
    pub fn before(self, ago: Duration) -> Monotonic {
        Monotonic(self.0.saturating_sub(ago))
    }
}

/// Saturates at the largest duration, so that a deadline of "never" can be written as `now + Duration::MAX`.
impl Add<Duration> for Monotonic {
    type Output = Monotonic;

    fn add(self, after: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(after))
    }
}

/// Where time comes from. Sleeps and timeouts use `tokio::time` instead.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch: store timestamps and delivery times. May jump, in both directions.
    fn wall(&self) -> Timestamp;
    /// Never jumps and never goes back: leases, timeouts, latencies.
    fn monotonic(&self) -> Monotonic;
}

/// The clock of the operating system. Its stopwatch is tokio's, so a test that pauses tokio's time moves it too.
#[derive(Copy, Clone, Debug, Default)]
pub struct RealClock;

impl Clock for RealClock {
    fn wall(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(millis(since_epoch))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(tokio::time::Instant::now().saturating_duration_since(process_start()))
    }
}

/// One start for the whole process. It lies an hour back, because a paused runtime may have frozen its time
/// before anybody asked here for the first time.
fn process_start() -> tokio::time::Instant {
    static START: OnceLock<tokio::time::Instant> = OnceLock::new();
    *START.get_or_init(|| {
        let now = tokio::time::Instant::now();
        now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
    })
}

/// 2026-01-01T00:00:00Z: what the walls of tests show first, so that subtracting some days stays after the epoch.
const BEGINNING: Timestamp = Timestamp(1_767_225_600_000);

/// A clock that follows tokio's time, the wall too, for tests that pause it. Clocks of one beginning agree.
#[derive(Copy, Clone, Debug)]
pub struct TokioClock {
    began: tokio::time::Instant,
}

impl TokioClock {
    /// A clock whose stopwatch showed zero at `began`, and whose wall the same time as that of every other one did.
    pub fn since(began: tokio::time::Instant) -> TokioClock {
        TokioClock { began }
    }
}

impl Clock for TokioClock {
    fn wall(&self) -> Timestamp {
        BEGINNING.plus(self.began.elapsed())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_duration(self.began.elapsed())
    }
}

/// A clock that stands still until told otherwise, for tests and simulations. Clones share one time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<Mutex<Now>>,
}

#[derive(Copy, Clone, Debug)]
struct Now {
    wall: Timestamp,
    monotonic: Monotonic,
}

impl ManualClock {
    /// A clock whose wall shows `wall` and whose stopwatch shows zero.
    pub fn new(wall: Timestamp) -> ManualClock {
        ManualClock { now: Arc::new(Mutex::new(Now { wall, monotonic: Monotonic::ZERO })) }
    }

    /// Lets `time` pass, on the wall (in whole milliseconds) and on the stopwatch.
    pub fn advance(&self, time: Duration) {
        self.change(|now| {
            now.wall = Timestamp(now.wall.0.saturating_add(millis(time)));
            now.monotonic = now.monotonic + time;
        });
    }

    /// Sets the wall clock, as an operator or NTP would: it may jump in both directions, the stopwatch does not notice.
    pub fn set_wall(&self, wall: Timestamp) {
        self.change(|now| now.wall = wall);
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn read(&self) -> Now {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    /// Starts on 2026-01-01T00:00:00Z.
    fn default() -> ManualClock {
        ManualClock::new(BEGINNING)
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        self.read().wall
    }

    fn monotonic(&self) -> Monotonic {
        self.read().monotonic
    }
}

/// Whole milliseconds; half a billion years saturate.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told_and_is_shared() {
        let clock = ManualClock::new(Timestamp(1_000));
        let same = clock.clone();
        clock.advance(Duration::from_millis(250));
        assert_eq!(same.wall(), Timestamp(1_250));
        assert_eq!(same.monotonic(), Monotonic::from_duration(Duration::from_millis(250)));
    }

    #[test]
    fn the_stopwatch_ignores_a_jump_of_the_wall() {
        let clock = ManualClock::new(Timestamp(1_000));
        clock.advance(Duration::from_secs(1));
        clock.set_wall(Timestamp(5));
        assert_eq!(clock.wall(), Timestamp(5));
        assert_eq!(clock.monotonic().saturating_sub(Monotonic::ZERO), Duration::from_secs(1));
        assert_eq!(Monotonic::ZERO.saturating_sub(clock.monotonic()), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn real_stopwatch_follows_paused_tokio_time() {
        let before = RealClock.monotonic();
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(RealClock.monotonic().saturating_sub(before), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_of_one_beginning_follow_tokio_time_alike() {
        let began = tokio::time::Instant::now();
        let one = TokioClock::since(began);
        let wall = one.wall();
        tokio::time::advance(Duration::from_secs(30)).await;
        let other = TokioClock::since(began);
        assert_eq!((one.wall(), other.wall()), (wall.plus(Duration::from_secs(30)), one.wall()));
        assert_eq!(one.monotonic(), Monotonic::from_duration(Duration::from_secs(30)));
    }

    #[test]
    fn real_wall_is_after_this_was_written() {
        assert!(RealClock.wall() > Timestamp(1_700_000_000_000));
    }
}
