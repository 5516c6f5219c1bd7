//! Files as a seam: where the log, its indexes and small state live.

mod real;
mod sim;

use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;

pub use real::{DiskOpenError, RealDisk};
pub use sim::SimDisk;

/// The answer of a disk, in time. Nothing happens before the first poll; dropping it later leaves open whether the
/// operation takes place.
pub type DiskFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// An open file of one [`Disk`]. Never used again for another file by the same disk.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

/// The files of one data folder. Names are flat relative paths such as `log/00000000000000000000.seg`; their folders
/// are created when needed. Offsets and lengths are bytes.
///
/// [`RealDisk`] owns the IO threads; [`SimDisk`] completes inline, forgets what was not synced, tears a write, fills
/// up, and flips bits when told to.
///
/// # Errors
/// A [`FileId`] that is not open is [`io::ErrorKind::NotFound`]; a name that would leave the folder is
/// [`io::ErrorKind::InvalidInput`].
pub trait Disk: Send + Sync + 'static {
    /// The sorted names of the files in `folder` (`""` is the data folder itself), without the folder; empty when it
    /// does not exist.
    fn list<'a>(&'a self, folder: &'a str) -> DiskFuture<'a, Vec<String>>;

    /// Opens an existing file to read and write; [`io::ErrorKind::NotFound`] otherwise.
    fn open<'a>(&'a self, name: &'a str) -> DiskFuture<'a, FileId>;

    /// Creates a file of `len` zero bytes whose blocks are allocated and durable, name included. After a power cut
    /// the file is there in full length or not at all. [`io::ErrorKind::AlreadyExists`] if there is one.
    fn create<'a>(&'a self, name: &'a str, len: u64) -> DiskFuture<'a, FileId>;

    /// The length of the file.
    fn len(&self, file: FileId) -> DiskFuture<'_, u64>;

    /// Writes all of `bytes` into the page cache. Until [`Disk::sync`] a power cut may keep any part of it.
    fn write_at(&self, file: FileId, at: u64, bytes: Bytes) -> DiskFuture<'_, ()>;

    /// Makes every write durable that completed before the call. After one failure every later sync of this
    /// [`FileId`] fails too, because the operating system forgets what it could not write: recover from the disk.
    fn sync(&self, file: FileId) -> DiskFuture<'_, ()>;

    /// Exactly `len` bytes, or [`io::ErrorKind::UnexpectedEof`].
    fn read_at(&self, file: FileId, at: u64, len: usize) -> DiskFuture<'_, Bytes>;

    /// Gives the [`FileId`] up. Does not sync.
    fn close(&self, file: FileId) -> DiskFuture<'_, ()>;

    /// Removes a file for good: durable when it returns. Whoever has it open can go on using it.
    fn remove<'a>(&'a self, name: &'a str) -> DiskFuture<'a, ()>;

    /// Gives a file another name, in place of the file that has it, if there is one; durable when it returns. After a power
    /// cut it has one of the two names. Whoever has one of them open can go on using it.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> DiskFuture<'a, ()>;

    /// A small file in one piece.
    fn read<'a>(&'a self, name: &'a str) -> DiskFuture<'a, Bytes>;

    /// Creates or replaces a small file, atomically and durably: a power cut leaves the old content or the new.
    fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> DiskFuture<'a, ()>;
}

/// Held by the process that uses the folder.
const LOCK_NAME: &str = "LOCK";

/// Where files are made ready before they get their name; emptied when the disk opens.
const TEMPORARY_FOLDER: &str = "tmp";

/// Accepts relative names of plain parts only, so that no name leaves the data folder, and none of the disk's own.
fn check_name(name: &str) -> io::Result<()> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']);
    let own = name.split('/').next().is_some_and(|first| first == LOCK_NAME || first == TEMPORARY_FOLDER);
    if name.split('/').all(plain) && !own {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a name inside the data folder")))
}

/// Like [`check_name`], and accepts the data folder itself.
fn check_folder(folder: &str) -> io::Result<()> {
    if folder.is_empty() { Ok(()) } else { check_name(folder) }
}

fn not_open(file: FileId) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("file {} is not open", file.0))
}

fn sync_failed_before() -> io::Error {
    io::Error::other("an earlier sync of this file failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_folder() {
        for good in ["log/00000000000000000000.seg", "meta", "a/b/c"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "log/../../x", "log//x", "./x", "log/", "a\0b", "LOCK", "tmp/x"] {
            assert_eq!(check_name(bad).map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput), "{bad:?}");
        }
    }
}
