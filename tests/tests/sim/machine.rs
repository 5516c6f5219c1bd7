//! One machine of the cluster: what survives its processes, and the process of the moment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use apogee_engine::{Members, MemoryViewStore, Role, SEGMENT_TINY, Seating, Settings};
use apogee_host::{Disk as _, SeededEntropy, SimDisk};
use apogee_model::{Epoch, ReplicaGroupId, ReplicaId};
use apogee_tests::clients::Dice;
use apogee_tests::machine::ProcessDisk;
use futures::FutureExt as _;
use tokio::sync::watch;

use crate::clock::Wall;
use crate::kernel::{Kernel, host_of};
use crate::lanes::Desk;
use crate::process::{Process, Signal, Start};
use crate::rule::Rule;
use crate::steward::{Government, Steward};
use crate::tally::Happening;

/// Longest time of an operation of a healthy disk, in milliseconds; a run has one of these.
const SLOWNESS: [u64; 3] = [3, 3, 25];

/// What all machines of a cluster have in common.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) seed: u64,
    pub(crate) rule: Rule,
    pub(crate) sync_lies: bool,
    pub(crate) replicas: u64,
    /// Machines for replicas that come.
    pub(crate) spares: u64,
    pub(crate) government: Government,
    /// Longest time of a bit on the wire.
    pub(crate) latency: Duration,
    /// The simulation's step. Processes live in milliseconds; what they send leaves at the end of a step.
    pub(crate) tick: Duration,
    /// Longest time of an operation of a healthy disk, in milliseconds.
    pub(crate) slowness: u64,
    pub(crate) settings: Settings,
    /// Messages are trimmed when they are old, or also when there are too many; or never.
    pub(crate) trims: Trims,
}

/// Which messages a run does not keep.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Trims {
    None,
    Old(Duration),
    /// The oldest ones, whoever holds them.
    Many,
}

/// See the module.
pub(crate) struct Machine {
    pub(crate) me: ReplicaId,
    pub(crate) host: String,
    kind: Kind,
    disk: SimDisk,
    views: MemoryViewStore,
    pub(crate) wall: Wall,
    kernel: Kernel,
    desk: Desk,
    /// What it heard last of its replica group, once its replica is here. It survives processes, as `wiring.json` does.
    seating: Option<watch::Sender<Seating>>,
    /// The process, if one runs.
    process: Option<Process>,
    /// How long the process has stood still, if it does.
    paused: Option<Duration>,
    starts: u64,
    slowness: u64,
    /// A sync is going to fail.
    sync_fails: bool,
}

impl Kind {
    /// The machines' kind in the run of this seed.
    pub(crate) fn new(seed: u64, rule: Rule, dice: &Dice) -> Kind {
        // Segments fill up, and some messages are too large for the smallest ones.
        let segment_bytes = SEGMENT_TINY << [0, 2, 4, 6][dice.size(0, 3)];
        let mut settings = Settings { segment_bytes, ..Settings::default() };
        if dice.one_in(2) {
            settings.tail_bytes = 4 << 10;
        }
        if dice.one_in(4) {
            settings.in_flight_max = 12;
        }
        if !dice.one_in(4) {
            settings.views_batch_every = Duration::from_millis(20) + dice.millis(200);
            settings.views_flush_every = Duration::from_millis(20) + dice.millis(800);
        }
        let trims = match dice.below(6) {
            0 | 1 => Trims::Old(Duration::from_millis(500) + dice.millis(2000)),
            2 => Trims::Many,
            _ => Trims::None,
        };
        settings.retention.every = Duration::from_millis(50) + dice.millis(400);
        match trims {
            Trims::None => {}
            Trims::Old(time) => settings.retention.time = time,
            Trims::Many => settings.retention.bytes = Some(3 * SEGMENT_TINY),
        }
        if trims != Trims::None {
            settings.segment_bytes = SEGMENT_TINY;
        }
        let (latency, tick) = [(4, 2), (10, 3), (40, 5)][dice.size(0, 2)];
        let (latency, tick) = (Duration::from_millis(latency), Duration::from_millis(tick));
        let slowness = SLOWNESS[dice.size(0, 2)];
        let (spares, government) = (Steward::spares(seed), Government::Honest);
        Kind { seed, rule, sync_lies: false, replicas: 3, spares, government, latency, tick, slowness, settings, trims }
    }
}

impl Machine {
    pub(crate) fn new(kind: Kind, me: ReplicaId, kernel: Kernel, desk: Desk) -> Machine {
        let disk = SimDisk::new(kind.seed.wrapping_mul(31).wrapping_add(me.0));
        disk.set_sync_lies(kind.sync_lies);
        let (host, views, wall) = (host_of(me), MemoryViewStore::default(), Wall::new());
        let (process, paused, starts, slowness, sync_fails) = (None, None, 0, kind.slowness, false);
        let seating = None;
        Machine {
            me,
            host,
            kind,
            disk,
            views,
            wall,
            kernel,
            desk,
            seating,
            process,
            paused,
            starts,
            slowness,
            sync_fails,
        }
    }

    /// Its replica is here from now on, if it was not, and its group is to be this.
    pub(crate) fn seat(&mut self, seating: Seating) {
        match &self.seating {
            Some(seats) => drop(seats.send_replace(seating)),
            None => self.seating = Some(watch::Sender::new(seating)),
        }
    }

    /// Its replica is here no more, nor are its files.
    pub(crate) fn leave(&mut self) {
        self.kill();
        self.lose_disk();
        self.seating = None;
    }

    /// Whether its replica is here.
    pub(crate) fn hosts(&self) -> bool {
        self.seating.is_some()
    }

    /// Whether its replica is here, and others count on it.
    pub(crate) fn counts(&self) -> bool {
        let comes = |seating: &Seating| seating.exchange.is_some_and(|one| one.comes == self.me && !one.swaps);
        self.seating.as_ref().is_some_and(|seats| !comes(&seats.borrow()))
    }

    /// Starts a process, when the simulation is `age` old, where a replica is.
    pub(crate) fn start(&mut self, age: Duration) -> anyhow::Result<()> {
        anyhow::ensure!(self.process.is_none(), "{} runs already", self.host);
        let seating = self.seating.as_ref().map(watch::Sender::subscribe).context("its replica is not here")?;
        self.starts += 1;
        let life = (self.me.0 << 32) | (self.starts << 8);
        let disk = ProcessDisk::new(self.disk.clone(), Dice::new(self.kind.seed, life), self.slowness);
        let start = Start {
            members: Members { me: self.me, group: ReplicaGroupId(0), seating, cluster_id: 7 },
            settings: self.kind.settings,
            rule: self.kind.rule,
            disk: Arc::new(disk),
            views: self.views.clone(),
            entropy: SeededEntropy::new(self.kind.seed ^ life.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            wall: self.wall.clone(),
            age,
            sockets: self.kernel.start(),
            desk: self.desk.clone(),
        };
        self.process = Some(Process::start(start)?);
        Ok(())
    }

    /// kill -9. The page cache lives on.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.disk.kill();
            self.kernel.end();
            self.views.crash();
            self.paused = None;
            self.disk.fail_sync_after(u64::MAX);
            self.sync_fails = false;
        }
    }

    /// The power fails.
    pub(crate) fn lose_power(&mut self) {
        self.kill();
        self.disk = self.disk.power_cut();
        self.disk.set_sync_lies(self.kind.sync_lies);
    }

    /// A machine without a process gets an empty disk.
    pub(crate) fn lose_disk(&mut self) {
        let seed = self.kind.seed.wrapping_mul(37).wrapping_add(self.me.0);
        self.disk = SimDisk::new(seed);
        self.disk.set_sync_lies(self.kind.sync_lies);
        self.views = MemoryViewStore::default();
    }

    /// Whether a process of this machine took its store for damaged, and began anew or is about to.
    pub(crate) fn distrusts_its_store(&self) -> bool {
        let aside = self.disk.list("damaged/store").now_or_never();
        let marked = self.disk.read("store.damaged").now_or_never();
        aside.is_some_and(|names| names.is_ok_and(|names| !names.is_empty())) || marked.is_some_and(|mark| mark.is_ok())
    }

    /// Somebody removes the live views of a machine without a process, and perhaps a bit of the newest base flips.
    pub(crate) fn lose_views(&self, and_base: bool) {
        self.views.damage_live();
        if and_base {
            self.views.damage_newest_base();
        }
    }

    /// Asks something of the process.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// SIGSTOP.
    pub(crate) fn pause(&mut self) {
        if self.process.is_some() {
            self.paused.get_or_insert_default();
        }
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self) {
        if let (Some(process), Some(time)) = (&self.process, self.paused.take()) {
            process.wake_after(time);
        }
    }

    /// Lets the process run for this much time, unless it stands still.
    pub(crate) fn tick(&mut self, time: Duration) {
        let _of = tracing::info_span!("", me = %self.me).entered();
        match (&self.process, &mut self.paused) {
            (Some(process), None) => process.tick(time),
            (_, Some(paused)) => *paused += time,
            (None, None) => {}
        }
    }

    /// Operations of the disk take less than this many milliseconds from now on; `None`: as those of a healthy one.
    pub(crate) fn set_slowness(&mut self, slowness: Option<u64>) {
        let slowness = slowness.unwrap_or(self.kind.slowness);
        self.slowness = slowness;
        if let Some(process) = &self.process {
            process.disk.set_slowness(slowness);
        }
    }

    /// The process dies in the midst of an operation of its disk, after so many more.
    pub(crate) fn kill_at_op(&self, operations: u64) {
        if let Some(process) = &self.process {
            process.disk.kill_at_op(operations);
        }
    }

    /// The disk of this process never answers again.
    pub(crate) fn hang_disk(&self) {
        if let Some(process) = &self.process {
            process.disk.hang();
        }
    }

    /// One sync fails after so many good ones.
    pub(crate) fn fail_sync_after(&mut self, syncs: u64) {
        self.disk.fail_sync_after(syncs);
        self.sync_fails = true;
    }

    /// Nothing that was announced is going to happen to the disk or because of it.
    pub(crate) fn calm_disk(&mut self) {
        self.disk.fail_sync_after(u64::MAX);
        self.kill_at_op(u64::MAX);
    }

    /// Why the disk of the process may have failed, if we know a cause.
    pub(crate) fn disk_fault(&self) -> Option<Happening> {
        let killed = self.process.as_ref().is_some_and(|process| process.disk.killed());
        let fails = self.sync_fails.then_some(Happening::FailedSync);
        if killed { Some(Happening::KillInOperation) } else { fails }
    }

    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Whether nothing is wrong with its process and its disk.
    pub(crate) fn is_well(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.role().is_some())
            && self.paused.is_none()
            && self.slowness == self.kind.slowness
    }

    pub(crate) fn paused(&self) -> bool {
        self.paused.is_some()
    }

    /// The epoch in which it believes to lead.
    pub(crate) fn leads(&self) -> Option<Epoch> {
        match self.process.as_ref()?.role()? {
            Role::Leader { epoch } => Some(epoch),
            Role::Follower { .. } => None,
        }
    }
}
