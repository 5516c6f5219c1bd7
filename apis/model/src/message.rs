//! What a message is on disk and on the road.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire;

/// Kinds of messages, by what happens to them.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    Normal,
    Fifo,
    Delay,
    Transaction,
    Lite,
    Priority,
}

/// Which messages a topic takes.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopicType {
    Normal,
    Fifo,
    Delay,
    Transaction,
    Priority,
    Lite,
    /// NORMAL, FIFO, DELAY and TRANSACTION messages.
    Mixed,
}

impl TopicType {
    /// The message types a topic of this type takes, in the order routes list them.
    ///
    /// Source: apache/rocketmq `proxy/.../RouteActivity.java`.
    pub fn accepts(self) -> &'static [MessageType] {
        match self {
            Self::Normal => &[MessageType::Normal],
            Self::Fifo => &[MessageType::Fifo],
            Self::Delay => &[MessageType::Delay],
            Self::Transaction => &[MessageType::Transaction],
            Self::Priority => &[MessageType::Priority],
            Self::Lite => &[MessageType::Lite],
            Self::Mixed => &[MessageType::Normal, MessageType::Fifo, MessageType::Delay, MessageType::Transaction],
        }
    }
}

/// The two halves of a message whose bytes are stored as they will be sent.
///
/// * `body_part`: fields 1 (topic), 2 (user properties) and 4 (body) of `apache.rocketmq.v2.Message`, body last;
/// * `properties_part`: the fields of `SystemProperties` that never change (1–8, 11, 17–19, 21, 22),
///   without the tag and length that wrap them inside `Message`.
///
/// A delivery sends `body_part`, then field 3 with `properties_part` and the fields of this delivery: no field
/// occurs twice, so every decoder takes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredMessage {
    pub body_part: Bytes,
    pub properties_part: Bytes,
}

impl StoredMessage {
    const TAG: u32 = 1;
    const KEYS: u32 = 2;
    const MESSAGE_ID: u32 = 3;
    const MESSAGE_GROUP: u32 = 17;
    const PRIORITY: u32 = 22;

    /// Bytes of both parts.
    pub fn len(&self) -> usize {
        self.body_part.len() + self.properties_part.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message's tag, if it has one that is not empty.
    pub fn tag(&self) -> Option<&str> {
        self.text(Self::TAG)
    }

    /// What its sender calls it, one by one: a key with spaces in it is several.
    ///
    /// Source: apache/rocketmq `MessageConst.java` (KEY_SEPARATOR).
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let fields = wire::fields(&self.properties_part).map_while(Result::ok);
        let keys = fields.filter_map(|field| match field {
            wire::Field { number: Self::KEYS, value: wire::Value::Bytes(bytes) } => std::str::from_utf8(bytes).ok(),
            wire::Field { .. } => None,
        });
        keys.flat_map(|keys| keys.split(' ')).filter(|key| !key.is_empty())
    }

    /// The id that its sender gave it.
    pub fn message_id(&self) -> Option<&str> {
        self.text(Self::MESSAGE_ID)
    }

    /// The message group it belongs to, if any.
    pub fn message_group(&self) -> Option<&str> {
        self.text(Self::MESSAGE_GROUP)
    }

    /// How urgent it is, if that was said.
    pub fn priority(&self) -> Option<u32> {
        match self.field(Self::PRIORITY)? {
            wire::Value::Number(priority) => u32::try_from(priority).ok(),
            wire::Value::Bytes(_) => None,
        }
    }

    fn field(&self, number: u32) -> Option<wire::Value<'_>> {
        let field = wire::fields(&self.properties_part).map_while(Result::ok).find(|field| field.number == number)?;
        Some(field.value)
    }

    /// A property that is not empty.
    fn text(&self, number: u32) -> Option<&str> {
        match self.field(number)? {
            wire::Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty()),
            wire::Value::Number(_) => None,
        }
    }
}
