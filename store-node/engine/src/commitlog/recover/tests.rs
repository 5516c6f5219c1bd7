//! Ends of logs that a power cut left behind.

use apogee_host::SimDisk;
use apogee_model::{Epoch, Timestamp};

use super::*;
use crate::commitlog::Entry;

const SEGMENT: u64 = crate::SEGMENT_TINY;

/// A block of `len` bytes.
fn seal(layout: &mut Layout, index: u64, len: usize) -> Vec<(Lsn, Bytes)> {
    let entry = Entry {
        kind: BlockKind::Blank,
        index: BlockIndex(index),
        term: Epoch(1),
        records: 0,
        log_time: Timestamp(index),
    };
    let (filler, block) = layout.seal(entry, Bytes::from(vec![0; len]), BlockIndex(0));
    filler.into_iter().chain([block]).map(|sealed| (sealed.header.lsn, sealed.bytes)).collect()
}

async fn write(disk: &Arc<dyn Disk>, blocks: impl IntoIterator<Item = (Lsn, Bytes)>) {
    for (lsn, bytes) in blocks {
        let (start, at) = (Lsn(lsn.0 - lsn.0 % SEGMENT), lsn.0 % SEGMENT);
        let file = match disk.open(&segment_name(start)).await {
            Ok(file) => file,
            Err(_) => disk.create(&segment_name(start), SEGMENT).await.unwrap(),
        };
        disk.write_at(file, at, bytes).await.unwrap();
        disk.sync(file).await.unwrap();
    }
}

/// The next block may be a small one that needs no filler, as on replicas that never heard of the large one.
#[tokio::test]
async fn a_filler_whose_block_was_lost_is_not_the_end_of_the_log() {
    for (next_segment, alone) in [(false, false), (true, false), (true, true)] {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let mut layout = Layout::new(SEGMENT);
        let large = usize::try_from(SEGMENT / 2).unwrap();
        let mut blocks = seal(&mut layout, 1, large);
        blocks.extend(seal(&mut layout, 2, block::HEADER));
        let end = layout;
        let filler = seal(&mut layout, 3, large).into_iter().next();
        blocks.extend(filler);
        write(&disk, blocks).await;
        if next_segment {
            disk.create(&segment_name(Lsn(SEGMENT)), SEGMENT).await.unwrap();
        }
        for _ in 0..2 {
            let found = recover(&disk, &format(), Lsn(0), alone).await.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(found.layout, end);
            assert_eq!(found.current.0, Lsn(0));
            assert_eq!(disk.list(FOLDER).await.unwrap().len(), 1);
        }
    }
}

fn format() -> Format {
    Format {
        segment_bytes: SEGMENT,
        cluster: 1,
        replica: apogee_model::ReplicaId(1),
        instance: crate::replica::Instance(1),
    }
}

#[test]
fn only_zeros_follow_what_is_written() {
    let mut bytes = vec![0; 10_000];
    assert_eq!((written_end(&bytes), written_end(&[])), (0, 0));
    for last in [0, 1, 1807, 1808, 5903, 5904, 9999] {
        bytes[last] = 1;
        assert_eq!(written_end(&bytes), last + 1);
        assert_eq!(written_end(&bytes[..=last]), last + 1);
        assert_eq!(
            written_end(&bytes[..last]),
            bytes[..last].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
        );
    }
}
