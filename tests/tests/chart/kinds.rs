//! The objects as Kubernetes knows them: the types of `k8s-openapi` are made from its OpenAPI schemas.

use std::collections::HashSet;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{every_case, objects};

#[test]
fn kubernetes_knows_every_field() -> anyhow::Result<()> {
    for case in every_case() {
        let objects = objects(case)?;
        ensure!(objects.len() > 10, "{case}: {} objects", objects.len());
        for object in objects {
            let name = format!("{case}: {} {}", object["kind"], object["metadata"]["name"]);
            known(&object).with_context(|| name)?;
        }
    }
    Ok(())
}

#[test]
fn no_two_objects_have_the_same_name() -> anyhow::Result<()> {
    for case in every_case() {
        let mut seen = HashSet::new();
        for object in objects(case)? {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            ensure!(seen.insert(name.clone()), "{case}: {name} twice");
        }
    }
    Ok(())
}

/// Selectors of workloads cannot be changed: what another version of the chart has must not be in them.
#[test]
fn selectors_never_change() -> anyhow::Result<()> {
    for case in every_case() {
        for object in objects(case)?.iter().filter(|it| it["kind"] == "StatefulSet" || it["kind"] == "Deployment") {
            let labels = object["spec"]["selector"]["matchLabels"].as_object().context("labels")?;
            let keys: Vec<_> = labels.keys().map(|key| key.trim_start_matches("app.kubernetes.io/")).collect();
            ensure!(keys == ["component", "instance", "name"], "{case}: {keys:?}");
            let pod = &object["spec"]["template"]["metadata"]["labels"];
            ensure!(labels.iter().all(|(key, value)| pod[key] == *value), "{case}: the selector selects no pod");
        }
    }
    Ok(())
}

fn known(object: &Value) -> anyhow::Result<()> {
    let kind = format!("{}/{}", text(&object["apiVersion"])?, text(&object["kind"])?);
    match kind.as_str() {
        "v1/ConfigMap" => same::<ConfigMap>(object),
        "v1/Pod" => same::<Pod>(object),
        "v1/Secret" => same::<Secret>(object),
        "v1/Service" => same::<Service>(object),
        "v1/ServiceAccount" => same::<ServiceAccount>(object),
        "apps/v1/Deployment" => same::<Deployment>(object),
        "apps/v1/StatefulSet" => same::<StatefulSet>(object),
        "autoscaling/v2/HorizontalPodAutoscaler" => same::<HorizontalPodAutoscaler>(object),
        "networking.k8s.io/v1/NetworkPolicy" => same::<NetworkPolicy>(object),
        "policy/v1/PodDisruptionBudget" => same::<PodDisruptionBudget>(object),
        "rbac.authorization.k8s.io/v1/ClusterRole" => same::<ClusterRole>(object),
        "rbac.authorization.k8s.io/v1/ClusterRoleBinding" => same::<ClusterRoleBinding>(object),
        "rbac.authorization.k8s.io/v1/Role" => same::<Role>(object),
        "rbac.authorization.k8s.io/v1/RoleBinding" => same::<RoleBinding>(object),
        // Not of Kubernetes itself.
        "apogeemq.io/v1alpha1/StoreNodes"
        | "gateway.networking.k8s.io/v1/GRPCRoute"
        | "keda.sh/v1alpha1/ScaledObject"
        | "monitoring.coreos.com/v1/PodMonitor"
        | "monitoring.coreos.com/v1/PrometheusRule"
        | "monitoring.coreos.com/v1/ServiceMonitor" => Ok(()),
        other => bail!("unexpected kind {other}"),
    }
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

/// An object that goes through its type and comes out whole has no field that the type does not know.
fn same<T: DeserializeOwned + Serialize>(object: &Value) -> anyhow::Result<()> {
    let through = serde_json::to_value(serde_json::from_value::<T>(object.clone())?)?;
    lost("", object, &through)
}

fn lost(path: &str, before: &Value, after: &Value) -> anyhow::Result<()> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            // A type leaves out what is null or empty.
            let meant = before.iter().filter(|(_, value)| !empty(value));
            for (key, value) in meant {
                let after = after.get(key).with_context(|| format!("{path}.{key} is unknown"))?;
                lost(&format!("{path}.{key}"), value, after)?;
            }
            Ok(())
        }
        (Value::Array(before), Value::Array(after)) => {
            ensure!(before.len() == after.len(), "{path}");
            let mut pairs = before.iter().zip(after).enumerate();
            pairs.try_for_each(|(at, (before, after))| lost(&format!("{path}[{at}]"), before, after))
        }
        _ => {
            ensure!(before == after, "{path}: {before} became {after}");
            Ok(())
        }
    }
}

fn empty(value: &Value) -> bool {
    value.is_null()
        || value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}
