//! A disk that takes its time and is gone with its process.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use apogee_host::{Disk, DiskFuture, FileId, SimDisk};
use bytes::Bytes;
use tokio::time::sleep;

use crate::clients::Dice;

/// What one process sees of a [`SimDisk`]: it takes its time, and is gone when the process is killed, while the page
/// cache lives on.
pub struct ProcessDisk {
    disk: SimDisk,
    dice: Dice,
    state: Mutex<State>,
}

#[derive(Copy, Clone)]
struct State {
    life: Life,
    /// Longest time of a mutating operation, in milliseconds.
    slowness: u64,
    hangs: bool,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Life {
    Endless,
    /// Mutating operations until the kill.
    Left(u64),
    Over,
}

impl ProcessDisk {
    /// The disk of a new process. A mutating operation takes a random time of less than `slowness` milliseconds.
    pub fn new(disk: SimDisk, dice: Dice, slowness: u64) -> ProcessDisk {
        ProcessDisk { disk, dice, state: Mutex::new(State { life: Life::Endless, slowness, hangs: false }) }
    }

    /// From now on mutating operations take less than `slowness` milliseconds.
    pub fn set_slowness(&self, slowness: u64) {
        self.state().slowness = slowness;
    }

    /// From now on mutating operations have no effect and never end.
    pub fn hang(&self) {
        self.state().hangs = true;
    }

    /// kill -9 in the midst of a mutating operation, after `operations` good ones. The dead stay dead.
    pub fn kill_at_op(&self, operations: u64) {
        let life = &mut self.state().life;
        if *life != Life::Over {
            *life = Life::Left(operations);
        }
    }

    /// The process is dead: nothing it does has an effect any more.
    pub fn kill(&self) {
        self.state().life = Life::Over;
    }

    /// Whether the process was killed, or its machine lost its power.
    pub fn killed(&self) -> bool {
        self.state().life == Life::Over
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation takes effect at once and is answered later, or waits for its effect.
    async fn mutate<T>(&self, operation: DiskFuture<'_, T>) -> io::Result<T> {
        let late_effect = self.dice.one_in(2);
        self.alive()?;
        let hangs = self.state().hangs;
        if hangs {
            return std::future::pending().await;
        }
        self.take_time(late_effect).await;
        if self.strikes()? {
            if self.dice.one_in(2) {
                let _nobody_hears = operation.await;
            }
            return Err(killed());
        }
        let outcome = self.or_dead(operation.await);
        self.take_time(!late_effect).await;
        self.alive()?;
        outcome
    }

    async fn take_time(&self, now: bool) {
        let slowness = self.state().slowness;
        if slowness > 0 && now {
            sleep(self.dice.millis(slowness)).await;
        }
    }

    /// Counts one operation down; says whether it is the last.
    fn strikes(&self) -> io::Result<bool> {
        self.alive()?;
        let life = &mut self.state().life;
        *life = match *life {
            Life::Left(0) => Life::Over,
            Life::Left(left) => Life::Left(left - 1),
            endless => endless,
        };
        Ok(*life == Life::Over)
    }

    fn alive(&self) -> io::Result<()> {
        if self.killed() { Err(killed()) } else { Ok(()) }
    }

    fn look<'a, T: Send + 'a>(&'a self, operation: DiskFuture<'a, T>) -> DiskFuture<'a, T> {
        Box::pin(async move {
            self.alive()?;
            self.or_dead(operation.await)
        })
    }

    /// The power of its machine is gone, and with it the process.
    fn or_dead<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.kill();
        }
        outcome
    }
}

fn killed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the simulated process was killed")
}

impl Disk for ProcessDisk {
    fn list<'a>(&'a self, folder: &'a str) -> DiskFuture<'a, Vec<String>> {
        self.look(self.disk.list(folder))
    }

    fn open<'a>(&'a self, name: &'a str) -> DiskFuture<'a, FileId> {
        self.look(self.disk.open(name))
    }

    fn create<'a>(&'a self, name: &'a str, len: u64) -> DiskFuture<'a, FileId> {
        Box::pin(self.mutate(self.disk.create(name, len)))
    }

    fn len(&self, file: FileId) -> DiskFuture<'_, u64> {
        self.look(self.disk.len(file))
    }

    fn write_at(&self, file: FileId, at: u64, bytes: Bytes) -> DiskFuture<'_, ()> {
        Box::pin(self.mutate(self.disk.write_at(file, at, bytes)))
    }

    fn sync(&self, file: FileId) -> DiskFuture<'_, ()> {
        Box::pin(self.mutate(self.disk.sync(file)))
    }

    fn read_at(&self, file: FileId, at: u64, len: usize) -> DiskFuture<'_, Bytes> {
        self.look(self.disk.read_at(file, at, len))
    }

    fn close(&self, file: FileId) -> DiskFuture<'_, ()> {
        self.look(self.disk.close(file))
    }

    fn remove<'a>(&'a self, name: &'a str) -> DiskFuture<'a, ()> {
        Box::pin(self.mutate(self.disk.remove(name)))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> DiskFuture<'a, ()> {
        Box::pin(self.mutate(self.disk.rename(from, to)))
    }

    fn read<'a>(&'a self, name: &'a str) -> DiskFuture<'a, Bytes> {
        self.look(self.disk.read(name))
    }

    fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> DiskFuture<'a, ()> {
        Box::pin(self.mutate(self.disk.replace(name, bytes)))
    }
}
