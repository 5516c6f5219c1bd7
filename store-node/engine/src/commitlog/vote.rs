//! What a replica promised in an election. Durable before anybody hears of it.

use std::io;

use apogee_host::Disk;
use apogee_model::{Epoch, ReplicaId};
use bytes::Bytes;

use super::{MISMATCH, OpenError, read_note};
use crate::codec::{crc32c, u32_at, u64_at};
use crate::replica::{Instance, Member};

const NAME: &str = "store/vote";
const LEN: usize = 29;

/// Whom this replica wants to lead in a term, and whether a majority does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Vote {
    pub(crate) term: Epoch,
    pub(crate) leader: Member,
    pub(crate) granted: bool,
}

impl Vote {
    /// # Errors
    /// A damaged vote is corruption: without it this replica could vote twice in one term.
    pub(crate) async fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        read_note(disk, NAME, Self::decode, MISMATCH).await
    }

    pub(crate) async fn write(self, disk: &dyn Disk) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&self.term.0.to_le_bytes());
        bytes.extend_from_slice(&self.leader.replica.0.to_le_bytes());
        bytes.extend_from_slice(&self.leader.instance.0.to_le_bytes());
        bytes.push(u8::from(self.granted));
        let crc = crc32c(&[&bytes]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        disk.replace(NAME, Bytes::from(bytes)).await
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let intact = bytes.len() == LEN && crc32c(&[&bytes[..25]]) == u32_at(bytes, 25);
        intact.then(|| Self {
            term: Epoch(u64_at(bytes, 0)),
            leader: Member { replica: ReplicaId(u64_at(bytes, 8)), instance: Instance(u64_at(bytes, 16)) },
            granted: bytes[24] != 0,
        })
    }
}
