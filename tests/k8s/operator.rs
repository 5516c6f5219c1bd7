//! Topics and consumer groups as objects: they come with their object, stay as it says, and go with it if it says so.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::kubernetes::{Kubernetes, NAMESPACE};
use super::{say, store_nodes};

/// From `kubectl apply` until the cluster has it.
const APPEARS_MAX: Duration = Duration::from_secs(2);
/// Until what others changed is taken back: the longest time between two looks, and some.
const CORRECTED_MAX: Duration = Duration::from_secs(25);
/// Until something is told.
const TOLD_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

const WITH_OPERATOR: &str = "operator.enabled=true,operator.replicas=2,operator.pdb.enabled=true";
const KINDS: &str = "topics.apogeemq.io,consumergroups.apogeemq.io";

pub(crate) async fn run(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    // Helm leaves the definitions of an earlier installation as they are.
    let definitions = apogee_tests::sdk::ours("../helm/crds");
    kubernetes.kubectl(&format!("apply --filename {}", definitions.display())).await?;
    kubernetes.helm("upgrade", &[WITH_OPERATOR]).await?;
    appears(kubernetes).await?;
    others_change_it(kubernetes).await?;
    what_cannot_be(kubernetes).await?;
    goes(kubernetes).await?;
    leader_goes(kubernetes).await?;
    store_nodes::run(kubernetes, WITH_OPERATOR).await?;
    without_permission(kubernetes).await?;
    kubernetes.kubectl(&format!("delete {KINDS} --all --timeout=60s")).await?;
    kubernetes.helm("upgrade", &[]).await.map(drop)
}

/// Objects that wait for an operator to remove what they have wait no more. Nothing to do where the kinds are unknown.
pub(crate) async fn let_go(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    let Ok(objects) = kubernetes.kubectl(&format!("get {KINDS} --output name")).await else { return Ok(()) };
    for object in objects.lines() {
        let nothing = r#"{"metadata":{"finalizers":null}}"#;
        kubernetes.kubectl(&format!("patch {object} --type=merge --patch {nothing}")).await?;
    }
    Ok(())
}

async fn appears(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    apply(kubernetes, &topic("made-orders", "{messageType: FIFO, queues: 4, deletionPolicy: Delete}")).await?;
    let took = eventually("the topic is there", APPEARS_MAX, async || {
        Ok(described(kubernetes, "topic", "made-orders").await.is_some())
    })
    .await?;
    apply(
        kubernetes,
        &group("made-billing", "{deliveryOrder: ORDERLY, maxDeliveryAttempts: 5, deletionPolicy: Delete}"),
    )
    .await?;
    let also = eventually("the consumer group is there", APPEARS_MAX, async || {
        Ok(described(kubernetes, "group", "made-billing").await.is_some())
    })
    .await?;
    say!("a topic is there {:.1} s and a group {:.1} s after kubectl apply", took.as_secs_f64(), also.as_secs_f64());
    let topic = described(kubernetes, "topic", "made-orders").await.context("the topic")?;
    ensure!(topic["type"] == "fifo" && topic["queues"] == 4, "{topic}");
    let group = described(kubernetes, "group", "made-billing").await.context("the group")?;
    ensure!(group["order"] == "fifo" && group["max_attempts"] == 5, "{group}");
    for object in ["topic.apogeemq.io/made-orders", "consumergroup.apogeemq.io/made-billing"] {
        kubernetes.kubectl(&format!("wait {object} --for=condition=Ready --timeout=30s")).await?;
        kubernetes.kubectl(&format!("wait {object} --for=condition=Synced --timeout=30s")).await?;
    }
    Ok(())
}

async fn others_change_it(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    kubernetes.cli("topic alter made-orders --permission read").await?;
    let took = eventually("the permission is back", CORRECTED_MAX, async || {
        let topic = described(kubernetes, "topic", "made-orders").await.context("the topic")?;
        Ok(topic["permission"] == "read-write")
    })
    .await?;
    kubernetes.cli("group alter made-billing --max-attempts 9").await?;
    let also = eventually("the attempts are back", CORRECTED_MAX, async || {
        let group = described(kubernetes, "group", "made-billing").await.context("the group")?;
        Ok(group["max_attempts"] == 5)
    })
    .await?;
    kubernetes.cli("topic delete made-orders --yes").await?;
    let again = eventually("the topic is made again", CORRECTED_MAX, async || {
        Ok(described(kubernetes, "topic", "made-orders").await.is_some_and(|topic| topic["queues"] == 4))
    })
    .await?;
    let seconds = [took, also, again].map(|took| took.as_secs());
    say!("what others changed and deleted was taken back after {seconds:?} s");
    let mut counted = 0.0;
    for pod in kubernetes.pods("operator").await? {
        counted += kubernetes.metrics(&pod).await?.get("rocketmq_operator_drift_total").copied().unwrap_or_default();
    }
    ensure!(counted >= 3.0, "{counted} changes were counted");
    let events = kubernetes.kubectl("get events --field-selector reason=DriftCorrected --output name").await?;
    ensure!(!events.trim().is_empty(), "no event tells of it");
    Ok(())
}

async fn what_cannot_be(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    apply(kubernetes, &topic("made-impossible", "{topicName: \"a name with blanks\"}")).await?;
    refused(kubernetes, "made-impossible", "Impossible", "has the character").await?;
    apply(kubernetes, &topic("made-many", "{queues: 5000}")).await?;
    refused(kubernetes, "made-many", "Impossible", "5000").await?;
    kubernetes.cli("topic create made-before").await?;
    apply(kubernetes, &topic("made-before", "{}")).await?;
    refused(kubernetes, "made-before", "NotOurs", "apogeemq.io/adopt").await?;
    kubernetes.kubectl("annotate topic.apogeemq.io/made-before apogeemq.io/adopt=true").await?;
    kubernetes.kubectl("wait topic.apogeemq.io/made-before --for=condition=Ready --timeout=30s").await?;
    let change = topic("made-orders", "{messageType: NORMAL, queues: 4, deletionPolicy: Delete}");
    match apply(kubernetes, &change).await {
        Ok(()) => bail!("the API server lets the type of a topic be changed"),
        Err(error) => ensure!(error.to_string().contains("messageType cannot be changed"), "{error}"),
    }
    say!("what cannot be is refused, with the reason");
    Ok(())
}

async fn goes(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    kubernetes.kubectl("delete topic.apogeemq.io/made-before --timeout=30s").await?;
    for object in ["topic.apogeemq.io/made-orders", "consumergroup.apogeemq.io/made-billing"] {
        kubernetes.kubectl(&format!("delete {object} --timeout=30s")).await?;
    }
    for (kind, name) in [("topic", "made-orders"), ("group", "made-billing")] {
        ensure!(described(kubernetes, kind, name).await.is_none(), "{kind} {name} did not go with its object");
    }
    ensure!(described(kubernetes, "topic", "made-before").await.is_some(), "it was to outlive its object");
    say!("deletion follows the policy");
    Ok(())
}

/// The one at work is killed: the other one goes on.
async fn leader_goes(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    let lease = kubernetes.json("get lease apogee-operator").await?;
    let leader = lease["spec"]["holderIdentity"].as_str().context("somebody is at work")?;
    kubernetes.kubectl(&format!("delete pod {leader} --grace-period=0 --force --timeout=60s")).await?;
    let began = Instant::now();
    apply(kubernetes, &topic("made-later", "{deletionPolicy: Delete}")).await?;
    kubernetes.kubectl("wait topic.apogeemq.io/made-later --for=condition=Ready --timeout=60s").await?;
    say!("another operator is at work {:.1} s after the first was killed", began.elapsed().as_secs_f64());
    kubernetes.kubectl("rollout status deployment/apogee-operator --timeout=100s").await.map(drop)
}

/// An operator that is not allowed what it needs says what that is, and goes on when it is.
async fn without_permission(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    kubernetes.kubectl("delete rolebinding apogee-operator").await?;
    let sentence = format!("may not get leases.coordination.k8s.io in namespace {NAMESPACE}");
    let selector = "app.kubernetes.io/component=operator";
    eventually("the log names what is not allowed", TOLD_MAX, async || {
        let log = kubernetes.kubectl(&format!("logs --selector {selector} --tail=-1")).await?;
        Ok(log.contains(&sentence))
    })
    .await?;
    kubernetes.kubectl(&format!("wait pod --selector {selector} --for=condition=Ready=false --timeout=60s")).await?;
    kubernetes.helm("upgrade", &[WITH_OPERATOR]).await?;
    apply(kubernetes, &topic("made-last", "{deletionPolicy: Delete}")).await?;
    kubernetes.kubectl("wait topic.apogeemq.io/made-last --for=condition=Ready --timeout=60s").await?;
    say!("an operator without permission says which");
    Ok(())
}

/// A topic whose conditions say why it is not there.
async fn refused(kubernetes: &Kubernetes, name: &str, reason: &str, part: &str) -> anyhow::Result<()> {
    eventually(&format!("{name} is refused"), TOLD_MAX, async || {
        let object = kubernetes.json(&format!("get topic.apogeemq.io {name}")).await?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let said = |condition: &Value| {
            condition["type"] == "Ready"
                && condition["status"] == "False"
                && condition["reason"] == reason
                && condition["message"].as_str().is_some_and(|message| message.contains(part))
        };
        Ok(conditions.iter().any(said))
    })
    .await
    .map(drop)
}

fn topic(name: &str, spec: &str) -> String {
    object("Topic", name, spec)
}

fn group(name: &str, spec: &str) -> String {
    object("ConsumerGroup", name, spec)
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: apogeemq.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

async fn apply(kubernetes: &Kubernetes, yaml: &str) -> anyhow::Result<()> {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    file.write_all(yaml.as_bytes())?;
    kubernetes.kubectl(&format!("apply --filename {}", file.path().display())).await.map(drop)
}

/// What the cluster says of a topic or a group; `None` when there is none.
async fn described(kubernetes: &Kubernetes, kind: &str, name: &str) -> Option<Value> {
    let text = kubernetes.cli(&format!("{kind} describe {name} --output json")).await.ok()?;
    serde_json::from_str(&text).ok()
}

/// How long it takes until that is so.
async fn eventually(
    what: &str,
    within: Duration,
    holds: impl AsyncFn() -> anyhow::Result<bool>,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    while !holds().await? {
        ensure!(began.elapsed() < within, "it is not so within {within:?}: {what}");
        sleep(LOOK_EVERY).await;
    }
    let took = began.elapsed();
    ensure!(took <= within, "it is so after {took:?} only: {what}");
    Ok(took)
}
