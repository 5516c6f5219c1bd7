//! kill -9 under load, again and again: a real `apogee dev`, gRPC clients, and the judge of their history.

mod client;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Entropy, OsEntropy};
use apogee_tests::history::{Call, History, MessageId, Rules, What, check};
use apogee_tests::server::{Options, Server};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use client::{Client, GROUPS};
use load::{Consumer, Producer};

const KILLS: u32 = 20;
const PRODUCERS: u64 = 8;
/// Of each group.
const CONSUMERS: u64 = 3;
/// Shortest and longest life of the server, in milliseconds.
const LIFE: (u64, u64) = (200, 1300);
/// Longer than any lease of this test, and what a message may take to come again.
const QUIET: Duration = Duration::from_millis(14_500);
/// How far the wall clock of this machine may be moved while the test runs.
const CLOCK_BOUND: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_20_times() {
    let mut server = Server::start(Options::default()).await.expect("the server starts");
    let history = History::new();
    let client = Arc::new(Client::new(&server.endpoint(), history.clone()).expect("an endpoint"));
    client.create_topic().await.expect("the topic is created on first use");

    let (sending, receiving) = (CancellationToken::new(), CancellationToken::new());
    let mut load = JoinSet::new();
    for number in 1..=PRODUCERS {
        load.spawn(Producer::new(number, Arc::clone(&client)).run(sending.clone()));
    }
    for number in 0..CONSUMERS * GROUPS {
        load.spawn(Consumer::new(number % GROUPS, number, Arc::clone(&client)).run(receiving.clone()));
    }
    for _ in 0..KILLS {
        sleep(Duration::from_millis(LIFE.0 + OsEntropy.next_u64() % (LIFE.1 - LIFE.0))).await;
        server.kill().await.expect("the server is killed");
        let down = history.start();
        server.restart().await.expect("the server starts again");
        history.end(down, What::Down);
    }
    sleep(Duration::from_millis(LIFE.1)).await;
    sending.cancel();
    receiving.cancel();
    while let Some(ended) = load.join_next().await {
        ended.expect("no client panics");
    }
    drain(&client).await;

    let calls = with_queues(history.calls());
    let sends = calls.iter().filter(|call| matches!(call.what, What::Send { .. })).count();
    let rules = Rules { clock_bound: CLOCK_BOUND, call_max: None, late_effect: Duration::ZERO };
    let told: Vec<_> = check(&calls, rules).iter().map(ToString::to_string).collect();
    eprintln!("{KILLS} kills, {sends} sends, {} calls judged", calls.len());
    assert!(told.is_empty(), "{} violations:\n{}", told.len(), told[..told.len().min(20)].join("\n"));
    assert_eq!(client.refusals(), Vec::<String>::new(), "nothing here deserves a refusal");
    let errors: Vec<_> =
        server.log().expect("a log").lines().filter(|line| line.contains("\"ERROR\"")).map(str::to_owned).collect();
    assert_eq!(errors, Vec::<String>::new(), "errors in the server's log");
}

/// Both groups receive and ack until nothing came for longer than any lease.
async fn drain(client: &Arc<Client>) {
    let mut groups = JoinSet::new();
    for group in 0..GROUPS {
        let client = Arc::clone(client);
        groups.spawn(async move {
            let mut quiet_since = Instant::now();
            while quiet_since.elapsed() < QUIET {
                let messages = client.receive(group, 32).await;
                if !messages.is_empty() {
                    client.ack(group, &messages).await;
                    quiet_since = Instant::now();
                }
            }
        });
    }
    while let Some(ended) = groups.join_next().await {
        ended.expect("the drain does not panic");
    }
}

/// The answer to a send names an offset and no queue: take the queue from the deliveries, so that the judge compares
/// the offsets.
fn with_queues(mut calls: Vec<Call>) -> Vec<Call> {
    let mut queues: BTreeMap<MessageId, u32> = BTreeMap::new();
    for call in &calls {
        if let What::Receive { deliveries, .. } = &call.what {
            queues.extend(deliveries.iter().map(|delivery| (delivery.message, delivery.place.queue)));
        }
    }
    for call in &mut calls {
        if let What::Send { message, place, .. } = &mut call.what {
            match (place.as_mut(), queues.get(message)) {
                (Some(place), Some(queue)) => place.queue = *queue,
                _ => *place = None,
            }
        }
    }
    calls
}
