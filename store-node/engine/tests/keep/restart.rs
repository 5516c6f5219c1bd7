//! Real files: whatever is left of the views, a start gives the same state, also after segments went and after kill -9.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Dump, Retention, RocksSettings, RocksViewStore};
use apogee_host::{RealClock, RealDisk};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::site::{QUEUES, SEGMENT, Site, body, difference, everything};

/// Longest time until segments go.
const GO_MAX: Duration = Duration::from_secs(60);
/// Tells the child process which folder is its own.
const CHILD: &str = "APOGEE_KEEP_CHILD";

/// Two segments, looked at often.
fn tight() -> Retention {
    Retention { bytes: Some(2 * SEGMENT), every: Duration::from_millis(50), ..everything() }
}

async fn open(folder: &Path, retention: Retention) -> Site {
    let disk = RealDisk::open(folder).expect("the folder is ours");
    let views = RocksViewStore::new(folder, RocksSettings { views_bytes: 16 << 20 }).expect("a thread");
    let site = Site::open(Arc::new(disk), Arc::new(views), Arc::new(RealClock), retention).await;
    site.unwrap_or_else(|why| panic!("it does not open: {why}"))
}

/// Sends, pops, and settles some of it.
async fn work(site: &Site, round: u64) {
    for nth in 0..4 {
        let queue = u16::try_from((round + nth) % u64::from(QUEUES)).expect("few queues");
        site.send(queue, body(round * 4 + nth, 16 << 10)).await.expect("the store takes it");
    }
    for group in 1..=2 {
        let popped = site.pop(group, 3).await.expect("the store answers").messages;
        for delivery in popped.iter().skip(usize::from(round.is_multiple_of(3))) {
            site.ack(delivery.key).await.expect("the store answers");
        }
    }
}

/// Works until the first segments are gone.
async fn work_until_segments_go(site: &Site) {
    let begun = Instant::now();
    let mut round = 0;
    while site.first_block().await == 1 || round < 30 {
        work(site, round).await;
        round += 1;
        assert!(begun.elapsed() < GO_MAX, "no segment went");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(folder.join("store/log")).map(|entries| entries.map(|entry| entry.expect("it").path()));
    let mut names: Vec<_> = names.into_iter().flatten().collect();
    names.sort();
    names
}

fn bases(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("store/bases")).expect("bases");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    names
}

async fn dump_of(folder: &Path) -> Dump {
    let site = open(folder, everything()).await;
    let dump = site.dump().await;
    site.close().await;
    dump
}

/// Opens copies of a store that is not running, each with less of its views.
async fn same_state_from_less_and_less(folder: &Path, has_two_bases: bool) {
    let home = TempDir::new().expect("a folder");
    let of = |name: &str| home.path().join(name);
    for name in ["whole", "without-views", "from-the-older-base"] {
        copy(folder, &of(name));
    }
    let whole = dump_of(&of("whole")).await;
    assert!(!whole.views.is_empty());
    fs::remove_dir_all(of("without-views").join("store/views")).expect("there were views");
    let anew = dump_of(&of("without-views")).await;
    assert_eq!(differs(&whole, &anew), None);
    if has_two_bases {
        fs::remove_dir_all(of("from-the-older-base").join("store/views")).expect("there were views");
        // Killed between a new base and the end of the oldest one, it leaves three.
        let kept = bases(&of("from-the-older-base"));
        assert!((2..=3).contains(&kept.len()), "{kept:?}");
        fs::remove_dir_all(kept.last().expect("there are two")).expect("it was there");
        let older = dump_of(&of("from-the-older-base")).await;
        assert_eq!(differs(&whole, &older), None);
    }
}

/// What is not the same in two dumps of one store. How far back their logs reach may differ: a start may let go.
fn differs(one: &Dump, other: &Dump) -> Option<String> {
    let (one_lines, other_lines): (Vec<_>, Vec<_>) = (one.views.lines().collect(), other.views.lines().collect());
    let views = difference(&one_lines, &other_lines);
    let logs = one.log.ends_with(&other.log) || other.log.ends_with(&one.log);
    views.or_else(|| (!logs || one.applied != other.applied).then(|| "the logs differ".to_owned()))
}

#[tokio::test]
async fn views_are_made_anew_after_segments_went() {
    let folder = TempDir::new().expect("a folder");
    let site = open(folder.path(), tight()).await;
    work_until_segments_go(&site).await;
    site.close().await;
    same_state_from_less_and_less(folder.path(), true).await;
}

#[tokio::test]
async fn views_are_made_anew_from_the_whole_log() {
    let folder = TempDir::new().expect("a folder");
    let site = open(folder.path(), everything()).await;
    for round in 0..12 {
        work(&site, round).await;
    }
    assert_eq!(site.first_block().await, 1);
    site.close().await;
    fs::remove_dir_all(folder.path().join("store/bases")).expect("there was a base");
    same_state_from_less_and_less(folder.path(), false).await;
}

#[tokio::test]
async fn views_are_made_anew_after_kill_9() {
    let folder = TempDir::new().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "restart::works_until_it_is_killed", "--nocapture"])
        .env(CHILD, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    let mut seen = 0;
    // Segments go for a while.
    while seen < 4 {
        assert!(child.try_wait().expect("it is ours").is_none() && begun.elapsed() < GO_MAX, "no segment went");
        let first = segments(folder.path()).first().and_then(|name| name.file_stem()?.to_str()?.parse::<u64>().ok());
        seen = first.unwrap_or_default() / SEGMENT;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    same_state_from_less_and_less(folder.path(), true).await;
}

/// The child of the test above; as a test of its own it has nothing to do.
#[tokio::test]
async fn works_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let site = open(Path::new(&folder), tight()).await;
    for round in 0.. {
        work(&site, round).await;
    }
}
