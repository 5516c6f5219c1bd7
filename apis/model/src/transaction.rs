//! Transaction ids: what a producer needs to end its transaction at any proxy, however late.

use crate::handle::{self, Reader};
use crate::store::HalfId;
use crate::{MacKeys, ReplicaGroupId, TopicId};

/// See [`handle::seal`].
const KIND: u8 = 3;
const FIXED: usize = 4 + 4 + 8;
/// Longest id of a message in bytes.
const MESSAGE_ID_MAX: usize = 1024;

/// Names a half message, and so its transaction, for ever. It carries its place, so no proxy has to remember it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TransactionId {
    /// Who keeps the half message.
    pub replica_group: ReplicaGroupId,
    pub topic: TopicId,
    pub half: HalfId,
    /// The id its sender gave the message, to tell people which one it is.
    pub message_id: String,
}

/// Why a text is not one of our transaction ids. One situation on purpose: a forger learns nothing.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("transaction id is corrupt or was not given by this cluster")]
pub struct TransactionIdError;

impl TransactionId {
    /// The text a client gets.
    pub fn sign(&self, keys: &MacKeys) -> String {
        let mut payload = Vec::with_capacity(FIXED + self.message_id.len());
        payload.extend_from_slice(&self.replica_group.0.to_be_bytes());
        payload.extend_from_slice(&self.topic.0.to_be_bytes());
        payload.extend_from_slice(&self.half.0.to_be_bytes());
        payload.extend_from_slice(self.message_id.as_bytes());
        handle::seal(KIND, &payload, keys)
    }

    /// What [`TransactionId::sign`] was made of.
    ///
    /// # Errors
    /// [`TransactionIdError`] for any text that was not signed with one of the keys.
    pub fn verify(text: &str, keys: &MacKeys) -> Result<Self, TransactionIdError> {
        let payload = handle::open(KIND, text, FIXED + MESSAGE_ID_MAX, keys);
        payload.as_deref().and_then(Self::read).ok_or(TransactionIdError)
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let mut payload = Reader(payload);
        Some(Self {
            replica_group: ReplicaGroupId(payload.u32()?),
            topic: TopicId(payload.u32()?),
            half: HalfId(payload.u64()?),
            message_id: payload.rest_as_text()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;
    use crate::handle::{HEAD, MAC};
    use crate::store::KeptId;
    use crate::{MacKey, RecallHandle, Timestamp};

    fn keys(generation: u8, secret: u8) -> MacKeys {
        MacKeys { current: MacKey { generation, secret: [secret; 32] }, previous: None }
    }

    fn id() -> TransactionId {
        TransactionId {
            replica_group: ReplicaGroupId(7),
            topic: TopicId(5),
            half: HalfId(1_700_000_000_123),
            message_id: "01ABCDEF012345000106B0F8400000002A".to_owned(),
        }
    }

    #[test]
    fn round_trip_survives_one_rotation() {
        let old = keys(1, 1);
        let text = id().sign(&old);
        assert!(text.len() < 100);
        assert_eq!(TransactionId::verify(&text, &old), Ok(id()));
        let rotated = MacKeys { current: keys(2, 2).current, previous: Some(old.current) };
        assert_eq!(TransactionId::verify(&text, &rotated), Ok(id()));
        assert_eq!(TransactionId::verify(&text, &keys(3, 3)), Err(TransactionIdError));
        assert_eq!(TransactionId::verify(&text, &keys(1, 9)), Err(TransactionIdError));
    }

    #[test]
    fn the_longest_message_id_fits_and_no_id_is_taken_for_another_kind() {
        let long = TransactionId { message_id: "x".repeat(MESSAGE_ID_MAX), ..id() };
        assert_eq!(TransactionId::verify(&long.sign(&keys(1, 1)), &keys(1, 1)), Ok(long));
        let (replica_group, topic) = (ReplicaGroupId(7), TopicId(5));
        let kept = KeptId { due: Timestamp(1), number: 2 };
        let recall = RecallHandle { replica_group, topic, id: kept, message_id: "01AB".to_owned() };
        assert_eq!(TransactionId::verify(&recall.sign(&keys(1, 1)), &keys(1, 1)), Err(TransactionIdError));
        assert!(RecallHandle::verify(&id().sign(&keys(1, 1)), &keys(1, 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_flipped_bit_is_believed(bit in 0usize..(HEAD + FIXED + 34 + MAC) * 8) {
            let keys = keys(1, 1);
            let mut bytes = URL_SAFE_NO_PAD.decode(id().sign(&keys)).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(TransactionId::verify(&URL_SAFE_NO_PAD.encode(bytes), &keys), Err(TransactionIdError));
        }

        #[test]
        fn hostile_text_never_panics(text in ".{0,200}") {
            prop_assert_eq!(TransactionId::verify(&text, &keys(1, 1)), Err(TransactionIdError));
        }

        #[test]
        fn hostile_bytes_under_a_good_signature_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            let keys = keys(1, 1);
            let read = TransactionId::verify(&handle::seal(KIND, &payload, &keys), &keys);
            let whole = payload.len() >= FIXED && std::str::from_utf8(&payload[FIXED..]).is_ok();
            prop_assert_eq!(read.is_ok(), whole);
        }
    }
}
