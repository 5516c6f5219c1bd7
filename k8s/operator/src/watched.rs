//! What all kinds of objects have in common, whatever is done for them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Clock, Entropy};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::conditions::{SYNCED, find};

/// A kind of object that the operator looks at.
pub(crate) trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + PartialEq
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// What people call it.
    const NOUN: &'static str;
    /// As the API server and its roles call it.
    const RESOURCE: &'static str;

    /// The name of what it is about.
    fn name_there(&self) -> String;
    fn conditions(&self) -> &[Condition];
    fn observed_generation(&self) -> i64;

    fn generation(&self) -> i64 {
        self.meta().generation.unwrap_or_default()
    }

    /// Whether all was as this object says, which nobody changed since: what is to be done now was done by others.
    fn was_synced(&self) -> bool {
        let synced = find(self.conditions(), SYNCED).is_some_and(|synced| synced.status == "True");
        synced && self.observed_generation() == self.generation()
    }
}

/// `topic orders`.
pub(crate) fn full_name<K: Watched>(object: &K) -> String {
    format!("{} {}", K::NOUN, object.name_there())
}

/// A merge patch forgets a field only if it is told so.
pub(crate) fn with_nulls(status: &impl Serialize, fields: &[&str]) -> serde_json::Value {
    let mut status = serde_json::to_value(status).expect("a status is JSON");
    for field in fields {
        if status.get(field).is_none() {
            status[*field] = serde_json::Value::Null;
        }
    }
    status
}

/// When objects are looked at.
#[derive(Clone)]
pub(crate) struct Pace {
    /// Time between two looks at an object that nobody changes, a fifth more or less.
    pub(crate) resync: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Pace {
    /// The time as the API server keeps it.
    pub(crate) fn now(&self) -> Timestamp {
        let millis = i64::try_from(self.clock.wall().0).unwrap_or(i64::MAX);
        let now = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// Until the next look at an object that nobody changes: not all objects are looked at together.
    pub(crate) fn resync(&self) -> Duration {
        let percent = u32::try_from(self.entropy.next_u64() % 41).unwrap_or_default();
        self.resync * (80 + percent) / 100
    }
}
