//! What only files can suffer.

use std::fs;
use std::path::{Path, PathBuf};

use apogee_model::{QueueId, QueueOffset, TopicId};
use futures::executor::block_on;
use tempfile::TempDir;

use super::*;
use crate::views::tests::{batch, rows};
use crate::views::{Batch, Place, Position, Table, Views, consume_queue_key};

fn open(folder: &Path) -> (RocksViewStore, Arc<dyn Views>) {
    let store = RocksViewStore::new(folder, RocksSettings { views_bytes: 8 << 20 }).unwrap();
    let views = block_on(store.open()).unwrap().0;
    (store, views)
}

fn with_base(folder: &Path, index: u64) {
    let (store, views) = open(folder);
    block_on(views.write(batch(index))).unwrap();
    block_on(store.take_base()).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn table_files(folder: &Path) -> Vec<PathBuf> {
    names(folder).iter().filter(|name| name.ends_with(".sst")).map(|name| folder.join(name)).collect()
}

#[test]
fn a_missing_file_means_the_base() {
    let folder = TempDir::new().unwrap();
    with_base(folder.path(), 5);
    for file in table_files(&folder.path().join("store/views")) {
        fs::remove_file(file).unwrap();
    }
    let (_store, views) = open(folder.path());
    assert_eq!(rows(&*views, Table::Lease), [5]);
}

#[test]
fn live_views_never_touch_a_base() {
    let folder = TempDir::new().unwrap();
    with_base(folder.path(), 5);
    fs::remove_dir_all(folder.path().join("store/views")).unwrap();
    {
        let (_store, views) = open(folder.path());
        for index in 6..200 {
            block_on(views.write(batch(index))).unwrap();
            block_on(views.flush()).unwrap();
        }
    }
    fs::remove_dir_all(folder.path().join("store/views")).unwrap();
    let (_store, views) = open(folder.path());
    assert_eq!(rows(&*views, Table::Lease), [5]);
}

#[test]
fn flipped_bits_are_noticed_when_they_are_read_and_not_used_again() {
    let folder = TempDir::new().unwrap();
    let live = folder.path().join("store/views");
    with_base(folder.path(), 5);
    {
        let (_store, views) = open(folder.path());
        block_on(views.write(batch(6))).unwrap();
    }
    for file in table_files(&live) {
        // Its own file, so that the base keeps its bits; the first block holds rows.
        let mut bytes = fs::read(&file).unwrap();
        bytes[5] ^= 1;
        fs::remove_file(&file).unwrap();
        fs::write(&file, bytes).unwrap();
    }
    let store = RocksViewStore::new(folder.path(), RocksSettings::default()).unwrap();
    let views = block_on(store.open()).unwrap().0;
    let key = |offset| consume_queue_key(TopicId(1), QueueId(0), QueueOffset(offset));
    let scanned = views.scan(Table::Lease, &key(0), &key(9), &mut |_, _| std::ops::ControlFlow::Continue(()));
    let restored_at_once = scanned.is_ok();
    assert!(restored_at_once || matches!(scanned, Err(ViewsError::Damaged { .. })), "{scanned:?}");
    let views = block_on(store.open()).unwrap().0;
    assert_eq!(rows(&*views, Table::Lease), [5], "from the base");
}

#[test]
fn what_was_half_done_is_cleaned_up() {
    let folder = TempDir::new().unwrap();
    with_base(folder.path(), 5);
    let (store, bases) = (folder.path().join("store"), folder.path().join("store/bases"));
    for half in [store.join("tmp-restored"), bases.join("tmp-taken"), bases.join("tmp-00000000000000000009")] {
        fs::create_dir(&half).unwrap();
        fs::write(half.join("000001.sst"), b"half").unwrap();
    }
    let (_store, _views) = open(folder.path());
    assert_eq!((names(&store), names(&bases)), (vec!["bases".into(), "views".into()], vec![format!("{:020}", 5)]));
}

#[test]
fn a_base_without_a_sound_manifest_is_none() {
    let folder = TempDir::new().unwrap();
    with_base(folder.path(), 5);
    let base = folder.path().join("store/bases").join(format!("{:020}", 5));
    let manifest = fs::read(base.join("BASE")).unwrap();
    let none = || block_on(open(folder.path()).0.bases()).unwrap().is_empty();
    assert!(!none());
    for len in [0, 3, manifest.len() - 1] {
        fs::write(base.join("BASE"), &manifest[..len]).unwrap();
        assert!(none(), "{len} bytes of a manifest");
    }
    fs::write(base.join("BASE"), &manifest).unwrap();
    fs::remove_file(&table_files(&base)[0]).unwrap();
    assert!(none(), "a file is missing");
}

/// A batch with `count` rows of the ConsumeQueue, and its first offset at `min`.
fn queue(index: u64, count: u64, min: u64) -> Batch {
    let mut batch = Batch::new(Position { index: BlockIndex(index), ..Position::default() });
    let queue = (TopicId(1), QueueId(0));
    let place = Place {
        lsn: Default::default(),
        len: 1,
        tag_hash: 0,
        group_hash: 0,
        stored_at: Default::default(),
        flags: 0,
        visible: Default::default(),
    };
    for offset in 0..count {
        let key = consume_queue_key(queue.0, queue.1, QueueOffset(offset));
        batch.put(Table::ConsumeQueue, &key, |row| place.encode(row));
    }
    batch.put(Table::QueueMeta, &crate::views::rows::queue_key(queue), |row| {
        crate::views::rows::put_queue(row, QueueOffset(min), QueueOffset(100), Default::default());
    });
    if min > 0 {
        batch.trim(queue, QueueOffset(min));
    }
    batch
}

#[test]
fn compaction_drops_what_was_trimmed_and_flushed() {
    let folder = TempDir::new().unwrap();
    let (store, views) = open(folder.path());
    let compact = || store.inner.live().as_ref().unwrap().compact(Table::ConsumeQueue);
    block_on(views.write(queue(1, 100, 0))).unwrap();
    block_on(views.flush()).unwrap();
    block_on(views.write(queue(2, 0, 40))).unwrap();
    compact();
    assert_eq!(rows(&*views, Table::ConsumeQueue).len(), 100, "a crash could still undo the trim");
    block_on(views.flush()).unwrap();
    compact();
    assert_eq!(rows(&*views, Table::ConsumeQueue), (40..100).collect::<Vec<_>>());
}

#[test]
fn trims_are_known_after_a_restart() {
    let folder = TempDir::new().unwrap();
    {
        let (_store, views) = open(folder.path());
        block_on(views.write(queue(1, 100, 40))).unwrap();
    }
    let (store, views) = open(folder.path());
    store.inner.live().as_ref().unwrap().compact(Table::ConsumeQueue);
    assert_eq!(rows(&*views, Table::ConsumeQueue), (40..100).collect::<Vec<_>>());
}
