use std::collections::BTreeSet;

use super::*;

fn kind<T>(outcome: io::Result<T>) -> Option<io::ErrorKind> {
    outcome.err().map(|error| error.kind())
}

async fn content(disk: &SimDisk, name: &str) -> Bytes {
    disk.read(name).await.expect("the file exists")
}

/// A disk with one file `a` of `len` zeros.
async fn with_file(seed: u64, len: u64) -> (SimDisk, FileId) {
    let disk = SimDisk::new(seed);
    let file = disk.create("a", len).await.expect("a fresh disk takes files");
    (disk, file)
}

async fn write(disk: &SimDisk, file: FileId, at: u64, bytes: &'static [u8]) {
    disk.write_at(file, at, Bytes::from_static(bytes)).await.expect("the disk takes writes");
}

#[tokio::test]
async fn files_behave_as_on_the_real_disk() {
    let disk = SimDisk::new(1);
    assert!(disk.list("log").await.unwrap().is_empty());
    for name in ["log/b", "log/a", "log/deep/c", "root"] {
        disk.create(name, 4).await.unwrap();
    }
    assert_eq!(disk.list("log").await.unwrap(), ["a", "b"]);
    assert_eq!(disk.list("").await.unwrap(), ["root"]);
    assert_eq!(kind(disk.create("log/a", 1).await), Some(io::ErrorKind::AlreadyExists));
    assert_eq!(kind(disk.create("../x", 1).await), Some(io::ErrorKind::InvalidInput));
    assert_eq!(kind(disk.open("none").await), Some(io::ErrorKind::NotFound));

    let file = disk.open("log/a").await.unwrap();
    write(&disk, file, 2, b"xyz").await;
    assert_eq!(disk.len(file).await.unwrap(), 5);
    assert_eq!(disk.read_at(file, 1, 4).await.unwrap(), &b"\0xyz"[..]);
    assert_eq!(kind(disk.read_at(file, 2, 4).await), Some(io::ErrorKind::UnexpectedEof));
    assert_eq!(kind(disk.read_at(file, u64::MAX, usize::MAX).await), Some(io::ErrorKind::UnexpectedEof));

    disk.rename("root", "log/b").await.unwrap();
    assert_eq!(
        (disk.list("log").await.unwrap(), disk.list("").await.unwrap().len()),
        (vec!["a".into(), "b".into()], 0)
    );
    assert_eq!(kind(disk.rename("root", "log/b").await), Some(io::ErrorKind::NotFound));
    disk.remove("log/a").await.unwrap();
    assert_eq!(disk.len(file).await.unwrap(), 5, "whoever has it open goes on");
    disk.close(file).await.unwrap();
    assert_eq!(kind(disk.len(file).await), Some(io::ErrorKind::NotFound));
}

#[tokio::test]
async fn a_power_cut_keeps_what_was_synced_and_ends_the_old_disk() {
    for seed in 0..50 {
        let (disk, file) = with_file(seed, 8).await;
        write(&disk, file, 0, b"synced").await;
        disk.sync(file).await.unwrap();
        disk.replace("meta", Bytes::from_static(b"m")).await.unwrap();
        let found = disk.power_cut();
        assert_eq!(content(&found, "a").await, &b"synced\0\0"[..]);
        assert_eq!(content(&found, "meta").await, &b"m"[..]);
        assert_eq!(kind(disk.len(file).await), Some(io::ErrorKind::BrokenPipe));
        assert_eq!(kind(disk.sync(file).await), Some(io::ErrorKind::BrokenPipe));
        assert_eq!(kind(found.len(file).await), Some(io::ErrorKind::NotFound));
    }
}

#[tokio::test]
async fn unsynced_writes_survive_in_any_combination() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let (disk, file) = with_file(seed, 3).await;
        for (at, byte) in [b"1", b"2", b"3"].into_iter().enumerate() {
            write(&disk, file, at.try_into().unwrap(), byte).await;
        }
        outcomes.insert(content(&disk.power_cut(), "a").await);
    }
    assert_eq!(outcomes.len(), 8, "{outcomes:?}");
}

#[tokio::test]
async fn a_torn_write_leaves_whole_sectors() {
    let (mut prefix, mut suffix, mut holes) = (false, false, false);
    for seed in 0..300 {
        let (disk, file) = with_file(seed, 2_048).await;
        write(&disk, file, 100, &[7; 1_900]).await;
        let found = content(&disk.power_cut(), "a").await;
        let sectors: Vec<bool> = found.chunks(512).map(|sector| sector.contains(&7)).collect();
        for (index, sector) in found.chunks(512).enumerate() {
            let written = sector.iter().filter(|byte| **byte == 7).count();
            assert!([0, [412, 512, 512, 464][index]].contains(&written), "seed {seed}: sector {index} is torn");
        }
        prefix |= sectors == [true, true, false, false];
        suffix |= sectors == [false, false, true, true];
        holes |= sectors == [true, false, true, false];
    }
    assert!(prefix && suffix && holes);
}

#[tokio::test]
async fn one_seed_is_one_accident() {
    let run = async |seed| {
        let (disk, file) = with_file(seed, 4_096).await;
        write(&disk, file, 0, &[1; 3_000]).await;
        write(&disk, file, 1_000, &[2; 3_000]).await;
        content(&disk.power_cut(), "a").await
    };
    assert_eq!(run(11).await, run(11).await);
}

#[tokio::test]
async fn a_lying_sync_loses_writes() {
    let mut lost = false;
    for seed in 0..20 {
        let (disk, file) = with_file(seed, 1).await;
        disk.set_sync_lies(true);
        write(&disk, file, 0, b"x").await;
        disk.sync(file).await.unwrap();
        lost |= content(&disk.power_cut(), "a").await == b"\0"[..];
    }
    assert!(lost);
}

#[tokio::test]
async fn a_failed_sync_is_final_for_its_handle_and_its_writes() {
    let mut lost = false;
    for seed in 0..20 {
        let (disk, file) = with_file(seed, 1).await;
        disk.fail_sync_after(1);
        disk.sync(file).await.unwrap();
        write(&disk, file, 0, b"x").await;
        assert_eq!(kind(disk.sync(file).await), Some(io::ErrorKind::Other));
        assert_eq!(kind(disk.sync(file).await), Some(io::ErrorKind::Other));
        assert_eq!(content(&disk, "a").await, &b"x"[..], "the page cache still shows it");
        let again = disk.open("a").await.unwrap();
        disk.sync(again).await.unwrap();
        assert_eq!(disk.syncs(), 2);
        lost |= content(&disk.power_cut(), "a").await == b"\0"[..];
    }
    assert!(lost);
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let (disk, file) = with_file(1, 4).await;
    disk.fail_writes(true);
    assert_eq!(kind(disk.write_at(file, 0, Bytes::from_static(b"x")).await), Some(io::ErrorKind::StorageFull));
    assert_eq!(kind(disk.create("b", 1).await), Some(io::ErrorKind::StorageFull));
    assert_eq!(kind(disk.replace("c", Bytes::new()).await), Some(io::ErrorKind::StorageFull));
    assert_eq!(disk.read_at(file, 0, 4).await.unwrap(), &[0; 4][..]);
    disk.fail_writes(false);
    write(&disk, file, 0, b"x").await;
}

#[tokio::test]
async fn a_flipped_bit_stays_flipped() {
    let (disk, _) = with_file(1, 4).await;
    disk.flip_bit("a", 2);
    let seen = content(&disk, "a").await;
    assert_eq!(seen.iter().map(|byte| byte.count_ones()).collect::<Vec<_>>(), [0, 0, 1, 0]);
    assert_eq!(content(&disk.power_cut(), "a").await, seen);
}

#[tokio::test]
async fn the_process_dies_at_the_chosen_operation() {
    let (mut effect, mut none) = (false, false);
    for seed in 0..50 {
        let (disk, file) = with_file(seed, 2).await;
        assert_eq!((disk.operations(), disk.writes(), disk.syncs()), (1, 0, 0));
        disk.cut_at_op(2);
        write(&disk, file, 0, b"x").await;
        disk.sync(file).await.unwrap();
        assert_eq!(kind(disk.len(file).await), Some(io::ErrorKind::BrokenPipe));
        assert_eq!(kind(disk.replace("b", Bytes::new()).await), Some(io::ErrorKind::BrokenPipe));
        assert_eq!(kind(disk.replace("b", Bytes::new()).await), Some(io::ErrorKind::BrokenPipe));
        assert_eq!((disk.operations(), disk.writes(), disk.syncs()), (3, 1, 1));
        let found = disk.power_cut();
        assert_eq!(content(&found, "a").await, &b"x\0"[..]);
        let replaced = found.list("").await.unwrap().contains(&"b".to_owned());
        effect |= replaced;
        none |= !replaced;
    }
    assert!(effect && none, "the last operation happened in some runs, and in some not");
}
