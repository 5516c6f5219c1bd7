//! Reads records: from the newest blocks in memory, else from disk.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use apogee_host::{Disk, FileId};
use bytes::Bytes;

use crate::block::Lsn;

/// A cheap handle; clones read the same log.
#[derive(Clone)]
pub(crate) struct LogReader {
    disk: Arc<dyn Disk>,
    shared: Arc<RwLock<Shared>>,
    segment_bytes: u64,
    tail_bytes: usize,
}

#[derive(Default)]
struct Shared {
    segments: BTreeMap<Lsn, FileId>,
    tail: VecDeque<(Lsn, Bytes)>,
    held: usize,
}

impl LogReader {
    /// Keeps the newest `tail_bytes` of the log in memory.
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, tail_bytes: usize) -> Self {
        Self { disk, shared: Arc::default(), segment_bytes, tail_bytes }
    }

    pub(crate) fn add_segment(&self, start: Lsn, file: FileId) {
        self.shared.write().unwrap_or_else(PoisonError::into_inner).segments.insert(start, file);
    }

    pub(crate) fn add_block(&self, start: Lsn, bytes: Bytes) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        shared.held += bytes.len();
        shared.tail.push_back((start, bytes));
        while shared.held > self.tail_bytes {
            let Some((_, dropped)) = shared.tail.pop_front() else { break };
            shared.held -= dropped.len();
        }
    }

    /// `len` bytes at `at`, which lie inside one block.
    pub(crate) async fn read(&self, at: Lsn, len: usize) -> io::Result<Bytes> {
        if let Some(bytes) = self.held_in_tail(at, len) {
            return Ok(bytes);
        }
        let offset = at.0 % self.segment_bytes;
        let file = {
            let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
            shared.segments.get(&Lsn(at.0 - offset)).copied()
        };
        let file = file.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the segment is gone"))?;
        self.disk.read_at(file, offset, len).await
    }

    fn held_in_tail(&self, at: Lsn, len: usize) -> Option<Bytes> {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let after = shared.tail.partition_point(|(start, _)| *start <= at);
        let (start, bytes) = shared.tail.get(after.checked_sub(1)?)?;
        let from = usize::try_from(at.0 - start.0).ok()?;
        let to = from.checked_add(len)?;
        (to <= bytes.len()).then(|| bytes.slice(from..to))
    }
}
