//! Whether the runtime still turns.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Check;

const TICK: Duration = Duration::from_secs(1);

/// So long without a tick and the process counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(super) struct Watchdog {
    last: Arc<Mutex<Instant>>,
}

impl Watchdog {
    pub(super) fn new() -> Watchdog {
        Watchdog { last: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Ticks every second until cancelled.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Check {
        let silent = self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if silent <= STUCK_AFTER {
            return Check::ok();
        }
        Check::fail(format!("no tick for {} s", silent.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_after_ten_seconds() {
        let watchdog = Watchdog::new();
        tokio::time::advance(STUCK_AFTER).await;
        assert!(watchdog.check().ok);
        tokio::time::advance(TICK).await;
        assert_eq!(watchdog.check(), Check::fail("no tick for 11 s"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turning_runtime_is_alive_until_told_to_stop() {
        let (watchdog, stop) = (Watchdog::new(), CancellationToken::new());
        let ticking = watchdog.clone().run(stop.clone());
        let watching = async {
            tokio::time::sleep(10 * STUCK_AFTER).await;
            assert!(watchdog.check().ok);
            stop.cancel();
        };
        let (Ok(()), ()) = tokio::join!(ticking, watching);
    }
}
