//! Bad weather, by seed: everything that can happen to a cluster, one thing after the other and some at once.

use std::time::Duration;

use apogee_tests::clients::Dice;

use crate::cluster::Cluster;
use crate::machine::Machine;
use crate::process::Signal;
use crate::tally::Happening;

/// Two wall clocks differ by at most this much.
const CLOCK_BOUND: Duration = Duration::from_millis(200);
/// In some runs clocks are set by much more than leases last, and by less than resends are remembered.
const WILD_CLOCK_BOUND: Duration = Duration::from_secs(30);
/// Longest time from one fault to the next, in milliseconds; a run has one of these.
const GAPS: [u64; 3] = [400, 1000, 2500];

/// See the module.
pub(crate) struct Weather {
    dice: Dice,
    clients: Vec<String>,
    gap: u64,
    /// Single clocks are wrong by much.
    wild: bool,
    /// One thing at a time, so that the others can go on.
    gentle: bool,
    /// How far somebody set all clocks back.
    behind: Duration,
    next: Duration,
    mends: Vec<(Duration, Mend)>,
}

/// The end of a fault.
enum Mend {
    Resume(usize),
    Hear(Vec<(String, String)>),
    Speed(usize),
}

impl Weather {
    pub(crate) fn new(seed: u64, clients: Vec<String>) -> Weather {
        let dice = Dice::new(seed, 2);
        let (gap, wild, gentle) = (GAPS[dice.size(0, 2)], dice.one_in(8), !dice.one_in(3));
        let (behind, next, mends) = (Duration::ZERO, Duration::ZERO, Vec::new());
        Weather { dice, clients, gap, wild, gentle, behind, next, mends }
    }

    /// How far the wall clocks of this run may differ.
    pub(crate) fn clock_bound(&self) -> Duration {
        if self.wild { WILD_CLOCK_BOUND } else { CLOCK_BOUND }
    }

    /// Call it in every step.
    pub(crate) fn blow(&mut self, cluster: &mut Cluster) {
        let now = cluster.age();
        for (_, mend) in self.mends.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            end(mend, cluster);
        }
        if now >= self.next && (!self.gentle || self.all_is_well(cluster)) {
            self.next = now + self.dice.millis(self.gap);
            self.strike(cluster);
        }
    }

    /// Whether the last fault is over and somebody leads.
    fn all_is_well(&self, cluster: &Cluster) -> bool {
        self.mends.is_empty()
            && cluster.leader().is_some()
            && cluster.machines.iter().filter(|machine| machine.counts()).all(Machine::is_well)
    }

    /// The sun comes out.
    pub(crate) fn calm(&mut self, cluster: &mut Cluster) {
        cluster.steward.calm();
        for (_, mend) in std::mem::take(&mut self.mends) {
            end(mend, cluster);
        }
        cluster.restart_all();
        for machine in &mut cluster.machines {
            machine.calm_disk();
            machine.set_slowness(None);
        }
        cluster.note("everything is healed".to_owned());
    }

    fn strike(&mut self, cluster: &mut Cluster) {
        let victim = self.victim(cluster);
        let runs = cluster.machines[victim].runs();
        match self.dice.below(31) {
            0 | 1 => {
                cluster.tally.add(Happening::Kill, runs.into());
                cluster.kill(victim, self.dice.millis(1200));
            }
            2 | 3 => {
                cluster.tally.add(Happening::PowerLoss, runs.into());
                cluster.lose_power(victim, self.dice.millis(1200));
            }
            4 => {
                cluster.tally.count(Happening::Blackout);
                (0..cluster.machines.len()).for_each(|machine| cluster.lose_power(machine, self.dice.millis(300)));
            }
            5..=9 => {
                let operations = self.dice.below(12);
                cluster.note(format!("{} dies in {operations} operations", cluster.machines[victim].host));
                cluster.machines[victim].kill_at_op(operations);
            }
            10..=12 => self.isolate(cluster, victim),
            13..=15 => self.half_isolate(cluster, victim),
            16 => self.cut_off_client(cluster, victim),
            17..=19 => self.pause(cluster, victim),
            20 => self.set_clocks(cluster, victim),
            21 | 22 => self.slow_down(cluster, victim),
            23 | 24 => {
                cluster.note(format!("{} shall stop", cluster.machines[victim].host));
                cluster.machines[victim].signal(Signal::Stop);
            }
            25 => self.change_leader(cluster),
            26 | 27 if cluster.robbed.is_none() => {
                cluster.tally.count(Happening::LostDisk);
                cluster.lose_disk(victim, self.dice.millis(1200));
            }
            _ => {
                cluster.note(format!("a sync of {} fails soon", cluster.machines[victim].host));
                cluster.machines[victim].fail_sync_after(self.dice.below(6));
            }
        }
    }

    /// Leaders have more to lose.
    fn victim(&self, cluster: &Cluster) -> usize {
        let hosting = cluster.hosting();
        let anybody = hosting[self.dice.size(0, hosting.len() - 1)];
        cluster.leader().filter(|_| self.dice.one_in(2)).unwrap_or(anybody)
    }

    fn later(&self, cluster: &Cluster, max: u64) -> Duration {
        cluster.age() + Duration::from_millis(20) + self.dice.millis(max)
    }

    /// No replica hears this one, and it hears none; clients may or may not.
    fn isolate(&mut self, cluster: &mut Cluster, victim: usize) {
        let mut pairs = self.others(cluster, victim);
        if self.dice.one_in(3) {
            let host = cluster.machines[victim].host.clone();
            pairs.extend(self.clients.iter().map(|client| (host.clone(), client.clone())));
        }
        pairs.extend(pairs.clone().into_iter().map(|(from, to)| (to, from)));
        cluster.tally.count(Happening::Partition);
        self.cut(cluster, pairs);
    }

    /// Some are not heard that hear.
    fn half_isolate(&mut self, cluster: &mut Cluster, victim: usize) {
        let mut pairs = self.others(cluster, victim);
        if self.dice.one_in(2) {
            pairs = pairs.into_iter().map(|(from, to)| (to, from)).collect();
        }
        if self.dice.one_in(2) {
            pairs.truncate(1);
        }
        cluster.tally.count(Happening::OneWayPartition);
        self.cut(cluster, pairs);
    }

    fn others(&self, cluster: &Cluster, victim: usize) -> Vec<(String, String)> {
        let host = |machine: usize| cluster.machines[machine].host.clone();
        let others = (0..cluster.machines.len()).filter(|other| *other != victim);
        others.map(|other| (host(victim), host(other))).collect()
    }

    fn cut_off_client(&mut self, cluster: &mut Cluster, victim: usize) {
        let client = self.clients[self.dice.size(0, self.clients.len() - 1)].clone();
        let host = cluster.machines[victim].host.clone();
        let mut pairs = vec![(client.clone(), host.clone()), (host, client)];
        if self.dice.one_in(3) {
            pairs.remove(self.dice.size(0, 1));
        }
        cluster.tally.count(Happening::ProxyCutOff);
        self.cut(cluster, pairs);
    }

    fn cut(&mut self, cluster: &mut Cluster, pairs: Vec<(String, String)>) {
        let end = self.later(cluster, 2500);
        cluster.note(format!("{pairs:?} cut off until {end:?}"));
        pairs.iter().for_each(|(from, to)| cluster.block(from, to, true));
        self.mends.push((end, Mend::Hear(pairs)));
    }

    fn pause(&mut self, cluster: &mut Cluster, victim: usize) {
        let end = self.later(cluster, 3000);
        cluster.note(format!("{} stands still until {end:?}", cluster.machines[victim].host));
        cluster.tally.add(Happening::Pause, cluster.machines[victim].runs().into());
        cluster.machines[victim].pause();
        self.mends.push((end, Mend::Resume(victim)));
    }

    fn change_leader(&self, cluster: &mut Cluster) {
        if let Some(leader) = cluster.leader() {
            cluster.tally.count(Happening::HandOver);
            cluster.note(format!("{} shall let another one lead", cluster.machines[leader].host));
            cluster.machines[leader].signal(Signal::HandOver);
        }
    }

    /// One clock is set ahead of the others as far as allowed, or all go back.
    fn set_clocks(&mut self, cluster: &mut Cluster, victim: usize) {
        if self.dice.one_in(3) {
            self.behind += self.dice.millis(3_600_000);
        }
        let bound = u64::try_from(self.clock_bound().as_millis()).expect("some seconds");
        let ahead = self.dice.millis(bound);
        cluster.tally.count(Happening::ClockJump);
        cluster
            .note(format!("clocks are {:?} behind, {} is {ahead:?} ahead", self.behind, cluster.machines[victim].host));
        for (nth, machine) in cluster.machines.iter().enumerate() {
            machine.wall.set(if nth == victim { ahead } else { Duration::ZERO }, self.behind);
        }
    }

    fn slow_down(&mut self, cluster: &mut Cluster, victim: usize) {
        let (end, slowness) = (self.later(cluster, 2500), [30, 300, 3000][self.dice.size(0, 2)]);
        cluster.note(format!("the disk of {} takes {slowness} ms until {end:?}", cluster.machines[victim].host));
        cluster.tally.count(Happening::SlowDisk);
        cluster.machines[victim].set_slowness(Some(slowness));
        self.mends.push((end, Mend::Speed(victim)));
    }
}

fn end(mend: Mend, cluster: &mut Cluster) {
    match mend {
        Mend::Resume(machine) => cluster.resume(machine),
        Mend::Hear(pairs) => pairs.iter().for_each(|(from, to)| cluster.block(from, to, false)),
        Mend::Speed(machine) => cluster.machines[machine].set_slowness(None),
    }
}
