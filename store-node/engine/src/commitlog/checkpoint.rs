//! How far the log was durable, written now and then: what lies below and cannot be read is corrupt, not torn.

use std::io;

use apogee_host::Disk;
use apogee_model::Epoch;
use bytes::Bytes;

use crate::block::Lsn;
use crate::codec::{crc32c, u32_at, u64_at};

const NAME: &str = "store/checkpoint";
const LEN: usize = 20;

/// The log was durable below `durable`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) durable: Lsn,
    pub(crate) term: Epoch,
}

impl Checkpoint {
    /// The newest checkpoint; the start of the log if there is none. A damaged one is worth as little as none.
    pub(crate) async fn read(disk: &dyn Disk) -> io::Result<Self> {
        match disk.read(NAME).await {
            Ok(bytes) => Ok(Self::decode(&bytes).unwrap_or_else(|| {
                tracing::warn!(event = "checkpoint_damaged", "the checkpoint is damaged and not used");
                Self::default()
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn write(self, disk: &dyn Disk) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&self.durable.0.to_le_bytes());
        bytes.extend_from_slice(&self.term.0.to_le_bytes());
        let crc = crc32c(&[&bytes]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        disk.replace(NAME, Bytes::from(bytes)).await
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let intact = bytes.len() == LEN && crc32c(&[&bytes[..16]]) == u32_at(bytes, 16);
        intact.then(|| Self { durable: Lsn(u64_at(bytes, 0)), term: Epoch(u64_at(bytes, 8)) })
    }
}
