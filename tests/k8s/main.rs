//! `k8s-test`: the chart in a real Kubernetes, the one that KUBECONFIG points to, with official SDKs and judged histories.
//!
//! It makes the namespace `apogee-test` anew, which enforces the `restricted` profile of pod security, and removes it at the
//! end. The image must be where the nodes find it, and the endpoint reachable from here.
//!
//! Reading order: `kubernetes` (kubectl and helm), then the steps in their order: `install`, `operator` (with
//! `store_nodes`), `restarts`, `scaling`, `volumes`.

mod install;
mod kubernetes;
mod operator;
mod restarts;
mod scaling;
mod store_nodes;
mod volumes;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use kubernetes::Kubernetes;

/// Runs the chart in the Kubernetes that KUBECONFIG points to.
#[derive(Debug, Parser)]
struct Args {
    /// The image, as the nodes know it
    #[arg(long, default_value = "apogee:0.1.0")]
    image: String,
    /// The `apogee` program, which makes the load
    #[arg(long)]
    program: PathBuf,
    /// How the proxies are reached from here; their Service by default, for runs inside the network of the cluster
    #[arg(long, default_value = "apogee-proxy.apogee-test.svc.cluster.local:8081")]
    endpoint: String,
    /// Leaves the namespace and what is in it
    #[arg(long)]
    keep: bool,
    /// What to do after the installation; everything by default
    #[arg(long, value_enum, value_delimiter = ',')]
    steps: Vec<Step>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Official SDKs
    Sdks,
    /// Topics, consumer groups and the number of store-nodes as objects
    Operator,
    /// Pods that are deleted, killed and replaced under load
    Restarts,
    /// More proxies under load, and fewer without it
    Scaling,
    /// A release that goes and comes back to its volumes
    Volumes,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let kubernetes = Kubernetes { image: args.image, endpoint: args.endpoint, program: args.program };
    let steps = if args.steps.is_empty() { Step::value_variants() } else { &args.steps };
    kubernetes.fresh_namespace().await?;
    install::run(&kubernetes).await?;
    for step in steps {
        match step {
            Step::Sdks => install::sdks(&kubernetes).await?,
            Step::Operator => operator::run(&kubernetes).await?,
            Step::Restarts => restarts::run(&kubernetes).await?,
            Step::Scaling => scaling::run(&kubernetes).await?,
            Step::Volumes => volumes::run(&kubernetes).await?,
        }
    }
    if !args.keep {
        kubernetes.remove().await?;
    }
    say!("everything holds");
    Ok(())
}
