//! What the operator did, for those who watch it: metrics, and events beside the objects.

use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Meter};
use tokio::time::timeout;

use crate::admin::ClusterError;
use crate::conditions::{Truth, Verdict};
use crate::shelf::CALL_MAX;
use crate::trouble::{Attempt, Troubles};
use crate::watched::{Watched, full_name};

/// The name the operator signs events with.
const NAME: &str = "apogee-operator";
/// Longest text of an event, in bytes.
const NOTE_MAX: usize = 1_000;

/// What one look at an object did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Same,
    Created,
    Altered,
    Deleted,
    Refused,
    Unreachable,
}

impl Did {
    /// Whether the cluster is another one now.
    pub(crate) fn changed(self) -> bool {
        matches!(self, Did::Created | Did::Altered | Did::Deleted)
    }

    /// Nothing, because of this.
    pub(crate) fn failed(error: &ClusterError) -> Did {
        match error {
            ClusterError::Refused { .. } | ClusterError::Exists { .. } => Did::Refused,
            ClusterError::Unreachable { .. } | ClusterError::Token { .. } => Did::Unreachable,
        }
    }

    /// What it did already, or else `this`.
    pub(crate) fn or(self, this: Did) -> Did {
        if self == Did::Same { this } else { self }
    }

    fn word(self) -> &'static str {
        match self {
            Did::Same => "same",
            Did::Created => "created",
            Did::Altered => "altered",
            Did::Deleted => "deleted",
            Did::Refused => "refused",
            Did::Unreachable => "unreachable",
        }
    }
}

/// Where it is told. Clones tell it at the same place.
#[derive(Clone)]
pub(crate) struct Report {
    recorder: Recorder,
    troubles: Troubles,
    looks: Counter<u64>,
    drift: Counter<u64>,
}

impl Report {
    /// `me`: the name of this process.
    pub(crate) fn new(client: Client, me: &str, troubles: Troubles, meter: &Meter) -> Report {
        let reporter = Reporter { controller: NAME.to_owned(), instance: Some(me.to_owned()) };
        Report {
            recorder: Recorder::new(client, reporter),
            troubles,
            looks: meter
                .u64_counter("rocketmq_operator_reconciles_total")
                .with_description("Looks at objects, by what they did.")
                .build(),
            drift: meter
                .u64_counter("rocketmq_operator_drift_total")
                .with_description("Changes that others made and that were taken back.")
                .build(),
        }
    }

    pub(crate) fn counted<K: Watched>(&self, did: Did, drift: bool) {
        let kind = KeyValue::new("kind", K::kind(&()).into_owned());
        self.looks.add(1, &[kind.clone(), KeyValue::new("result", did.word())]);
        if drift {
            self.drift.add(1, &[kind]);
        }
    }

    pub(crate) fn trouble(&self, sentence: String) {
        self.troubles.tell(sentence);
    }

    /// An event beside the object, and a line in the log. An event that cannot be written is a trouble, and no more.
    pub(crate) async fn event<K: Watched>(&self, object: &K, did: Did, drift: bool, verdict: &Verdict) {
        let saying = &verdict.synced;
        let fine = saying.truth == Truth::True;
        let (reason, note) = match did {
            _ if !fine => (saying.reason, &saying.message),
            _ if drift => ("DriftCorrected", &verdict.ready.message),
            Did::Created => ("Created", &verdict.ready.message),
            Did::Altered => ("Altered", &verdict.ready.message),
            _ => (saying.reason, &verdict.ready.message),
        };
        let name = full_name(object);
        if fine {
            tracing::info!(event = "kept", object = %name, reason, "{note}");
        } else {
            tracing::warn!(event = "not_kept", object = %name, reason, "{note}");
        }
        let event = Event {
            type_: if fine { EventType::Normal } else { EventType::Warning },
            reason: reason.to_owned(),
            note: Some(cut(note)),
            action: "Keep".to_owned(),
            secondary: None,
        };
        let (namespace, reference) = (object.meta().namespace.as_deref(), object.object_ref(&()));
        let attempt = Attempt { verb: "create", resource: "events.events.k8s.io", namespace };
        match timeout(CALL_MAX, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.troubles.tell(attempt.explain(&error)),
            Err(_) => self.troubles.tell(attempt.unanswered(CALL_MAX)),
        }
    }
}

/// Whether this process leads.
pub(crate) fn leading(meter: &Meter) -> Gauge<u64> {
    meter
        .u64_gauge("rocketmq_operator_leading")
        .with_description("1 if this process is the one at work, else 0.")
        .build()
}

fn cut(note: &str) -> String {
    note.char_indices().take_while(|(at, _)| *at < NOTE_MAX).map(|(_, char)| char).collect()
}
