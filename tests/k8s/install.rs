//! From an empty namespace to messages.

use std::time::Duration;

use anyhow::ensure;
use apogee_tests::sdk::{Sdk, Transport};

use super::kubernetes::Kubernetes;
use super::say;

/// From `helm install` until every pod is ready.
const READY_MAX: Duration = Duration::from_secs(90);

pub(crate) async fn run(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    let took = kubernetes.helm("install", &[]).await?;
    say!("everything is ready {:.1} s after helm install", took.as_secs_f64());
    ensure!(took <= READY_MAX, "ready after {took:?} only");
    kubernetes.helm_test().await?;
    say!("helm test is green");
    Ok(())
}

/// Every scenario of the official SDKs.
pub(crate) async fn sdks(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    for sdk in [Sdk::Java, Sdk::Python, Sdk::Go, Sdk::Node, Sdk::Rust] {
        for line in sdk.needs() {
            kubernetes.cli(line).await?;
        }
        let home = tempfile::tempdir()?;
        sdk.check(Transport::Plaintext, &kubernetes.endpoint, home.path()).await?;
        say!("every scenario of {sdk:?} passed");
    }
    Ok(())
}
