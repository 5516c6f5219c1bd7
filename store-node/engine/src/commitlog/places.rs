//! Where each block of the log is: by segment, so that a segment that goes takes its places along.

use std::collections::BTreeMap;

use apogee_host::FileId;
use apogee_model::{BlockIndex, Epoch};

use crate::block::Lsn;

/// Where a block is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct BlockPlace {
    pub(crate) lsn: Lsn,
    pub(crate) len: u32,
    pub(crate) term: Epoch,
}

/// One file of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    /// `None` while it is being created; its blocks are in memory then.
    pub(crate) file: Option<FileId>,
    /// Index of the first block; `None` while there is none.
    pub(crate) first: Option<BlockIndex>,
    /// The places of its blocks, from `first` on; `None` for an old segment nobody has looked into yet.
    pub(crate) blocks: Option<Vec<BlockPlace>>,
}

/// The segments of a log in their order.
#[derive(Debug)]
pub(crate) struct Places {
    segment_bytes: u64,
    segments: BTreeMap<Lsn, Segment>,
}

impl Places {
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self { segment_bytes, segments: BTreeMap::new() }
    }

    pub(crate) fn start_of(&self, at: Lsn) -> Lsn {
        Lsn(at.0 - at.0 % self.segment_bytes)
    }

    pub(crate) fn add_segment(&mut self, start: Lsn, segment: Segment) {
        self.segments.insert(start, segment);
    }

    pub(crate) fn file(&self, at: Lsn) -> Option<FileId> {
        self.segments.get(&self.start_of(at))?.file
    }

    /// Notes the next block. Its segment may have no file yet: the writer brings it.
    pub(crate) fn push(&mut self, index: BlockIndex, place: BlockPlace) {
        let start = self.start_of(place.lsn);
        let segment = self.segments.entry(start).or_insert(Segment { file: None, first: None, blocks: None });
        segment.first.get_or_insert(index);
        segment.blocks.get_or_insert_default().push(place);
    }

    /// The file of a segment that may have blocks already.
    pub(crate) fn set_file(&mut self, start: Lsn, file: FileId) {
        let segment =
            self.segments.entry(start).or_insert(Segment { file: None, first: None, blocks: Some(Vec::new()) });
        segment.file = Some(file);
    }

    /// The first block there is.
    pub(crate) fn first(&self) -> Option<BlockIndex> {
        self.segments.values().find_map(|segment| segment.first)
    }

    /// Where a block is: known, in a segment that has to be looked into, or nowhere.
    pub(crate) fn find(&self, index: BlockIndex) -> Found {
        let holds = |(_, segment): &(&Lsn, &Segment)| segment.first.is_some_and(|first| first <= index);
        let mut segments = self.segments.iter().rev();
        let Some((start, segment)) = segments.find(holds) else { return Found::Nowhere };
        let Some(blocks) = &segment.blocks else { return Found::Unread(*start) };
        let first = segment.first.expect("the filter above");
        let nth = usize::try_from(index.0 - first.0).unwrap_or(usize::MAX);
        blocks.get(nth).map_or(Found::Nowhere, |place| Found::At(*place))
    }

    /// Forgets all blocks after `last`. The files stay, for the blocks that come there next.
    pub(crate) fn truncate(&mut self, last: BlockIndex) {
        for segment in self.segments.values_mut().rev() {
            if let Some(first) = segment.first.filter(|first| *first <= last) {
                let keep = usize::try_from(last.0 - first.0 + 1).unwrap_or(usize::MAX);
                if let Some(blocks) = &mut segment.blocks {
                    blocks.truncate(keep);
                }
                return;
            }
            (segment.first, segment.blocks) = (None, Some(Vec::new()));
        }
    }

    /// Fills in what was found in an old segment.
    pub(crate) fn learn(&mut self, start: Lsn, blocks: Vec<BlockPlace>) {
        if let Some(segment) = self.segments.get_mut(&start) {
            segment.blocks = Some(blocks);
        }
    }

    pub(crate) fn remove_segment(&mut self, start: Lsn) -> Option<Segment> {
        self.segments.remove(&start)
    }

    /// Forgets the segments that have only blocks before `floor`; returns them, oldest first. The newest one with blocks
    /// stays.
    pub(crate) fn let_go(&mut self, floor: BlockIndex) -> Vec<(Lsn, Option<FileId>)> {
        let start = self.start_for(Lsn(u64::MAX), floor);
        let kept = start.map_or_else(BTreeMap::new, |(start, _)| self.segments.split_off(&start));
        if kept.is_empty() {
            return Vec::new();
        }
        let gone = std::mem::replace(&mut self.segments, kept);
        gone.into_iter().map(|(start, segment)| (start, segment.file)).collect()
    }

    /// The newest segment that starts at or before `at` with a block at or before `index`: where it starts, and its
    /// first block.
    pub(crate) fn start_for(&self, at: Lsn, index: BlockIndex) -> Option<(Lsn, BlockIndex)> {
        let mut firsts = self.segments.range(..=at).rev().filter_map(|(start, segment)| Some((*start, segment.first?)));
        firsts.find(|(_, first)| *first <= index)
    }

    /// Where the first segment starts.
    pub(crate) fn begin(&self) -> Option<Lsn> {
        self.segments.first_key_value().map(|(start, _)| *start)
    }
}

/// See [`Places::find`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    At(BlockPlace),
    /// The segment that starts here has it.
    Unread(Lsn),
    Nowhere,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 100 bytes; of each its first block, 0 for none.
    fn places(firsts: &[u64]) -> Places {
        let mut places = Places::new(100);
        for (nth, first) in (0..).zip(firsts) {
            let first = Some(BlockIndex(*first)).filter(|first| *first > BlockIndex(0));
            places.add_segment(Lsn(nth * 100), Segment { file: Some(FileId(nth)), first, blocks: None });
        }
        places
    }

    fn gone(firsts: &[u64], floor: u64) -> Vec<u64> {
        let mut places = places(firsts);
        let gone: Vec<_> = places.let_go(BlockIndex(floor)).into_iter().map(|(start, _)| start.0).collect();
        assert_eq!(places.begin().map(|begin| begin.0), Some(gone.last().map_or(0, |last| last + 100)));
        gone
    }

    #[test]
    fn a_segment_goes_when_the_next_one_begins_at_the_floor() {
        let firsts = [1, 5, 9, 14, 0];
        assert!(gone(&firsts, 0).is_empty() && gone(&firsts, 4).is_empty());
        assert_eq!(gone(&firsts, 5), [0]);
        assert_eq!(gone(&firsts, 8), [0]);
        assert_eq!(gone(&firsts, 9), [0, 100]);
        assert_eq!(gone(&firsts, 999), [0, 100, 200], "the newest block stays, and the segment behind it");
    }

    #[test]
    fn a_log_is_needed_from_a_place_and_from_a_block_on() {
        let places = places(&[1, 5, 9, 14, 0]);
        let start = |at, index| places.start_for(Lsn(at), BlockIndex(index)).map(|(start, first)| (start.0, first.0));
        assert_eq!(start(250, 99), Some((200, 9)));
        assert_eq!(start(200, 99), Some((200, 9)));
        assert_eq!(start(199, 99), Some((100, 5)));
        assert_eq!(start(999, 8), Some((100, 5)));
        assert_eq!(start(999, 99), Some((300, 14)));
        assert_eq!(start(999, 0), None);
    }
}
