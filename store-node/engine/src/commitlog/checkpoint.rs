//! How far the log was durable, written now and then: what lies below and cannot be read is corrupt, not torn, and
//! nobody has to look for the end of the log there.

use std::io;

use apogee_host::Disk;
use apogee_model::{BlockIndex, Epoch, Timestamp};
use bytes::Bytes;

use super::Layout;
use crate::block::Lsn;
use crate::codec::{crc32c, u32_at, u64_at};

const NAME: &str = "store/checkpoint";
const LEN: usize = 40;

/// The log was durable up to here.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Checkpoint(pub(crate) Layout);

impl Checkpoint {
    /// The newest checkpoint; the start of the log if there is none. A damaged one is worth as little as none.
    pub(crate) async fn read(disk: &dyn Disk, segment_bytes: u64) -> io::Result<Self> {
        let none = Self(Layout::new(segment_bytes));
        match disk.read(NAME).await {
            Ok(bytes) => Ok(Self::decode(&bytes, segment_bytes).unwrap_or_else(|| {
                tracing::warn!(event = "checkpoint_damaged", "the checkpoint is damaged and not used");
                none
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(none),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn write(self, disk: &dyn Disk) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&self.0.end.0.to_le_bytes());
        bytes.extend_from_slice(&self.0.index.0.to_le_bytes());
        bytes.extend_from_slice(&self.0.term.0.to_le_bytes());
        bytes.extend_from_slice(&self.0.log_time.0.to_le_bytes());
        bytes.extend_from_slice(&self.0.previous.to_le_bytes());
        let crc = crc32c(&[&bytes]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        disk.replace(NAME, Bytes::from(bytes)).await
    }

    fn decode(bytes: &[u8], segment_bytes: u64) -> Option<Self> {
        let intact = bytes.len() == LEN && crc32c(&[&bytes[..36]]) == u32_at(bytes, 36);
        intact.then(|| {
            Self(Layout {
                segment_bytes,
                end: Lsn(u64_at(bytes, 0)),
                index: BlockIndex(u64_at(bytes, 8)),
                term: Epoch(u64_at(bytes, 16)),
                log_time: Timestamp(u64_at(bytes, 24)),
                previous: u32_at(bytes, 32),
                proposal: 0,
            })
        })
    }
}
