//! A disk in memory that behaves as badly as real ones do, by seed.

mod file;
mod pages;
mod state;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::file::SimFile;
use self::pages::Pages;
use self::state::State;
use super::{Disk, DiskFuture, FileId, check_folder, check_name};

/// A simulated disk. Every operation completes at its first poll, and one seed replays one behaviour. Clones share one
/// disk. Mutating operations are `create`, `write_at`, `sync`, `remove`,
/// `rename` and `replace`.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk whose accidents follow `seed`.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::with(State::new(seed))
    }

    fn with(state: State) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as it is found after a power cut now. Each write nobody synced is kept or lost on its own, so that a
    /// later one may survive an earlier one, and one of them (most often the last) may be torn at sectors of 512 bytes.
    /// This disk and its clones then fail with [`io::ErrorKind::BrokenPipe`]; injected faults do not carry over.
    pub fn power_cut(&self) -> SimDisk {
        SimDisk::with(self.lock().power_cut())
    }

    /// After `operations` more mutating operations the process is dead: everything fails with
    /// [`io::ErrorKind::BrokenPipe`]. The operation it died in may still take effect, by seed. Follow with
    /// [`SimDisk::power_cut`].
    pub fn cut_at_op(&self, operations: u64) {
        self.lock().operations_left = Some(operations);
    }

    /// From now on `sync` answers Ok and does nothing: what a build that forgets to sync looks like after a power cut.
    pub fn set_sync_lies(&self, lies: bool) {
        self.lock().sync_lies = lies;
    }

    /// The next `sync` fails. What it should have written is on the disk or lost for good, by seed, and reads go on
    /// showing it, as on Linux.
    pub fn fail_next_sync(&self) {
        self.fail_sync_after(0);
    }

    /// One `sync` fails as in [`SimDisk::fail_next_sync`], after `syncs` good ones.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.lock().syncs_until_failure = Some(syncs);
    }

    /// While `full`, `create`, `write_at` and `replace` fail with [`io::ErrorKind::StorageFull`].
    pub fn fail_writes(&self, full: bool) {
        self.lock().full = full;
    }

    /// Flips one bit, chosen by seed, of the byte at `at`, as a bad sector would: for good, and without a sign.
    ///
    /// # Panics
    /// When the file does not exist or is shorter, because the test means something else.
    pub fn flip_bit(&self, name: &str, at: u64) {
        let mut state = self.lock();
        let bit = state.numbers.below(8);
        let file = state.named(name).expect("the test flips a bit of an existing file");
        file.flip_bit(usize::try_from(at).expect("simulated files fit in memory"), bit);
    }

    /// How many mutating operations completed.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How many `write_at` completed.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// How many `sync` completed.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<'a, T: Send + 'a>(
        &'a self,
        act: impl FnOnce(&mut State) -> io::Result<T> + Send + 'a,
    ) -> DiskFuture<'a, T> {
        Box::pin(async move { self.lock().look(act) })
    }

    fn mutate<'a, T: Send + 'a>(
        &'a self,
        act: impl FnOnce(&mut State) -> io::Result<T> + Send + 'a,
    ) -> DiskFuture<'a, T> {
        Box::pin(async move { self.lock().mutate(act) })
    }
}

impl Disk for SimDisk {
    fn list<'a>(&'a self, folder: &'a str) -> DiskFuture<'a, Vec<String>> {
        self.look(move |state| {
            check_folder(folder)?;
            Ok(state.list(folder))
        })
    }

    fn open<'a>(&'a self, name: &'a str) -> DiskFuture<'a, FileId> {
        self.look(move |state| {
            check_name(name)?;
            state.open(name)
        })
    }

    fn create<'a>(&'a self, name: &'a str, len: u64) -> DiskFuture<'a, FileId> {
        self.mutate(move |state| {
            check_name(name)?;
            state.room()?;
            if state.named(name).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let len = usize::try_from(len).map_err(|_| io::ErrorKind::StorageFull)?;
            state.publish(name, SimFile::durable(Pages::zeros(len)));
            state.open(name)
        })
    }

    fn len(&self, file: FileId) -> DiskFuture<'_, u64> {
        self.look(move |state| Ok(state.file(file)?.len()))
    }

    fn write_at(&self, file: FileId, at: u64, bytes: Bytes) -> DiskFuture<'_, ()> {
        self.mutate(move |state| {
            state.room()?;
            state.file(file)?.write_at(at, bytes)?;
            state.writes += 1;
            Ok(())
        })
    }

    fn sync(&self, file: FileId) -> DiskFuture<'_, ()> {
        self.mutate(move |state| state.sync(file))
    }

    fn read_at(&self, file: FileId, at: u64, len: usize) -> DiskFuture<'_, Bytes> {
        self.look(move |state| state.file(file)?.read_at(at, len))
    }

    fn close(&self, file: FileId) -> DiskFuture<'_, ()> {
        self.look(move |state| state.close(file))
    }

    fn remove<'a>(&'a self, name: &'a str) -> DiskFuture<'a, ()> {
        self.mutate(move |state| {
            check_name(name)?;
            state.remove(name)
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> DiskFuture<'a, ()> {
        self.mutate(move |state| {
            check_name(from)?;
            check_name(to)?;
            state.rename(from, to)
        })
    }

    fn read<'a>(&'a self, name: &'a str) -> DiskFuture<'a, Bytes> {
        self.look(move |state| {
            check_name(name)?;
            Ok(state.named(name)?.all())
        })
    }

    fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> DiskFuture<'a, ()> {
        self.mutate(move |state| {
            check_name(name)?;
            state.room()?;
            state.publish(name, SimFile::durable(Pages::holding(&bytes)));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
