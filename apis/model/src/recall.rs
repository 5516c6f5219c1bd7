//! Recall handles: what a sender needs to take a delayed message back, checkable by any proxy.

use crate::handle::{self, Reader};
use crate::store::KeptId;
use crate::{MacKeys, ReplicaGroupId, Timestamp, TopicId};

/// See [`handle::seal`].
const KIND: u8 = 2;
const FIXED: usize = 4 + 4 + 8 + 8;
/// Longest id of a message in bytes.
const MESSAGE_ID_MAX: usize = 1024;

/// Names a message that is kept back. Good until the message is in its queue.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RecallHandle {
    /// Who keeps the message.
    pub replica_group: ReplicaGroupId,
    pub topic: TopicId,
    pub id: KeptId,
    /// The id its sender gave it, so that a recall can be answered with it.
    pub message_id: String,
}

/// Why a text is not one of our recall handles. One situation on purpose: a forger learns nothing.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recall handle is corrupt or was not given by this cluster")]
pub struct RecallError;

impl RecallHandle {
    /// The text a client gets.
    pub fn sign(&self, keys: &MacKeys) -> String {
        let mut payload = Vec::with_capacity(FIXED + self.message_id.len());
        payload.extend_from_slice(&self.replica_group.0.to_be_bytes());
        payload.extend_from_slice(&self.topic.0.to_be_bytes());
        payload.extend_from_slice(&self.id.due.0.to_be_bytes());
        payload.extend_from_slice(&self.id.number.to_be_bytes());
        payload.extend_from_slice(self.message_id.as_bytes());
        handle::seal(KIND, &payload, keys)
    }

    /// What [`RecallHandle::sign`] was made of.
    ///
    /// # Errors
    /// [`RecallError`] for any text that was not signed with one of the keys.
    pub fn verify(text: &str, keys: &MacKeys) -> Result<Self, RecallError> {
        let payload = handle::open(KIND, text, FIXED + MESSAGE_ID_MAX, keys);
        payload.as_deref().and_then(Self::read).ok_or(RecallError)
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let mut payload = Reader(payload);
        Some(Self {
            replica_group: ReplicaGroupId(payload.u32()?),
            topic: TopicId(payload.u32()?),
            id: KeptId { due: Timestamp(payload.u64()?), number: payload.u64()? },
            message_id: payload.rest_as_text()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::handle::{HEAD, MAC};
    use crate::{DeliverySeq, Epoch, GroupId, MacKey, QueueId, QueueOffset, ReceiptHandle};
    use proptest::prelude::*;

    fn keys(generation: u8, secret: u8) -> MacKeys {
        MacKeys { current: MacKey { generation, secret: [secret; 32] }, previous: None }
    }

    fn handle() -> RecallHandle {
        RecallHandle {
            replica_group: ReplicaGroupId(7),
            topic: TopicId(5),
            id: KeptId { due: Timestamp(1_767_225_600_000), number: 99 },
            message_id: "01ABCDEF012345000106B0F8400000002A".to_owned(),
        }
    }

    #[test]
    fn round_trip_survives_one_rotation() {
        let old = keys(1, 1);
        let text = handle().sign(&old);
        assert!(text.len() < 120);
        assert_eq!(RecallHandle::verify(&text, &old), Ok(handle()));
        let rotated = MacKeys { current: keys(2, 2).current, previous: Some(old.current) };
        assert_eq!(RecallHandle::verify(&text, &rotated), Ok(handle()));
        assert_eq!(RecallHandle::verify(&text, &keys(3, 3)), Err(RecallError));
        assert_eq!(RecallHandle::verify(&text, &keys(1, 9)), Err(RecallError));
    }

    #[test]
    fn the_longest_message_id_fits_and_no_handle_is_taken_for_the_other_kind() {
        let long = RecallHandle { message_id: "x".repeat(MESSAGE_ID_MAX), ..handle() };
        assert_eq!(RecallHandle::verify(&long.sign(&keys(1, 1)), &keys(1, 1)), Ok(long));
        let receipt = ReceiptHandle {
            replica_group: ReplicaGroupId(7),
            epoch: Epoch(3),
            group: GroupId(11),
            topic: TopicId(5),
            queue: QueueId(2),
            offset: QueueOffset(4),
            delivery: DeliverySeq(9),
        };
        assert_eq!(RecallHandle::verify(&receipt.sign(&keys(1, 1)), &keys(1, 1)), Err(RecallError));
        assert!(ReceiptHandle::verify(&handle().sign(&keys(1, 1)), &keys(1, 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_flipped_bit_is_believed(bit in 0usize..(HEAD + FIXED + 34 + MAC) * 8) {
            let keys = keys(1, 1);
            let mut bytes = URL_SAFE_NO_PAD.decode(handle().sign(&keys)).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(RecallHandle::verify(&URL_SAFE_NO_PAD.encode(bytes), &keys), Err(RecallError));
        }

        #[test]
        fn hostile_text_never_panics(text in ".{0,200}") {
            prop_assert_eq!(RecallHandle::verify(&text, &keys(1, 1)), Err(RecallError));
        }
    }
}
