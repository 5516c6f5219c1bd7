//! Receipt handles: proof of one delivery, checkable by any proxy.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{DeliverySeq, Epoch, GroupId, QueueId, QueueOffset, ReplicaGroupId, TopicId};

const VERSION: u8 = 1;
const PAYLOAD: usize = 1 + 1 + 4 + 8 + 4 + 4 + 2 + 8 + 8;
const MAC: usize = 12;

/// Names one delivery of one message. Valid until that delivery is settled or a later one replaces it; no clock decides.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReceiptHandle {
    /// Who granted the delivery.
    pub replica_group: ReplicaGroupId,
    pub epoch: Epoch,
    pub group: GroupId,
    pub topic: TopicId,
    pub queue: QueueId,
    pub offset: QueueOffset,
    pub delivery: DeliverySeq,
}

/// Why a text is not one of our receipt handles. One situation on purpose: a forger learns nothing.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("receipt handle is corrupt or was not given by this cluster")]
pub struct ReceiptError;

/// A secret that signs receipt handles.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacKey {
    /// Grows with every rotation; its low byte is written into handles.
    pub generation: u8,
    pub secret: [u8; 32],
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MacKey {{ generation: {}, secret: *** }}", self.generation)
    }
}

/// The key that signs now, and the one before it, which is still believed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MacKeys {
    pub current: MacKey,
    pub previous: Option<MacKey>,
}

impl MacKeys {
    pub(crate) fn by_generation(&self, generation: u8) -> Option<&MacKey> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|key| key.generation == generation)
    }
}

impl ReceiptHandle {
    /// The text given to clients: 70 characters, URL-safe.
    pub fn sign(&self, keys: &MacKeys) -> String {
        let mut bytes = [0u8; PAYLOAD + MAC];
        self.write(keys.current.generation, &mut bytes);
        let mac = mac(&keys.current, &bytes[..PAYLOAD]).finalize().into_bytes();
        bytes[PAYLOAD..].copy_from_slice(&mac[..MAC]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a text given to a client earlier.
    ///
    /// # Errors
    /// [`ReceiptError`] for anything that [`ReceiptHandle::sign`] with one of `keys` did not make.
    pub fn verify(text: &str, keys: &MacKeys) -> Result<Self, ReceiptError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ReceiptError)?;
        let bytes: &[u8; PAYLOAD + MAC] = bytes.as_slice().try_into().map_err(|_| ReceiptError)?;
        let (payload, given) = bytes.split_at(PAYLOAD);
        if payload[0] != VERSION {
            return Err(ReceiptError);
        }
        let key = keys.by_generation(payload[1]).ok_or(ReceiptError)?;
        mac(key, payload).verify_truncated_left(given).map_err(|_| ReceiptError)?;
        Self::read(payload).ok_or(ReceiptError)
    }

    fn write(&self, generation: u8, bytes: &mut [u8; PAYLOAD + MAC]) {
        bytes[0] = VERSION;
        bytes[1] = generation;
        bytes[2..6].copy_from_slice(&self.replica_group.0.to_be_bytes());
        bytes[6..14].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[14..18].copy_from_slice(&self.group.0.to_be_bytes());
        bytes[18..22].copy_from_slice(&self.topic.0.to_be_bytes());
        bytes[22..24].copy_from_slice(&self.queue.0.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.offset.0.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.delivery.0.to_be_bytes());
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_be_bytes(payload.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(payload.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            replica_group: ReplicaGroupId(u32_at(2)?),
            epoch: Epoch(u64_at(6)?),
            group: GroupId(u32_at(14)?),
            topic: TopicId(u32_at(18)?),
            queue: QueueId(u16::from_be_bytes(payload.get(22..24)?.try_into().ok()?)),
            offset: QueueOffset(u64_at(24)?),
            delivery: DeliverySeq(u64_at(32)?),
        })
    }
}

pub(crate) fn mac(key: &MacKey, payload: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.secret).expect("HMAC takes keys of any length");
    mac.update(payload);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(generation: u8, secret: u8) -> MacKeys {
        MacKeys { current: MacKey { generation, secret: [secret; 32] }, previous: None }
    }

    fn handle() -> ReceiptHandle {
        ReceiptHandle {
            replica_group: ReplicaGroupId(7),
            epoch: Epoch(3),
            group: GroupId(11),
            topic: TopicId(5),
            queue: QueueId(2),
            offset: QueueOffset(1 << 40),
            delivery: DeliverySeq(99),
        }
    }

    #[test]
    fn round_trip_survives_one_rotation() {
        let old = keys(1, 1);
        let text = handle().sign(&old);
        assert!(text.len() < 120);
        assert_eq!(ReceiptHandle::verify(&text, &old), Ok(handle()));
        let rotated = MacKeys { current: keys(2, 2).current, previous: Some(old.current) };
        assert_eq!(ReceiptHandle::verify(&text, &rotated), Ok(handle()));
        assert_eq!(ReceiptHandle::verify(&text, &keys(3, 3)), Err(ReceiptError));
        assert_eq!(ReceiptHandle::verify(&text, &keys(1, 9)), Err(ReceiptError));
    }

    proptest! {
        #[test]
        fn no_flipped_bit_is_believed(bit in 0usize..(PAYLOAD + MAC) * 8) {
            let keys = keys(1, 1);
            let mut bytes = URL_SAFE_NO_PAD.decode(handle().sign(&keys)).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(ReceiptHandle::verify(&URL_SAFE_NO_PAD.encode(bytes), &keys), Err(ReceiptError));
        }

        #[test]
        fn hostile_text_never_panics(text in ".{0,200}") {
            prop_assert_eq!(ReceiptHandle::verify(&text, &keys(1, 1)), Err(ReceiptError));
        }
    }
}
