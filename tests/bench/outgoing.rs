//! The messages that are sent: one body for all, an id that carries a sequence number.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use apogee_host::{Clock, Entropy, OsEntropy, RealClock};
use apogee_proto::v2;
use bytes::Bytes;

/// Offset of the SDKs' second zero, 2021-01-01T00:00:00Z, from the Unix epoch.
const ID_EPOCH_SECONDS: u64 = 1_609_459_200;

/// Makes the messages of one run.
pub(crate) struct Outgoing {
    /// One after the other.
    topics: Vec<v2::Resource>,
    body: Bytes,
    id_prefix: String,
    next: AtomicU32,
}

impl Outgoing {
    /// Messages to `topic` with bodies of `size` bytes and ids that no other run has.
    pub(crate) fn new(topic: &str, size: usize) -> Outgoing {
        Outgoing::to_all(vec![resource(topic)], size)
    }

    /// The same to several topics in turn.
    pub(crate) fn to_all(topics: Vec<v2::Resource>, size: usize) -> Outgoing {
        let seconds = RealClock.wall().0 / 1_000 - ID_EPOCH_SECONDS;
        let run = OsEntropy.next_u64();
        Outgoing {
            topics,
            body: (0..size).map(|at| b"apogeemq"[at % 8]).collect(),
            id_prefix: format!("01{run:016X}{seconds:08X}"),
            next: AtomicU32::new(0),
        }
    }

    /// The next message and its number.
    pub(crate) fn next(&self) -> (u32, v2::Message) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let system = v2::SystemProperties {
            message_id: self.id(number),
            body_encoding: v2::Encoding::Identity.into(),
            message_type: v2::MessageType::Normal.into(),
            born_timestamp: Some(now()),
            born_host: "bench".to_owned(),
            ..v2::SystemProperties::default()
        };
        let turn = usize::try_from(number).unwrap_or_default() % self.topics.len();
        let message = v2::Message {
            topic: Some(self.topics[turn].clone()),
            system_properties: Some(system),
            body: self.body.clone(),
            ..v2::Message::default()
        };
        (number, message)
    }

    /// The number of the message that comes next.
    pub(crate) fn upcoming(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// The id of message `number`, in the form of the SDKs: 34 upper-case hex digits.
    pub(crate) fn id(&self, number: u32) -> String {
        let mut id = String::with_capacity(self.id_prefix.len() + 8);
        id.push_str(&self.id_prefix);
        for byte in number.to_be_bytes() {
            for digit in [byte >> 4, byte & 15] {
                id.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
        id
    }

    /// The number in an id; none when another run sent it.
    pub(crate) fn number(&self, id: &str) -> Option<u32> {
        u32::from_str_radix(id.strip_prefix(&self.id_prefix)?, 16).ok()
    }

    /// What is wrong with a delivery of one of our messages.
    pub(crate) fn check(&self, message: &v2::Message) -> Result<(), String> {
        let system = message.system_properties.clone().unwrap_or_default();
        let wrong = |what: &str| Err(format!("{what} of delivered message {}", system.message_id));
        if message.body != self.body {
            return wrong("body");
        }
        if message.topic.as_ref() != self.topics.first() {
            return wrong("topic");
        }
        if system.delivery_attempt != Some(1) {
            return wrong("delivery attempt");
        }
        if system.body_encoding() != v2::Encoding::Identity {
            return wrong("body encoding");
        }
        Ok(())
    }
}

/// A name in the default namespace.
pub(crate) fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

fn now() -> prost_types::Timestamp {
    let now = Duration::from_millis(RealClock.wall().0);
    let nanos = now.subsec_nanos().cast_signed(); // below 10^9
    prost_types::Timestamp { seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_those_of_sdks_and_carry_their_number() {
        let (one, other) = (Outgoing::new("T", 8), Outgoing::new("T", 8));
        let id = one.id(0xC0FFEE);
        assert_eq!((id.len(), &id[..2], &id[26..]), (34, "01", "00C0FFEE"));
        assert_eq!((one.number(&id), other.number(&id), one.number("x")), (Some(0xC0FFEE), None, None));
    }
}
