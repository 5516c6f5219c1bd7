//! A cluster with everybody at work on it: gRPC clients that note what they see, and the official Java SDK.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Clock as _, Entropy as _, OsEntropy, RealClock};
use apogee_tests::cluster::{Cluster, Shape};
use apogee_tests::endure::{Connections, Endure, Endured};
use apogee_tests::grpc::{Client, Crowd, Load, judged};
use apogee_tests::history::{Call, History, What};
use tokio::time::sleep;

const SHAPE: Shape = Shape { namesrvs: 1, ..Shape::WHOLE };
/// Where the one queue of the first topic is.
const GROUP: &str = "broker-1";
/// More would only make two cores busy.
const CROWD: Crowd = Crowd { producers: 4, groups: 2, consumers: 2, pace: Duration::from_millis(10) };
/// Shortest and longest time in which nothing happens, in milliseconds.
const CALM: (u64, u64) = (300, 1300);

pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    history: History,
    client: Arc<Client>,
    load: Load,
    java: Endure,
}

/// When something happened: since the beginning of the history, and since the Unix epoch.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) noted: Duration,
    pub(crate) wall: Duration,
}

/// What clients saw, after the judgement.
pub(crate) struct Seen {
    pub(crate) calls: Vec<Call>,
    /// Statuses other than OK that our clients got.
    pub(crate) refusals: Vec<String>,
    pub(crate) java: Endured,
}

impl Scene {
    pub(crate) async fn open() -> Scene {
        let cluster = Cluster::start(SHAPE, &[]).await.expect("the cluster starts");
        let history = History::new();
        let endpoints = cluster.endpoints();
        let created = cluster.cli(0, &["topic", "create", Client::TOPIC, "--queues", "1"]).await.expect("the CLI runs");
        assert_eq!(created.code, 0, "{}", created.stderr);
        let client = Arc::new(Client::of_all(&endpoints, history.clone()).expect("endpoints"));
        let java = Endure::start(&endpoints[0], Connections::Stay).await.expect("the Java SDK begins");
        let load = Load::start(Arc::clone(&client), CROWD);
        Scene { cluster, history, client, load, java }
    }

    /// The store-node that leads the replica group of the topic.
    pub(crate) async fn leader(&self) -> usize {
        self.cluster.leader_of(GROUP).await.expect("somebody leads")
    }

    /// Some time in which nothing happens.
    pub(crate) async fn calm(&self) {
        sleep(Duration::from_millis(CALM.0 + OsEntropy.next_u64() % (CALM.1 - CALM.0))).await;
    }

    pub(crate) fn now(&self) -> Moment {
        Moment { noted: self.history.start().at, wall: Duration::from_millis(RealClock.wall().0) }
    }

    /// Does something during which the lead changes, to the end of the leaderless time.
    pub(crate) async fn lead_changes(&mut self, act: impl AsyncFnOnce(&mut Cluster)) {
        let down = self.history.start();
        act(&mut self.cluster).await;
        self.leader().await;
        self.history.end(down, What::Down);
    }

    /// Ends the load and judges it: nothing is lost, nothing that was acked came again, no log has an ERROR.
    pub(crate) async fn close(self) -> Seen {
        let Scene { cluster, history, client, load, java } = self;
        let (java, ()) = tokio::join!(java.finish(), load.finish());
        let java = java.expect("the Java SDK ends by itself");
        let told = judged(&history);
        assert!(told.is_empty(), "violations:\n{}", told.join("\n"));
        assert!(java.broken.is_empty(), "the Java SDK saw:\n{}", java.broken.join("\n"));
        assert_eq!(cluster.errors().expect("logs"), Vec::<String>::new(), "errors in the logs");
        Seen { calls: history.calls(), refusals: client.refusals(), java }
    }
}
