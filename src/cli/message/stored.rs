//! Stored messages as the admin API shows them.

use apogee_proto::admin::v1;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::output::plain;

/// Largest answer with messages that is taken: one largest message and then some.
pub(crate) const ANSWER_MAX: usize = 16 << 20;

pub(crate) fn document(message: &v1::Message) -> Value {
    let mut document = json!({
        "message_id": message.message_id,
        "topic": message.topic,
        "queue_id": message.queue_id,
        "queue_offset": message.offset,
        "tag": message.tag,
        "keys": message.keys,
        "properties": message.properties,
        "message_group": message.message_group,
        "born": message.born.map(|at| at.to_string()),
        "born_host": message.born_host,
        "stored": message.stored.map(|at| at.to_string()),
        "delivery": message.delivery.map(|at| at.to_string()),
    });
    match text(message) {
        Ok(text) => document["body"] = text.into(),
        Err(_) => document["body_base64"] = STANDARD.encode(&message.body).into(),
    }
    if message.body_encoding() == v1::BodyEncoding::Gzip {
        document["body_encoding"] = "gzip".into();
    }
    document
}

/// The body for a terminal.
pub(crate) fn body(message: &v1::Message) -> String {
    text(message).map_or_else(|kind| format!("({} bytes, {kind})", message.body.len()), plain)
}

/// The body, or why it is not shown as it is.
fn text(message: &v1::Message) -> Result<&str, &'static str> {
    match message.body_encoding() {
        v1::BodyEncoding::Gzip => Err("gzip"),
        v1::BodyEncoding::Identity | v1::BodyEncoding::Unspecified => {
            std::str::from_utf8(&message.body).map_err(|_| "not text")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_no_text_is_told_and_kept() {
        let message = |body: &'static [u8], encoding: v1::BodyEncoding| v1::Message {
            body: body.into(),
            body_encoding: encoding.into(),
            ..v1::Message::default()
        };
        let text = message(b"a\tb", v1::BodyEncoding::Identity);
        assert_eq!((body(&text), &document(&text)["body"]), ("a\\tb".to_owned(), &json!("a\tb")));
        let binary = message(b"\xff\x00", v1::BodyEncoding::Identity);
        assert_eq!(
            (body(&binary), &document(&binary)["body_base64"]),
            ("(2 bytes, not text)".to_owned(), &json!("/wA="))
        );
        let packed = message(b"abc", v1::BodyEncoding::Gzip);
        assert_eq!(
            (body(&packed), &document(&packed)["body_encoding"]),
            ("(3 bytes, gzip)".to_owned(), &json!("gzip"))
        );
    }
}
