//! Producers and consumers that go on whatever happens to the server.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Entropy, SeededEntropy};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::history::MessageId;

/// After a call that nobody answered.
const PAUSE: Duration = Duration::from_millis(5);
/// Longer than any lease here, and what a message may take to come again.
const QUIET: Duration = Duration::from_millis(14_500);
/// Longest drain; a server that keeps delivering the same messages must not keep the test.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// How many there are.
#[derive(Copy, Clone, Debug)]
pub struct Crowd {
    pub producers: u64,
    pub groups: u64,
    /// Of each group.
    pub consumers: u64,
    /// Of a producer, between two sends.
    pub pace: Duration,
}

/// A crowd at work.
pub struct Load {
    client: Arc<Client>,
    groups: u64,
    over: CancellationToken,
    working: JoinSet<()>,
}

impl Load {
    /// Everybody begins at once; the topic exists.
    pub fn start(client: Arc<Client>, crowd: Crowd) -> Load {
        let Crowd { producers, groups, consumers, pace } = crowd;
        let (over, mut working) = (CancellationToken::new(), JoinSet::new());
        for number in 1..=producers {
            working.spawn(Producer::new(number, pace, Arc::clone(&client)).run(over.clone()));
        }
        for number in 0..consumers * groups {
            working.spawn(Consumer::new(number % groups, number, Arc::clone(&client)).run(over.clone()));
        }
        Load { client, groups, over, working }
    }

    /// Ends everybody, then receives and acks for every group until nothing came for longer than any lease.
    pub async fn finish(mut self) {
        self.over.cancel();
        while let Some(ended) = self.working.join_next().await {
            ended.expect("no client panics");
        }
        for group in 0..self.groups {
            self.working.spawn(drain(Arc::clone(&self.client), group));
        }
        while let Some(ended) = self.working.join_next().await {
            ended.expect("the drain does not panic");
        }
    }
}

async fn drain(client: Arc<Client>, group: u64) {
    let (began, mut quiet_since) = (Instant::now(), Instant::now());
    while quiet_since.elapsed() < QUIET && began.elapsed() < DRAIN_MAX {
        let messages = client.receive(group, 32).await;
        if !messages.is_empty() {
            client.ack(group, &messages).await;
            quiet_since = Instant::now();
        }
    }
}

struct Producer {
    client: Arc<Client>,
    dice: SeededEntropy,
    pace: Duration,
    next: u64,
}

impl Producer {
    /// `number` is unique among producers: message ids are.
    fn new(number: u64, pace: Duration, client: Arc<Client>) -> Producer {
        Producer { client, dice: SeededEntropy::new(number), pace, next: number * 10_000_000 }
    }

    /// Sends one message after the other.
    async fn run(mut self, over: CancellationToken) {
        while !over.is_cancelled() {
            self.next += 1;
            let size = match self.dice.next_u64() % 64 {
                0 => 200_000,
                size => 16 << (size % 8),
            };
            let sent = self.client.send(MessageId(self.next), size).await;
            if !sent || !self.pace.is_zero() {
                sleep(self.pace.max(PAUSE)).await;
            }
        }
    }
}

struct Consumer {
    client: Arc<Client>,
    dice: SeededEntropy,
    group: u64,
}

impl Consumer {
    fn new(group: u64, number: u64, client: Arc<Client>) -> Consumer {
        Consumer { client, dice: SeededEntropy::new(1000 + number), group }
    }

    /// Receives batches; acks most messages, gives some back, asks for more time for some, and forgets some.
    async fn run(self, over: CancellationToken) {
        while !over.is_cancelled() {
            let batch = 1 + i32::try_from(self.dice.next_u64() % 32).expect("a small number");
            let messages = self.client.receive(self.group, batch).await;
            if messages.is_empty() {
                sleep(PAUSE).await;
                continue;
            }
            let mut acked = Vec::new();
            for received in messages {
                match self.dice.next_u64() % 64 {
                    0 => {}
                    1 => self.client.change(self.group, &received, Duration::ZERO).await,
                    2 => self.client.change(self.group, &received, Duration::from_secs(12)).await,
                    _ => acked.push(received),
                }
            }
            if !acked.is_empty() {
                self.client.ack(self.group, &acked).await;
            }
        }
    }
}
