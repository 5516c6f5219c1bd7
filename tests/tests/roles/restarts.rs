//! Processes that end and come back under load: proxies without warning, namesrv for a minute, and all of them in turn.

use std::time::Duration;

use apogee_tests::at_work::{AtWork, Seen};
use apogee_tests::cluster::{Balancer, Cluster, Process, Shape};
use apogee_tests::endure::Connections;
use apogee_tests::sdk::hold;
use tokio::time::{Instant, sleep};

use crate::sdks::{endpoint, kill_proxies};
use crate::{ALONE, no_errors, ports};

/// How long no namesrv is there.
const AWAY: Duration = Duration::from_secs(60);
/// From the death of a namesrv until a topic can be created.
const CREATED_MAX: Duration = Duration::from_secs(3);
/// Some time in which nothing happens.
const CALM: Duration = Duration::from_secs(2);

/// A cluster with clients at work on it, all of whom come through the balancer.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    at_work: AtWork,
    /// Where all of them connect to.
    endpoint: String,
    _balancer: Balancer,
}

impl Scene {
    pub(crate) async fn open(shape: Shape, connections: Connections) -> Scene {
        let cluster = Cluster::start(shape, &["--set", "drain.lame_duck=1s", "--set", "drain.spread=2s"]).await;
        let cluster = cluster.expect("the cluster starts");
        let balancer = Balancer::start(ports(&cluster)).await.expect("a port");
        let endpoint = endpoint(&balancer);
        let at_work = AtWork::start(&endpoint, connections).await.expect("messages come and go");
        Scene { cluster, at_work, endpoint, _balancer: balancer }
    }

    /// Ends the load: nothing is lost, nothing that was acked came again, no log has an ERROR.
    pub(crate) async fn close(self) -> Seen {
        let seen = self.at_work.finish().await.expect("nothing is lost and nothing comes again");
        no_errors(&self.cluster);
        seen
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_are_killed_every_5_s() {
    let _alone = ALONE.lock().await;
    let mut scene = Scene::open(Shape::WHOLE, Connections::Break).await;
    let endpoint = scene.endpoint.clone();
    tokio::select! {
        held = hold(&endpoint) => held.expect("what is worked on is held"),
        failed = kill_proxies(&mut scene.cluster) => panic!("the proxies did not come back: {failed:?}"),
    }
    for proxy in &mut scene.cluster.proxies {
        if !proxy.runs() {
            proxy.start().expect("it starts again");
        }
        proxy.ready().await.expect("it is ready again");
    }
    let seen = scene.close().await;
    eprintln!("{} sends of Java, {} calls failed", seen.java.sent.len(), seen.java.failed.len());
    assert_eq!(seen.failed_sends(), Vec::<&String>::new(), "sends of the Java SDK failed");
    assert_eq!(seen.refusals, Vec::<String>::new(), "calls were refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_flow_without_namesrv() {
    let _alone = ALONE.lock().await;
    let mut scene = Scene::open(Shape::WHOLE, Connections::Stay).await;
    sleep(CALM).await;

    let leader = leading(&scene.cluster).await;
    scene.cluster.namesrvs[leader].kill().await.expect("the namesrv that leads is killed");
    let began = Instant::now();
    let created = scene.cluster.cli(0, &["topic", "create", "with-two"]).await.expect("the CLI runs");
    let took = began.elapsed();
    assert_eq!(created.code, 0, "{}", created.stderr);
    eprintln!("a topic was created {} ms after the death of a namesrv", took.as_millis());
    assert!(took <= CREATED_MAX, "a topic was created after {took:?} only");

    for namesrv in &mut scene.cluster.namesrvs {
        if namesrv.runs() {
            namesrv.kill().await.expect("a namesrv is killed");
        }
    }
    let refused = scene.cluster.cli(0, &["topic", "create", "with-none"]).await.expect("the CLI runs");
    assert_ne!(refused.code, 0, "nobody could have created it");
    sleep(AWAY.saturating_sub(began.elapsed())).await;
    for namesrv in &mut scene.cluster.namesrvs {
        namesrv.start().expect("it starts again");
    }
    for namesrv in &mut scene.cluster.namesrvs {
        namesrv.ready().await.expect("it is ready again");
    }
    let created = scene.cluster.cli(1, &["topic", "create", "with-all"]).await.expect("the CLI runs");
    assert_eq!(created.code, 0, "{}", created.stderr);
    let seen = scene.close().await;
    assert_eq!(seen.refusals, Vec::<String>::new(), "calls were refused");
    assert_eq!(seen.unanswered(), 0, "calls of ours failed");
    assert_eq!(seen.java.failed, Vec::<String>::new(), "calls of the Java SDK failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_restarted_in_turn() {
    let _alone = ALONE.lock().await;
    let mut scene = Scene::open(Shape::WHOLE, Connections::Stay).await;
    sleep(CALM).await;
    for process in scene.cluster.all() {
        eprint!("after {:>6} ms: ", scene.at_work.history.start().at.as_millis());
        let ended = restart(process).await;
        assert!(ended.success(), "{} ended with {ended}", process.name());
        sleep(CALM).await;
    }
    let seen = scene.close().await;
    let (deliveries, again) = seen.deliveries();
    eprintln!(
        "{} sends of Java, {} of its calls failed; {} calls of ours unanswered; {again} of {deliveries} deliveries came again",
        seen.java.sent.len(),
        seen.java.failed.len(),
        seen.unanswered(),
    );
    assert_eq!(seen.failed_sends(), Vec::<&String>::new(), "sends of the Java SDK failed");
    assert_eq!(seen.refusals, Vec::<String>::new(), "calls were refused");
    assert!(100 * again <= deliveries, "{again} of {deliveries} deliveries came again");
}

async fn restart(process: &mut Process) -> std::process::ExitStatus {
    let began = Instant::now();
    let ended = process.stop().await.expect("it ends when asked to");
    let stopped = began.elapsed();
    process.start().expect("it starts again");
    process.ready().await.expect("it is ready again");
    eprintln!(
        "{:<10} stopped in {:>5} ms, ready after {:>5} ms",
        process.name(),
        stopped.as_millis(),
        began.elapsed().as_millis()
    );
    ended
}

/// The namesrv that leads.
async fn leading(cluster: &Cluster) -> usize {
    for (at, namesrv) in cluster.namesrvs.iter().enumerate() {
        let metrics = apogee_tests::server::metrics(namesrv.ports().metrics).await.expect("it shows metrics");
        if metrics.get("rocketmq_namesrv_raft_is_leader") == Some(&1.0) {
            return at;
        }
    }
    panic!("no namesrv leads");
}
