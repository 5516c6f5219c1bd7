//! Pods that go under load, one after the other: deleted, killed, replaced by others.

use std::time::Duration;

use anyhow::{Context, ensure};
use apogee_tests::at_work::AtWork;
use apogee_tests::endure::Connections;
use apogee_tests::sdk::hold;
use tokio::time::{Instant, sleep};

use super::kubernetes::Kubernetes;
use super::say;

/// Some time in which nothing happens.
const CALM: Duration = Duration::from_secs(2);

pub(crate) async fn run(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    in_peace(kubernetes).await?;
    without_warning(kubernetes).await
}

/// Deletions, a rolling restart and an upgrade: no call fails, next to nothing comes again.
async fn in_peace(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    let at_work = AtWork::start(&kubernetes.endpoint, Connections::Stay).await?;
    sleep(CALM).await;
    for pod in kubernetes.pods("").await? {
        let began = Instant::now();
        kubernetes.kubectl(&format!("delete pod {pod} --timeout=200s")).await?;
        let gone = began.elapsed();
        kubernetes.settled().await?;
        say!("{pod} gone in {:.1} s, replaced after {:.1} s", gone.as_secs_f64(), began.elapsed().as_secs_f64());
        sleep(CALM).await;
    }
    let began = Instant::now();
    kubernetes.kubectl("rollout restart statefulset/apogee-namesrv statefulset/apogee-store-node").await?;
    kubernetes.kubectl("rollout restart deployment/apogee-proxy").await?;
    kubernetes.settled().await?;
    say!("everything restarted in {:.1} s", began.elapsed().as_secs_f64());
    let took = kubernetes.helm("upgrade", &["logging.level=info"]).await?;
    kubernetes.settled().await?;
    say!("upgraded to a changed value in {:.1} s", took.as_secs_f64());
    sleep(CALM).await;
    let seen = at_work.finish().await?;
    let (deliveries, again) = seen.deliveries();
    say!(
        "{} sends of Java, {} of its calls failed; {} calls of ours unanswered; {again} of {deliveries} deliveries again",
        seen.java.sent.len(),
        seen.java.failed.len(),
        seen.unanswered(),
    );
    ensure!(seen.failed_sends().is_empty(), "sends of the Java SDK failed: {:?}", seen.failed_sends());
    ensure!(seen.refusals.is_empty(), "calls were refused: {:?}", seen.refusals);
    ensure!(100 * again <= deliveries, "{again} of {deliveries} deliveries came again");
    Ok(())
}

/// A pod of each role killed: what was confirmed is there, and sends succeed at the SDK's next attempt.
async fn without_warning(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    // The judge wants to see every message of its topic.
    kubernetes.cli("topic delete orders --yes").await?;
    let at_work = AtWork::start(&kubernetes.endpoint, Connections::Break).await?;
    sleep(CALM).await;
    tokio::select! {
        held = hold(&kubernetes.endpoint) => held?,
        failed = kill_proxies(kubernetes) => panic!("the proxies did not come back: {failed:?}"),
    }
    say!("messages that were worked on did not come again");
    for role in ["store-node", "namesrv"] {
        let pod = kubernetes.pods(role).await?.pop().context("a pod")?;
        kill(kubernetes, &pod).await?;
        sleep(CALM).await;
    }
    let seen = at_work.finish().await?;
    say!("{} sends of Java, {} of its calls failed", seen.java.sent.len(), seen.java.failed.len());
    ensure!(seen.failed_sends().is_empty(), "sends of the Java SDK failed: {:?}", seen.failed_sends());
    Ok(())
}

/// One after the other, for good.
async fn kill_proxies(kubernetes: &Kubernetes) -> anyhow::Result<std::convert::Infallible> {
    loop {
        let pod = kubernetes.pods("proxy").await?.pop().context("a pod")?;
        kill(kubernetes, &pod).await?;
        sleep(CALM).await;
    }
}

async fn kill(kubernetes: &Kubernetes, pod: &str) -> anyhow::Result<()> {
    kubernetes.kubectl(&format!("delete pod {pod} --grace-period=0 --force --timeout=200s")).await?;
    kubernetes.settled().await?;
    say!("{pod} killed and replaced");
    Ok(())
}
