//! The properties of a stored message that an expression may name: what its producer attached, and what the system knows
//! of it, by the names that Apache RocketMQ stores it under. No user property is called like one of those.

use std::borrow::Cow;

use crate::StoredMessage;
use crate::wire::{self, Field, Value};

/// Field of `Message` that holds user properties, one in each.
const USER_PROPERTIES: u32 = 2;

/// What the system knows, by the field of `SystemProperties` it is in.
const SYSTEM: [(&str, u32, Kind); 9] = [
    ("TAGS", 1, Kind::Text),
    ("KEYS", 2, Kind::Texts),
    ("UNIQ_KEY", 3, Kind::Text),
    ("BORN_TIMESTAMP", 7, Kind::Time),
    ("__BORNHOST", 8, Kind::Text),
    ("TIMER_DELIVER_MS", 11, Kind::Time),
    ("__SHARDINGKEY", 17, Kind::Text),
    ("__LITE_TOPIC", 21, Kind::Text),
    ("_SYS_MSG_PRIORITY_", 22, Kind::Number),
];

#[derive(Copy, Clone)]
enum Kind {
    Text,
    /// Several, joined by a blank.
    Texts,
    Number,
    /// In milliseconds.
    Time,
}

/// Looks up `names`, which are sorted; what the message has not stays as it is.
pub(super) fn fill<'a>(message: &'a StoredMessage, names: &[String], values: &mut [Option<Cow<'a, str>>]) {
    let place = |name: &str| names.binary_search_by(|known| known.as_str().cmp(name)).ok();
    for Field { number, value } in sound(&message.body_part) {
        let (USER_PROPERTIES, Value::Bytes(entry)) = (number, value) else { continue };
        let (key, value) = (text(entry, 1).unwrap_or_default(), text(entry, 2).unwrap_or_default());
        if let Some(at) = place(key) {
            values[at] = Some(Cow::Borrowed(value));
        }
    }
    for (name, field, kind) in SYSTEM {
        if let Some(at) = place(name) {
            values[at] = system(&message.properties_part, field, kind);
        }
    }
}

/// An empty one is none.
fn system(properties: &[u8], field: u32, kind: Kind) -> Option<Cow<'_, str>> {
    let found = match kind {
        Kind::Text => text(properties, field).map(Cow::Borrowed),
        Kind::Texts => {
            let texts: Vec<_> = sound(properties).filter(|it| it.number == field).filter_map(as_text).collect();
            Some(Cow::Owned(texts.join(" ")))
        }
        Kind::Number => sound(properties).find(|it| it.number == field).and_then(|it| match it.value {
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::Bytes(_) => None,
        }),
        Kind::Time => sound(properties).find(|it| it.number == field).and_then(|it| match it.value {
            Value::Bytes(time) => Some(Cow::Owned(millis(time).to_string())),
            Value::Number(_) => None,
        }),
    };
    found.filter(|text| !text.is_empty())
}

/// Of a `google.protobuf.Timestamp`.
fn millis(time: &[u8]) -> u64 {
    let part = |number| match sound(time).find(|it| it.number == number) {
        Some(Field { value: Value::Number(part), .. }) => part,
        _ => 0,
    };
    part(1).saturating_mul(1000).saturating_add(part(2) / 1_000_000)
}

fn sound(bytes: &[u8]) -> impl Iterator<Item = Field<'_>> {
    wire::fields(bytes).map_while(Result::ok)
}

fn text(bytes: &[u8], number: u32) -> Option<&str> {
    as_text(sound(bytes).find(|field| field.number == number)?)
}

fn as_text(field: Field<'_>) -> Option<&str> {
    match field.value {
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        Value::Number(_) => None,
    }
}
