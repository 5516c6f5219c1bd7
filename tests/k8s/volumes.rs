//! A release that goes and comes back: its volumes stay, and so do its messages and its token.

use anyhow::ensure;

use super::kubernetes::Kubernetes;
use super::say;

const MESSAGES: usize = 20;

pub(crate) async fn run(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    kubernetes.cli("topic create kept").await?;
    for number in 0..MESSAGES {
        kubernetes.cli(&format!("message send kept {number}")).await?;
    }
    kubernetes.uninstall().await?;
    let took = kubernetes.helm("install", &[]).await?;
    let mut bodies = Vec::new();
    while bodies.len() < MESSAGES {
        let received = kubernetes.cli("message receive kept --group kept --output json").await?;
        bodies.extend(received.lines().map(str::to_owned));
    }
    ensure!(bodies.len() == MESSAGES, "{} messages", bodies.len());
    say!("{MESSAGES} messages are there after uninstall and install, which took {:.1} s", took.as_secs_f64());
    Ok(())
}
