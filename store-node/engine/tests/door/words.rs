//! The words of tests, for any store that has an engine: what is sent, and how it is received.

use apogee_model::store::{
    Append, DeadLetters, DeliveryKey, Fetch, FetchFrom, GroupRef, LeaseTerms, Pop, Popped, QueueReset, RequestId,
    Reset, ResetTo, Settled, Settlement, TopicRef,
};
use apogee_model::{
    ClientId, ConsumerGroup, DeliveryOrder, Filter, GroupId, InvisibleDuration, QueueId, QueueOffset, StoredMessage,
    Topic, TopicId,
};
use bytes::Bytes;

use crate::support::{Store, TEN_SECONDS};

impl Store {
    pub(crate) async fn send(&self, queue: u16, tag: &str, body: &str) -> QueueOffset {
        self.append(queue, message(tag, body)).await
    }

    /// A message of a message group, whose name is short.
    pub(crate) async fn send_in(&self, queue: u16, group: &str, body: &str) -> QueueOffset {
        let mut stored = message("", body);
        if !group.is_empty() {
            let len = u8::try_from(group.len()).expect("a short name");
            stored.properties_part = [&[0x8a, 0x01, len], group.as_bytes()].concat().into();
        }
        self.append(queue, stored).await
    }

    async fn append(&self, queue: u16, message: StoredMessage) -> QueueOffset {
        let request = RequestId { proxy_incarnation: 0, sequence: 1 };
        let append = Append {
            topic: topic(),
            queue: QueueId(queue),
            message,
            request,
            due: None,
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        self.engine.append(vec![append]).await.expect("the store takes it")[0].offset
    }

    pub(crate) async fn pop(&self, pop: Pop) -> Vec<(String, u32, DeliveryKey)> {
        seen(&self.engine.pop(pop).await.expect("the store answers"))
    }

    pub(crate) async fn reset(&self, to: ResetTo) -> Vec<QueueReset> {
        self.try_reset(to, false).await
    }

    pub(crate) async fn try_reset(&self, to: ResetTo, dry_run: bool) -> Vec<QueueReset> {
        let reset = Reset { group: group(), topic: topic(), to, dry_run };
        self.engine.reset_offset(reset).await.expect("the store answers")
    }

    pub(crate) async fn ack(&self, key: DeliveryKey) -> Settled {
        self.engine.settle(key, Settlement::Ack).await.expect("the store answers")
    }
}

pub(crate) fn seen(popped: &Popped) -> Vec<(String, u32, DeliveryKey)> {
    let body = |message: &StoredMessage| String::from_utf8_lossy(&message.body_part).into_owned();
    popped.messages.iter().map(|delivery| (body(&delivery.message), delivery.attempt.0, delivery.key)).collect()
}

pub(crate) fn message(tag: &str, body: &str) -> StoredMessage {
    let mut properties = Vec::new();
    if !tag.is_empty() {
        properties.extend_from_slice(&[0x0a, u8::try_from(tag.len()).expect("short tags")]);
        properties.extend_from_slice(tag.as_bytes());
    }
    StoredMessage { body_part: Bytes::copy_from_slice(body.as_bytes()), properties_part: properties.into() }
}

pub(crate) fn topic() -> TopicRef {
    TopicRef { id: TopicId(1), name: Topic::parse("", "orders").expect("a good name"), queues: 4 }
}

pub(crate) fn group() -> GroupRef {
    GroupRef { id: GroupId(1), name: ConsumerGroup::parse("", "billing").expect("a good name") }
}

pub(crate) fn client() -> ClientId {
    ClientId::parse("host@1@1").expect("not blank")
}

pub(crate) fn receive(batch: usize) -> Pop {
    let lease = LeaseTerms::Fixed(InvisibleDuration::for_receive(TEN_SECONDS).expect("in range"));
    Pop {
        group: group(),
        topic: topic(),
        filter: Filter::default(),
        batch,
        lease,
        attempt_id: None,
        client: client(),
        dead_letters: None,
        order: DeliveryOrder::Concurrent,
        priority: None,
        lite: false,
    }
}

/// For an ordered group.
pub(crate) fn in_order(batch: usize) -> Pop {
    Pop { order: DeliveryOrder::Fifo, ..receive(batch) }
}

pub(crate) fn dead_letters(max_attempts: u32) -> DeadLetters {
    let topic = TopicRef { id: TopicId(77), name: group().name.dead_letter_topic(), queues: 3 };
    DeadLetters { max_attempts, topic, queue: QueueId(2) }
}

/// The bodies of all dead letters.
pub(crate) async fn dead(store: &Store) -> Vec<String> {
    let from = FetchFrom::Offset(QueueOffset(0));
    let (messages, bytes) = (Fetch::MESSAGES_MAX, Fetch::BYTES_MAX);
    let fetch = Fetch {
        topic: TopicId(77),
        queue: QueueId(2),
        from,
        messages,
        bytes,
        message_id: None,
        filter: Filter::default(),
    };
    let found = store.engine.fetch(fetch).await.expect("the store answers").messages;
    found.iter().map(|found| String::from_utf8_lossy(&found.message.body_part).into_owned()).collect()
}
