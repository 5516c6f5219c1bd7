//! Sends and receives for some time, in which proxies may die: the SDK hides it, or it does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rocketmq::Producer;
use rocketmq::model::message::MessageBuilder;
use tokio::time::{Instant, sleep};

use crate::clients::Clients;

const TOPIC: &str = "rust-endure";
/// Between two sends.
const PACE: Duration = Duration::from_millis(20);
/// Until everything that was sent has come.
const DRAIN_MAX: Duration = Duration::from_secs(60);

pub async fn sends_succeed_and_nothing_is_lost(clients: Arc<Clients>, producer: Arc<Producer>, length: Duration) {
    let until = Instant::now() + length;
    let sending = tokio::spawn(send(producer, until));
    let consumer = clients.simple(TOPIC, "rust-endure-group", "*").await;
    let mut seen = BTreeSet::new();
    while !sending.is_finished() {
        consumer.try_receive(&mut seen).await;
    }
    let (sent, failed) = sending.await.expect("the producer goes on");
    while !sent.is_subset(&seen) && Instant::now() < until + DRAIN_MAX {
        consumer.try_receive(&mut seen).await;
    }
    println!("sent {}, failed {}", sent.len(), failed.len());
    assert_eq!(failed, Vec::<String>::new(), "failed sends");
    assert_eq!(sent.difference(&seen).count(), 0, "lost messages");
}

/// This SDK makes one attempt where others make three, so the next two are ours.
const ATTEMPTS: usize = 3;

/// The ids of what was sent, and why sends failed.
async fn send(producer: Arc<Producer>, until: Instant) -> (BTreeSet<String>, Vec<String>) {
    let (mut sent, mut failed) = (BTreeSet::new(), Vec::new());
    while Instant::now() < until {
        for attempt in 1..=ATTEMPTS {
            let message = MessageBuilder::builder().set_topic(TOPIC).set_body(b"message".to_vec());
            match producer.send(message.build().expect("a message")).await {
                Ok(receipt) => {
                    sent.insert(receipt.message_id().to_owned());
                    break;
                }
                Err(error) if attempt == ATTEMPTS => failed.push(error.to_string()),
                Err(_) => {}
            }
        }
        sleep(PACE).await;
    }
    (sent, failed)
}
