//! What Kubernetes asks: alive, started, ready; and `/metrics` for Prometheus.

mod http;
mod watchdog;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

pub use http::{health_routes, metrics_routes, serve};

use self::watchdog::Watchdog;

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub ok: bool,
    /// Why not, for a person; empty when all is well.
    pub detail: String,
}

impl Check {
    pub fn ok() -> Check {
        Check { ok: true, detail: String::new() }
    }

    pub fn fail(detail: impl Into<String>) -> Check {
        Check { ok: false, detail: detail.into() }
    }
}

/// The health of this process. Clones share it.
///
/// Ready means: every check is ok and nobody drains. Started means: every check named at the beginning was ok once;
/// it stays so. Alive means: the runtime ticked within 10 s.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<State>>,
    ready: watch::Sender<bool>,
    watchdog: Watchdog,
}

#[derive(Debug)]
struct State {
    checks: BTreeMap<&'static str, Check>,
    /// Checks that were never ok and that the start waits for.
    starting: BTreeSet<&'static str>,
    draining: bool,
}

/// The body of an answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Report {
    status: &'static str,
    checks: Vec<Line>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    name: &'static str,
    ok: bool,
    detail: String,
}

impl Health {
    /// A process that has started once each of `checks` was ok. Until then they fail.
    pub fn new(checks: &[&'static str]) -> Health {
        let state = State {
            checks: checks.iter().map(|name| (*name, Check::fail("starting"))).collect(),
            starting: checks.iter().copied().collect(),
            draining: false,
        };
        let ready = watch::Sender::new(state.ready());
        Health { state: Arc::new(Mutex::new(state)), ready, watchdog: Watchdog::new() }
    }

    /// Sets the outcome of the check `name`; a new name is a new condition of being ready.
    pub fn set(&self, name: &'static str, check: Check) {
        self.change(|state| {
            if check.ok {
                state.starting.remove(name);
            }
            state.checks.insert(name, check);
        });
    }

    /// From now on not ready, whatever the checks say.
    pub fn start_draining(&self) {
        self.change(|state| state.draining = true);
    }

    /// Whether the process is ready, and every change of it.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let ready = state.ready();
        self.ready.send_if_modified(|known| std::mem::replace(known, ready) != ready);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readiness(&self) -> Report {
        let state = self.state();
        let mut lines: Vec<_> = state.checks.iter().map(|(name, check)| Line::new(name, check.clone())).collect();
        if state.draining {
            lines.push(Line::new("serving", Check::fail("draining")));
        }
        Report::of(lines)
    }

    fn startup(&self) -> Report {
        let starting: Vec<_> = self.state().starting.iter().copied().collect();
        let started =
            if starting.is_empty() { Check::ok() } else { Check::fail(format!("waiting for {}", starting.join(", "))) };
        Report::of(vec![Line::new("started", started)])
    }

    fn liveness(&self) -> Report {
        Report::of(vec![Line::new("runtime", self.watchdog.check())])
    }
}

impl State {
    fn ready(&self) -> bool {
        !self.draining && self.checks.values().all(|check| check.ok)
    }
}

impl Report {
    fn of(checks: Vec<Line>) -> Report {
        let status = if checks.iter().all(|line| line.ok) { "ok" } else { "fail" };
        Report { status, checks }
    }
}

impl Line {
    fn new(name: &'static str, Check { ok, detail }: Check) -> Line {
        Line { name, ok, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_follows_checks_until_draining() {
        let health = Health::new(&["listeners", "routes"]);
        let ready = health.ready();
        assert!(!*ready.borrow());
        health.set("listeners", Check::ok());
        assert!(!*ready.borrow());
        health.set("routes", Check::ok());
        assert!(*ready.borrow());
        health.set("routes", Check::fail("older than 1 h"));
        assert!(!*ready.borrow());
        health.set("routes", Check::ok());
        health.start_draining();
        health.set("routes", Check::ok());
        assert!(!*ready.borrow());
    }

    #[test]
    fn started_stays_started() {
        let health = Health::new(&["listeners", "recovered"]);
        health.set("listeners", Check::ok());
        assert_eq!(health.startup().checks[0].detail, "waiting for recovered");
        health.set("recovered", Check::ok());
        health.set("listeners", Check::fail("gone"));
        assert_eq!(health.startup().status, "ok");
        assert_eq!(health.readiness().status, "fail");
    }
}
