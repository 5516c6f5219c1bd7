//! Of several operators one is at work: whoever holds the Lease.
//!
//! Nobody trusts the clock of another: a Lease is free when it did not change for as long as it is given, as seen from here.
//! Whoever holds it stops earlier than that when it cannot be renewed.

use std::time::Duration;

use apogee_host::Clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use opentelemetry::metrics::Gauge;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::trouble::{Attempt, Troubles};

/// A Lease that did not change for so long is free.
const LEASE: Duration = Duration::from_secs(15);
/// Whoever holds it is at work for so long after it was renewed, at most: shorter than [`LEASE`] by more than clocks differ.
const WORK_MAX: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How often others look whether it is free.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Every call ends by then.
const CALL_MAX: Duration = Duration::from_secs(4);

const RESOURCE: &str = "leases.coordination.k8s.io";

/// One who wants the Lease.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    namespace: String,
    name: String,
    me: String,
    troubles: Troubles,
    leading: Gauge<u64>,
    clock: std::sync::Arc<dyn Clock>,
    /// The version of the Lease that was seen last, and since when.
    seen: Option<(String, Instant)>,
}

/// What a [`Candidate`] is made of.
pub(crate) struct CandidateParts {
    pub(crate) client: Client,
    /// Where the Lease is, and its name.
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Nobody else has this name.
    pub(crate) me: String,
    pub(crate) troubles: Troubles,
    pub(crate) leading: Gauge<u64>,
    pub(crate) clock: std::sync::Arc<dyn Clock>,
}

/// What is to be done about the Lease.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Move {
    /// It is ours.
    Renew,
    /// It is nobody's, or its holder went away.
    Take,
    /// Another one holds it.
    Wait,
}

fn next(lease: &LeaseSpec, me: &str, unchanged: Duration) -> Move {
    match lease.holder_identity.as_deref() {
        Some(holder) if holder == me => Move::Renew,
        None | Some("") => Move::Take,
        Some(_) => {
            let given = lease.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            let given = given.map_or(LEASE, Duration::from_secs);
            if unchanged >= given { Move::Take } else { Move::Wait }
        }
    }
}

impl Candidate {
    pub(crate) fn new(parts: CandidateParts) -> Candidate {
        let CandidateParts { client, namespace, name, me, troubles, leading, clock } = parts;
        leading.record(0, &[]);
        let leases = Api::namespaced(client, &namespace);
        Candidate { leases, namespace, name, me, troubles, leading, clock, seen: None }
    }

    /// Does `work`, which never ends by itself, whenever this one holds the Lease, until `stop`; then lets it go. `work` is
    /// dropped before another one can begin.
    pub(crate) async fn run<W: Future<Output = ()>>(mut self, stop: CancellationToken, mut work: impl FnMut() -> W) {
        while let Some(until) = stop.run_until_cancelled(self.elected()).await {
            tracing::info!(event = "leading", lease = self.name, "this operator is at work");
            self.leading.record(1, &[]);
            tokio::select! {
                () = work() => {}
                () = self.hold(until) => {
                    tracing::warn!(event = "lead_lost", lease = self.name, "another operator is at work, or nobody can know");
                }
                () = stop.cancelled() => {}
            }
            self.leading.record(0, &[]);
        }
        self.release().await;
    }

    /// Returns, when the Lease is held, until when there may be work.
    async fn elected(&mut self) -> Instant {
        loop {
            if let Some(until) = self.attempt().await.ok().flatten() {
                return until;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Renews the Lease; returns when it is lost, or nobody can know by then.
    async fn hold(&mut self, mut until: Instant) {
        loop {
            sleep(RENEW_EVERY).await;
            match timeout_at(until, self.renewed()).await {
                Ok(Some(later)) => until = later,
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// `None`: another one holds it.
    async fn renewed(&mut self) -> Option<Instant> {
        loop {
            if let Ok(answer) = self.attempt().await {
                return answer;
            }
            sleep(LOOK_EVERY / 2).await;
        }
    }

    /// Looks at the Lease, and takes or renews it if that is possible: then there may be work until the time returned.
    async fn attempt(&mut self) -> Result<Option<Instant>, ()> {
        let until = Instant::now() + WORK_MAX; // counted from before the Lease can change
        let there = self.call("get", self.leases.get_opt(&self.name)).await?;
        let (fresh, mut lease) = match there {
            Some(lease) => (false, lease),
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                (true, Lease { metadata, spec: None })
            }
        };
        let unchanged = self.unchanged(&lease);
        let spec = lease.spec.get_or_insert_default();
        let step = next(spec, &self.me, unchanged);
        let now = MicroTime(self.now());
        match step {
            Move::Wait => return Ok(None),
            Move::Renew => {}
            Move::Take => {
                spec.acquire_time = Some(now.clone());
                spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |before| before.saturating_add(1)));
            }
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds = i32::try_from(LEASE.as_secs()).ok();
        spec.renew_time = Some(now);
        let params = PostParams::default();
        let written = if fresh {
            self.call("create", self.leases.create(&params, &lease)).await
        } else {
            self.call("update", self.leases.replace(&self.name, &params, &lease)).await
        };
        written.map(|_| Some(until))
    }

    /// How long the Lease is as it is.
    fn unchanged(&mut self, lease: &Lease) -> Duration {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((known, since)) if *known == version => since.elapsed(),
            _ => {
                self.seen = Some((version, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Another one need not wait.
    async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.call("get", self.leases.get_opt(&self.name)).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(self.me.as_str()) {
            spec.holder_identity = None;
            let let_go = self.call("update", self.leases.replace(&self.name, &PostParams::default(), &lease)).await;
            tracing::info!(event = "lead_released", lease = self.name, free = let_go.is_ok(), "the lease is let go");
        }
    }

    /// A failure is a trouble, unless somebody else was quicker.
    async fn call<T>(&self, verb: &'static str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ()> {
        let attempt = Attempt { verb, resource: RESOURCE, namespace: Some(&self.namespace) };
        let trouble = match timeout(CALL_MAX, call).await {
            Ok(Ok(answer)) => {
                self.troubles.answered();
                return Ok(answer);
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => return Err(()),
            Ok(Err(error)) => attempt.explain(&error),
            Err(_) => attempt.unanswered(CALL_MAX),
        };
        self.troubles.tell(trouble);
        Err(())
    }

    /// For people; nobody decides by it.
    fn now(&self) -> Timestamp {
        let millis = i64::try_from(self.clock.wall().0).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests;
