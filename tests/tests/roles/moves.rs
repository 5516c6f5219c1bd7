//! Store-nodes that go for good: their replicas move to others first, under load.

use std::path::Path;
use std::time::Duration;

use apogee_tests::cluster::{Cluster, Process, Shape};
use apogee_tests::endure::Connections;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::ALONE;
use crate::restarts::Scene;

/// One store-node more than a replica group needs.
const FOUR: Shape = Shape { stores: 4, ..Shape::WHOLE };
/// Until the replicas of a store-node have moved, some megabytes each.
const MOVED_MAX: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_node_goes_for_good() {
    let _alone = ALONE.lock().await;
    let mut scene = Scene::open(FOUR, Connections::Stay).await;
    let goes = scene.cluster.leader_of("broker-0").await.expect("somebody leads");
    let name = scene.cluster.stores[goes].name().to_owned();
    let began = Instant::now();
    told(&scene.cluster, &["node", "drain", &name]).await;
    until(&scene.cluster, "it keeps nothing", |shown| standing(shown, &name) == "drained").await;
    let moved = began.elapsed();
    until_empty(&scene.cluster.stores[goes].data().join("groups")).await;
    let gone = began.elapsed();
    eprintln!(
        "the replicas of {name} moved in {} ms, their files were gone after {}",
        moved.as_millis(),
        gone.as_millis()
    );

    let refused = scene.cluster.cli(0, &["node", "remove", &name, "--yes"]).await.expect("the CLI runs");
    assert_ne!(refused.code, 0, "it is there and would register again");
    scene.cluster.stores[goes].ready().await.expect("a store-node without replicas that drains is well");
    let ended = scene.cluster.stores[goes].stop().await.expect("it ends when asked to");
    assert!(ended.success(), "{name} ended with {ended}");
    until_removed(&scene.cluster, &name).await;
    until(&scene.cluster, "all groups are whole", |shown| {
        groups(shown).all(|group| group["replicas"].as_array().is_some_and(|replicas| replicas.len() == 3))
    })
    .await;
    let seen = scene.close().await;
    assert_eq!(seen.failed_sends(), Vec::<&String>::new(), "sends of the Java SDK failed");
    assert_eq!(seen.refusals, Vec::<String>::new(), "calls were refused");
}

/// A store-node dies while it gets a replica, and the one that was to give it stays after all. So it comes back to find
/// that nobody wants the replica any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_given_up() {
    let _alone = ALONE.lock().await;
    let mut scene = Scene::open(FOUR, Connections::Stay).await;
    let shown = told(&scene.cluster, &["cluster", "info"]).await;
    let of_first = hosts(groups(&shown).next().expect("there are four"));
    let is_in = |store: &&Process| of_first.contains(&store.name().to_owned());
    let stays = scene.cluster.stores.iter().find(is_in).expect("three have it").name().to_owned();
    let dies = scene.cluster.stores.iter().position(|store| !is_in(&store)).expect("one has none of it");
    let dead = scene.cluster.stores[dies].name().to_owned();

    scene.cluster.stores[dies].kill().await.expect("it is killed");
    told(&scene.cluster, &["node", "drain", &stays]).await; // before namesrv knows that the other one is dead
    let comes_to_the_dead = |shown: &Value| groups(shown).any(|group| group["moving"]["node"] == dead.as_str());
    until(&scene.cluster, "a replica is to come to the dead", comes_to_the_dead).await;
    told(&scene.cluster, &["node", "undrain", &stays]).await;
    until(&scene.cluster, "that is given up", |shown| !comes_to_the_dead(shown)).await;
    scene.cluster.stores[dies].start().expect("it starts again");
    scene.cluster.stores[dies].ready().await.expect("it is ready again");
    until(&scene.cluster, "nothing moves", |shown| groups(shown).all(|group| group["moving"].is_null())).await;

    // All replica groups are whole: any store-node may die.
    for store in 0..scene.cluster.stores.len() {
        scene.cluster.stores[store].kill().await.expect("it is killed");
        scene.cluster.stores[store].start().expect("it starts again");
        scene.cluster.stores[store].ready().await.expect("it is ready again");
    }
    let seen = scene.close().await;
    assert_eq!(seen.failed_sends(), Vec::<&String>::new(), "sends of the Java SDK failed");
}

/// Runs a command that succeeds.
async fn told(cluster: &Cluster, args: &[&str]) -> Value {
    let ran = cluster.cli(0, &[args, &["-o", "json"]].concat()).await.expect("the CLI runs");
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON was asked for")
}

/// Waits until the cluster, as `apogee cluster info` shows it, is as it should be.
async fn until(cluster: &Cluster, what: &str, is_so: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + MOVED_MAX;
    loop {
        let shown = told(cluster, &["cluster", "info"]).await;
        if is_so(&shown) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: not after {MOVED_MAX:?}: {shown:#}");
        sleep(LOOK_EVERY).await;
    }
}

fn groups(shown: &Value) -> impl Iterator<Item = &Value> {
    shown["replica_groups"].as_array().into_iter().flatten()
}

fn hosts(group: &Value) -> Vec<String> {
    let replicas = group["replicas"].as_array().into_iter().flatten();
    replicas.filter_map(|replica| replica["node"].as_str().map(str::to_owned)).collect()
}

fn standing<'a>(shown: &'a Value, node: &str) -> &'a str {
    let mut nodes = shown["nodes"].as_array().into_iter().flatten();
    nodes.find(|shown| shown["name"] == node).and_then(|shown| shown["standing"].as_str()).unwrap_or_default()
}

/// Waits until a folder has nothing in it.
async fn until_empty(folder: &Path) {
    let deadline = Instant::now() + MOVED_MAX;
    loop {
        let inside: Vec<_> = std::fs::read_dir(folder).expect("the folder is there").collect();
        if inside.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{} still has {inside:?}", folder.display());
        sleep(LOOK_EVERY).await;
    }
}

/// Removes a store-node as soon as it was silent for long enough.
async fn until_removed(cluster: &Cluster, node: &str) {
    let deadline = Instant::now() + MOVED_MAX;
    loop {
        let ran = cluster.cli(0, &["node", "remove", node, "--yes"]).await.expect("the CLI runs");
        if ran.code == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{node} cannot be removed: {}", ran.stderr);
        sleep(LOOK_EVERY).await;
    }
}
