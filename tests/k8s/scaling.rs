//! Load makes proxies come, they get their share of it, and without it they leave; no call fails on the way.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::kubernetes::Kubernetes;
use super::say;

/// Processes that make the load, their connections, and how much of it there is. More than the proxies' requests of a
/// processor carry.
const PROCESSES: usize = 10;
const CONNECTIONS: usize = 8;
const RATE: usize = 150;
/// How long there is load, most of it for connections to come to new proxies.
const LOAD: Duration = Duration::from_secs(420);
/// From the time that all proxies are there.
const SPREAD: Duration = Duration::from_secs(300);
/// In which requests are counted for each proxy.
const COUNTED: Duration = Duration::from_secs(30);
const FEW: usize = 2;
const MANY: usize = 4;

pub(crate) async fn run(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    kubernetes.eventually("two proxies are there", async || Ok(ready(kubernetes).await? == FEW)).await?;
    // A trickle that stays, so that proxies which leave have clients.
    let trickle = load(kubernetes, "trickle", 4, 10, LOAD + Duration::from_secs(420))?;
    let heavy: Vec<Child> = (0..PROCESSES)
        .map(|number| load(kubernetes, &format!("load-{number}"), CONNECTIONS, RATE, LOAD))
        .collect::<anyhow::Result<_>>()?;
    let began = Instant::now();
    kubernetes.eventually("four proxies are ready", async || Ok(ready(kubernetes).await? == MANY)).await?;
    say!("{MANY} proxies are ready {:.0} s after the load began", began.elapsed().as_secs_f64());
    sleep(SPREAD - COUNTED).await;
    shares(kubernetes).await?;
    for child in heavy {
        finished(child).await?;
    }
    let ended = Instant::now();
    kubernetes.eventually("two proxies are left", async || Ok(kubernetes.pods("proxy").await?.len() == FEW)).await?;
    say!("{FEW} proxies are left {:.0} s after the load ended", ended.elapsed().as_secs_f64());
    finished(trickle).await
}

async fn ready(kubernetes: &Kubernetes) -> anyhow::Result<usize> {
    let deployment = kubernetes.json("get deployment apogee-proxy").await?;
    Ok(usize::try_from(deployment["status"]["readyReplicas"].as_u64().unwrap_or(0))?)
}

fn load(
    kubernetes: &Kubernetes,
    name: &str,
    connections: usize,
    rate: usize,
    length: Duration,
) -> anyhow::Result<Child> {
    let mut command = Command::new(&kubernetes.program);
    command.args(["bench", "e2e", "-o", "json", "--topic", name, "--group", name, "--size", "256"]);
    command.args(["--endpoint", &kubernetes.endpoint, "--connections", &connections.to_string()]);
    command.args(["--rate", &rate.to_string(), "--seconds", &length.as_secs().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().with_context(|| format!("{command:?} does not start"))
}

/// What a generator of load saw: no call failed, and next to nothing came again.
async fn finished(child: Child) -> anyhow::Result<()> {
    let output = child.wait_with_output().await?;
    let report: Value = serde_json::from_slice(&output.stdout).context("no report")?;
    say!(
        "{}: {} sent, {} failed, p99 {} ms; {} came again",
        report["topic"],
        report["send"]["count"],
        report["send"]["failed"],
        report["send"]["p99_ms"],
        report["redelivered"]
    );
    ensure!(output.status.success(), "{report} {}", String::from_utf8_lossy(&output.stderr));
    let (sent, again) = (report["send"]["count"].as_u64(), report["redelivered"].as_u64());
    ensure!(again.context("redelivered")? * 100 <= sent.context("sent")?, "{report}");
    Ok(())
}

/// How evenly the proxies are asked.
async fn shares(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    let pods = kubernetes.pods("proxy").await?;
    let before = requests(kubernetes, &pods).await?;
    sleep(COUNTED).await;
    let after = requests(kubernetes, &pods).await?;
    let counts: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    let mean = counts.iter().sum::<f64>() / f64::from(u32::try_from(counts.len())?);
    let most = counts.iter().copied().fold(0.0, f64::max);
    say!("requests to each proxy: {counts:?}; the most is {:.2} of the mean", most / mean);
    ensure!(most <= 1.5 * mean, "{counts:?}");
    Ok(())
}

async fn requests(kubernetes: &Kubernetes, pods: &[String]) -> anyhow::Result<Vec<f64>> {
    let mut all = Vec::new();
    for pod in pods {
        let metrics = kubernetes.metrics(pod).await?;
        all.push(*metrics.get("rocketmq_proxy_requests_total").context("the metric of requests")?);
    }
    Ok(all)
}
