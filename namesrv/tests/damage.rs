//! Files that are not as namesrv left them: it refuses to start and says where.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use apogee_host::{Disk, Exit, ExitWith, SimDisk};
use apogee_namesrv::OpenError;
use bytes::Bytes;

use support::*;

/// A stopped namesrv with one topic per record, `t1` to `t12`, the last ones; and where its records begin, the picture
/// first, with the end as the last.
async fn twelve_topics(seed: u64) -> (SimDisk, Vec<u64>) {
    let disk = SimDisk::new(seed);
    let life = start_with_node(&disk, seed).await.unwrap();
    for n in 1..=12 {
        life.namesrv.create_topic(new_topic(&format!("t{n}"), 1)).await.unwrap();
    }
    life.end().await;
    let bytes = disk.read(JOURNAL).await.unwrap();
    let mut starts = vec![0];
    while let Some(next) = following(&bytes, *starts.last().unwrap()) {
        starts.push(next);
    }
    assert!(starts.len() > 1 + 12 + 1, "the picture, what was before, the topics, the end");
    (disk, starts)
}

fn following(bytes: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).unwrap();
    let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    (length != 0).then(|| u64::try_from(at).unwrap() + 8 + u64::from(length))
}

#[tokio::test]
async fn a_flipped_bit_below_the_last_entry_is_refused_with_its_place() {
    for seed in 0..300 {
        let (disk, starts) = twelve_topics(seed).await;
        let entry = usize::try_from(seed).unwrap() % (starts.len() - 2);
        let at = starts[entry] + (seed * 7) % (starts[entry + 1] - starts[entry]);
        disk.flip_bit(JOURNAL, at);
        let error = start(&disk, 1).await.err().expect("damage is refused");
        assert_eq!(error.exit(), Exit::Io);
        let OpenError::Corrupt { file, at: named, .. } = &error else { panic!("seed {seed}: {error}") };
        assert_eq!((file.as_str(), *named), (JOURNAL, starts[entry]), "seed {seed}, byte {at}: {error}");
    }
}

#[tokio::test]
async fn the_last_entry_is_cut_when_it_is_not_whole_and_the_journal_goes_on() {
    for seed in 0..100 {
        let (disk, starts) = twelve_topics(seed).await;
        let [.., last, end] = starts[..] else { unreachable!("there are many places") };
        disk.flip_bit(JOURNAL, last + seed % (end - last));
        let life = start(&disk, 1).await.unwrap();
        assert_eq!(life.cluster().topics.len(), 11);
        life.namesrv.create_topic(new_topic("u", 1)).await.unwrap();
        let before = life.cluster();
        life.end().await;
        assert_eq!(start(&disk.power_cut(), 2).await.unwrap().cluster(), before, "seed {seed}");
    }
}

#[tokio::test]
async fn a_wiped_entry_is_refused() {
    let (disk, starts) = twelve_topics(1).await;
    wipe(&disk, starts[3], starts[4]).await;
    let error = start(&disk, 1).await.err().expect("damage is refused");
    assert!(matches!(&error, OpenError::Corrupt { at, .. } if *at == starts[3]), "{error}");
}

#[tokio::test]
async fn a_lost_journal_is_refused() {
    let disk = SimDisk::new(1);
    start(&disk, 1).await.unwrap().end().await;
    disk.flip_bit(JOURNAL, 20);
    check_refused(&disk, "namesrv/journal-0000000001 is corrupt at byte 0").await;
    disk.remove(JOURNAL).await.unwrap();
    check_refused(&disk, "namesrv/FORMAT is corrupt at byte 0: it promises a journal").await;
}

#[tokio::test]
async fn a_lost_file_is_refused() {
    let (disk, _) = twelve_topics(1).await;
    disk.create("namesrv/journal-0000000003", 4096).await.unwrap();
    check_refused(&disk, "namesrv/journal-0000000002 is corrupt at byte 0: it is missing").await;
}

#[tokio::test]
async fn a_broken_end_before_another_file_is_refused() {
    let (disk, starts) = twelve_topics(1).await;
    disk.flip_bit(JOURNAL, starts[starts.len() - 2] + 9);
    disk.create("namesrv/journal-0000000002", 4096).await.unwrap();
    check_refused(&disk, "namesrv/journal-0000000001 is corrupt at byte").await;
}

/// The power went while the next file was begun.
#[tokio::test]
async fn a_file_without_its_picture_is_begun_again() {
    let (disk, starts) = twelve_topics(1).await;
    let next = "namesrv/journal-0000000002";
    let file = disk.create(next, 4096).await.unwrap();
    let picture = disk.read(JOURNAL).await.unwrap().slice(..usize::try_from(starts[1] - 1).unwrap());
    disk.write_at(file, 0, picture).await.unwrap();
    disk.sync(file).await.unwrap();
    let life = start(&disk, 2).await.unwrap();
    assert_eq!(life.cluster().topics.len(), 12);
    assert!(disk.open(next).await.is_err());
}

#[tokio::test]
async fn only_formats_we_know_are_read() {
    let (disk, _) = twelve_topics(1).await;
    set_format(&disk, "apogee-namesrv 3.0\n").await;
    let error = start(&disk, 1).await.err().expect("a newer format is refused");
    assert_eq!(error.exit(), Exit::Usage);
    let expected = "namesrv/FORMAT says \"apogee-namesrv 3.0\"; this version of apogee reads up to \
                    \"apogee-namesrv 2.0\", start a newer one";
    assert_eq!(error.to_string(), expected);
    set_format(&disk, "apogee-namesrv 1.0\n").await;
    let error = start(&disk, 1).await.err().expect("an older format is refused");
    assert!(error.exit() == Exit::Usage && error.to_string().contains("begin with an empty data folder"), "{error}");
    for strange in ["", "apogee-namesrv 0.9\n", "apogee-namesrv x\n", "\u{0}\u{0}"] {
        set_format(&disk, strange).await;
        check_refused(&disk, "names no format we know").await;
    }
    disk.remove(FORMAT).await.unwrap();
    check_refused(&disk, "it is missing beside a journal in use").await;
    set_format(&disk, "apogee-namesrv 2.7\n").await;
    assert_eq!(start(&disk, 1).await.unwrap().cluster().topics.len(), 12);
}

async fn check_refused(disk: &SimDisk, text: &str) {
    let error = start(disk, 1).await.err().expect("damage is refused");
    assert!(matches!(error, OpenError::Corrupt { .. }));
    assert!(error.to_string().contains(text), "{error}");
}

async fn set_format(disk: &SimDisk, text: &str) {
    disk.replace(FORMAT, Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
}

async fn wipe(disk: &SimDisk, from: u64, to: u64) {
    let file = disk.open(JOURNAL).await.unwrap();
    disk.write_at(file, from, vec![0; usize::try_from(to - from).unwrap()].into()).await.unwrap();
    disk.sync(file).await.unwrap();
    disk.close(file).await.unwrap();
}
