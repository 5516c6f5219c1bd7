//! The machine under the engine: a clock that jumps, and the disk as one process sees it.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use apogee_host::{Clock, Disk, DiskFuture, FileId, Monotonic, SimDisk};
use apogee_model::Timestamp;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::dice::Dice;

/// The wall clock runs ahead of its own past by at most this much.
pub(crate) const CLOCK_BOUND: Duration = Duration::from_millis(200);

/// Time follows tokio's; the wall shows seeded nonsense on top of it.
pub(crate) struct SimClock {
    began: Instant,
    /// Milliseconds the wall shows at the beginning, and how far ahead it is for the moment.
    wall: Mutex<(u64, u64)>,
}

impl SimClock {
    pub(crate) fn new() -> SimClock {
        SimClock { began: Instant::now(), wall: Mutex::new((1_767_225_600_000, 0)) }
    }

    /// An operator or NTP sets the wall clock: up to an hour back for good, or a little ahead for a while.
    pub(crate) fn jump(&self, dice: &Dice) {
        let mut wall = self.wall.lock().expect("nobody panics with the clock in hand");
        if dice.one_in(4) {
            wall.0 -= dice.below(3_600_000);
        }
        wall.1 = dice.below(u64::try_from(CLOCK_BOUND.as_millis()).expect("a short time"));
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Timestamp {
        let (base, ahead) = *self.wall.lock().expect("nobody panics with the clock in hand");
        Timestamp(base + ahead).plus(self.began.elapsed())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_duration(self.began.elapsed())
    }
}

/// What one process sees of a [`SimDisk`]: it takes its time, and is gone when the process is killed, while the page
/// cache lives on.
pub(crate) struct ProcessDisk {
    disk: SimDisk,
    dice: Dice,
    slow: bool,
    life: Mutex<Life>,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Life {
    Endless,
    /// Mutating operations until the kill.
    Left(u64),
    Over,
}

impl ProcessDisk {
    pub(crate) fn new(disk: SimDisk, dice: Dice, slow: bool) -> ProcessDisk {
        ProcessDisk { disk, dice, slow, life: Mutex::new(Life::Endless) }
    }

    /// kill -9 in the midst of a mutating operation, after `operations` good ones.
    pub(crate) fn kill_at_op(&self, operations: u64) {
        *self.life.lock().expect("nobody panics with it in hand") = Life::Left(operations);
    }

    /// An operation takes effect at once and is answered later, or waits for its effect.
    async fn mutate<T>(&self, operation: DiskFuture<'_, T>) -> io::Result<T> {
        let late_effect = self.dice.one_in(2);
        self.alive()?;
        self.take_time(late_effect).await;
        if self.strikes()? {
            if self.dice.one_in(2) {
                let _nobody_hears = operation.await;
            }
            return Err(killed());
        }
        let outcome = operation.await;
        self.take_time(!late_effect).await;
        self.alive()?;
        outcome
    }

    async fn take_time(&self, now: bool) {
        if self.slow && now {
            sleep(self.dice.millis(20)).await;
        }
    }

    /// Counts one operation down; says whether it is the last.
    fn strikes(&self) -> io::Result<bool> {
        self.alive()?;
        let mut life = self.life.lock().expect("nobody panics with it in hand");
        *life = match *life {
            Life::Left(0) => Life::Over,
            Life::Left(left) => Life::Left(left - 1),
            endless => endless,
        };
        Ok(*life == Life::Over)
    }

    fn alive(&self) -> io::Result<()> {
        let over = *self.life.lock().expect("nobody panics with it in hand") == Life::Over;
        if over { Err(killed()) } else { Ok(()) }
    }

    fn look<'a, T: Send + 'a>(&'a self, operation: DiskFuture<'a, T>) -> DiskFuture<'a, T> {
        Box::pin(async move {
            self.alive()?;
            operation.await
        })
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

    fn read<'a>(&'a self, name: &'a str) -> DiskFuture<'a, Bytes> {
        self.look(self.disk.read(name))
    }

    fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> DiskFuture<'a, ()> {
        Box::pin(self.mutate(self.disk.replace(name, bytes)))
    }
}
