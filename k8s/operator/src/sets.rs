//! StatefulSets and their pods at the API server.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::Selector;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::scale::Ordinal;
use crate::shelf::{CALL_MAX, ShelfError, understood};
use crate::trouble::Attempt;

const SETS: &str = "statefulsets.apps";
const SCALE: &str = "statefulsets.apps/scale";
const PODS: &str = "pods";

/// A StatefulSet, as it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) name: String,
    /// The number its first pod has.
    pub(crate) first: i32,
    /// Pods it is to have.
    pub(crate) replicas: u32,
    /// Pods it has made, and those of them that are ready.
    pub(crate) made: u32,
    pub(crate) ready: u32,
    /// Which pods are its own.
    pub(crate) selector: String,
    /// All of them, those that are about to go as well.
    pub(crate) pods: BTreeSet<Ordinal>,
    /// What was seen, and no later one.
    version: Value,
}

/// StatefulSets of a namespace.
pub(crate) struct Sets<'a> {
    pub(crate) client: &'a Client,
    pub(crate) namespace: &'a str,
}

impl Sets<'_> {
    /// `None` when there is none of this name.
    pub(crate) async fn look(&self, name: &str) -> Result<Option<Set>, ShelfError> {
        let api = Api::<StatefulSet>::namespaced(self.client.clone(), self.namespace);
        let found = timeout(CALL_MAX, api.get_opt(name)).await;
        let Some(set) = understood(found, self.attempt("get", SETS))? else { return Ok(None) };
        let version = json!({ "resourceVersion": set.resource_version(), "uid": set.uid() });
        let (spec, status) = (set.spec.unwrap_or_default(), set.status.unwrap_or_default());
        let selector = Selector::try_from(spec.selector);
        let selector =
            selector.map_err(|error| ShelfError::Trouble(format!("the selector of {SETS} {name}: {error}")))?;
        Ok(Some(Set {
            name: name.to_owned(),
            first: spec.ordinals.and_then(|ordinals| ordinals.start).unwrap_or_default(),
            replicas: count(spec.replicas.unwrap_or(1)),
            made: count(status.replicas),
            ready: count(status.ready_replicas.unwrap_or_default()),
            pods: self.pods(name, &selector).await?,
            selector: selector.to_string(),
            version,
        }))
    }

    async fn pods(&self, set: &str, selector: &Selector) -> Result<BTreeSet<Ordinal>, ShelfError> {
        let api = Api::<Pod>::namespaced(self.client.clone(), self.namespace);
        let params = ListParams::default().labels_from(selector);
        let found = timeout(CALL_MAX, api.list(&params)).await;
        let pods = understood(found, self.attempt("list", PODS))?;
        Ok(pods.iter().filter_map(|pod| ordinal(set, &pod.name_any())).collect())
    }

    /// Sets how many pods it is to have. It is refused if the StatefulSet is not as it was seen.
    pub(crate) async fn scale(&self, set: &Set, to: u32) -> Result<(), ShelfError> {
        let api = Api::<StatefulSet>::namespaced(self.client.clone(), self.namespace);
        let patch = Patch::Merge(json!({ "metadata": set.version, "spec": { "replicas": to } }));
        let params = PatchParams::default();
        let written = timeout(CALL_MAX, api.patch_scale(&set.name, &params, &patch)).await;
        understood(written, self.attempt("patch", SCALE)).map(drop)
    }

    fn attempt<'a>(&'a self, verb: &'static str, resource: &'a str) -> Attempt<'a> {
        Attempt { verb, resource, namespace: Some(self.namespace) }
    }
}

impl Set {
    /// The name of a pod, and of its store-node.
    pub(crate) fn pod(&self, ordinal: Ordinal) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// The number in the name of a pod of this StatefulSet; `None` for other names.
    pub(crate) fn ordinal(&self, name: &str) -> Option<Ordinal> {
        ordinal(&self.name, name)
    }
}

fn ordinal(set: &str, name: &str) -> Option<Ordinal> {
    let digits = name.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal = digits.parse().ok()?;
    (format!("{ordinal}") == digits).then_some(ordinal)
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_its_name() {
        for (name, expected) in [
            ("store-0", Some(0)),
            ("store-12", Some(12)),
            ("store-012", None),
            ("store-+1", None),
            ("store-", None),
            ("store-4294967296", None),
            ("store-a-1", None),
            ("restore-1", None),
        ] {
            assert_eq!(ordinal("store", name), expected, "{name}");
        }
    }
}
