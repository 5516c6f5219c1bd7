//! Finds the end of the log after any stop, and tells a torn tail from corruption.
//!
//! The log ends at the first place that does not hold the next block. That is a torn tail, cut off and reported,
//! unless something proves that the log went on: a checkpoint beyond it, or a later block that knew the missing one
//! to be committed. A later block alone proves nothing, because a power cut may keep any of several unsynced blocks.

use std::sync::Arc;

use apogee_host::{Disk, FileId};
use apogee_model::BlockIndex;
use bytes::Bytes;

use super::{Appender, Checkpoint, FOLDER, Format, OpenError, segment_name};
use crate::block::{self, Block, BlockKind, Lsn, NotABlock};

/// The log as found, cut where it was torn.
pub(crate) struct Recovered {
    pub(crate) appender: Appender,
    pub(crate) segments: Vec<(Lsn, FileId)>,
    pub(crate) checkpoint: Checkpoint,
}

/// Reads the whole log and hands every block to `apply` in order; returns with everything found durable.
///
/// # Errors
/// [`OpenError::Corrupt`] with file and offset when a block is damaged that had been committed; whatever `apply` says.
pub(crate) async fn recover(
    disk: &Arc<dyn Disk>,
    format: Format,
    mut apply: impl FnMut(Block) -> Result<(), OpenError>,
) -> Result<Recovered, OpenError> {
    let checkpoint = Checkpoint::read(&**disk).await.map_err(OpenError::disk("read the checkpoint"))?;
    let starts = segment_starts(&**disk, format.segment_bytes).await?;
    let mut scan = Scan { disk, format, appender: Appender::new(format.segment_bytes), segments: Vec::new() };
    let mut torn = None;
    for (position, start) in starts.iter().enumerate() {
        let bytes = scan.open(*start).await?;
        if let Some(why) = scan.walk(*start, &bytes, &mut apply)? {
            torn = Some((position, bytes, why));
            break;
        }
    }
    if let Some((position, bytes, why)) = torn {
        scan.prove_torn(&checkpoint, &starts[position..], &bytes, why).await?;
        scan.cut(&starts[position..], bytes, why).await?;
    } else {
        scan.check_not_short(&checkpoint)?;
    }
    if scan.segments.last().is_none_or(|(start, _)| start.0 + format.segment_bytes <= scan.appender.end.0) {
        scan.create_segment().await?;
    }
    scan.make_durable(checkpoint.durable).await?;
    Ok(Recovered { appender: scan.appender, segments: scan.segments, checkpoint })
}

async fn segment_starts(disk: &dyn Disk, segment_bytes: u64) -> Result<Vec<Lsn>, OpenError> {
    let names = disk.list(FOLDER).await.map_err(OpenError::disk("list the segments"))?;
    let mut starts = Vec::new();
    for name in names {
        let start = name.strip_suffix(".seg").and_then(|digits| digits.parse().ok()).map(Lsn);
        let expected = Lsn(u64::try_from(starts.len()).expect("few segments") * segment_bytes);
        match start {
            Some(start) if start == expected => starts.push(start),
            Some(start) if start > expected => {
                let why = format!("the segment is missing, {name} is there");
                return Err(OpenError::Corrupt { file: segment_name(expected), offset: 0, why });
            }
            _ => {
                let why = "the file does not belong into the log".to_owned();
                return Err(OpenError::Corrupt { file: format!("{FOLDER}/{name}"), offset: 0, why });
            }
        }
    }
    Ok(starts)
}

struct Scan<'a> {
    disk: &'a Arc<dyn Disk>,
    format: Format,
    appender: Appender,
    segments: Vec<(Lsn, FileId)>,
}

impl Scan<'_> {
    async fn open(&mut self, start: Lsn) -> Result<Bytes, OpenError> {
        let name = segment_name(start);
        let file = self.disk.open(&name).await.map_err(OpenError::disk(format!("open {name}")))?;
        let len = self.disk.len(file).await.map_err(OpenError::disk(format!("measure {name}")))?;
        if len != self.format.segment_bytes {
            let why = format!("the file has {len} bytes instead of {}", self.format.segment_bytes);
            return Err(OpenError::Corrupt { file: name, offset: len, why });
        }
        self.segments.push((start, file));
        let len = usize::try_from(len).expect("segments fit into memory");
        self.disk.read_at(file, 0, len).await.map_err(OpenError::disk(format!("read {name}")))
    }

    /// Applies the blocks of one segment; says why it stopped before the segment's end.
    fn walk(
        &mut self,
        start: Lsn,
        bytes: &Bytes,
        apply: &mut impl FnMut(Block) -> Result<(), OpenError>,
    ) -> Result<Option<NotABlock>, OpenError> {
        let end = start.0 + self.format.segment_bytes;
        while self.appender.end.0 < end {
            let offset = offset_in(start, self.appender.end);
            if bytes.len() - offset < block::HEADER {
                self.appender.end = Lsn(end);
                return Ok(None);
            }
            match self.next(&bytes.slice(offset..)) {
                Ok(found) => self.take(found, apply)?,
                Err(why) => return Ok(Some(why)),
            }
        }
        Ok(None)
    }

    fn next(&self, bytes: &Bytes) -> Result<Block, NotABlock> {
        let found = Block::read(bytes, self.appender.end)?;
        let index = match found.header.kind {
            BlockKind::Records => BlockIndex(self.appender.index.0 + 1),
            BlockKind::Filler => self.appender.index,
        };
        if found.header.previous != self.appender.previous || found.header.index != index {
            return Err(NotABlock::Previous);
        }
        Ok(found)
    }

    fn take(&mut self, found: Block, apply: &mut impl FnMut(Block) -> Result<(), OpenError>) -> Result<(), OpenError> {
        let header = found.header;
        self.appender.previous = found.hash;
        self.appender.end = Lsn(header.lsn.0 + u64::try_from(header.total_len).expect("blocks are at most 8 MiB"));
        if header.kind == BlockKind::Records {
            self.appender.index = header.index;
            apply(found)?;
        }
        Ok(())
    }

    /// Refuses when what cannot be read had been committed.
    async fn prove_torn(
        &mut self,
        checkpoint: &Checkpoint,
        starts: &[Lsn],
        bytes: &Bytes,
        why: NotABlock,
    ) -> Result<(), OpenError> {
        let end = self.appender.end;
        if end < checkpoint.durable {
            return Err(
                self.corrupt(starts[0], format!("{why}, yet the log was durable up to {}", checkpoint.durable.0))
            );
        }
        let lost = BlockIndex(self.appender.index.0 + 1);
        let mut witness = commit_beyond(starts[0], bytes, offset_in(starts[0], end), lost);
        for start in &starts[1..] {
            if witness.is_some() {
                break;
            }
            let bytes = self.open(*start).await?;
            witness = commit_beyond(*start, &bytes, 0, lost);
        }
        match witness {
            None => Ok(()),
            Some(at) => {
                Err(self.corrupt(starts[0], format!("{why}, yet the block at {} knew it to be committed", at.0)))
            }
        }
    }

    fn check_not_short(&self, checkpoint: &Checkpoint) -> Result<(), OpenError> {
        if self.appender.end < checkpoint.durable {
            let start = Lsn(self.appender.end.0 - self.appender.end.0 % self.format.segment_bytes);
            return Err(self.corrupt(start, format!("the log ends, yet it was durable up to {}", checkpoint.durable.0)));
        }
        Ok(())
    }

    fn corrupt(&self, start: Lsn, why: String) -> OpenError {
        OpenError::Corrupt { file: segment_name(start), offset: self.appender.end.0 - start.0, why }
    }

    /// Zeroes what follows the end of the log, so that nothing of it can rise again.
    async fn cut(&mut self, starts: &[Lsn], bytes: Bytes, why: NotABlock) -> Result<(), OpenError> {
        let from = offset_in(starts[0], self.appender.end);
        if let Some(last) = bytes[from..].iter().rposition(|byte| *byte != 0) {
            let (file, lsn) = (segment_name(starts[0]), self.appender.end.0);
            tracing::warn!(event = "torn_tail_cut", file, offset = from, lsn, bytes = last + 1, %why,
                "the end of the log was torn and is cut");
            let id = self.segments.iter().find(|(start, _)| *start == starts[0]).expect("it was opened to be read").1;
            let at = u64::try_from(from).expect("an offset in a segment");
            let zeros = Bytes::from(vec![0; last + 1]);
            self.disk.write_at(id, at, zeros).await.map_err(OpenError::disk(format!("cut {file}")))?;
            self.disk.sync(id).await.map_err(OpenError::disk(format!("sync {file}")))?;
        }
        let (kept, gone) = self.segments.drain(..).partition(|(start, _)| *start <= starts[0]);
        self.segments = kept;
        for (start, file) in gone {
            let name = segment_name(start);
            self.disk.close(file).await.map_err(OpenError::disk(format!("close {name}")))?;
        }
        // The last one first: a power cut in between leaves no gap.
        for start in starts[1..].iter().rev() {
            let name = segment_name(*start);
            self.disk.remove(&name).await.map_err(OpenError::disk(format!("remove {name}")))?;
        }
        Ok(())
    }

    /// Writes again and syncs what was found above `from`. A process that was killed may have left it in the page cache
    /// only; after a sync that failed the cache even takes it for written, and a sync alone would do nothing.
    async fn make_durable(&self, from: Lsn) -> Result<(), OpenError> {
        for (start, file) in &self.segments {
            let end = self.appender.end.0.min(start.0 + self.format.segment_bytes);
            let from = from.0.max(start.0);
            let Some(len) = end.checked_sub(from).filter(|len| *len > 0) else { continue };
            let (at, name) = (from - start.0, segment_name(*start));
            let len = usize::try_from(len).expect("segments fit into memory");
            let found = self.disk.read_at(*file, at, len).await.map_err(OpenError::disk(format!("read {name}")))?;
            self.disk.write_at(*file, at, found).await.map_err(OpenError::disk(format!("write {name}")))?;
            self.disk.sync(*file).await.map_err(OpenError::disk(format!("sync {name}")))?;
        }
        Ok(())
    }

    async fn create_segment(&mut self) -> Result<(), OpenError> {
        let name = segment_name(self.appender.end);
        let created = self.disk.create(&name, self.format.segment_bytes).await;
        let file = created.map_err(OpenError::disk(format!("create {name}")))?;
        self.segments.push((self.appender.end, file));
        Ok(())
    }
}

/// The position of a sound block from `from` on that knew `lost` to be committed.
fn commit_beyond(start: Lsn, bytes: &Bytes, from: usize, lost: BlockIndex) -> Option<Lsn> {
    let mut at = from;
    while at + block::HEADER <= bytes.len() {
        let lsn = Lsn(start.0 + u64::try_from(at).expect("an offset in a segment"));
        // Zero words are the common case behind the end of a log.
        if bytes[at] != 0
            && let Ok(found) = Block::read(&bytes.slice(at..), lsn)
            && found.header.commit >= lost
            && found.header.commit < found.header.index
        {
            return Some(lsn);
        }
        at += 8;
    }
    None
}

fn offset_in(start: Lsn, lsn: Lsn) -> usize {
    usize::try_from(lsn.0 - start.0).expect("an offset in a segment")
}
