use tempfile::TempDir;

use super::*;

fn disk() -> (TempDir, RealDisk) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = RealDisk::open(folder.path()).expect("a fresh folder opens");
    (folder, disk)
}

fn kind<T>(outcome: io::Result<T>) -> Option<io::ErrorKind> {
    outcome.err().map(|error| error.kind())
}

#[tokio::test]
async fn what_is_written_is_read_also_by_the_next_disk() {
    let (folder, disk) = disk();
    let file = disk.create("log/0.seg", 3_000_000).await.unwrap();
    assert_eq!(disk.len(file).await.unwrap(), 3_000_000);
    assert!(disk.read_at(file, 0, 3_000_000).await.unwrap().iter().all(|byte| *byte == 0));
    disk.write_at(file, 2_999_998, Bytes::from_static(b"ab")).await.unwrap();
    disk.sync(file).await.unwrap();
    drop(disk);

    let disk = RealDisk::open(folder.path()).expect("the dropped disk unlocked the folder");
    let file = disk.open("log/0.seg").await.unwrap();
    assert_eq!(disk.read_at(file, 2_999_997, 3).await.unwrap(), &b"\0ab"[..]);
    assert_eq!(kind(disk.read_at(file, 2_999_998, 3).await), Some(io::ErrorKind::UnexpectedEof));
    assert_eq!(kind(disk.read_at(file, u64::MAX, usize::MAX).await), Some(io::ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn files_are_created_listed_and_removed() {
    let (_folder, disk) = disk();
    assert!(disk.list("log").await.unwrap().is_empty());
    for name in ["log/b", "log/a", "log/deep/c", "root"] {
        disk.create(name, 1).await.unwrap();
    }
    assert_eq!(kind(disk.create("log/a", 1).await), Some(io::ErrorKind::AlreadyExists));
    assert_eq!(disk.list("log").await.unwrap(), ["a", "b"]);
    assert_eq!(disk.list("").await.unwrap(), ["root"]);
    disk.remove("log/a").await.unwrap();
    assert_eq!(disk.list("log").await.unwrap(), ["b"]);
    let moved = disk.open("log/deep/c").await.unwrap();
    disk.write_at(moved, 0, Bytes::from_static(b"c")).await.unwrap();
    disk.rename("log/deep/c", "log/b").await.unwrap();
    disk.rename("root", "new/root").await.unwrap();
    assert_eq!(disk.read("log/b").await.unwrap(), &b"c"[..]);
    assert!(disk.list("log/deep").await.unwrap().is_empty() && disk.list("").await.unwrap().is_empty());
    assert_eq!(kind(disk.rename("root", "log/b").await), Some(io::ErrorKind::NotFound));
    assert_eq!(kind(disk.open("log/a").await), Some(io::ErrorKind::NotFound));
    assert_eq!(kind(disk.remove("log/a").await), Some(io::ErrorKind::NotFound));
    assert_eq!(kind(disk.create("../outside", 1).await), Some(io::ErrorKind::InvalidInput));
}

#[tokio::test]
async fn a_folder_goes_with_all_that_is_in_it() {
    let (folder, disk) = disk();
    for name in ["groups/1/log/0.seg", "groups/1/GROUP", "groups/10/GROUP"] {
        disk.create(name, 1).await.unwrap();
    }
    disk.remove_tree("groups/1").await.unwrap();
    assert!(!folder.path().join("groups/1").exists());
    assert_eq!(disk.list("groups/10").await.unwrap(), ["GROUP"]);
    disk.remove_tree("groups/1").await.expect("it is removed already");
    for outside in ["", "..", "groups/../..", "tmp"] {
        assert_eq!(kind(disk.remove_tree(outside).await), Some(io::ErrorKind::InvalidInput), "{outside}");
    }
}

#[tokio::test]
async fn replace_is_a_whole_new_content() {
    let (_folder, disk) = disk();
    disk.replace("meta/group", Bytes::from_static(b"longer content")).await.unwrap();
    disk.replace("meta/group", Bytes::from_static(b"short")).await.unwrap();
    assert_eq!(disk.read("meta/group").await.unwrap(), &b"short"[..]);
    assert_eq!(kind(disk.read("meta/none").await), Some(io::ErrorKind::NotFound));
}

#[tokio::test]
async fn a_closed_file_is_not_found() {
    let (_folder, disk) = disk();
    let file = disk.create("a", 0).await.unwrap();
    disk.close(file).await.unwrap();
    assert_eq!(kind(disk.len(file).await), Some(io::ErrorKind::NotFound));
    assert_eq!(kind(disk.write_at(file, 0, Bytes::new()).await), Some(io::ErrorKind::NotFound));
    assert_eq!(kind(disk.sync(file).await), Some(io::ErrorKind::NotFound));
    assert_eq!(kind(disk.close(file).await), Some(io::ErrorKind::NotFound));
}

#[tokio::test]
async fn a_second_user_of_the_folder_is_refused() {
    let (folder, _disk) = disk();
    let error = RealDisk::open(folder.path()).expect_err("the folder is locked");
    assert!(matches!(&error, DiskOpenError::Locked { path } if path == folder.path()));
    assert_eq!(error.exit(), Exit::Usage);
}

#[tokio::test]
async fn a_file_that_never_got_its_name_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tmp")).unwrap();
    std::fs::write(folder.path().join("tmp/next"), b"half").unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    assert!(disk.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn many_writes_at_once_all_arrive() {
    let (_folder, disk) = disk();
    let file = disk.create("a", 0).await.unwrap();
    let mut writes = tokio::task::JoinSet::new();
    for at in 0..1_000_u64 {
        writes.spawn(disk.on_file(&disk.writer, file, move |open| open.file.write_all_at(b"x", at)));
    }
    while let Some(write) = writes.join_next().await {
        write.unwrap().unwrap();
    }
    disk.sync(file).await.unwrap();
    assert_eq!(disk.read_at(file, 0, 1_000).await.unwrap(), vec![b'x'; 1_000]);
}
