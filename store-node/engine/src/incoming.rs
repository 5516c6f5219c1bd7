//! A base and the log that came with it from another replica, and how a start takes them over.
//!
//! They come in beside what is there (`raft/transfer`), segments under the names of this module. When all is durable, a
//! [`Marker`] says so; then the base becomes one of the views' own, and that is the moment from which on it counts: a
//! start that finds the marker and the base puts the segments in the place of the log, step by step, and each step can
//! be repeated. One that finds the marker and no base drops what came in, and nothing has happened: nobody was told of
//! it. The vote stays what it was.

use std::io;

use apogee_host::Disk;
use apogee_model::{BlockIndex, Epoch};
use bytes::Bytes;

use crate::block::Lsn;
use crate::codec::{Reader, crc32c, u32_at};
use crate::commitlog::{self, Checkpoint, Layout, MISMATCH, OpenError, Purged, read_note};
use crate::state::State;
use crate::views::{Position, ViewStore, ViewsError};

const FOLDER: &str = "store/incoming";
const MARKER: &str = "COMPLETE";
const VERSION: u8 = 1;

/// Segments that come with one base; more are nonsense.
const SEGMENTS_MAX: u64 = 1 << 20;

/// The name of a segment that comes in.
pub(crate) fn segment_name(start: Lsn) -> String {
    format!("{FOLDER}/{}", file_name(start))
}

fn file_name(start: Lsn) -> String {
    format!("{:020}.seg", start.0)
}

/// Says that all of it is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Marker {
    pub(crate) segment_bytes: u64,
    /// Start of the first segment.
    pub(crate) first: Lsn,
    /// Where the base is, and the end of the log.
    pub(crate) position: Position,
    /// What the log has given up.
    pub(crate) purged: Option<Purged>,
    pub(crate) stage: Stage,
}

/// How far it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Everything is there. Whether the base became one of ours the views know; nobody was told that it did.
    Complete = 0,
    /// It did, and the leader may count on it.
    Promised = 1,
    /// The log may be that of the one or of the other.
    Halfway = 2,
}

impl Marker {
    /// Whether a log can be like that at all.
    pub(crate) fn is_possible(&self) -> bool {
        let Self { segment_bytes, first, position, purged, .. } = self;
        *segment_bytes >= crate::SEGMENT_TINY
            && first.0.is_multiple_of(*segment_bytes)
            && position.end > *first
            && (position.end.0 - first.0) / segment_bytes < SEGMENTS_MAX
            && position.end.0 < u64::MAX - 2 * segment_bytes
            && position.index > BlockIndex(0)
            && position.index < BlockIndex(u64::MAX / 2)
            && purged.is_none_or(|purged| purged.index <= position.index)
    }

    /// The starts of the segments.
    pub(crate) fn starts(&self) -> impl Iterator<Item = Lsn> + use<> {
        let (size, end) = (self.segment_bytes, self.position.end);
        std::iter::successors(Some(self.first), move |start| Some(Lsn(start.0 + size))).take_while(move |at| *at < end)
    }

    /// Durable when it returns.
    pub(crate) async fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.replace(&format!("{FOLDER}/{MARKER}"), Bytes::from(self.encode())).await
    }

    pub(crate) async fn remove(disk: &dyn Disk) -> io::Result<()> {
        unless_gone(disk.remove(&format!("{FOLDER}/{MARKER}")).await)
    }

    async fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        read_note(disk, &format!("{FOLDER}/{MARKER}"), Self::decode, MISMATCH).await
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.stage as u8];
        let purged = self.purged.map_or((0, 0), |purged| (purged.index.0, purged.term.0));
        for number in [self.segment_bytes, self.first.0, purged.0, purged.1] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.position.encode(&mut bytes);
        let crc = crc32c(&[&bytes]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let mut rest = Reader::new(body);
        if crc32c(&[body]) != u32_at(crc, 0) || rest.u8()? != VERSION {
            return None;
        }
        let stage = [Stage::Complete, Stage::Promised, Stage::Halfway].get(usize::from(rest.u8()?)).copied()?;
        let (segment_bytes, first) = (rest.u64()?, Lsn(rest.u64()?));
        let (index, term) = (BlockIndex(rest.u64()?), Epoch(rest.u64()?));
        let purged = Some(Purged { index, term }).filter(|purged| purged.index > BlockIndex(0));
        let position = Position::decode(rest.bytes(rest.left())?)?;
        let marker = Self { segment_bytes, first, position, purged, stage };
        marker.is_possible().then_some(marker)
    }
}

/// Drops what came in, the marker first.
pub(crate) async fn clear(disk: &dyn Disk) -> io::Result<()> {
    Marker::remove(disk).await?;
    for name in disk.list(FOLDER).await? {
        unless_gone(disk.remove(&format!("{FOLDER}/{name}")).await)?;
    }
    Ok(())
}

/// Takes over what came in completely, and drops what did not. To be called before anything else looks at the log or the
/// views.
///
/// # Errors
/// [`OpenError`]; a later start goes on where this one ended.
pub(crate) async fn take_over(disk: &dyn Disk, views: &dyn ViewStore) -> Result<(), OpenError> {
    let dropped = OpenError::disk("drop what came from another replica");
    let Some(mut marker) = Marker::read(disk).await? else { return clear(disk).await.map_err(dropped) };
    let Position { index, .. } = marker.position;
    if marker.stage != Stage::Halfway {
        if !became_ours(views, &marker).await? {
            tracing::info!(event = "base_not_taken_over", %index, "what came from another replica is not complete");
            return clear(disk).await.map_err(dropped);
        }
        marker.stage = Stage::Halfway;
        marker.write(disk).await.map_err(OpenError::disk("note that a base is taken over"))?;
    }
    replace_log(disk, &marker).await?;
    clear(disk).await.map_err(dropped)?;
    let first = marker.first.0;
    tracing::info!(event = "base_taken_over", %index, first, "this replica goes on from the base of another one");
    Ok(())
}

/// Whether the base became one of ours.
///
/// # Errors
/// [`OpenError::Corrupt`] when it did and cannot be used any more. The leader may count on it, so this replica must not
/// go on with what it had before.
async fn became_ours(views: &dyn ViewStore, marker: &Marker) -> Result<bool, OpenError> {
    let (bases, position) = (views.bases().await?, &marker.position);
    let is_there = bases.iter().any(|base| base.position == *position);
    if !is_there && marker.stage == Stage::Complete {
        return Ok(false);
    }
    let why = match State::open(views.open().await?.0).await {
        Ok(state) if state.position() == *position => return Ok(true),
        Ok(state) => format!("the views begin at block {}", state.position().index),
        Err(ViewsError::Damaged { why }) => why,
        Err(error) => return Err(error.into()),
    };
    Err(OpenError::Corrupt { file: format!("store/bases/{:020}", position.index.0), offset: 0, why })
}

async fn replace_log(disk: &dyn Disk, marker: &Marker) -> Result<(), OpenError> {
    let names = disk.list(FOLDER).await.map_err(OpenError::disk("list what came in"))?;
    let kept: Vec<_> = marker.starts().map(file_name).collect();
    for name in kept.iter().filter(|name| names.contains(name)) {
        let (from, to) = (format!("{FOLDER}/{name}"), format!("{}/{name}", commitlog::FOLDER));
        disk.rename(&from, &to).await.map_err(OpenError::disk(format!("move {from} into the log")))?;
    }
    let log = disk.list(commitlog::FOLDER).await.map_err(OpenError::disk("list the segments"))?;
    if let Some(lost) = kept.iter().find(|name| !log.contains(name)) {
        let why = "it came from another replica and is gone".to_owned();
        return Err(OpenError::Corrupt { file: format!("{}/{lost}", commitlog::FOLDER), offset: 0, why });
    }
    for name in log.iter().filter(|name| !kept.contains(name)) {
        let name = format!("{}/{name}", commitlog::FOLDER);
        unless_gone(disk.remove(&name).await).map_err(OpenError::disk(format!("remove {name}")))?;
    }
    let Position { index, term, end, hash, log_time, .. } = marker.position;
    let layout = Layout { index, term, end, previous: hash, log_time, ..Layout::new(marker.segment_bytes) };
    Checkpoint(layout).write(disk).await.map_err(OpenError::disk("write the checkpoint"))?;
    let noted = match marker.purged {
        Some(purged) => purged.write(disk).await,
        None => Purged::forget(disk).await,
    };
    noted.map_err(OpenError::disk("note what the log has given up"))
}

fn unless_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use apogee_model::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Marker {
        let position = Position {
            index: BlockIndex(9),
            term: Epoch(2),
            end: Lsn((48 << 20) + 4096),
            hash: 0x0102_0304,
            log_time: Timestamp(5),
            ..Position::default()
        };
        let purged = Some(Purged { index: BlockIndex(4), term: Epoch(1) });
        Marker { segment_bytes: 16 << 20, first: Lsn(32 << 20), position, purged, stage: Stage::Complete }
    }

    #[test]
    fn golden_bytes() {
        let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        for marker in [sample(), Marker { purged: None, stage: Stage::Halfway, ..sample() }] {
            assert_eq!(Marker::decode(&marker.encode()), Some(marker));
        }
    }

    const GOLDEN: &str = concat!(
        "0100",
        "0000000100000000000000020000000004000000000000000100000000000000",
        "010900000000000000020000000000000000100003000000000403020105000000000000000100000000000000",
        "00e2568781"
    );

    #[test]
    fn starts_are_those_of_whole_segments() {
        assert_eq!(sample().starts().collect::<Vec<_>>(), [Lsn(32 << 20), Lsn(48 << 20)]);
        let full = Position { end: Lsn(48 << 20), ..sample().position };
        assert_eq!(Marker { position: full, ..sample() }.starts().collect::<Vec<_>>(), [Lsn(32 << 20)]);
    }

    #[test]
    fn impossible_logs_are_refused() {
        assert!(sample().is_possible());
        assert!(!Marker { first: Lsn(7), ..sample() }.is_possible());
        assert!(!Marker { first: Lsn(64 << 20), ..sample() }.is_possible());
        assert!(!Marker { segment_bytes: 0, ..sample() }.is_possible());
        let far = Position { end: Lsn(u64::MAX), ..sample().position };
        assert!(!Marker { position: far, ..sample() }.is_possible());
        let purged = Some(Purged { index: BlockIndex(10), term: Epoch(1) });
        assert!(!Marker { purged, ..sample() }.is_possible());
    }

    proptest! {
        #[test]
        fn no_flipped_bit_passes(bit in 0usize..sample().encode().len() * 8) {
            let mut bytes = sample().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Marker::decode(&bytes), None);
        }
    }
}
