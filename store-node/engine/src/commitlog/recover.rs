//! Finds the end of the log after any stop, and tells a torn tail from corruption.
//!
//! The log ends at the first place that does not hold the next block. That is a torn tail, cut off and reported,
//! unless something proves that the log went on: a checkpoint beyond it, or a later block that knew the missing one
//! to be committed. A later block alone proves nothing, because a power cut may keep any of several unsynced blocks.

use std::ops::Range;
use std::sync::Arc;

use apogee_host::{Disk, FileId};
use apogee_model::BlockIndex;
use bytes::Bytes;

use super::places::{BlockPlace, Places, Segment};
use super::{Checkpoint, FOLDER, Format, Layout, OpenError, segment_name};
use crate::block::{self, Block, BlockKind, Lsn, NotABlock};

/// The log as found, cut where it was torn.
pub(crate) struct Found {
    pub(crate) layout: Layout,
    pub(crate) places: Places,
    /// The segment to write to, and where it starts.
    pub(crate) current: (Lsn, FileId),
    pub(crate) checkpoint: Checkpoint,
    /// Highest index that a block knew to be committed.
    pub(crate) committed: BlockIndex,
}

/// Looks for the end of the log, from the segment with `from` on; what is before has been applied and is read when
/// somebody asks for it. Returns with everything found durable.
///
/// `alone`: with one voter, what was committed was durable here; with several it may have been durable elsewhere.
///
/// # Errors
/// [`OpenError::Corrupt`] with file and offset when a block is damaged that had been committed.
pub(crate) async fn recover(disk: &Arc<dyn Disk>, format: &Format, from: Lsn, alone: bool) -> Result<Found, OpenError> {
    let segment_bytes = format.segment_bytes;
    let checkpoint = Checkpoint::read(&**disk, segment_bytes).await.map_err(OpenError::disk("read the checkpoint"))?;
    let starts = segment_starts(&**disk, segment_bytes).await?;
    let from = from.min(checkpoint.0.end);
    let layout = Layout::new(segment_bytes);
    let (places, segments) = (Places::new(segment_bytes), Vec::new());
    let committed = BlockIndex(0);
    let mut scan =
        Scan { disk, segment_bytes, layout, chained: false, filler: None, places, segments, alone, committed };
    // The one that holds the byte before `from` is walked, so that the block before is known.
    let old = starts.iter().take_while(|start| start.0 + segment_bytes < from.0).count();
    // The last one is walked in any case, because it tells where the log ends.
    let old = old.min(starts.len().saturating_sub(1));
    for start in &starts[..old] {
        scan.glance(*start).await?;
    }
    let starts = &starts[old..];
    scan.layout.end = starts.first().copied().unwrap_or_default();
    scan.chained = scan.layout.end == Lsn(0);
    let mut torn = None;
    for (position, start) in starts.iter().enumerate() {
        let bytes = scan.open(*start).await?;
        if let Some(why) = scan.walk(*start, &bytes) {
            torn = Some((position, bytes, why));
            break;
        }
    }
    if let Some(before) = scan.filler.take() {
        torn = Some(scan.give_up_filler(before, starts).await?);
    }
    if let Some((position, bytes, why)) = torn {
        let from = offset_in(starts[position], scan.layout.end);
        let written = from..from + written_end(&bytes[from..]);
        scan.prove_torn(&checkpoint, &starts[position..], &bytes, written.clone(), why).await?;
        scan.cut(&starts[position..], written, why).await?;
    } else {
        scan.check_not_short(&checkpoint)?;
    }
    if scan.segments.last().is_none_or(|(start, _)| start.0 + segment_bytes <= scan.layout.end.0) {
        scan.create_segment().await?;
    }
    scan.make_durable(checkpoint.0.end).await?;
    let current = *scan.segments.last().expect("created above if there was none");
    let Scan { layout, places, committed, .. } = scan;
    Ok(Found { layout, places, current, checkpoint, committed })
}

/// The segments follow on each other; the first ones may have gone.
async fn segment_starts(disk: &dyn Disk, segment_bytes: u64) -> Result<Vec<Lsn>, OpenError> {
    let names = disk.list(FOLDER).await.map_err(OpenError::disk("list the segments"))?;
    let mut starts: Vec<Lsn> = Vec::new();
    for name in names {
        let start = name.strip_suffix(".seg").and_then(|digits| digits.parse().ok()).map(Lsn);
        let expected = starts.last().map(|last| Lsn(last.0 + segment_bytes));
        match (start, expected) {
            (Some(start), None) if start.0.is_multiple_of(segment_bytes) => starts.push(start),
            (Some(start), Some(expected)) if start == expected => starts.push(start),
            (Some(start), Some(expected)) if start > expected => {
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
    segment_bytes: u64,
    layout: Layout,
    /// Whether the hash and the index of the block before are known.
    chained: bool,
    /// The end of the log before a filler that no block follows.
    filler: Option<Layout>,
    places: Places,
    segments: Vec<(Lsn, FileId)>,
    alone: bool,
    committed: BlockIndex,
}

impl Scan<'_> {
    async fn open_file(&mut self, start: Lsn) -> Result<FileId, OpenError> {
        let name = segment_name(start);
        let file = self.disk.open(&name).await.map_err(OpenError::disk(format!("open {name}")))?;
        let len = self.disk.len(file).await.map_err(OpenError::disk(format!("measure {name}")))?;
        if len != self.segment_bytes {
            let why = format!("the file has {len} bytes instead of {}", self.segment_bytes);
            return Err(OpenError::Corrupt { file: name, offset: len, why });
        }
        self.segments.push((start, file));
        Ok(file)
    }

    /// Reads no more of an old segment than its first header.
    async fn glance(&mut self, start: Lsn) -> Result<(), OpenError> {
        let (file, name) = (self.open_file(start).await?, segment_name(start));
        let head = self.disk.read_at(file, 0, block::HEADER).await.map_err(OpenError::disk(format!("read {name}")))?;
        let header = block::Header::read(&head, start).map_err(|why| OpenError::Corrupt {
            file: name,
            offset: 0,
            why: why.to_string(),
        })?;
        self.places.add_segment(start, Segment { file: Some(file), first: Some(header.index), blocks: None });
        Ok(())
    }

    async fn open(&mut self, start: Lsn) -> Result<Bytes, OpenError> {
        let (file, name) = (self.open_file(start).await?, segment_name(start));
        self.places.add_segment(start, Segment { file: Some(file), first: None, blocks: Some(Vec::new()) });
        let len = usize::try_from(self.segment_bytes).expect("segments fit into memory");
        self.disk.read_at(file, 0, len).await.map_err(OpenError::disk(format!("read {name}")))
    }

    /// Walks through the blocks of one segment; says why it stopped before the segment's end.
    fn walk(&mut self, start: Lsn, bytes: &Bytes) -> Option<NotABlock> {
        let end = start.0 + self.segment_bytes;
        while self.layout.end.0 < end {
            let offset = offset_in(start, self.layout.end);
            if bytes.len() - offset < block::HEADER {
                self.layout.end = Lsn(end);
                return None;
            }
            match self.next(&bytes.slice(offset..)) {
                Ok(found) => self.take(&found),
                Err(why) => return Some(why),
            }
        }
        None
    }

    fn next(&self, bytes: &Bytes) -> Result<Block, NotABlock> {
        let found = Block::read(bytes, self.layout.end)?;
        let index = match found.header.kind {
            BlockKind::Records | BlockKind::Blank | BlockKind::Membership => BlockIndex(self.layout.index.0 + 1),
            BlockKind::Filler => self.layout.index,
        };
        let Block { header, .. } = &found;
        let follows = header.previous == self.layout.previous && header.index == index;
        if self.chained && !(follows && header.term >= self.layout.term) {
            return Err(NotABlock::Previous);
        }
        Ok(found)
    }

    fn take(&mut self, found: &Block) {
        let header = found.header;
        let len = u32::try_from(header.total_len).expect("blocks are at most 8 MiB");
        self.filler = (header.kind == BlockKind::Filler).then_some(self.layout);
        self.chained = true;
        self.layout.previous = found.hash;
        self.layout.end = Lsn(header.lsn.0 + u64::from(len));
        (self.layout.index, self.layout.term) = (header.index, header.term);
        self.layout.log_time = self.layout.log_time.max(header.log_time);
        self.committed = self.committed.max(header.commit).min(header.index);
        if header.kind != BlockKind::Filler {
            self.places.push(header.index, BlockPlace { lsn: header.lsn, len, term: header.term });
        }
    }

    /// The block that a filler made room for was lost. Another one may take its place that needs no filler, and has none
    /// on the other replicas: the log ends before it. Says where, as a torn end.
    async fn give_up_filler(&mut self, before: Layout, starts: &[Lsn]) -> Result<(usize, Bytes, NotABlock), OpenError> {
        let start = Lsn(before.end.0 - before.end.0 % self.segment_bytes);
        let position = starts.iter().position(|walked| *walked == start).expect("the filler was found there");
        let file = self.segments.iter().find(|(opened, _)| *opened == start).expect("it was opened to be read").1;
        let len = usize::try_from(self.segment_bytes).expect("segments fit into memory");
        let bytes = self.disk.read_at(file, 0, len).await;
        let bytes = bytes.map_err(OpenError::disk(format!("read {}", segment_name(start))))?;
        self.layout = before;
        Ok((position, bytes, NotABlock::Empty))
    }

    /// Refuses when what cannot be read had been committed. `bytes` are those of the segment with the end of the log, behind
    /// which something is `written`.
    async fn prove_torn(
        &mut self,
        checkpoint: &Checkpoint,
        starts: &[Lsn],
        bytes: &Bytes,
        written: Range<usize>,
        why: NotABlock,
    ) -> Result<(), OpenError> {
        if self.layout.end < checkpoint.0.end {
            return Err(self.corrupt(starts[0], format!("{why}, yet the log was durable up to {}", checkpoint.0.end.0)));
        }
        if !self.alone {
            return Ok(());
        }
        let lost = BlockIndex(self.layout.index.0 + 1);
        let mut witness = commit_beyond(starts[0], bytes, written, lost);
        for start in &starts[1..] {
            if witness.is_some() {
                break;
            }
            let bytes = self.open(*start).await?;
            witness = commit_beyond(*start, &bytes, 0..written_end(&bytes), lost);
        }
        match witness {
            None => Ok(()),
            Some(at) => {
                Err(self.corrupt(starts[0], format!("{why}, yet the block at {} knew it to be committed", at.0)))
            }
        }
    }

    fn check_not_short(&self, checkpoint: &Checkpoint) -> Result<(), OpenError> {
        if self.layout.end < checkpoint.0.end {
            let start = Lsn(self.layout.end.0 - self.layout.end.0 % self.segment_bytes);
            return Err(self.corrupt(start, format!("the log ends, yet it was durable up to {}", checkpoint.0.end.0)));
        }
        Ok(())
    }

    fn corrupt(&self, start: Lsn, why: String) -> OpenError {
        OpenError::Corrupt { file: segment_name(start), offset: self.layout.end.0 - start.0, why }
    }

    /// Zeroes what is `written` behind the end of the log, so that nothing of it can rise again.
    async fn cut(&mut self, starts: &[Lsn], written: Range<usize>, why: NotABlock) -> Result<(), OpenError> {
        if !written.is_empty() {
            let (file, lsn) = (segment_name(starts[0]), self.layout.end.0);
            tracing::warn!(event = "torn_tail_cut", file, offset = written.start, lsn, bytes = written.len(), %why,
                "the end of the log was torn and is cut");
            let id = self.segments.iter().find(|(start, _)| *start == starts[0]).expect("it was opened to be read").1;
            let at = u64::try_from(written.start).expect("an offset in a segment");
            let zeros = Bytes::from(vec![0; written.len()]);
            self.disk.write_at(id, at, zeros).await.map_err(OpenError::disk(format!("cut {file}")))?;
            self.disk.sync(id).await.map_err(OpenError::disk(format!("sync {file}")))?;
        }
        let (kept, gone) = self.segments.drain(..).partition(|(start, _)| *start <= starts[0]);
        self.segments = kept;
        for (start, file) in gone {
            self.places.remove_segment(start);
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
            let end = self.layout.end.0.min(start.0 + self.segment_bytes);
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
        let name = segment_name(self.layout.end);
        let created = self.disk.create(&name, self.segment_bytes).await;
        let file = created.map_err(OpenError::disk(format!("create {name}")))?;
        self.segments.push((self.layout.end, file));
        let segment = Segment { file: Some(file), first: None, blocks: Some(Vec::new()) };
        self.places.add_segment(self.layout.end, segment);
        Ok(())
    }
}

/// The position of a sound block among what is `written` that knew `lost` to be committed.
fn commit_beyond(start: Lsn, bytes: &Bytes, written: Range<usize>, lost: BlockIndex) -> Option<Lsn> {
    let mut at = written.start;
    while at < written.end && at + block::HEADER <= bytes.len() {
        let lsn = Lsn(start.0 + u64::try_from(at).expect("an offset in a segment"));
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

/// The length of this without the zeros at its end, which are most of a young segment.
fn written_end(bytes: &[u8]) -> usize {
    /// So much is compared at once.
    const PIECE: usize = 4096;
    let mut end = bytes.len();
    while end > 0 {
        let piece = &bytes[end.saturating_sub(PIECE)..end];
        // Without a branch for each byte, which keeps the processor from comparing many at a time.
        if piece.iter().fold(0, |all, byte| all | byte) != 0 {
            let zeros = piece.iter().rev().take_while(|byte| **byte == 0).count();
            return end - zeros;
        }
        end -= piece.len();
    }
    0
}

fn offset_in(start: Lsn, lsn: Lsn) -> usize {
    usize::try_from(lsn.0 - start.0).expect("an offset in a segment")
}

#[cfg(test)]
mod tests;
