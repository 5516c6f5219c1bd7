//! The objects of one kind at the API server: what the operator writes there, each call with a deadline.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::trouble::Attempt;
use crate::watched::Watched;

/// Every call ends by then.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(10);
/// Lets an object stay until what it has in the cluster is gone.
pub(crate) const FINALIZER: &str = "apogeemq.io/delete";

/// Why the API server did not take something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShelfError {
    /// Somebody wrote the object meanwhile, or deleted it: what is to be done is to be decided anew.
    #[error("the object changed meanwhile")]
    Changed,
    /// In words for people.
    #[error("{0}")]
    Trouble(String),
}

/// Writes the status. It is refused if the object is not the newest, so that a leader that is none any more writes nothing.
pub(crate) async fn write_status<K: Watched>(client: &Client, object: &K, status: Value) -> Result<K, ShelfError> {
    let resource = format!("{}/status", K::RESOURCE);
    let (api, namespace) = api(client, object);
    let patch = Patch::Merge(json!({ "metadata": version(object), "status": status }));
    let (name, params) = (object.name_any(), PatchParams::default());
    let written = timeout(CALL_MAX, api.patch_status(&name, &params, &patch)).await;
    understood(written, Attempt { verb: "patch", resource: &resource, namespace: Some(&namespace) })
}

/// Adds our finalizer or takes it away; others stay.
pub(crate) async fn write_finalizer<K: Watched>(client: &Client, object: &K, wanted: bool) -> Result<K, ShelfError> {
    let mut all: Vec<_> = object.finalizers().iter().filter(|one| *one != FINALIZER).cloned().collect();
    if wanted {
        all.push(FINALIZER.to_owned());
    }
    let (api, namespace) = api(client, object);
    let mut metadata = version(object);
    metadata["finalizers"] = all.into();
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    let (name, params) = (object.name_any(), PatchParams::default());
    let written = timeout(CALL_MAX, api.patch(&name, &params, &patch)).await;
    understood(written, Attempt { verb: "patch", resource: K::RESOURCE, namespace: Some(&namespace) })
}

fn api<K: Watched>(client: &Client, object: &K) -> (Api<K>, String) {
    let namespace = object.namespace().unwrap_or_default();
    (Api::namespaced(client.clone(), &namespace), namespace)
}

/// The object that is meant, and no later one.
fn version<K: Watched>(object: &K) -> Value {
    json!({ "resourceVersion": object.resource_version(), "uid": object.uid() })
}

/// What the API server said to a call.
pub(crate) fn understood<T>(
    answer: Result<Result<T, kube::Error>, tokio::time::error::Elapsed>,
    attempt: Attempt<'_>,
) -> Result<T, ShelfError> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Err(ShelfError::Changed),
        Ok(Err(error)) => Err(ShelfError::Trouble(attempt.explain(&error))),
        Err(_) => Err(ShelfError::Trouble(attempt.unanswered(CALL_MAX))),
    }
}
