//! Random lives of a store whose retention is short, on a simulated disk, with power cuts in the midst of anything.
//!
//! A model remembers what was answered. After every life the store is opened three times, from its views, from its
//! newest base, and from the one before, which must all say the same and hold what the rules say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Dump, MemoryViewStore, OpenError, Retention, ViewStore as _};
use apogee_host::{Clock as _, Disk as _, Entropy as _, SeededEntropy, SimDisk, TokioClock};
use apogee_model::Timestamp;
use apogee_model::store::DeliveryKey;
use tokio::time::{Instant, sleep};

use crate::site::{LEASE, QUEUES, SEGMENT, Site, body, difference, everything, queues, rows};

const SEEDS: u64 = 60;
const LIVES: u64 = 5;
const STEPS: u64 = 60;
/// Messages older than this go, in seeds with retention by time alone.
const TIME: Duration = Duration::from_secs(90);

/// What the clients of one store know for sure.
#[derive(Default)]
struct Model {
    /// Of every message that was answered: which it is, and when it was stored.
    sent: BTreeMap<(u16, u64), (u64, Timestamp)>,
    /// Deliveries that nobody settled, and may not have been settled by an answer that got lost.
    held: BTreeMap<(u32, u16, u64), DeliveryKey>,
    /// Acks that were answered.
    acked: BTreeMap<(u32, u16, u64), ()>,
    /// First offsets that were seen.
    mins: BTreeMap<u16, u64>,
    number: u64,
}

struct Run {
    seed: u64,
    dice: SeededEntropy,
    disk: SimDisk,
    views: MemoryViewStore,
    clock: Arc<TokioClock>,
    retention: Retention,
    model: Model,
    removed: bool,
    fell_back: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let bytes = seed.is_multiple_of(3).then_some(3 * SEGMENT / 2);
        let time = if bytes.is_some() { Duration::from_secs(36_000) } else { TIME };
        Self {
            seed,
            dice: SeededEntropy::new(seed),
            disk: SimDisk::new(seed),
            views: MemoryViewStore::default(),
            clock: Arc::new(TokioClock::since(Instant::now())),
            retention: Retention { time, bytes, every: Duration::from_secs(2) },
            model: Model::default(),
            removed: false,
            fell_back: 0,
        }
    }

    fn below(&self, limit: u64) -> u64 {
        self.dice.next_u64() % limit
    }

    async fn open(&self, retention: Retention) -> Result<Site, OpenError> {
        let (disk, views) = (Arc::new(self.disk.clone()), Arc::new(self.views.clone()));
        Site::open(disk, views, self.clock.clone(), retention).await
    }

    async fn live(&mut self) {
        let cut = self.below(5) > 0;
        if cut {
            let least = if self.below(3) == 0 { 0 } else { 60 };
            self.disk.cut_at_op(least + self.below(160));
        }
        match self.open(self.retention).await {
            Ok(site) => {
                for _ in 0..STEPS {
                    if self.step(&site).await.is_none() {
                        break;
                    }
                }
                if cut { self.kill(site).await } else { site.close().await }
            }
            Err(OpenError::Disk { .. }) if cut => self.disk = self.disk.power_cut(),
            Err(why) => panic!("seed {}: {why}", self.seed),
        }
    }

    /// The power fails, if it did not already.
    async fn kill(&mut self, site: Site) {
        self.views.crash();
        self.disk.cut_at_op(0);
        site.tasks.close(Duration::from_secs(20)).await;
        self.disk = self.disk.power_cut();
    }

    /// Something a client does; `None` when the store is gone.
    async fn step(&mut self, site: &Site) -> Option<()> {
        match self.below(10) {
            0..5 => {
                self.model.number += 1;
                let (number, queue) = (self.model.number, u16::try_from(self.below(u64::from(QUEUES))).ok()?);
                let bytes = [100, 2_000, 30_000, 60_000][usize::try_from(self.below(4)).ok()?];
                let stored = site.send(queue, body(number, bytes)).await.ok()?;
                self.model.sent.insert((queue, stored.offset.0), (number, stored.stored_at));
            }
            5..7 => {
                let group = u32::try_from(1 + self.below(2)).ok()?;
                let popped = site.pop(group, usize::try_from(1 + self.below(6)).ok()?).await.ok()?;
                for delivery in popped.messages {
                    let (queue, offset) = (delivery.key.queue.0, delivery.key.offset.0);
                    let number = u64::from_le_bytes(delivery.message.body_part[..8].try_into().ok()?);
                    if let Some((sent, _)) = self.model.sent.get(&(queue, offset)) {
                        assert_eq!(number, *sent, "seed {}: another message at {queue}/{offset}", self.seed);
                    }
                    assert!(!self.model.acked.contains_key(&(group, queue, offset)), "acked, and came again");
                    self.model.held.insert((group, queue, offset), delivery.key);
                    if self.below(8) > 0 {
                        self.ack(site, (group, queue, offset)).await?;
                    }
                }
            }
            7 => {
                let nth = usize::try_from(self.below(7)).ok()?;
                if let Some(at) = self.model.held.keys().nth(nth).copied() {
                    self.ack(site, at).await?;
                }
            }
            _ => sleep(Duration::from_millis(self.below(20_000))).await,
        }
        Some(())
    }

    async fn ack(&mut self, site: &Site, at: (u32, u16, u64)) -> Option<()> {
        // Whether it took effect is not known when no answer comes.
        let key = self.model.held.remove(&at)?;
        site.ack(key).await.ok()?;
        self.model.acked.insert(at, ());
        Some(())
    }

    /// Opens the store as it is, and then without its views, and without its newest base.
    async fn audit(&mut self) {
        let site = self.open(everything()).await.unwrap_or_else(|why| panic!("seed {}: {why}", self.seed));
        let dump = site.dump().await;
        self.kill(site).await;
        self.judge(&dump);
        let bases = self.views.bases().await.expect("memory answers").len();
        for damaged in 0..2 {
            self.views.damage_live();
            if damaged == 1 && bases == 2 {
                self.views.damage_newest_base();
                self.fell_back += 1;
            }
            let site = self.open(everything()).await;
            let site = site.unwrap_or_else(|why| panic!("seed {}, {damaged} bases damaged: {why}", self.seed));
            let again = site.dump().await;
            let differs = difference(&rows(&again), &rows(&dump));
            assert_eq!(differs, None, "seed {}, {damaged} bases damaged", self.seed);
            assert!(again.log.starts_with(&dump.log), "seed {}, {damaged} bases damaged", self.seed);
            self.kill(site).await;
        }
    }

    fn judge(&mut self, dump: &Dump) {
        let (seed, queues) = (self.seed, queues(dump));
        let (first, begin, _) = dump.log[0];
        self.removed |= first > 1;
        for (queue, (min, _, oldest)) in &queues {
            assert!(oldest.is_none_or(|oldest| oldest >= begin), "seed {seed}: a message of queue {queue} is gone");
            let seen = self.model.mins.insert(*queue, *min).unwrap_or_default();
            assert!(seen <= *min, "seed {seed}: queue {queue} began at {seen}, and now at {min}");
        }
        let now = self.clock.wall();
        for ((queue, offset), (_, stored_at)) in &self.model.sent {
            let (min, next, _) = queues[queue];
            assert!(*offset < next, "seed {seed}: {queue}/{offset} was answered and is lost");
            let young = now.since(*stored_at) <= TIME;
            assert!(
                *offset >= min || self.retention.bytes.is_some() || !young,
                "seed {seed}: {queue}/{offset} went early"
            );
        }
        for (group, queue, offset) in self.model.held.keys() {
            let (min, _, _) = queues[queue];
            let line = format!("pop {group}/1/{queue} {offset} ");
            let known = dump.views.lines().any(|found| found.starts_with(&line));
            let by_size = self.retention.bytes.is_some() && *offset < min;
            assert!(known || by_size, "seed {seed}: {queue}/{offset} is held by group {group}, and went");
        }
        self.model.held.retain(|(_, queue, offset), _| *offset >= queues[queue].0);
    }
}

async fn run(seed: u64) -> (bool, u64) {
    let mut run = Run::new(seed);
    for _ in 0..LIVES {
        run.live().await;
        run.audit().await;
        sleep(LEASE * 2).await;
        // Their leases have ended: they come again, with other handles.
        run.model.held.clear();
    }
    (run.removed, run.fell_back)
}

#[test]
fn what_goes_may_go_and_what_stays_is_whole() {
    let (mut removed, mut fell_back) = (0, 0);
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let (some, times) = runtime.expect("a runtime").block_on(run(seed));
        removed += u64::from(some);
        fell_back += times;
    }
    assert!(removed > SEEDS / 2, "segments went in {removed} of {SEEDS} seeds only");
    assert!(fell_back > SEEDS, "only {fell_back} starts from an older base");
}

/// A store of some segments, and then the power fails after so many operations of a disk that lets most of them go.
/// Says how many segments are left.
async fn cut_after(operations: u64) -> usize {
    let mut run = Run::new(3);
    let site = run.open(everything()).await.expect("an empty disk opens");
    for number in 0..34 {
        site.send(0, body(number, 32 << 10)).await.expect("the store takes it");
    }
    site.close().await;
    run.retention = Retention { bytes: Some(5 * SEGMENT / 4), every: Duration::from_secs(2), ..everything() };
    let site = run.open(run.retention).await.expect("it opens again");
    run.disk.cut_at_op(operations);
    for _ in 0..4 {
        // Time for a trim, and for a base without what it took.
        sleep(Duration::from_secs(61)).await;
        if site.send(1, body(0, 100)).await.is_err() {
            break;
        }
    }
    run.kill(site).await;
    let left = run.disk.list("store/log").await.expect("the disk answers").len();
    run.audit().await;
    left
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_cut_short_leaves_a_log_that_opens() {
    let mut left = BTreeSet::new();
    for operations in 0..40 {
        left.insert(cut_after(operations).await);
    }
    assert!(left.len() > 3, "removals were cut short at {left:?} segments only");
}
