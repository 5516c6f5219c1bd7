//! Three machines, a network and what can happen to them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{anyhow, bail};
use apogee_model::{Epoch, ReplicaId};
use apogee_tests::clients::{Dice, payload};
use apogee_tests::history::{Block, History, Name, Replica, What};

use crate::kernel::Kernel;
use crate::lanes::Desk;
use crate::machine::{Kind, Machine, Trims};
use crate::process::{End, Process};
use crate::steward::Steward;
use crate::tally::{Happening, Tally};

/// A machine without power is unheard of for this many steps at least, so that nobody hears its connections end.
const SILENCE: u32 = 4;
/// Segments that wait in a connection, and connections that wait for a process.
const TCP_CAPACITY: usize = 1024;
/// No run is longer.
const RUN_MAX: Duration = Duration::from_secs(3600);

/// See the module.
pub(crate) struct Cluster {
    sim: turmoil::Sim<'static>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) history: History,
    pub(crate) desk: Desk,
    pub(crate) steward: Steward,
    /// Nanoseconds since the beginning, for the history.
    now: Arc<AtomicU64>,
    dice: Dice,
    tick: Duration,
    /// Longest time of a bit on the wire.
    pub(crate) latency: Duration,
    pub(crate) segment_bytes: u64,
    pub(crate) trims: Trims,
    clients: Vec<String>,
    /// How many faults keep messages of the first host from the second.
    blocked: BTreeMap<(String, String), u32>,
    /// When machines without power may be heard again.
    silent: Vec<(Duration, usize)>,
    /// When dead processes are started again.
    restarts: Vec<(Duration, usize)>,
    /// The epochs that the machines led in a moment ago.
    leads: Vec<Option<Epoch>>,
    /// The machine that lost its disk, or a base that it may need: a second one before it has everything again would be
    /// a lost majority.
    pub(crate) robbed: Option<usize>,
    /// What happened, in order.
    pub(crate) log: Vec<String>,
    pub(crate) tally: Tally,
}

impl Cluster {
    /// Machines without processes.
    pub(crate) fn new(kind: &Kind) -> Cluster {
        let mut builder = turmoil::Builder::new();
        builder.rng_seed(kind.seed).simulation_duration(RUN_MAX).tick_duration(kind.tick).tcp_capacity(TCP_CAPACITY);
        builder.min_message_latency(Duration::ZERO).max_message_latency(kind.latency).enable_random_order();
        let mut sim = builder.build();
        let desk = Desk::default();
        let mut machines = Vec::new();
        let steward = Steward::new(kind.seed, kind.government, kind.replicas, kind.spares);
        for me in (1..=kind.replicas + kind.spares).map(ReplicaId) {
            let (kernel, dials) = Kernel::new();
            let mut machine = Machine::new(kind.clone(), me, kernel.clone(), desk.clone());
            if me.0 <= kind.replicas {
                machine.seat(steward.seating());
            }
            let dials = std::cell::Cell::new(Some(dials));
            sim.host(machine.host.as_str(), move || {
                let dials = dials.take().expect("the kernel never restarts");
                kernel.clone().run(dials)
            });
            machines.push(machine);
        }
        let now = Arc::new(AtomicU64::new(0));
        let outside = Arc::clone(&now);
        let elapsed =
            move || turmoil::sim_elapsed().unwrap_or_else(|| Duration::from_nanos(outside.load(Ordering::Relaxed)));
        Cluster {
            sim,
            leads: vec![None; machines.len()],
            machines,
            history: History::timed(elapsed),
            desk,
            steward,
            now,
            dice: Dice::new(kind.seed, 1),
            tick: kind.tick,
            latency: kind.latency,
            segment_bytes: kind.settings.segment_bytes,
            trims: kind.trims,
            clients: Vec::new(),
            blocked: BTreeMap::new(),
            silent: Vec::new(),
            restarts: Vec::new(),
            robbed: None,
            log: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Adds a client machine.
    pub(crate) fn client(&mut self, name: &str, client: impl Future<Output = turmoil::Result> + 'static) {
        self.sim.client(name, client);
        self.clients.push(name.to_owned());
    }

    pub(crate) fn start_all(&mut self) -> anyhow::Result<()> {
        (0..self.machines.len()).try_for_each(|machine| self.start(machine))
    }

    /// Lets a little time pass for everybody. Says whether all clients are through.
    pub(crate) fn step(&mut self) -> anyhow::Result<bool> {
        let finished = self.sim.step().map_err(|error| anyhow!("{error}"))?;
        let now = u64::try_from(self.age().as_nanos()).expect("short simulations");
        self.now.store(now, Ordering::Relaxed);
        let first = self.dice.size(0, self.machines.len() - 1);
        for nth in 0..self.machines.len() {
            let machine = (first + nth) % self.machines.len();
            self.machines[machine].tick(self.tick);
            self.bury(machine)?;
        }
        for machine in self.due(|cluster| &mut cluster.silent) {
            self.silence(machine, false);
        }
        for machine in self.due(|cluster| &mut cluster.restarts) {
            if !self.machines[machine].runs() {
                self.start(machine)?;
            }
        }
        self.watch_leaders();
        self.govern()?;
        Ok(finished)
    }

    fn due(&mut self, of: impl Fn(&mut Self) -> &mut Vec<(Duration, usize)>) -> Vec<usize> {
        let now = self.age();
        of(self).extract_if(.., |(at, _)| *at <= now).map(|(_, machine)| machine).collect()
    }

    /// Steps until `done`.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> anyhow::Result<()> {
        let end = self.age() + limit;
        while !done(self) {
            if self.age() > end {
                bail!("{what}: not within {limit:?}");
            }
            self.step()?;
        }
        Ok(())
    }

    pub(crate) fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = self.age() + time;
        while self.age() < end {
            self.step()?;
        }
        Ok(())
    }

    /// The machines whose replicas are there.
    pub(crate) fn hosting(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|machine| self.machines[*machine].hosts()).collect()
    }

    pub(crate) fn age(&self) -> Duration {
        self.sim.elapsed()
    }

    /// The machine that leads in the newest epoch and is awake.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |machine: &usize| self.machines[*machine].leads().filter(|_| !self.machines[*machine].paused());
        (0..self.machines.len()).filter(|machine| leads(machine).is_some()).max_by_key(leads)
    }

    /// Whoever takes the lead, again or for the first time, may let leases run for longer than the clients know.
    fn watch_leaders(&mut self) {
        let leads: Vec<_> = self.machines.iter().map(Machine::leads).collect();
        let before = std::mem::replace(&mut self.leads, leads);
        let changed = self.leads.iter().zip(before).enumerate().filter(|(_, (leads, before))| *leads != before);
        let news: Vec<_> = changed.filter_map(|(machine, (leads, _))| Some((machine, (*leads)?))).collect();
        for (machine, epoch) in news {
            self.history.end(self.history.start(), What::Down);
            self.tally.count(Happening::NewLeader);
            self.note(format!("{} leads in epoch {epoch}", self.machines[machine].host));
        }
    }

    /// SIGCONT. What leads may lose the lead and take it again before anybody sees it.
    pub(crate) fn resume(&mut self, machine: usize) {
        self.machines[machine].resume();
        self.leads[machine] = None;
    }

    pub(crate) fn start(&mut self, machine: usize) -> anyhow::Result<()> {
        if !self.machines[machine].hosts() {
            return Ok(());
        }
        self.note(format!("{} starts", self.machines[machine].host));
        let age = self.age();
        self.machines[machine].start(age)
    }

    /// Nothing stays down.
    pub(crate) fn restart_all(&mut self) {
        let (now, silence) = (self.age(), self.tick * SILENCE);
        self.restarts.iter_mut().for_each(|(at, _)| *at = now + silence);
    }

    /// kill -9, and a restart later.
    pub(crate) fn kill(&mut self, machine: usize, down: Duration) {
        self.note(format!("{} is killed for {down:?}", self.machines[machine].host));
        self.machines[machine].kill();
        self.restarts.push((self.age() + down, machine));
    }

    /// The power of a machine fails, and comes back later. Nobody hears anything of it any more.
    pub(crate) fn lose_power(&mut self, machine: usize, down: Duration) {
        self.note(format!("{} has no power for {down:?}", self.machines[machine].host));
        self.silence(machine, true);
        self.machines[machine].lose_power();
        if self.dice.one_in(8) {
            self.tally.count(Happening::LostViews);
            let and_base = self.dice.one_in(3) && self.robbed.is_none();
            let what = if and_base { "its views and its newest base" } else { "its views" };
            self.note(format!("{} loses {what}", self.machines[machine].host));
            self.robbed = self.robbed.or(and_base.then_some(machine));
            self.machines[machine].lose_views(and_base);
        }
        let silence = self.tick * SILENCE;
        self.silent.push((self.age() + silence, machine));
        self.restarts.push((self.age() + down.max(silence), machine));
    }

    /// A machine burns down, and a new one takes its place later.
    pub(crate) fn lose_disk(&mut self, machine: usize, down: Duration) {
        self.lose_power(machine, down);
        self.note(format!("{} loses its disk", self.machines[machine].host));
        self.robbed = Some(machine);
        self.machines[machine].lose_disk();
    }

    /// The end of a process that ended by itself.
    fn bury(&mut self, machine: usize) -> anyhow::Result<()> {
        let Some(end) = self.machines[machine].process().and_then(|process| process.ended()) else { return Ok(()) };
        let host = self.machines[machine].host.clone();
        match (end, self.machines[machine].disk_fault()) {
            (End::Again(why), _) => {
                self.note(format!("{host} begins again: {why}"));
                self.kill(machine, self.tick * SILENCE);
                return Ok(());
            }
            (End::Disk(why), Some(fault)) => {
                self.tally.count(fault);
                self.note(format!("{host} ended: {why}"));
            }
            (End::Stopped, _) => {
                self.tally.count(Happening::CleanStop);
                self.note(format!("{host} stopped"));
            }
            (End::Disk(why), None) | (End::Other(why), _) => bail!("{host} ended, and nobody knows why: {why}"),
        }
        let down = self.dice.millis(1000);
        if self.dice.one_in(4) {
            self.kill(machine, down);
        } else {
            self.lose_power(machine, down);
        }
        Ok(())
    }

    /// Everything of, to and from a machine is lost, or not any more.
    fn silence(&mut self, machine: usize, lost: bool) {
        let host = self.machines[machine].host.clone();
        for other in self.hosts().into_iter().filter(|other| *other != host) {
            self.block(&host, &other, lost);
            self.block(&other, &host, lost);
        }
    }

    /// All hosts of the network.
    pub(crate) fn hosts(&self) -> Vec<String> {
        self.machines.iter().map(|machine| machine.host.clone()).chain(self.clients.iter().cloned()).collect()
    }

    /// Loses what one host sends to another, or stops losing it. Calls for the same hosts add up.
    pub(crate) fn block(&mut self, from: &str, to: &str, lost: bool) {
        let count = self.blocked.entry((from.to_owned(), to.to_owned())).or_default();
        match lost {
            true => *count += 1,
            false => *count -= 1,
        }
        match (*count, lost) {
            (1, true) => self.sim.partition_oneway(from, to),
            (0, false) => self.sim.repair_oneway(from, to),
            _ => {}
        }
    }

    pub(crate) fn note(&mut self, what: String) {
        let line = format!("{:?} {what}", self.age());
        tracing::info!("{line}");
        self.log.push(line);
    }

    /// Notes which messages a replica holds no more.
    pub(crate) fn note_trims(&mut self, replica: &Replica) {
        let kept = match self.trims {
            Trims::None => return,
            Trims::Old(time) => Some(time),
            Trims::Many => None,
        };
        let lites: BTreeMap<_, _> = replica.views.lines().filter_map(lite_topic).collect();
        for (topic, queue, min) in replica.views.lines().filter_map(trimmed).filter(|(_, _, min)| *min > 0) {
            let topic = if topic == "1" { Some(payload::topic_name()) } else { lites.get(topic).cloned() };
            let Some(topic) = topic else { continue };
            self.tally.count(Happening::TrimmedQueue);
            let what = What::Trimmed { topic, queue, min, kept };
            self.history.end(self.history.start(), what);
        }
        let shortened = replica.log.keys().next().is_some_and(|first| *first > 1);
        self.tally.add(Happening::ShortenedLog, shortened.into());
    }

    /// What the replicas hold whose stores are open.
    pub(crate) fn replicas(&self) -> anyhow::Result<Vec<Replica>> {
        let mut replicas = Vec::new();
        for machine in &self.machines {
            let Some(dump) = machine.process().map(Process::dump).transpose()?.flatten() else { continue };
            let block = |(index, lsn, digest)| (index, Block { lsn, digest });
            let log = dump.log.into_iter().map(block).collect();
            let name = machine.host.as_str().into();
            replicas.push(Replica { name, applied: dump.applied.0, views: dump.views, log });
        }
        Ok(replicas)
    }
}

/// Topic and queue, and where the queue begins, if this row of the views is about that: `queue 1/0 5..9 from …` or `queue 1/0 empty at 9`.
fn trimmed(row: &str) -> Option<(&str, u32, u64)> {
    let (place, state) = row.strip_prefix("queue ")?.split_once(' ')?;
    let (topic, queue) = place.split_once('/')?;
    let min = match state.strip_prefix("empty at ") {
        Some(end) => end,
        None => state.split_once("..").filter(|_| state.contains(" from "))?.0,
    };
    Some((topic, queue.parse().ok()?, min.parse().ok()?))
}

/// Which lite topic a row of the views is about, if it is about one: `lite 2147483648 2/session-1 …`.
fn lite_topic(row: &str) -> Option<(&str, Name)> {
    let mut words = row.strip_prefix("lite ")?.split(' ');
    let (id, (_, name)) = (words.next()?, words.next()?.split_once('/')?);
    Some((id, payload::lite_topic_of(name)))
}
