//! The number of store-nodes as an object: one more comes and gets replicas, and goes under load when they are elsewhere.

use std::time::Duration;

use anyhow::{Context, ensure};
use apogee_tests::at_work::AtWork;
use apogee_tests::endure::Connections;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::kubernetes::Kubernetes;
use super::say;

const OBJECT: &str = "storenodes.apogeemq.io/apogee";
/// The one that comes and goes.
const FOURTH: &str = "apogee-store-node-3";
/// Some time in which nothing happens.
const CALM: Duration = Duration::from_secs(2);

/// `values`: those of the release.
pub(crate) async fn run(kubernetes: &Kubernetes, values: &str) -> anyhow::Result<()> {
    too_few(kubernetes).await?;
    comes(kubernetes).await?;
    kubernetes.helm("upgrade", &[values]).await?;
    for scaled in [OBJECT, "statefulset.apps/apogee-store-node"] {
        let there = kubernetes.json(&format!("get {scaled}")).await?["spec"]["replicas"].clone();
        ensure!(there == 4, "helm upgrade left {scaled} with {there}");
    }
    // The judge wants to see every message of its topic, which has queues on all replica groups then.
    kubernetes.cli("topic create orders").await.ok();
    kubernetes.cli("topic delete orders --yes").await?;
    goes(kubernetes).await?;
    kubernetes.cli("topic delete orders --yes").await.map(drop)
}

/// Fewer store-nodes than replicas are refused, and nothing happens.
async fn too_few(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    scale(kubernetes, 2).await?;
    kubernetes.kubectl(&format!("wait {OBJECT} --for=condition=Synced=false --timeout=60s")).await?;
    let object = kubernetes.json(&format!("get {OBJECT}")).await?;
    let conditions = object["status"]["conditions"].as_array().context("conditions")?;
    ensure!(conditions.iter().any(|one| one["reason"] == "TooFew"), "{object}");
    scale(kubernetes, 3).await?;
    settled(kubernetes).await?;
    ensure!(kubernetes.pods("store-node").await?.len() == 3);
    Ok(())
}

async fn comes(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    let began = Instant::now();
    scale(kubernetes, 4).await?;
    let hosts = async || Ok(fourth(kubernetes).await?.is_some_and(|node| !replicas(&node).is_empty()));
    kubernetes.eventually("the fourth store-node has replicas", hosts).await?;
    settled(kubernetes).await?;
    say!("a fourth store-node has replicas {:.1} s after kubectl scale", began.elapsed().as_secs_f64());
    Ok(())
}

/// Under load: what was confirmed is there, and no send of an SDK fails.
async fn goes(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    let at_work = AtWork::start(&kubernetes.endpoint, Connections::Stay).await?;
    sleep(CALM).await;
    let began = Instant::now();
    scale(kubernetes, 3).await?;
    let goes = async || Ok(kubernetes.pods("store-node").await?.iter().all(|pod| pod != FOURTH));
    kubernetes.eventually("its pod is told to go", goes).await?;
    // It got nothing new since it drains, so what it has now it had when its pod was told to go.
    let kept = fourth(kubernetes).await?.map(|node| replicas(&node)).unwrap_or_default();
    ensure!(kept.is_empty(), "{FOURTH} went with its replicas of {kept:?}");
    say!("its pod went {:.1} s after kubectl scale, when it kept nothing", began.elapsed().as_secs_f64());
    kubernetes.eventually("it is forgotten", async || Ok(nodes(kubernetes).await?.len() == 3)).await?;
    settled(kubernetes).await?;
    say!("it was forgotten {:.1} s after kubectl scale", began.elapsed().as_secs_f64());
    sleep(CALM).await;
    let seen = at_work.finish().await?;
    let (deliveries, again) = seen.deliveries();
    say!(
        "{} sends of Java, {} of its calls failed; {} calls of ours refused; {again} of {deliveries} deliveries again",
        seen.java.sent.len(),
        seen.java.failed.len(),
        seen.refusals.len(),
    );
    ensure!(seen.failed_sends().is_empty(), "sends of the Java SDK failed: {:?}", seen.failed_sends());
    Ok(())
}

async fn scale(kubernetes: &Kubernetes, replicas: u32) -> anyhow::Result<()> {
    kubernetes.kubectl(&format!("scale {OBJECT} --replicas={replicas}")).await.map(drop)
}

/// There are as many as the object says, and they are ready.
async fn settled(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    for condition in ["Synced", "Ready"] {
        kubernetes.kubectl(&format!("wait {OBJECT} --for=condition={condition} --timeout=300s")).await?;
    }
    kubernetes.settled().await
}

async fn fourth(kubernetes: &Kubernetes) -> anyhow::Result<Option<Value>> {
    Ok(nodes(kubernetes).await?.into_iter().find(|node| node["name"] == FOURTH))
}

/// The store-nodes that the cluster knows.
async fn nodes(kubernetes: &Kubernetes) -> anyhow::Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&kubernetes.cli("node list --output json").await?)?;
    Ok(list["nodes"].as_array().context("store-nodes")?.clone())
}

fn replicas(node: &Value) -> Vec<Value> {
    node["replicas"].as_array().cloned().unwrap_or_default()
}
