//! Up to where blocks were given up: they are not sent to other replicas any more, because a base covers them.
//!
//! Written down with the term of the last one, which the first block that is left needs and nobody could look up after
//! its segment is gone.

use std::io;

use apogee_host::Disk;
use apogee_model::{BlockIndex, Epoch};
use bytes::Bytes;

use super::{MISMATCH, OpenError, read_note};
use crate::codec::{crc32c, u32_at, u64_at};

const NAME: &str = "store/purged";
const LEN: usize = 20;

/// The last block that was given up.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Purged {
    pub(crate) index: BlockIndex,
    pub(crate) term: Epoch,
}

impl Purged {
    /// # Errors
    /// A damaged note is corruption: the log would seem to have lost blocks.
    pub(crate) async fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        read_note(disk, NAME, Self::decode, MISMATCH).await
    }

    pub(crate) async fn write(self, disk: &dyn Disk) -> io::Result<()> {
        disk.replace(NAME, Bytes::from(self.encode())).await
    }

    /// Nothing was given up.
    pub(crate) async fn forget(disk: &dyn Disk) -> io::Result<()> {
        match disk.remove(NAME).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&self.index.0.to_le_bytes());
        bytes.extend_from_slice(&self.term.0.to_le_bytes());
        let crc = crc32c(&[&bytes]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let intact = bytes.len() == LEN && crc32c(&[&bytes[..16]]) == u32_at(bytes, 16);
        intact.then(|| Self { index: BlockIndex(u64_at(bytes, 0)), term: Epoch(u64_at(bytes, 8)) })
    }
}

#[cfg(test)]
mod tests {
    use apogee_host::SimDisk;

    use super::*;

    #[tokio::test]
    async fn it_is_read_as_it_was_written() {
        let disk = SimDisk::new(1);
        assert_eq!(Purged::read(&disk).await.unwrap(), None);
        let purged = Purged { index: BlockIndex(7), term: Epoch(3) };
        purged.write(&disk).await.unwrap();
        assert_eq!(Purged::read(&disk).await.unwrap(), Some(purged));
        disk.flip_bit(NAME, 3);
        assert!(matches!(Purged::read(&disk).await, Err(OpenError::Corrupt { .. })));
    }

    #[test]
    fn golden_bytes() {
        let hex: String =
            Purged { index: BlockIndex(7), term: Epoch(3) }.encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "070000000000000003000000000000009bd1c84c");
    }
}
