//! Producers and consumers that go on whatever happens to the server.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Entropy, SeededEntropy};
use apogee_tests::history::MessageId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// After a call that nobody answered.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct Producer {
    client: Arc<Client>,
    dice: SeededEntropy,
    next: u64,
}

impl Producer {
    /// `number` is unique among producers: message ids are.
    pub(crate) fn new(number: u64, client: Arc<Client>) -> Producer {
        Producer { client, dice: SeededEntropy::new(number), next: number * 10_000_000 }
    }

    /// Sends one message after the other.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.next += 1;
            let size = match self.dice.next_u64() % 64 {
                0 => 200_000,
                size => 16 << (size % 8),
            };
            if !self.client.send(MessageId(self.next), size).await {
                sleep(PAUSE).await;
            }
        }
    }
}

pub(crate) struct Consumer {
    client: Arc<Client>,
    dice: SeededEntropy,
    group: u64,
}

impl Consumer {
    pub(crate) fn new(group: u64, number: u64, client: Arc<Client>) -> Consumer {
        Consumer { client, dice: SeededEntropy::new(1000 + number), group }
    }

    /// Receives batches; acks most messages, gives some back, asks for more time for some, and forgets some.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
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
