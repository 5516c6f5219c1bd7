//! When a connection counts as idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The open streams of one connection. Streams only touch atomics; the connection looks when its timer fires.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    asked: AtomicBool,
    open: AtomicUsize,
    /// Milliseconds after `since`, written before `open` falls.
    last_end_ms: AtomicU64,
}

impl Activity {
    /// A connection that starts now and was asked nothing yet.
    pub(super) fn new() -> Arc<Activity> {
        Arc::new(Activity {
            since: Instant::now(),
            asked: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            last_end_ms: AtomicU64::new(0),
        })
    }

    /// Counts a stream as open until the guard is dropped.
    pub(super) fn stream(self: &Arc<Activity>) -> OpenStream {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.asked.store(true, Ordering::Release);
        OpenStream { activity: Arc::clone(self) }
    }

    /// Whether a stream is open.
    pub(super) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// Returns when no request came within `first_request`, or no stream was open for `idle`.
    ///
    /// Cancel safe.
    pub(super) async fn idle(&self, first_request: Duration, idle: Duration) {
        loop {
            let now = Instant::now();
            let deadline = if !self.asked.load(Ordering::Acquire) {
                self.since + first_request
            } else if self.is_busy() {
                now + idle / 4 // looked at often enough to notice the end of the last stream in time
            } else {
                self.since + Duration::from_millis(self.last_end_ms.load(Ordering::Acquire)) + idle
            };
            if deadline <= now {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// One open stream.
#[derive(Debug)]
pub(super) struct OpenStream {
    activity: Arc<Activity>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let since = self.activity.since.elapsed().as_millis();
        self.activity.last_end_ms.fetch_max(u64::try_from(since).unwrap_or(u64::MAX), Ordering::AcqRel);
        self.activity.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn the_first_request_has_its_own_time() {
        let start = Instant::now();
        Activity::new().idle(FIRST, IDLE).await;
        assert_eq!(start.elapsed(), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_counts_from_the_end_of_the_last_stream() {
        let activity = Activity::new();
        let start = Instant::now();
        let stream = activity.stream();
        let hold = async {
            tokio::time::sleep(Duration::from_secs(500)).await;
            drop(stream);
        };
        tokio::join!(activity.idle(FIRST, IDLE), hold);
        assert_eq!(start.elapsed(), Duration::from_secs(620));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_stream_is_never_idle() {
        let activity = Activity::new();
        let _telemetry = activity.stream();
        drop(activity.stream());
        assert!(tokio::time::timeout(Duration::from_secs(3600), activity.idle(FIRST, IDLE)).await.is_err());
    }
}
