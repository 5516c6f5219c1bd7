//! The objects people write. The files in `helm/crds` are made from these types.
#![expect(unreachable_pub, reason = "for each of these types KubeSchema makes another one inside a function")]

use apogee_model::{GroupConfig, RetryPolicy, TopicConfig};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, CustomResourceExt as _, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What fits into every number here: an object that cannot be read would hide all others.
const NUMBER_MAX: i32 = i32::MAX;
/// More are a typing error.
const STORE_NODES_MAX: i32 = 99;

/// What delivery a topic offers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MessageType {
    #[default]
    Normal,
    Fifo,
    Delay,
    Transaction,
    Priority,
    Lite,
    Mixed,
}

/// What clients may do with a topic.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Permission {
    None,
    Read,
    Write,
    #[default]
    ReadWrite,
}

/// Whether a group works on many messages at once or keeps the order of message groups.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DeliveryOrder {
    #[default]
    Concurrent,
    Orderly,
}

/// Whether what is in the cluster goes with its object: Retain leaves it, Delete removes it, a topic with its messages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    Delete,
}

/// A topic of the cluster.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "apogeemq.io",
    version = "v1alpha1",
    kind = "Topic",
    namespaced,
    status = "TopicStatus",
    derive = "PartialEq",
    doc = "A topic of an ApogeeMQ cluster.",
    category = "apogeemq",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.messageType"}"#,
    printcolumn = r#"{"name":"Queues","type":"integer","jsonPath":".status.queues"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Synced","type":"string","jsonPath":".status.conditions[?(@.type==\"Synced\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = fixed("clusterRef"),
    validation = fixed("topicName"),
    validation = fixed("liteExpirationSeconds"),
    validation = Rule::new("!has(self.liteExpirationSeconds) || self.messageType == 'LITE'")
        .message("only a topic of messageType LITE has liteExpirationSeconds")
)]
pub struct TopicSpec {
    /// The cluster it belongs to, by name; by default the cluster of the operator. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 127))]
    pub cluster_ref: Option<String>,
    /// Its name in the cluster; by default the name of this object. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub topic_name: Option<String>,
    /// What its messages may ask for. Cannot be changed.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("messageType cannot be changed"))]
    pub message_type: MessageType,
    /// There can be more later, but not fewer.
    #[serde(default = "queues")]
    #[schemars(range(min = 1, max = NUMBER_MAX))]
    pub queues: u32,
    /// What clients may do with it.
    #[serde(default)]
    pub permission: Permission,
    /// How long lite topics outlive their last message; by default for ever. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = NUMBER_MAX))]
    pub lite_expiration_seconds: Option<u32>,
    /// Whether its messages are found by their keys.
    #[serde(default = "yes")]
    pub key_index: bool,
    /// What becomes of the topic when this object is deleted: Retain leaves it, Delete removes it and its messages.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What became of a topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// The generation that the conditions are about.
    #[serde(default)]
    pub observed_generation: i64,
    /// The topic that belongs to this object, by the number the cluster gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<u32>,
    /// The cluster had no topic of this name when this object asked for it, so the one that comes belongs to it.
    #[serde(default)]
    pub claimed: bool,
    /// Queues the topic has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u32>,
    /// Ready: it serves. Synced: it is as this object says.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Each rest is so many times as long as the one before, up to the longest.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exponential {
    #[schemars(range(min = 1, max = NUMBER_MAX))]
    pub initial_seconds: u32,
    #[schemars(range(min = 1, max = NUMBER_MAX))]
    pub max_seconds: u32,
    #[schemars(range(min = 1, max = RetryPolicy::MULTIPLIER_MAX))]
    pub multiplier: u32,
}

/// Rests between the deliveries of a message whose consumers fail: one of the two.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.customizedSeconds) != has(self.exponential)")
    .message("a backoff is either customizedSeconds or exponential"))]
pub struct Backoff {
    /// One rest after the other; the last one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = RetryPolicy::STEPS_MAX), inner(range(min = 1, max = NUMBER_MAX)))]
    pub customized_seconds: Option<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential: Option<Exponential>,
}

/// A consumer group of the cluster.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "apogeemq.io",
    version = "v1alpha1",
    kind = "ConsumerGroup",
    namespaced,
    status = "ConsumerGroupStatus",
    derive = "PartialEq",
    doc = "A consumer group of an ApogeeMQ cluster.",
    category = "apogeemq",
    printcolumn = r#"{"name":"Order","type":"string","jsonPath":".spec.deliveryOrder"}"#,
    printcolumn = r#"{"name":"Attempts","type":"integer","jsonPath":".spec.maxDeliveryAttempts"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Synced","type":"string","jsonPath":".status.conditions[?(@.type==\"Synced\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = fixed("clusterRef"),
    validation = fixed("groupName"),
    validation = fixed("liteTopic")
)]
pub struct ConsumerGroupSpec {
    /// The cluster it belongs to, by name; by default the cluster of the operator. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 127))]
    pub cluster_ref: Option<String>,
    /// Its name in the cluster; by default the name of this object. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub group_name: Option<String>,
    /// Whether it works on many messages at once or keeps the order of message groups. Cannot be changed.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("deliveryOrder cannot be changed"))]
    pub delivery_order: DeliveryOrder,
    /// Deliveries of one message before it becomes a dead letter, the first included.
    #[serde(default = "attempts")]
    #[schemars(range(min = 1, max = NUMBER_MAX))]
    pub max_delivery_attempts: u32,
    /// By default rests of 1 s, 5 s, 10 s, 30 s, 1 min to 10 min, 20 min, 30 min, 1 h, 2 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Percent of its receives from PRIORITY topics that begin at the most urgent message.
    #[serde(default = "percent")]
    #[schemars(range(max = 100))]
    pub priority_factor: u32,
    /// A topic of messageType LITE: the group reads its lite topics, and nothing else. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub lite_topic: Option<String>,
    /// What becomes of the group when this object is deleted: Retain leaves it, Delete removes it, its progress and its
    /// dead letters.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What became of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerGroupStatus {
    /// The generation that the conditions are about.
    #[serde(default)]
    pub observed_generation: i64,
    /// The group that belongs to this object, by the number the cluster gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<u32>,
    /// The cluster had no group of this name when this object asked for it, so the one that comes belongs to it.
    #[serde(default)]
    pub claimed: bool,
    /// Ready: it serves. Synced: it is as this object says.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// How many store-nodes there are.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "apogeemq.io",
    version = "v1alpha1",
    kind = "StoreNodes",
    plural = "storenodes",
    singular = "storenodes",
    shortname = "sn",
    namespaced,
    status = "StoreNodesStatus",
    scale = r#"{
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector"
    }"#,
    derive = "PartialEq",
    doc = "The store-nodes of an ApogeeMQ cluster, in the namespace of its operator: as many as are wanted, and none goes before \
           its replicas have moved to others.",
    category = "apogeemq",
    printcolumn = r#"{"name":"Wanted","type":"integer","jsonPath":".spec.replicas"}"#,
    printcolumn = r#"{"name":"Replicas","type":"integer","jsonPath":".status.replicas"}"#,
    printcolumn = r#"{"name":"Leaving","type":"string","jsonPath":".status.leaving"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Synced","type":"string","jsonPath":".status.conditions[?(@.type==\"Synced\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct StoreNodesSpec {
    /// The StatefulSet that is scaled, of the same namespace. Its pods are store-nodes of the same names. Cannot be changed.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("statefulSet cannot be changed"))]
    pub stateful_set: String,
    /// How many there are to be; not fewer than replicas of a replica group.
    #[schemars(range(min = 1, max = STORE_NODES_MAX))]
    pub replicas: u32,
}

/// What became of the number of store-nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreNodesStatus {
    /// The generation that the conditions are about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Pods the StatefulSet has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Which pods these are, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Names of the store-nodes that drain because of this object. What others drain is not here, and stays as they want it.
    #[serde(default)]
    pub leaving: Vec<String>,
    /// Ready: so many as are wanted are ready. Synced: there are as many as this object says.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// The definitions of all kinds for the API server, by the names of their files.
///
/// # Panics
/// Never: the types are those of this file.
pub fn definitions() -> [(&'static str, Value); 3] {
    let all = [
        ("topics.yaml", Topic::crd()),
        ("consumergroups.yaml", ConsumerGroup::crd()),
        ("storenodes.yaml", StoreNodes::crd()),
    ];
    all.map(|(file, crd)| {
        let mut crd = serde_json::to_value(crd).expect("a definition is JSON");
        without_formats_of_rust(&mut crd);
        (file, crd)
    })
}

/// Kubernetes knows `int32` and `int64`, and warns of others; bounds say the rest.
fn without_formats_of_rust(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                fields.remove("format");
            }
            fields.values_mut().for_each(without_formats_of_rust);
        }
        Value::Array(items) => items.iter_mut().for_each(without_formats_of_rust),
        _ => {}
    }
}

/// A field that is for good, whether it was set or not.
fn fixed(field: &str) -> kube::core::Rule {
    let (new, old) = (format!("self.{field}"), format!("oldSelf.{field}"));
    let rule = format!("has({new}) == has({old}) && (!has({new}) || {new} == {old})");
    kube::core::Rule::new(rule).message(&*format!("{field} cannot be changed"))
}

fn queues() -> u32 {
    TopicConfig::QUEUES_DEFAULT.into()
}

fn attempts() -> u32 {
    GroupConfig::MAX_ATTEMPTS_DEFAULT
}

fn percent() -> u32 {
    100
}

fn yes() -> bool {
    true
}
