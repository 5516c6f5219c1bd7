//! One simulated file: what reads see, what the platter has, and the writes in between.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::pages::Pages;
use crate::entropy::Numbers;

/// The unit a disk writes in one piece, in bytes.
const SECTOR: usize = 512;

#[derive(Debug)]
pub(super) struct SimFile {
    seen: Pages,
    durable: Pages,
    unsynced: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    at: usize,
    bytes: Bytes,
}

impl SimFile {
    pub(super) fn durable(content: Pages) -> SimFile {
        SimFile { seen: content.clone(), durable: content, unsynced: Vec::new() }
    }

    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.seen.len()).expect("a length in memory fits u64")
    }

    pub(super) fn all(&self) -> Bytes {
        self.seen.read(0, self.seen.len()).expect("all there is").into()
    }

    pub(super) fn read_at(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let read = usize::try_from(at).ok().and_then(|at| self.seen.read(at, len));
        Ok(read.ok_or(io::ErrorKind::UnexpectedEof)?.into())
    }

    pub(super) fn write_at(&mut self, at: u64, bytes: Bytes) -> io::Result<()> {
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
        at.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let write = Write { at, bytes };
        write.apply(&mut self.seen);
        self.unsynced.push(write);
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            write.apply(&mut self.durable);
        }
    }

    /// Each write reaches the platter or is forgotten; either way nobody will try it again.
    pub(super) fn fail_sync(&mut self, numbers: &mut Numbers) {
        for write in self.unsynced.drain(..) {
            if numbers.coin() {
                write.apply(&mut self.durable);
            }
        }
    }

    pub(super) fn after_power_cut(mut self, numbers: &mut Numbers) -> SimFile {
        let torn = torn_write(self.unsynced.len(), numbers);
        for (index, write) in self.unsynced.drain(..).enumerate() {
            if torn == Some(index) {
                write.apply_torn(&mut self.durable, numbers);
            } else if numbers.coin() {
                write.apply(&mut self.durable);
            }
        }
        SimFile::durable(self.durable)
    }

    pub(super) fn flip_bit(&mut self, at: usize, bit: usize) {
        self.seen.flip(at, bit);
        if at < self.durable.len() {
            self.durable.flip(at, bit);
        }
    }
}

/// Which of `writes` writes the power cut tears: three times in four one of them, and then mostly the last.
fn torn_write(writes: usize, numbers: &mut Numbers) -> Option<usize> {
    match numbers.below(4) {
        0 => None,
        1 if writes > 0 => Some(numbers.below(writes)),
        _ => writes.checked_sub(1),
    }
}

impl Write {
    fn apply(&self, content: &mut Pages) {
        self.apply_part(content, 0..self.bytes.len());
    }

    /// Writes some of the sectors: the first ones, the last ones, or any.
    fn apply_torn(&self, content: &mut Pages, numbers: &mut Numbers) {
        let sectors = self.sectors();
        let (shape, cut) = (numbers.below(3), numbers.below(sectors.len() + 1));
        for (index, sector) in sectors.into_iter().enumerate() {
            let written = match shape {
                0 => index < cut,
                1 => index >= cut,
                _ => numbers.coin(),
            };
            if written {
                self.apply_part(content, sector);
            }
        }
    }

    /// The parts of `bytes` that lie in one sector of the disk each.
    fn sectors(&self) -> Vec<Range<usize>> {
        let mut sectors = Vec::new();
        let mut start = 0;
        while start < self.bytes.len() {
            let end = self.bytes.len().min(start + SECTOR - (self.at + start) % SECTOR);
            sectors.push(start..end);
            start = end;
        }
        sectors
    }

    fn apply_part(&self, content: &mut Pages, part: Range<usize>) {
        if !part.is_empty() {
            content.write(self.at + part.start, &self.bytes[part]);
        }
    }
}
