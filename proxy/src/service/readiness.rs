//! Long polls that sleep until there is something for them: no polling loops, no herd.
//!
//! Receives of one (group, topic, filter), or of one client that is subscribed to lite topics, wait in one line, first come, first woken. Every replica group of the topic
//! tells edges: "at least n messages became ready". An edge wakes as many sleepers as it takes to carry n away; whoever
//! finds more than it can take wakes the next. A wake is a debt: a receive that is cancelled before it used its wake
//! passes it on, so no message waits while somebody waits for it.
//!
//! A line remembers which replica groups may have something: those that told an edge since a pop of them found nothing.
//! A receive asks one of these after the other, in turn with the receives beside it, and sleeps when none is left. It
//! asks one replica group in any case when it may be another try, and first the one that served an earlier one, whose
//! batch it gets again. Only this proxy remembers which that was; elsewhere the batch comes again when its lease ends. A
//! receive that names no try goes to sleep at once where nothing was told since somebody asked, a moment ago.
//!
//! A receive enters the line before it first asks a store, so an edge between its question and its sleep is not lost.
//! The watches of a line live while somebody waits and a minute longer.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_host::{OnError, Tasks};
use apogee_model::store::GroupRef;
use apogee_model::{ClientId, Filter, GroupId, ReplicaGroupId, TopicConfig, TopicId};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ServiceError;
use crate::route::topic_ref;
use crate::store::{Stores, Watch};

/// How long the watch of a line outlives its last receive: consumers come back.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A receive asks for itself when nobody in its line has asked for this long. What was told since is asked for anyway.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Tries of a line that are remembered.
const ATTEMPTS_MAX: usize = 256;

/// Bounds of what waits. Source: apache/rocketmq `BrokerConfig.java` (maxPopPollingSize, popPollingSize).
#[derive(Copy, Clone, Debug)]
pub struct ReadinessLimits {
    pub waiting_max: usize,
    pub waiting_per_line_max: usize,
    /// Lines, waited in or idle.
    pub lines_max: usize,
}

impl Default for ReadinessLimits {
    fn default() -> Self {
        Self { waiting_max: 100_000, waiting_per_line_max: 1024, lines_max: 20_000 }
    }
}

/// All lines of a proxy.
#[derive(Clone)]
pub(crate) struct Readiness {
    shared: Arc<Shared>,
    stores: Stores,
    tasks: Tasks,
}

struct Shared {
    lines: Mutex<Lines>,
    limits: ReadinessLimits,
}

#[derive(Default)]
struct Lines {
    by_key: BTreeMap<Key, Line>,
    waiting: usize,
    next_ticket: u64,
}

/// With the number of queues: a topic that has grown begins new lines, which watch the replica groups that it has now.
type Key = (GroupId, TopicId, u16, Interest);

/// What receives of a line can be given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Interest {
    All(Filter),
    /// Messages of lite topics that the client is subscribed to.
    Lite(ClientId),
}

struct Line {
    /// By ticket, hence in order of arrival.
    asleep: BTreeMap<u64, Waiter>,
    /// Told to ask the store, and not yet doing it.
    woken: BTreeMap<u64, Waiter>,
    empty_since: Option<Instant>,
    /// All of the topic, in order.
    groups: Vec<ReplicaGroupId>,
    /// Those that may have something, and the last edge heard of each.
    maybe: BTreeMap<ReplicaGroupId, u64>,
    /// Who served the last tries, where there is a choice.
    attempts: VecDeque<(Bytes, ReplicaGroupId)>,
    /// Who was asked last, and when.
    asked: ReplicaGroupId,
    asked_at: Option<Instant>,
    edges: u64,
}

struct Waiter {
    batch: u64,
    bell: Arc<Notify>,
}

impl Readiness {
    pub(crate) fn new(stores: Stores, tasks: Tasks, limits: ReadinessLimits) -> Self {
        Self { shared: Arc::new(Shared { lines: Mutex::default(), limits }), stores, tasks }
    }

    /// Joins the line, at its end. To be called before the store is asked.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`] when too many wait already; when this proxy has not heard of a replica group.
    pub(crate) fn join(
        &self,
        group: &GroupRef,
        topic: &TopicConfig,
        interest: &Interest,
        batch: usize,
        attempt: Option<Bytes>,
    ) -> Result<Place, ServiceError> {
        let key = (group.id, topic.id, topic.queues, interest.clone());
        let bell = Arc::new(Notify::new());
        let waiter = Waiter { batch: u64::try_from(batch).unwrap_or(u64::MAX).max(1), bell: Arc::clone(&bell) };
        let watch = |replica_group| {
            let store = self.stores.of(replica_group)?;
            let (group, topic) = (group.clone(), topic_ref(topic));
            let watch = match interest {
                Interest::All(filter) => store.watch(group, topic, filter.clone()),
                Interest::Lite(client) => store.watch_lite(group, topic, client.clone()),
            };
            Ok((replica_group, watch))
        };
        let begin = || topic.replica_groups().into_iter().map(watch).collect();
        let joined = self.shared.join(&key, waiter, begin)?;
        if let Some(watches) = joined.begun {
            let keep = keep(Arc::clone(&self.shared), key.clone(), watches, self.tasks.token());
            self.tasks.spawn("readiness", OnError::StopProcess, keep);
        }
        let (shared, stores) = (Arc::clone(&self.shared), self.stores.clone());
        Ok(Place { shared, stores, key, ticket: joined.ticket, bell, attempt, asked: false, owes: false })
    }
}

struct Joined {
    ticket: u64,
    /// The watches of a new line.
    begun: Option<Vec<Watched>>,
}

/// A replica group, and what it tells.
type Watched = (ReplicaGroupId, Box<dyn Watch>);

/// Turns edges of the watches of a line into wakes, until nobody waited for a while.
async fn keep(
    shared: Arc<Shared>,
    key: Key,
    watches: Vec<Watched>,
    stop: tokio_util::sync::CancellationToken,
) -> Result<(), Infallible> {
    let mut check = Instant::now() + IDLE_MAX;
    let next = |(group, mut watch): Watched| async move {
        let ready = watch.ready().await;
        (group, ready, watch)
    };
    let mut edges: FuturesUnordered<_> = watches.into_iter().map(next).collect();
    loop {
        tokio::select! {
            Some((group, ready, watch)) = edges.next() => {
                shared.wake(&key, group, ready);
                edges.push(next((group, watch)));
            }
            () = tokio::time::sleep_until(check) => match shared.close_if_idle(&key) {
                None => return Ok(()),
                Some(again) => check = again,
            },
            () = stop.cancelled() => return Ok(()),
        }
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `begin` makes the watches of a new line.
    fn join(
        &self,
        key: &Key,
        waiter: Waiter,
        begin: impl FnOnce() -> Result<Vec<Watched>, ServiceError>,
    ) -> Result<Joined, ServiceError> {
        let mut lines = self.lines();
        let Lines { by_key, waiting, next_ticket } = &mut *lines;
        let too_many = |what, limit| Err(ServiceError::TooMany { what, limit });
        let limits = self.limits;
        if *waiting >= limits.waiting_max {
            return too_many("waiting receives of this proxy", limits.waiting_max);
        }
        let known = by_key.len();
        let (line, begun) = match by_key.entry(key.clone()) {
            Entry::Occupied(line) => (line.into_mut(), None),
            Entry::Vacant(_) if known >= limits.lines_max => {
                return too_many("combinations of group, topic and filter", limits.lines_max);
            }
            Entry::Vacant(place) => {
                let watches = begin()?;
                (place.insert(Line::new(watches.iter().map(|(group, _)| *group).collect())), Some(watches))
            }
        };
        if line.waiters() >= limits.waiting_per_line_max {
            return too_many("waiting receives of this group and topic", limits.waiting_per_line_max);
        }
        let ticket = *next_ticket;
        line.asleep.insert(ticket, waiter);
        line.empty_since = None;
        *next_ticket += 1;
        *waiting += 1;
        Ok(Joined { ticket, begun })
    }

    /// A replica group has `ready` messages at least.
    fn wake(&self, key: &Key, group: ReplicaGroupId, ready: u64) {
        if let Some(line) = self.lines().by_key.get_mut(key) {
            line.edge(group);
            line.wake(ready);
        }
    }

    /// Removes a line nobody waited in for [`IDLE_MAX`]; else says when to look again.
    fn close_if_idle(&self, key: &Key) -> Option<Instant> {
        let now = Instant::now();
        let mut lines = self.lines();
        match lines.by_key.get(key)?.empty_since {
            None => Some(now + IDLE_MAX),
            Some(since) if since + IDLE_MAX > now => Some(since + IDLE_MAX),
            Some(_) => {
                lines.by_key.remove(key);
                None
            }
        }
    }
}

impl Line {
    /// Nobody has been asked yet.
    fn new(groups: Vec<ReplicaGroupId>) -> Self {
        Self {
            asleep: BTreeMap::new(),
            woken: BTreeMap::new(),
            empty_since: None,
            maybe: groups.iter().map(|group| (*group, 0)).collect(),
            attempts: VecDeque::new(),
            asked: groups.last().copied().unwrap_or_default(),
            asked_at: None,
            groups,
            edges: 0,
        }
    }

    fn edge(&mut self, group: ReplicaGroupId) {
        self.edges += 1;
        self.maybe.insert(group, self.edges);
    }

    /// The first question of a receive: to whoever served an earlier try of it, else to one that may have something, else
    /// to any one that passes `able`, unless it is no other try and somebody has just asked.
    fn first(&mut self, attempt: Option<&Bytes>, able: impl Fn(ReplicaGroupId) -> bool) -> Option<Offer> {
        let same = self.attempts.iter().find(|(earlier, _)| Some(earlier) == attempt);
        match same.map(|(_, group)| *group).filter(|group| able(*group)) {
            Some(group) => Some(self.offer(group)),
            None => self.next(&able).or_else(|| {
                let just_asked = self.asked_at.is_some_and(|asked| asked.elapsed() < ASK_AGAIN);
                if attempt.is_none_or(Bytes::is_empty) && just_asked { None } else { self.turn(able) }
            }),
        }
    }

    /// The next replica group that may have something and passes `able`, in turn.
    fn next(&mut self, able: impl Fn(ReplicaGroupId) -> bool) -> Option<Offer> {
        let (maybe, able) = (&self.maybe, &able);
        let group = in_turn(&self.groups, self.asked).find(|group| maybe.contains_key(group) && able(*group))?;
        Some(self.offer(group))
    }

    fn turn(&mut self, able: impl Fn(ReplicaGroupId) -> bool) -> Option<Offer> {
        let group = in_turn(&self.groups, self.asked).find(|group| able(*group))?;
        Some(self.offer(group))
    }

    fn offer(&mut self, group: ReplicaGroupId) -> Offer {
        (self.asked, self.asked_at) = (group, Some(Instant::now()));
        Offer { group, edge: self.maybe.get(&group).copied().unwrap_or_default() }
    }

    fn remember(&mut self, attempt: &Bytes, group: ReplicaGroupId) {
        if self.groups.len() > 1 && !attempt.is_empty() {
            self.attempts.truncate(ATTEMPTS_MAX - 1);
            self.attempts.push_front((attempt.clone(), group));
        }
    }

    /// The replica group has nothing, unless an edge of it was heard since the offer.
    fn exhausted(&mut self, offer: Offer) {
        if self.maybe.get(&offer.group) == Some(&offer.edge) {
            self.maybe.remove(&offer.group);
        }
    }

    fn waiters(&self) -> usize {
        self.asleep.len() + self.woken.len()
    }

    fn wake(&mut self, mut ready: u64) {
        while ready > 0 {
            let Some((ticket, sleeper)) = self.asleep.pop_first() else { return };
            ready = ready.saturating_sub(sleeper.batch);
            sleeper.bell.notify_one();
            self.woken.insert(ticket, sleeper);
        }
    }

    /// Takes the waiter out; says whether it leaves with a wake it did not use.
    fn leave(&mut self, ticket: u64) -> bool {
        let unused = self.woken.remove(&ticket).is_some();
        self.asleep.remove(&ticket);
        if self.waiters() == 0 {
            self.empty_since = Some(Instant::now());
        }
        unused
    }
}

/// Those behind `last`, then those up to it.
fn in_turn(groups: &[ReplicaGroupId], last: ReplicaGroupId) -> impl Iterator<Item = ReplicaGroupId> + '_ {
    let (before, behind) = groups.split_at(groups.partition_point(|group| *group <= last));
    behind.iter().chain(before).copied()
}

/// A replica group that may have something.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) group: ReplicaGroupId,
    edge: u64,
}

/// One receive's place in its line. Dropped, it leaves, and passes on a wake it owes.
pub(crate) struct Place {
    shared: Arc<Shared>,
    stores: Stores,
    key: Key,
    ticket: u64,
    bell: Arc<Notify>,
    attempt: Option<Bytes>,
    /// Has had its first offer.
    asked: bool,
    /// Was woken, or saw more than it took, and nobody has found out yet what there is.
    owes: bool,
}

impl Place {
    /// Whom to ask next: a replica group that may have something, and that somebody leads. `None` when there is nothing
    /// to do but to sleep; a new leader tells an edge.
    pub(crate) fn offer(&mut self) -> Option<Offer> {
        let (first, attempt) = (!std::mem::replace(&mut self.asked, true), self.attempt.clone());
        let offer = self.line(|line, stores| {
            let able = |group| stores.leads(group);
            if first { line.first(attempt.as_ref(), able) } else { line.next(able) }
        });
        let offer = offer.flatten();
        if offer.is_none() {
            self.owes = false; // the wake was for what others took
        }
        offer
    }

    /// Sleeps until woken. The caller then looks for offers again.
    ///
    /// Cancel safe: a wake that comes while nobody listens is kept.
    pub(crate) async fn woken(&mut self) {
        self.bell.notified().await;
        let mut lines = self.shared.lines();
        if let Some(line) = lines.by_key.get_mut(&self.key)
            && let Some(waiter) = line.woken.remove(&self.ticket)
        {
            // Back to its old place, so that an edge during its question to the store wakes it again.
            line.asleep.insert(self.ticket, waiter);
            self.owes = true;
        }
    }

    /// The replica group had nothing.
    pub(crate) fn found_nothing(&mut self, offer: Offer) {
        self.line(|line, _| line.exhausted(offer));
    }

    /// The replica group gave something; when it, or another one, may have more the next in line is woken.
    pub(crate) fn served(mut self, offer: Offer, more: bool) {
        if !more {
            self.found_nothing(offer);
        }
        if let Some(attempt) = &self.attempt {
            self.line(|line, _| line.remember(attempt, offer.group));
        }
        self.owes = self.line(|line, stores| line.maybe.keys().any(|group| stores.leads(*group))).unwrap_or(false);
    }

    fn line<T>(&self, act: impl FnOnce(&mut Line, &Stores) -> T) -> Option<T> {
        self.shared.lines().by_key.get_mut(&self.key).map(|line| act(line, &self.stores))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.shared.lines();
        lines.waiting -= 1;
        if let Some(line) = lines.by_key.get_mut(&self.key) {
            let unused = line.leave(self.ticket);
            if self.owes || unused {
                line.wake(1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
