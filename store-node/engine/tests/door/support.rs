//! A store on a simulated disk.

use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Engine, EngineParts, OpenError, SEGMENT_MIN, SEGMENT_TINY, Settings};
use apogee_host::{Clock, Disk, ManualClock, RealClock, SimDisk, Tasks, TokioClock};
use apogee_model::store::{LeaseTerms, Pop};
use opentelemetry::metrics::Meter;
use tokio::time::Instant;

use crate::words::receive;

/// Longest time until a block that nobody answers for is committed.
pub(crate) const COMMIT: Duration = Duration::from_millis(10);
/// Of each model.
pub(crate) const CASES: u32 = 10_000;
pub(crate) const TEN_SECONDS: Duration = Duration::from_secs(10);

pub(crate) struct Store {
    pub(crate) engine: Engine,
    pub(crate) tasks: Tasks,
    pub(crate) disk: SimDisk,
    segment_bytes: u64,
}

impl Store {
    pub(crate) async fn new() -> Self {
        Self::open(SimDisk::new(1)).await.expect("an empty disk opens")
    }

    /// Opens fast, and its log goes from segment to segment.
    pub(crate) async fn tiny() -> Self {
        let meter = opentelemetry::global::meter("test");
        let opened = Self::open_parts(SimDisk::new(1), Arc::new(RealClock), meter, SEGMENT_TINY).await;
        opened.expect("an empty disk opens")
    }

    pub(crate) async fn open(disk: SimDisk) -> Result<Self, OpenError> {
        Self::open_with(disk, Arc::new(RealClock)).await
    }

    /// Messages are stored at the times of this clock. Leases end when somebody moves it.
    pub(crate) async fn timed(clock: &ManualClock) -> Self {
        Self::open_with(SimDisk::new(1), Arc::new(clock.clone())).await.expect("an empty disk opens")
    }

    /// On a wall clock and a stopwatch that follow tokio's time since then, through restarts.
    pub(crate) async fn since(began: Instant, disk: SimDisk) -> Self {
        Self::open_with(disk, Arc::new(TokioClock::since(began))).await.expect("it opens")
    }

    /// As [`Store::since`], and tells about itself.
    pub(crate) async fn metered(began: Instant, disk: SimDisk, meter: Meter) -> Self {
        Self::open_parts(disk, Arc::new(TokioClock::since(began)), meter, SEGMENT_MIN).await.expect("it opens")
    }

    async fn open_with(disk: SimDisk, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_parts(disk, clock, opentelemetry::global::meter("test"), SEGMENT_MIN).await
    }

    async fn open_parts(
        disk: SimDisk,
        clock: Arc<dyn Clock>,
        meter: Meter,
        segment_bytes: u64,
    ) -> Result<Self, OpenError> {
        let tasks = Tasks::new();
        let on: Arc<dyn Disk> = Arc::new(disk.clone());
        let settings = Settings { segment_bytes, ..Settings::default() };
        let engine = Engine::open(EngineParts { disk: on, clock, tasks: tasks.clone(), meter }, settings).await?;
        Ok(Self { engine, tasks, disk, segment_bytes })
    }

    pub(crate) async fn restart(self) -> Self {
        assert_eq!(self.tasks.close(TEN_SECONDS).await, Vec::<&str>::new());
        let meter = opentelemetry::global::meter("test");
        let again = Self::open_parts(self.disk, Arc::new(RealClock), meter, self.segment_bytes).await;
        again.expect("a clean stop opens again")
    }

    pub(crate) async fn bodies(&self, pop: Pop) -> Vec<String> {
        self.pop(pop).await.into_iter().map(|(body, _, _)| body).collect()
    }
}

pub(crate) fn push(batch: usize) -> Pop {
    Pop { lease: LeaseTerms::AutoRenew, ..receive(batch) }
}
