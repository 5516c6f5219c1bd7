//! A message on its way in: everything but the digest of its body.

use apogee_model::store::Half;
use apogee_model::{MessageType, StoredMessage, Timestamp};
use bytes::{BufMut, Bytes, BytesMut};
use md5::{Digest, Md5};

/// Hashing this much takes about half a millisecond; then others get their turn on the worker.
const HASH_AT_ONCE: usize = 256 * 1024;

/// A valid message whose digest is still to be computed.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub message_type: MessageType,
    pub message_id: String,
    pub message_group: Option<Box<str>>,
    /// How urgent a PRIORITY message is.
    pub priority: Option<u32>,
    pub lite_topic: Option<Box<str>>,
    /// When consumers may see it; a time that has come, or none, is now.
    pub due: Option<Timestamp>,
    /// Consumers see it when its transaction is committed.
    pub half: Option<Half>,
    pub body: Bytes,
    /// See [`StoredMessage::body_part`].
    pub body_part: Bytes,
    /// [`StoredMessage::properties_part`] without `body_digest`.
    pub properties: BytesMut,
}

impl Draft {
    /// Bytes that [`Draft::seal`] adds to the properties.
    pub(crate) const DIGEST_FIELD: usize = 38;

    /// Computes the digest consumers will check and appends it as field 4 of `SystemProperties`.
    ///
    /// Cancel safe: nothing is shared.
    pub(crate) async fn seal(mut self) -> StoredMessage {
        let mut md5 = Md5::new();
        for (turn, part) in self.body.chunks(HASH_AT_ONCE).enumerate() {
            if turn > 0 {
                tokio::task::yield_now().await;
            }
            md5.update(part);
        }
        put_digest(&mut self.properties, &md5.finalize().into());
        StoredMessage { body_part: self.body_part, properties_part: self.properties.freeze() }
    }
}

/// `Digest { type: MD5, checksum: upper-case hex }`; other types have different text forms in different SDKs.
fn put_digest(properties: &mut BytesMut, digest: &[u8; 16]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    const FIELD_4_OF_36_BYTES: [u8; 2] = [4 << 3 | 2, 36];
    const TYPE_MD5: [u8; 2] = [1 << 3, 2];
    const CHECKSUM_OF_32_BYTES: [u8; 2] = [2 << 3 | 2, 32];
    properties.reserve(Draft::DIGEST_FIELD);
    properties.put_slice(&FIELD_4_OF_36_BYTES);
    properties.put_slice(&TYPE_MD5);
    properties.put_slice(&CHECKSUM_OF_32_BYTES);
    let mut checksum = [0; 32];
    for (pair, byte) in checksum.chunks_exact_mut(2).zip(digest) {
        pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    properties.put_slice(&checksum);
}

#[cfg(test)]
mod tests {
    use apogee_proto::v2;
    use prost::Message as _;

    use super::*;

    async fn checksum(body: Bytes) -> String {
        let draft = Draft {
            message_type: MessageType::Normal,
            message_id: "id".into(),
            message_group: None,
            priority: None,
            lite_topic: None,
            due: None,
            half: None,
            body,
            body_part: Bytes::new(),
            properties: BytesMut::new(),
        };
        let stored = draft.seal().await;
        assert_eq!(stored.properties_part.len(), Draft::DIGEST_FIELD);
        let digest = v2::SystemProperties::decode(stored.properties_part).unwrap().body_digest.unwrap();
        assert_eq!(digest.r#type(), v2::DigestType::Md5);
        digest.checksum
    }

    #[tokio::test]
    async fn the_digest_is_md5_in_upper_case() {
        assert_eq!(checksum(Bytes::from_static(b"abc")).await, "900150983CD24FB0D6963F7D28E17F72");
    }

    #[tokio::test]
    async fn hashing_in_turns_changes_nothing() {
        let body = vec![7; HASH_AT_ONCE * 2 + 1];
        let at_once: [u8; 16] = Md5::digest(&body).into();
        let hex: String = at_once.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(checksum(body.into()).await, hex);
    }
}
