//! Burying dead letters: reads what the leader wants to bury, makes the copy, and asks the leader to store it.

use apogee_model::store::{DeadLetters, DeliveryKey, Settled, StoreError};
use apogee_model::{StoredMessage, Topic};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

use crate::block;
use crate::engine::Engine;
use crate::leader::{Ask, Burial, Buried, Condemned, Verdict};
use crate::record::{DeadLetter, HEADER};

/// How many messages became dead letters here.
#[derive(Clone)]
pub(crate) struct DeadLetterMetrics {
    buried: Counter<u64>,
}

impl DeadLetterMetrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self { buried: meter.u64_counter("rocketmq_send_to_dlq_messages_total").build() }
    }

    fn buried(&self, dead: &DeadLetters, message: &StoredMessage) {
        let group = dead.topic.name.dead_letters_of().unwrap_or_default().to_owned();
        let labels = [
            KeyValue::new("consumer_group", in_namespace(&dead.topic.name, &group)),
            KeyValue::new("topic", origin(message)),
            KeyValue::new("is_system", false),
        ];
        self.buried.add(1, &labels);
    }
}

fn in_namespace(topic: &Topic, name: &str) -> String {
    if topic.namespace().is_empty() { name.to_owned() } else { format!("{}/{name}", topic.namespace()) }
}

fn origin(message: &StoredMessage) -> String {
    match message.topic() {
        Some(("", name)) => name.to_owned(),
        Some((namespace, name)) => format!("{namespace}/{name}"),
        None => String::new(),
    }
}

impl Engine {
    /// Buries what a pop found. Best effort: what fails is found again by a later pop.
    pub(crate) async fn bury(&self, burials: Vec<Burial>) {
        for Burial { key, place, dead } in burials {
            let copied = match self.read(&place).await {
                Ok(message) => self.copy(key, dead, message, Verdict::Attempts).await,
                // Retention took it meanwhile, and its delivery with it.
                Err(_) if self.is_gone(&place) => continue,
                Err(error) => Err(error),
            };
            if let Err(error) = copied {
                tracing::warn!(event = "dead_letter_delayed", topic = %key.topic, queue = %key.queue, offset = %key.offset, %error, "a message is not among the dead letters yet");
            }
        }
    }

    /// A consumer gives up on what it holds.
    pub(crate) async fn give_up(&self, key: DeliveryKey, dead: DeadLetters) -> Result<Settled, StoreError> {
        let place = match self.ask(|reply| Ask::GiveUp { key, reply }).await? {
            Condemned::Over(settled) => return Ok(settled),
            Condemned::At(place) => place,
        };
        let message = match self.read(&place).await {
            // Retention took it meanwhile, and its delivery with it.
            Err(_) if self.is_gone(&place) => return Ok(Settled::Done),
            message => message?,
        };
        self.copy(key, dead, message, Verdict::Consumer).await
    }

    async fn copy(
        &self,
        key: DeliveryKey,
        dead: DeadLetters,
        original: StoredMessage,
        verdict: Verdict,
    ) -> Result<Settled, StoreError> {
        let max = self.log.block_max() - block::HEADER;
        let bytes = |message: &StoredMessage| (HEADER + DeadLetter::ORIGIN + message.len()).next_multiple_of(8);
        let told = original.dead_letter(&dead.topic.name);
        // One of the largest messages there can be does not also say where it came from.
        let message = if bytes(&told) <= max { told } else { original.clone() };
        let target = dead.clone();
        match self.ask(|reply| Ask::Bury { key, dead: target, message, verdict, reply }).await? {
            Buried::Now => {
                self.dead_letters.buried(&dead, &original);
                Ok(Settled::Done)
            }
            Buried::Not(settled) => Ok(settled),
        }
    }
}
