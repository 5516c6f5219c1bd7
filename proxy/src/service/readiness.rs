//! Long polls that sleep until there is something for them: no polling loops, no herd.
//!
//! Receives of one (group, topic, filter) wait in one line, first come, first woken. The store tells edges: "at least
//! n messages became ready". An edge wakes as many sleepers as it takes to carry n away; whoever finds more than it
//! can take wakes the next. A wake is a debt: a receive that is cancelled before it used its wake passes it on, so no
//! message waits while somebody waits for it.
//!
//! A receive enters the line before it first asks the store, so an edge between its question and its sleep is not
//! lost. One watch per line lives while somebody waits and a minute longer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_host::{OnError, Tasks};
use apogee_model::store::{GroupRef, TopicRef};
use apogee_model::{GroupId, TagFilter, TopicId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ServiceError;
use crate::store::{StoreNode, Watch};

/// How long the watch of a line outlives its last receive: consumers come back.
const IDLE_MAX: Duration = Duration::from_secs(60);

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
    store: Arc<dyn StoreNode>,
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

type Key = (GroupId, TopicId, TagFilter);

struct Line {
    /// By ticket, hence in order of arrival.
    asleep: BTreeMap<u64, Waiter>,
    /// Told to ask the store, and not yet doing it.
    woken: BTreeMap<u64, Waiter>,
    empty_since: Option<Instant>,
}

struct Waiter {
    batch: u64,
    bell: Arc<Notify>,
}

impl Readiness {
    pub(crate) fn new(store: Arc<dyn StoreNode>, tasks: Tasks, limits: ReadinessLimits) -> Self {
        Self { shared: Arc::new(Shared { lines: Mutex::default(), limits }), store, tasks }
    }

    /// Joins the line, at its end. To be called before the store is asked.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`] when too many wait already.
    pub(crate) fn join(
        &self,
        group: &GroupRef,
        topic: &TopicRef,
        filter: &TagFilter,
        batch: usize,
    ) -> Result<Place, ServiceError> {
        let key = (group.id, topic.id, filter.clone());
        let bell = Arc::new(Notify::new());
        let waiter = Waiter { batch: u64::try_from(batch).unwrap_or(u64::MAX).max(1), bell: Arc::clone(&bell) };
        let joined = self.shared.join(&key, waiter)?;
        if joined.new_line {
            let watch = self.store.watch(group.clone(), topic.clone(), filter.clone());
            let keep = keep(Arc::clone(&self.shared), key.clone(), watch, self.tasks.token());
            self.tasks.spawn("readiness", OnError::StopProcess, keep);
        }
        Ok(Place { shared: Arc::clone(&self.shared), key, ticket: joined.ticket, bell, owes: false })
    }
}

struct Joined {
    ticket: u64,
    new_line: bool,
}

/// Turns edges of one watch into wakes, until nobody waited for a while.
async fn keep(
    shared: Arc<Shared>,
    key: Key,
    mut watch: Box<dyn Watch>,
    stop: tokio_util::sync::CancellationToken,
) -> Result<(), Infallible> {
    let mut check = Instant::now() + IDLE_MAX;
    loop {
        tokio::select! {
            ready = watch.ready() => shared.wake(&key, ready),
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

    fn join(&self, key: &Key, waiter: Waiter) -> Result<Joined, ServiceError> {
        let mut lines = self.lines();
        let limits = self.limits;
        if lines.waiting >= limits.waiting_max {
            return Err(ServiceError::TooMany { what: "waiting receives of this proxy", limit: limits.waiting_max });
        }
        let new_line = !lines.by_key.contains_key(key);
        if new_line && lines.by_key.len() >= limits.lines_max {
            return Err(ServiceError::TooMany {
                what: "combinations of group, topic and filter",
                limit: limits.lines_max,
            });
        }
        let ticket = lines.next_ticket;
        let line = lines.by_key.entry(key.clone()).or_insert_with(Line::new);
        if line.waiters() >= limits.waiting_per_line_max {
            let (what, limit) = ("waiting receives of this group and topic", limits.waiting_per_line_max);
            return Err(ServiceError::TooMany { what, limit });
        }
        line.asleep.insert(ticket, waiter);
        line.empty_since = None;
        lines.next_ticket += 1;
        lines.waiting += 1;
        Ok(Joined { ticket, new_line })
    }

    /// Wakes sleepers from the front of the line until they can carry `ready` messages.
    fn wake(&self, key: &Key, ready: u64) {
        if let Some(line) = self.lines().by_key.get_mut(key) {
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
    fn new() -> Self {
        Self { asleep: BTreeMap::new(), woken: BTreeMap::new(), empty_since: None }
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

/// One receive's place in its line. Dropped, it leaves, and passes on a wake it owes.
pub(crate) struct Place {
    shared: Arc<Shared>,
    key: Key,
    ticket: u64,
    bell: Arc<Notify>,
    /// Was woken and has not yet found out what for.
    owes: bool,
}

impl Place {
    /// Sleeps until woken. The caller then asks the store and says what it found.
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

    /// The store had nothing: the wake was for what others took.
    pub(crate) fn found_nothing(&mut self) {
        self.owes = false;
    }

    /// The store gave something; with `more` behind it the next in line is woken.
    pub(crate) fn served(mut self, more: bool) {
        self.owes = more;
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
