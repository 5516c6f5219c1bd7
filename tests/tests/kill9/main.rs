//! kill -9 under load, again and again: a real `apogee dev`, gRPC clients, and the judge of their history.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Entropy, OsEntropy};
use apogee_tests::grpc::{Client, Crowd, Load, judged};
use apogee_tests::history::{History, What};
use apogee_tests::server::{Options, Server};
use tokio::time::sleep;

const KILLS: u32 = 20;
const CROWD: Crowd = Crowd { producers: 8, groups: 2, consumers: 3, pace: Duration::ZERO };
/// Shortest and longest life of the server, in milliseconds.
const LIFE: (u64, u64) = (200, 1300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_20_times() {
    let mut server = Server::start(Options::default()).await.expect("the server starts");
    let history = History::new();
    let client = Arc::new(Client::new(&server.endpoint(), history.clone()).expect("an endpoint"));
    client.create_topic().await.expect("the topic is created on first use");

    let load = Load::start(Arc::clone(&client), CROWD);
    for _ in 0..KILLS {
        sleep(Duration::from_millis(LIFE.0 + OsEntropy.next_u64() % (LIFE.1 - LIFE.0))).await;
        server.kill().await.expect("the server is killed");
        let down = history.start();
        server.restart().await.expect("the server starts again");
        history.end(down, What::Down);
    }
    sleep(Duration::from_millis(LIFE.1)).await;
    load.finish().await;

    let told = judged(&history);
    assert!(told.is_empty(), "violations:\n{}", told.join("\n"));
    assert_eq!(client.refusals(), Vec::<String>::new(), "nothing here deserves a refusal");
    assert_eq!(server.errors().expect("a log"), Vec::<String>::new(), "errors in the server's log");
}
