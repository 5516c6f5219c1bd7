//! Plays namesrv for the replica group: replicas move from machine to machine, and everybody hears of it late.
//!
//! What it may say and when is what `namesrv/src/state/moves.rs` says; a machine does with it what a store-node does.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use apogee_engine::{Exchange, Reached, ReachedHow, Seating};
use apogee_model::ReplicaId;
use apogee_tests::clients::Dice;

use crate::cluster::Cluster;
use crate::process::{Process, Signal};
use crate::tally::Happening;

/// In one of so many seeds replicas move,
const MOVES_IN: u64 = 3;
/// so many times at most.
const SPARES: u64 = 3;
/// Longest time until a machine hears what was decided, in milliseconds; a run has one of these.
const NEWS: [u64; 3] = [20, 300, 2500];
/// Longest time until the steward hears of a leader, in milliseconds.
const REPORT: u64 = 400;
/// Longest pause between two moves, in milliseconds.
const PAUSE: u64 = 1500;
/// One of so many moves is to be given up,
const GIVE_UP_IN: u64 = 4;
/// after so many milliseconds at most.
const GIVE_UP: u64 = 1500;
/// How often whoever is to leave is asked to let another one lead.
const HAND_OVER_EVERY: Duration = Duration::from_millis(500);

/// The build under test: the honest one, or one that forgets something.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Government {
    Honest,
    /// Leaders give a replica its vote before it is written down that they may.
    Eager,
    /// The files of a replica are removed while it still may vote.
    Careless,
}

/// See the module.
pub(crate) struct Steward {
    dice: Dice,
    government: Government,
    news_within: u64,
    replicas: BTreeSet<ReplicaId>,
    moving: Option<Move>,
    last: ReplicaId,
    /// The largest number there is a machine for.
    machines: ReplicaId,
    /// When the next move may begin.
    next: Duration,
    asked_to_hand_over: Duration,
    /// What machines will hear, and when.
    news: Vec<(Duration, usize, Seating)>,
    /// What the steward will hear, and when.
    reports: Vec<(Duration, Reached)>,
    is_calm: bool,
}

#[derive(Copy, Clone)]
struct Move {
    exchange: Exchange,
    gives_up: Option<Duration>,
}

impl Steward {
    /// How many machines the run of this seed has for replicas that come.
    pub(crate) fn spares(seed: u64) -> u64 {
        if Dice::new(seed, 504).one_in(MOVES_IN) { SPARES } else { 0 }
    }

    pub(crate) fn new(seed: u64, government: Government, replicas: u64, spares: u64) -> Steward {
        let dice = Dice::new(seed, 505);
        let news_within = NEWS[dice.size(0, 2)];
        let next = Duration::from_millis(200) + dice.millis(PAUSE);
        Steward {
            dice,
            government,
            news_within,
            replicas: (1..=replicas).map(ReplicaId).collect(),
            moving: None,
            last: ReplicaId(replicas),
            machines: ReplicaId(replicas + spares),
            next,
            asked_to_hand_over: Duration::ZERO,
            news: Vec::new(),
            reports: Vec::new(),
            is_calm: false,
        }
    }

    /// What it says now.
    pub(crate) fn seating(&self) -> Seating {
        let exchange = self.moving.map(|moving| moving.exchange);
        let exchange = exchange.map(|one| Exchange { swaps: one.swaps || self.government == Government::Eager, ..one });
        Seating { replicas: self.replicas.clone(), exchange, last: self.last }
    }

    /// No more moves begin, and none is given up.
    pub(crate) fn calm(&mut self) {
        self.is_calm = true;
    }

    /// Whether nothing moves, and everybody knows.
    pub(crate) fn is_settled(&self) -> bool {
        self.moving.is_none() && self.news.is_empty()
    }

    /// Begins a move, or gives one up, when it is time.
    fn decide(&mut self, now: Duration) -> Option<String> {
        if self.is_calm {
            return None;
        }
        match self.moving {
            None if now >= self.next && self.last < self.machines => {
                let leaves = *self.replicas.iter().nth(self.dice.size(0, self.replicas.len() - 1))?;
                let comes = ReplicaId(self.last.0 + 1);
                let gives_up = self.dice.one_in(GIVE_UP_IN).then(|| now + self.dice.millis(GIVE_UP));
                self.moving = Some(Move { exchange: Exchange { leaves, comes, swaps: false }, gives_up });
                self.last = comes;
                Some(format!("replica {comes} is to come for {leaves}"))
            }
            Some(Move { exchange, gives_up: Some(at) }) if now >= at && !exchange.swaps => {
                self.end_of_move(now);
                Some(format!("replica {} is not to come any more", exchange.comes))
            }
            _ => None,
        }
    }

    fn end_of_move(&mut self, now: Duration) {
        self.moving = None;
        self.next = now + self.dice.millis(PAUSE);
    }

    /// What a leader said, perhaps long ago.
    fn hear(&mut self, now: Duration, Reached { comes, how }: Reached) -> anyhow::Result<Option<String>> {
        let Some(Move { exchange, .. }) = self.moving.as_mut().filter(|moving| moving.exchange.comes == comes) else {
            return Ok(None);
        };
        match how {
            ReachedHow::Ready if !exchange.swaps => {
                exchange.swaps = true;
                Ok(Some(format!("replica {comes} may vote for {}", exchange.leaves)))
            }
            ReachedHow::Ready => Ok(None),
            ReachedHow::Done => {
                ensure!(exchange.swaps, "replica {comes} votes, and nobody had allowed it");
                let leaves = exchange.leaves;
                self.replicas.remove(&leaves);
                self.replicas.insert(comes);
                self.end_of_move(now);
                Ok(Some(format!("replica {comes} votes for {leaves}")))
            }
        }
    }

    /// Lets every machine hear what is true now, each in its time, and one thing after the other.
    fn spread(&mut self, now: Duration, machines: usize) {
        let seating = self.seating();
        for machine in 0..machines {
            let before = self.news.iter().filter(|(_, to, _)| *to == machine).map(|(at, ..)| *at).max();
            let at = (now + self.dice.millis(self.news_within)).max(before.unwrap_or_default());
            self.news.push((at, machine, seating.clone()));
        }
    }

    /// Notes what a leader says, unless it is on its way already.
    fn note(&mut self, now: Duration, reached: Reached) {
        if self.reports.iter().all(|(_, noted)| *noted != reached) {
            self.reports.push((now + self.dice.millis(REPORT), reached));
        }
    }
}

impl Cluster {
    /// Lets the steward work for a moment.
    pub(crate) fn govern(&mut self) -> anyhow::Result<()> {
        let now = self.age();
        for reached in self.machines.iter().filter_map(|machine| machine.process().and_then(Process::reached)) {
            self.steward.note(now, reached);
        }
        let due: Vec<_> = self.steward.reports.extract_if(.., |(at, _)| *at <= now).collect();
        let mut decided = Vec::new();
        for (_, reached) in due {
            let heard = self.steward.hear(now, reached)?;
            if reached.how == ReachedHow::Done && heard.is_some() {
                self.tally.count(Happening::Move);
            }
            decided.extend(heard);
        }
        let began = self.steward.decide(now);
        if began.is_some() && self.steward.moving.is_none() {
            self.tally.count(Happening::MoveGivenUp);
        }
        decided.extend(began);
        if !decided.is_empty() {
            self.steward.spread(now, self.machines.len());
        }
        decided.into_iter().for_each(|what| self.note(what));
        self.tell_news(now)?;
        self.remove_early()?;
        self.let_another_lead(now);
        Ok(())
    }

    fn tell_news(&mut self, now: Duration) -> anyhow::Result<()> {
        let mut due: Vec<_> = self.steward.news.extract_if(.., |(at, ..)| *at <= now).collect();
        due.sort_by_key(|(at, ..)| *at);
        for (_, machine, seating) in due {
            self.seat(machine, seating)?;
        }
        Ok(())
    }

    /// What a store-node does when it hears of a seating.
    fn seat(&mut self, machine: usize, seating: Seating) -> anyhow::Result<()> {
        let (me, hosts) = (self.machines[machine].me, self.machines[machine].hosts());
        let is_named = seating.replicas.contains(&me) || seating.exchange.is_some_and(|one| one.comes == me);
        if is_named {
            self.machines[machine].seat(seating);
            if !hosts {
                self.start(machine)?;
            }
        } else if hosts && me <= seating.last {
            self.leave(machine);
        }
        Ok(())
    }

    fn leave(&mut self, machine: usize) {
        self.note(format!("{} leaves", self.machines[machine].host));
        self.machines[machine].leave();
    }

    /// The careless build.
    fn remove_early(&mut self) -> anyhow::Result<()> {
        let swaps = self.steward.moving.filter(|moving| moving.exchange.swaps);
        let Some(Move { exchange, .. }) = swaps.filter(|_| self.steward.government == Government::Careless) else {
            return Ok(());
        };
        let leaves = self.machines.iter().position(|machine| machine.me == exchange.leaves && machine.hosts());
        leaves.into_iter().for_each(|machine| self.leave(machine));
        Ok(())
    }

    /// Who is about to lose its vote does not lead.
    fn let_another_lead(&mut self, now: Duration) {
        let Some(Move { exchange, .. }) = self.steward.moving.filter(|moving| moving.exchange.swaps) else { return };
        let leader = self.leader().filter(|leader| self.machines[*leader].me == exchange.leaves);
        if let Some(leader) = leader
            && now >= self.steward.asked_to_hand_over + HAND_OVER_EVERY
        {
            self.steward.asked_to_hand_over = now;
            self.machines[leader].signal(Signal::HandOver);
        }
    }
}
