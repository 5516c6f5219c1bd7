//! The disk of the operating system, with its own threads.

mod folder;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::folder::Folder;
use super::{Disk, DiskFuture, FileId, LOCK_NAME, check_folder, check_name, not_open, sync_failed_before};
use crate::exit::{Exit, ExitWith};
use crate::lane::Lane;

/// Requests a lane takes before the next one waits.
const LANE_QUEUE: usize = 256;

/// A data folder of this machine, used by this process alone.
///
/// Writes, syncs, reads and changes of the folder each have their own thread, so that the write of one block overlaps
/// the sync of the block before. Dropping the disk waits until the threads have done the requests they have.
#[derive(Debug)]
pub struct RealDisk {
    folder: Arc<Folder>,
    files: Arc<Files>,
    writer: Lane,
    syncer: Lane,
    readers: Lane,
    maintenance: Lane,
    /// The last field: unlocked when the threads have ended.
    _lock: FolderLock,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskOpenError {
    #[error("data folder {path} is in use by another process")]
    Locked { path: PathBuf },
    #[error("data folder {path} cannot be used")]
    Unusable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

impl ExitWith for DiskOpenError {
    fn exit(&self) -> Exit {
        match self {
            DiskOpenError::Locked { .. } => Exit::Usage,
            DiskOpenError::Unusable { cause, .. } => cause.exit(),
        }
    }
}

impl RealDisk {
    /// Creates `root` when needed, locks it for this process and starts the IO threads. Blocks; call it at start.
    ///
    /// # Errors
    /// [`DiskOpenError::Locked`] while another process, or another `RealDisk` of this one, uses the folder.
    pub fn open(root: &Path) -> Result<RealDisk, DiskOpenError> {
        let unusable = |cause| DiskOpenError::Unusable { path: root.to_owned(), cause };
        // What is inside, keys among it, is for this user alone.
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(unusable)?;
        let lock = lock(root)?;
        let folder = Folder::open(root).map_err(unusable)?;
        Ok(RealDisk {
            folder: Arc::new(folder),
            files: Arc::default(),
            writer: Lane::start("disk-write", 1, LANE_QUEUE).map_err(unusable)?,
            syncer: Lane::start("disk-sync", 1, LANE_QUEUE).map_err(unusable)?,
            readers: Lane::start("disk-read", 2, LANE_QUEUE).map_err(unusable)?,
            maintenance: Lane::start("disk-files", 1, LANE_QUEUE).map_err(unusable)?,
            _lock: lock,
        })
    }

    /// Removes a folder inside this one with all its files, durably. A crash may leave some of them; removing it again
    /// goes on. Nobody may use the folder meanwhile.
    ///
    /// # Errors
    /// Those of the operating system. A folder that is not there is none.
    pub async fn remove_tree(&self, folder: &str) -> io::Result<()> {
        let removing = self.on_name(folder, |root, _, folder| {
            check_name(folder)?;
            root.remove_tree(folder)
        });
        removing.await
    }

    fn on_file<T: Send + 'static>(
        &self,
        lane: &Lane,
        file: FileId,
        work: impl FnOnce(&OpenFile) -> io::Result<T> + Send + 'static,
    ) -> DiskFuture<'static, T> {
        let files = Arc::clone(&self.files);
        lane.run(move || work(&*files.get(file)?))
    }

    fn on_name<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Folder, &Files, &str) -> io::Result<T> + Send + 'static,
    ) -> DiskFuture<'static, T> {
        let (folder, files, name) = (Arc::clone(&self.folder), Arc::clone(&self.files), name.to_owned());
        self.maintenance.run(move || work(&folder, &files, &name))
    }
}

/// The lock on the data folder. Unlocks by itself instead of leaving it to the last close of the file, because a child
/// process that is just being started may share the open file for a moment.
#[derive(Debug)]
struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        let _closing_does_it_too = self.0.unlock();
    }
}

fn lock(root: &Path) -> Result<FolderLock, DiskOpenError> {
    let path = root.join(LOCK_NAME);
    let unusable = |cause| DiskOpenError::Unusable { path: root.to_owned(), cause };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(TryLockError::WouldBlock) => Err(DiskOpenError::Locked { path: root.to_owned() }),
        Err(TryLockError::Error(cause)) => Err(unusable(cause)),
    }
}

impl Disk for RealDisk {
    fn list<'a>(&'a self, folder: &'a str) -> DiskFuture<'a, Vec<String>> {
        self.on_name(folder, |root, _, folder| {
            check_folder(folder)?;
            root.list(folder)
        })
    }

    fn open<'a>(&'a self, name: &'a str) -> DiskFuture<'a, FileId> {
        self.on_name(name, |root, files, name| {
            check_name(name)?;
            Ok(files.add(root.open_file(name)?))
        })
    }

    fn create<'a>(&'a self, name: &'a str, len: u64) -> DiskFuture<'a, FileId> {
        self.on_name(name, move |root, files, name| {
            check_name(name)?;
            Ok(files.add(root.create(name, len)?))
        })
    }

    fn len(&self, file: FileId) -> DiskFuture<'_, u64> {
        self.on_file(&self.readers, file, |open| Ok(open.file.metadata()?.len()))
    }

    fn write_at(&self, file: FileId, at: u64, bytes: Bytes) -> DiskFuture<'_, ()> {
        self.on_file(&self.writer, file, move |open| open.file.write_all_at(&bytes, at))
    }

    fn sync(&self, file: FileId) -> DiskFuture<'_, ()> {
        self.on_file(&self.syncer, file, OpenFile::sync)
    }

    fn read_at(&self, file: FileId, at: u64, len: usize) -> DiskFuture<'_, Bytes> {
        self.on_file(&self.readers, file, move |open| {
            let end = at.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
            if end > open.file.metadata()?.len() {
                return Err(io::ErrorKind::UnexpectedEof.into()); // before a hostile `len` becomes memory
            }
            let mut bytes = vec![0; len];
            open.file.read_exact_at(&mut bytes, at)?;
            Ok(Bytes::from(bytes))
        })
    }

    fn close(&self, file: FileId) -> DiskFuture<'_, ()> {
        let files = Arc::clone(&self.files);
        self.maintenance.run(move || files.remove(file))
    }

    fn remove<'a>(&'a self, name: &'a str) -> DiskFuture<'a, ()> {
        self.on_name(name, |root, _, name| {
            check_name(name)?;
            root.remove(name)
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> DiskFuture<'a, ()> {
        let to = to.to_owned();
        self.on_name(from, move |root, _, from| {
            check_name(from)?;
            check_name(&to)?;
            root.rename(from, &to)
        })
    }

    fn read<'a>(&'a self, name: &'a str) -> DiskFuture<'a, Bytes> {
        self.on_name(name, |root, _, name| {
            check_name(name)?;
            root.read(name)
        })
    }

    fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> DiskFuture<'a, ()> {
        self.on_name(name, move |root, _, name| {
            check_name(name)?;
            root.replace(name, &bytes)
        })
    }
}

/// The open files by id.
#[derive(Debug, Default)]
struct Files {
    next: AtomicU64,
    open: Mutex<BTreeMap<FileId, Arc<OpenFile>>>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    sync_failed: AtomicBool,
}

impl Files {
    fn add(&self, file: File) -> FileId {
        let id = FileId(self.next.fetch_add(1, Ordering::Relaxed));
        self.open().insert(id, Arc::new(OpenFile { file, sync_failed: AtomicBool::new(false) }));
        id
    }

    fn get(&self, file: FileId) -> io::Result<Arc<OpenFile>> {
        self.open().get(&file).cloned().ok_or_else(|| not_open(file))
    }

    fn remove(&self, file: FileId) -> io::Result<()> {
        self.open().remove(&file).map(drop).ok_or_else(|| not_open(file))
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<FileId, Arc<OpenFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenFile {
    fn sync(&self) -> io::Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(sync_failed_before());
        }
        self.file.sync_data().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }
}

#[cfg(test)]
mod tests;
