//! The official SDKs, every connection to an arbitrary proxy; then while proxies are killed and come back.

use std::time::Duration;

use anyhow::ensure;
use apogee_tests::cluster::{Balancer, Cluster, Shape};
use apogee_tests::sdk::{Sdk, Transport};
use tokio::time::{Instant, sleep};

use crate::{ALONE, no_errors, ports};

/// Between two deaths.
const PACE: Duration = Duration::from_secs(5);
/// How long the other SDKs send while proxies die.
const ENDURE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_sdks_through_arbitrary_proxies() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::start(Shape::WHOLE, &[]).await?;
    let balancer = Balancer::start(ports(&cluster)).await?;
    for line in [Sdk::Java, Sdk::Python, Sdk::Go, Sdk::Node].iter().flat_map(|sdk| sdk.needs()) {
        let ran = cluster.cli(0, &line.split(' ').collect::<Vec<_>>()).await?;
        ensure!(ran.code == 0, "{line}: {ran:?}");
    }
    // The start of a Java machine takes a whole processor, and this SDK gives up when it is slow.
    check(Sdk::Java, &balancer).await?;
    let others = [Sdk::Python, Sdk::Go, Sdk::Node, Sdk::Rust].map(|sdk| check(sdk, &balancer));
    for checked in futures::future::join_all(others).await {
        checked?;
    }
    let taken = balancer.taken();
    eprintln!("connections to each proxy: {taken:?}");
    ensure!(taken.iter().all(|taken| *taken > 0), "a proxy had no connection: {taken:?}");
    no_errors(&cluster);
    Ok(())
}

/// What `proxies_are_killed_every_5_s` asks of the Java SDK.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_sdks_while_proxies_are_killed() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::start(Shape::WHOLE, &[]).await?;
    let balancer = Balancer::start(ports(&cluster)).await?;
    let endpoint = &endpoint(&balancer);
    let endured = [Sdk::Python, Sdk::Go, Sdk::Node, Sdk::Rust].map(|sdk| async move {
        let home = tempfile::tempdir()?;
        let did = sdk.endure(ENDURE, endpoint, home.path()).await?;
        eprintln!("{sdk:?}: {did}");
        anyhow::Ok(())
    });
    tokio::select! {
        endured = futures::future::join_all(endured) => endured.into_iter().collect::<anyhow::Result<()>>()?,
        failed = kill_proxies(&mut cluster) => panic!("the proxies did not come back: {failed:?}"),
    }
    no_errors(&cluster);
    Ok(())
}

/// Every scenario passes.
async fn check(sdk: Sdk, balancer: &Balancer) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    sdk.check(Transport::Plaintext, &endpoint(balancer), home.path()).await
}

pub(crate) fn endpoint(balancer: &Balancer) -> String {
    format!("127.0.0.1:{}", balancer.port())
}

/// Kills one proxy after the other, for good measure at uneven times, and starts each again.
pub(crate) async fn kill_proxies(cluster: &mut Cluster) -> anyhow::Result<std::convert::Infallible> {
    for at in (0..cluster.proxies.len()).cycle() {
        let began = Instant::now();
        let until = began + PACE;
        let proxy = &mut cluster.proxies[at];
        proxy.kill().await?;
        let killed = began.elapsed();
        proxy.start()?;
        proxy.ready().await?;
        eprintln!(
            "{} dead after {} ms, ready after {} ms",
            proxy.name(),
            killed.as_millis(),
            began.elapsed().as_millis()
        );
        sleep(until.saturating_duration_since(Instant::now())).await;
    }
    anyhow::bail!("there are no proxies")
}
