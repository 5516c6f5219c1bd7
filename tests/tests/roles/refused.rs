//! Processes that do not belong to the cluster, or cannot reach it: each says so, and keeps trying.

use std::time::Duration;

use apogee_tests::cluster::{Cluster, Process, Shape};
use apogee_tests::server::get;
use tokio::time::{Instant, sleep};

use crate::ALONE;

const SMALL: Shape = Shape { namesrvs: 1, stores: 1, replication_factor: 1, proxies: 1 };
const PROXY: &str = "proxy --namesrv {namesrv} --port {first} --admin-port {second}";
const STORE: &str =
    "store-node --data data --name stranger --namesrv {namesrv} --lanes-port {first} --replication-port {second}";
/// Until a process has said what is wrong.
const SAID_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `/readyz` fails with these words; the process runs all the time.
async fn says(process: &mut Process, words: &str) {
    let deadline = Instant::now() + SAID_MAX;
    loop {
        let answer = get(process.ports().health, "/readyz").await;
        if answer.as_ref().is_ok_and(|answer| answer.code == 503 && answer.body.contains(words)) {
            return;
        }
        assert!(process.runs(), "it has ended; its log:\n{}", process.log().unwrap_or_default());
        assert!(Instant::now() < deadline, "it says {answer:?}; its log:\n{}", process.log().unwrap_or_default());
        sleep(LOOK_EVERY).await;
    }
}

#[tokio::test]
async fn who_does_not_belong_to_the_cluster_is_told_why() {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::start(SMALL, &[]).await.expect("the cluster starts");
    let folder = tempfile::tempdir().expect("a folder");
    let (wrong, right) = (folder.path().join("token"), cluster.token_file());
    std::fs::write(&wrong, "ab".repeat(32)).expect("a token of another cluster");
    let (wrong, right) = (wrong.to_string_lossy(), right.to_string_lossy());

    for role in [PROXY, STORE] {
        let mut stranger = cluster.another("stranger", role, &["--token-file", &wrong]).expect("ports");
        stranger.start().expect("it starts");
        says(&mut stranger, "the cluster token is not the one of this cluster").await;
        let log = stranger.log().expect("a log");
        assert!(log.contains("the cluster token is not the one of this cluster"), "{log}");
    }
    let mut stranger = cluster.another("nobody", PROXY, &[]).expect("ports");
    stranger.start().expect("it starts");
    says(&mut stranger, "needs the header `authorization: Bearer <cluster token>`").await;

    // The data of a store-node belongs to the cluster it was first used in.
    let mut other = Cluster::start(SMALL, &[]).await.expect("another cluster");
    other.stores[0].kill().await.expect("its store-node is killed");
    let data = other.stores[0].data();
    let data = data.to_string_lossy();
    let role = STORE.replace("data data", &format!("data {data}"));
    let mut moved = cluster.another("moved", &role, &["--token-file", &right]).expect("ports");
    moved.start().expect("it starts");
    says(&mut moved, "the call is from cluster").await;
}

#[tokio::test]
async fn a_role_without_namesrv_waits_for_one() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::start(SMALL, &[]).await.expect("the cluster starts");
    let token = cluster.token_file();
    cluster.namesrvs[0].kill().await.expect("the namesrv is killed");
    let token = token.to_string_lossy();
    let mut proxy = cluster.another("early", PROXY, &["--token-file", &token]).expect("ports");
    proxy.start().expect("it starts");
    let namesrv = format!("127.0.0.1:{}", cluster.namesrvs[0].ports().first);
    says(&mut proxy, &namesrv).await;

    // One that knows its replicas serves them all the same.
    cluster.stores[0].kill().await.expect("the store-node is killed");
    cluster.stores[0].start().expect("it starts again");
    says(&mut cluster.stores[0], "no namesrv has answered").await;
    cluster.leader_of("broker-0").await.expect("it leads without namesrv");

    cluster.namesrvs[0].start().expect("it starts again");
    cluster.namesrvs[0].ready().await.expect("it is ready again");
    proxy.ready().await.expect("it finds the cluster");
    cluster.stores[0].ready().await.expect("it is registered");
}
