//! Waiting for a moment exactly: the timers of tokio round up to a millisecond, which is more than a send takes.

use std::io;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// A timer of the kernel. It is read like a pipe: a number comes out of it when the time is over.
pub(super) struct Pacer {
    timer: pipe::Receiver,
}

impl Pacer {
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new() -> io::Result<Pacer> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Pacer { timer: pipe::Receiver::from_owned_fd_unchecked(timer)? })
    }

    /// Waits until `moment`; not at all when it has passed. Cancel safe.
    pub(super) async fn until(&self, moment: Instant) -> io::Result<()> {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let nanos = i64::from(left.subsec_nanos());
            let it_value = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: nanos };
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
            self.timer.readable().await?;
            let mut times = [0; 8];
            match self.timer.try_read(&mut times) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {} // it says how often, we look how late
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_moment_is_met_and_never_before() {
        let pacer = Pacer::new().unwrap();
        for _ in 0..20 {
            let moment = Instant::now() + Duration::from_micros(300);
            pacer.until(moment).await.unwrap();
            assert!(Instant::now() >= moment);
        }
        let passed = Instant::now();
        pacer.until(passed).await.unwrap();
    }
}
