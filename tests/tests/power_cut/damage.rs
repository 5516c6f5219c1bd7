//! Damaged files: what was committed and cannot be read stops the start, by name; a torn end does not.

use std::sync::Arc;

use apogee_engine::{AfterCommit, Engine, EngineParts, OpenError, SEGMENT_MIN, Settings};
use apogee_host::{Disk, Exit, SimDisk, Tasks};
use apogee_tests::clients::{Dice, Patience, Site};
use apogee_tests::history::{History, MessageId};
use apogee_tests::machine::ProcessDisk;
use tokio_util::sync::CancellationToken;

use crate::clock::SimClock;
use crate::direct::Direct;
use crate::run::at_pace;

const FIRST_SEGMENT: &str = "store/log/00000000000000000000.seg";
const CLOSE_MAX: std::time::Duration = std::time::Duration::from_secs(10);

struct Store {
    site: Site<Direct>,
    tasks: Tasks,
}

async fn open(disk: &SimDisk) -> Result<Store, OpenError> {
    let tasks = Tasks::new();
    let settings = Settings { segment_bytes: SEGMENT_MIN, ..Settings::default() };
    let disk = Arc::new(ProcessDisk::new(disk.clone(), Dice::new(0, 1), 0));
    let on: Arc<dyn Disk> = disk.clone();
    let clock = Arc::new(SimClock::new());
    let parts = EngineParts { disk: on, clock, tasks: tasks.clone(), meter: opentelemetry::global::meter("test") };
    let engine = Engine::open_with_rule(parts, settings, AfterCommit).await?;
    let (door, history, over) = (Direct { engine, disk }, History::new(), CancellationToken::new());
    let site =
        Site { door, history, over, tempo: at_pace(0), began: None, dead_after: None, in_order: false, priority: None };
    Ok(Store { site, tasks })
}

/// A store with some messages in it.
async fn filled(seed: u64) -> (SimDisk, Store) {
    let (disk, dice) = (SimDisk::new(seed), Dice::new(seed, 1));
    let store = open(&disk).await.expect("an empty disk opens");
    for id in 0..40 {
        let sent = store.site.send(0, &[(MessageId(id), dice.size(0, 3000))], Patience::Waits).await;
        assert!(sent.is_ok(), "the store takes it");
    }
    (disk, store)
}

/// Bytes of the first segment up to the last that is not zero.
async fn used(disk: &SimDisk) -> usize {
    let bytes = disk.read(FIRST_SEGMENT).await.expect("there is a first segment");
    bytes.iter().rposition(|byte| *byte != 0).expect("the log has content") + 1
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_below_the_durable_point_stops_the_start() {
    for seed in 0..40 {
        let (disk, store) = filled(seed).await;
        assert_eq!(store.tasks.close(CLOSE_MAX).await, Vec::<&str>::new());
        let end = u64::try_from(used(&disk).await).expect("a small log");
        let at = Dice::new(seed, 2).below(end);
        disk.flip_bit(FIRST_SEGMENT, at);
        let (file, offset) = match open(&disk).await.map(|_| ()) {
            Err(OpenError::Corrupt { file, offset, .. }) => (file, offset),
            other => panic!("seed {seed}: a flipped bit at byte {at} of {end} gave {other:?}"),
        };
        assert_eq!(file, FIRST_SEGMENT, "seed {seed}");
        assert!(offset <= at && at - offset < 10_000, "seed {seed}: byte {at} flipped, {offset} named");
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_end_after_a_power_cut_is_cut_or_refused() {
    let (mut cut, mut refused) = (0, 0);
    for seed in 0..40 {
        let (disk, _store) = filled(seed).await;
        let disk = disk.power_cut();
        let end = used(&disk).await;
        let back = Dice::new(seed, 3).size(1, 2000);
        disk.flip_bit(FIRST_SEGMENT, u64::try_from(end.saturating_sub(back)).expect("a small log"));
        match open(&disk).await {
            Ok(store) => {
                cut += 1;
                let sent = store.site.send(0, &[(MessageId(99), 100)], Patience::Waits).await;
                assert!(sent.is_ok(), "seed {seed}: the store goes on");
            }
            Err(OpenError::Corrupt { file, .. }) => {
                refused += 1;
                assert_eq!(file, FIRST_SEGMENT, "seed {seed}");
            }
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
    assert!(cut > 0 && refused > 0, "{cut} cut, {refused} refused");
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_ends_the_process_with_74() {
    let (disk, store) = filled(7).await;
    disk.fail_next_sync();
    assert!(store.site.send(0, &[(MessageId(99), 100)], Patience::Waits).await.is_err(), "nobody is told it is safe");
    let failure = store.tasks.failed().await;
    assert_eq!((failure.task, failure.stop.exit), ("log-writer", Exit::Io));
}
