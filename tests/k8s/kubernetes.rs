//! kubectl and helm, and what is asked of them here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use apogee_tests::sdk::ours;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::operator;

/// Longest run of one command; each has a shorter limit of its own.
const COMMAND_MAX: Duration = Duration::from_secs(400);
const LOOK_EVERY: Duration = Duration::from_millis(500);
pub(crate) const RELEASE: &str = "apogee";
pub(crate) const NAMESPACE: &str = "apogee-test";

/// A line for who watches.
#[macro_export]
macro_rules! say {
    ($($what:tt)*) => {
        eprintln!("k8s-test: {}", format_args!($($what)*))
    };
}

pub(crate) struct Kubernetes {
    pub(crate) image: String,
    pub(crate) endpoint: String,
    pub(crate) program: PathBuf,
}

impl Kubernetes {
    /// # Errors
    /// When kubectl fails; with what it said.
    pub(crate) async fn kubectl(&self, line: &str) -> anyhow::Result<String> {
        let mut command = Command::new("kubectl");
        command.args(["--namespace", NAMESPACE]).args(line.split(' '));
        run(command).await
    }

    /// Installs the chart, or changes what is installed, and waits until everything is ready.
    pub(crate) async fn helm(&self, verb: &str, set: &[&str]) -> anyhow::Result<Duration> {
        let (repository, tag) = self.image.rsplit_once(':').context("an image has a tag")?;
        let mut command = Command::new("helm");
        command.args([verb, RELEASE]).arg(ours("../helm")).args([
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            "5m",
        ]);
        command.arg("--values").arg(ours("k8s/values.yaml"));
        command.args(["--set", &format!("image.repository={repository},image.tag={tag}")]);
        command.args(set.iter().flat_map(|set| ["--set", set]));
        let began = Instant::now();
        run(command).await?;
        Ok(began.elapsed())
    }

    /// Removes the release, if there is one, and waits for its pods to be gone.
    pub(crate) async fn uninstall(&self) -> anyhow::Result<()> {
        let mut command = Command::new("helm");
        command.args([
            "uninstall",
            RELEASE,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            "5m",
            "--ignore-not-found",
        ]);
        run(command).await?;
        // Names of pods and their volumes are free only then.
        let pods = format!("pod --selector app.kubernetes.io/instance={RELEASE}");
        self.kubectl(&format!("wait --for=delete {pods} --timeout=300s")).await.map(drop)
    }

    pub(crate) async fn helm_test(&self) -> anyhow::Result<()> {
        let mut command = Command::new("helm");
        command.args(["test", RELEASE, "--namespace", NAMESPACE, "--timeout", "2m"]);
        run(command).await.map(drop)
    }

    pub(crate) async fn fresh_namespace(&self) -> anyhow::Result<()> {
        self.remove().await?;
        self.kubectl(&format!("create namespace {NAMESPACE}")).await?;
        let enforced = "pod-security.kubernetes.io/enforce=restricted";
        self.kubectl(&format!("label namespace {NAMESPACE} {enforced}")).await.map(drop)
    }

    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
        self.uninstall().await?;
        operator::let_go(self).await?;
        self.kubectl(&format!("delete namespace {NAMESPACE} --ignore-not-found --timeout=180s")).await.map(drop)
    }

    /// Names of the pods of a role, or of all of them, that are not about to go.
    pub(crate) async fn pods(&self, role: &str) -> anyhow::Result<Vec<String>> {
        let selector = match role {
            "" => format!("app.kubernetes.io/instance={RELEASE}"),
            _ => format!("app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={role}"),
        };
        let list = self.json(&format!("get pods --selector {selector}")).await?;
        let pods = list["items"].as_array().context("items")?.iter();
        let stay = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(stay.filter_map(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned).collect())
    }

    pub(crate) async fn json(&self, line: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&format!("{line} --output json")).await?)?)
    }

    /// Waits until every workload has all its pods ready.
    pub(crate) async fn settled(&self) -> anyhow::Result<()> {
        for workload in ["statefulset/apogee-namesrv", "statefulset/apogee-store-node", "deployment/apogee-proxy"] {
            self.kubectl(&format!("rollout status {workload} --timeout=300s")).await?;
        }
        Ok(())
    }

    /// A line of the CLI, in a proxy.
    pub(crate) async fn cli(&self, line: &str) -> anyhow::Result<String> {
        let token = "--token-file /etc/apogee/token/token";
        self.kubectl(&format!("exec deployment/apogee-proxy -- /usr/bin/apogee {line} {token}")).await
    }

    /// The metrics of a pod by name, those of the same name added up.
    pub(crate) async fn metrics(&self, pod: &str) -> anyhow::Result<HashMap<String, f64>> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:5557/proxy/metrics");
        let text = self.kubectl(&format!("get --raw {path}")).await?;
        let mut metrics = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').context("a name and a value")?;
            let name = series.split('{').next().unwrap_or(series).to_owned();
            *metrics.entry(name).or_default() += value.parse::<f64>()?;
        }
        Ok(metrics)
    }

    /// Waits, at most some minutes, until that is so.
    pub(crate) async fn eventually(
        &self,
        what: &str,
        holds: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + COMMAND_MAX;
        while !holds().await? {
            ensure!(Instant::now() < deadline, "it is not so within {COMMAND_MAX:?}: {what}");
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

async fn run(mut command: Command) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(COMMAND_MAX, command.output()).await.with_context(|| format!("{command:?} does not end"))?;
    let output = output.with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        bail!("{command:?}: {}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    }
    Ok(String::from_utf8(output.stdout)?)
}
