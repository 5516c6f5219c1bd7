//! Messages to send.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use apogee_host::{Clock, RealClock};
use apogee_proto::v2;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A message as a scenario wants it; its body is its name in the transcript.
#[derive(Clone, Debug)]
pub struct Draft {
    pub message: v2::Message,
}

impl Draft {
    /// A NORMAL message with an id of its own.
    pub fn new(topic: &str, body: &str) -> Draft {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let system = v2::SystemProperties {
            message_id: format!("01{id:032X}"),
            body_encoding: v2::Encoding::Identity.into(),
            message_type: v2::MessageType::Normal.into(),
            born_timestamp: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 5_000_000 }),
            born_host: "compat".to_owned(),
            ..v2::SystemProperties::default()
        };
        let message = v2::Message {
            topic: Some(super::client::resource(topic)),
            system_properties: Some(system),
            body: body.as_bytes().to_vec().into(),
            ..v2::Message::default()
        };
        Draft { message }
    }

    pub fn tag(self, tag: &str) -> Draft {
        self.with(|system| system.tag = Some(tag.to_owned()))
    }

    pub fn key(self, key: &str) -> Draft {
        self.with(|system| system.keys.push(key.to_owned()))
    }

    /// A FIFO message of this message group.
    pub fn fifo(self, group: &str) -> Draft {
        self.with(|system| {
            system.message_group = Some(group.to_owned());
            system.message_type = v2::MessageType::Fifo.into();
        })
    }

    /// A DELAY message for that time from now on; a negative number of seconds is past.
    pub fn due_in_s(self, seconds: i64) -> Draft {
        let now = i64::try_from(RealClock.wall().0).expect("some decades");
        // The clock cuts to whole milliseconds: one more, so that nothing is due earlier than said.
        let at = now + 1 + seconds * 1_000;
        let nanos = i32::try_from(at.rem_euclid(1_000) * 1_000_000).expect("below a second");
        self.with(|system| {
            system.delivery_timestamp = Some(prost_types::Timestamp { seconds: at.div_euclid(1_000), nanos });
            system.message_type = v2::MessageType::Delay.into();
        })
    }

    /// A TRANSACTION message, to be checked back after so long.
    pub fn half(self, recover_after: Option<Duration>) -> Draft {
        self.with(|system| {
            system.message_type = v2::MessageType::Transaction.into();
            system.orphaned_transaction_recovery_duration = recover_after.map(super::client::duration);
        })
    }

    /// A PRIORITY message of this level.
    pub fn priority(self, level: i32) -> Draft {
        self.with(|system| {
            system.priority = Some(level);
            system.message_type = v2::MessageType::Priority.into();
        })
    }

    /// A LITE message of this lite topic.
    pub fn lite(self, lite_topic: &str) -> Draft {
        self.with(|system| {
            system.lite_topic = Some(lite_topic.to_owned());
            system.message_type = v2::MessageType::Lite.into();
        })
    }

    pub fn property(mut self, key: &str, value: &str) -> Draft {
        self.message.user_properties.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn body(mut self, body: Vec<u8>) -> Draft {
        self.message.body = body.into();
        self
    }

    /// Anything else about its system properties.
    pub fn with(mut self, change: impl FnOnce(&mut v2::SystemProperties)) -> Draft {
        change(self.message.system_properties.get_or_insert_default());
        self
    }

    /// The id that its sender gave it.
    pub fn id(&self) -> &str {
        self.message.system_properties.as_ref().map_or("", |system| &system.message_id)
    }
}
