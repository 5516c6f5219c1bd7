//! What fuzzing does to what this crate reads from disk and from other replicas, and valid inputs to begin with. Not part
//! of the product: `tests/fuzz` calls it with what libFuzzer makes up, and a test of the workspace with a few mutations of
//! the seeds.

use apogee_model::store::{HalfId, KeptId, RequestId};
use apogee_model::{
    BlockIndex, ConsumerGroup, DeliverySeq, Epoch, GroupId, QueueId, QueueOffset, StoredMessage, Timestamp, Topic,
    TopicId,
};
use bytes::Bytes;

use crate::block::{self, Block, BlockKind, Header, Lsn};
use crate::codec::{crc32c, u32_at, u64_at};
pub use crate::raft::fuzz::{frame_seeds, frames};
use crate::record::{
    ChangedBy, CommitOffset, DeadLetter, Deliveries, Ended, Fire, Fired, ForgetOffsets, HalfEnd, HalfMessage, Kept,
    Lease, QueueOf, Recall, Record,
};
use crate::views::kept::KeptRow;

/// A block of the log is read as it was written, and so is every record in it: as it comes, and behind checksums that are
/// right.
///
/// # Panics
/// When it is not.
pub fn log(data: &[u8]) {
    read_block(Bytes::copy_from_slice(data));
    let mut sealed = data.to_vec();
    seal(&mut sealed);
    read_block(sealed.into());
}

/// A block with one record of each layout, and others without any.
pub fn log_seeds() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        records().iter().map(|record| block(BlockKind::Records, std::slice::from_ref(record))).collect();
    all.push(block(BlockKind::Records, &records()));
    all.push(block(BlockKind::Blank, &[]));
    all.push(block(BlockKind::Filler, &[]));
    all
}

/// Makes the checksums of a block and of its records right, as far as it has any.
pub(crate) fn seal(block: &mut [u8]) {
    let Some(header) = block.get(..block::HEADER).and_then(|head| Header::read(head, place(head)).ok()) else { return };
    let Some(block) = block.get_mut(..header.total_len) else { return };
    let mut at = block::HEADER;
    while let Some(record) = block.get_mut(at..).filter(|rest| rest.len() >= crate::record::HEADER) {
        let total = usize::try_from(u32_at(record, 4)).expect("32 bits fit");
        let Some(record) = record.get_mut(..total).filter(|record| record.len() >= crate::record::HEADER) else {
            break;
        };
        let crc = crc32c(&[&record[..8], &record[12..]]);
        record[8..12].copy_from_slice(&crc.to_le_bytes());
        at += total;
    }
    header.seal(block);
}

/// Where a block says that it is.
pub(crate) fn place(block: &[u8]) -> Lsn {
    Lsn(block.get(block::LSN_AT..block::LSN_AT + 8).map_or(0, |at| u64_at(at, 0)))
}

fn read_block(bytes: Bytes) {
    let Ok(block) = Block::read(&bytes, place(&bytes)) else { return };
    let mut again = block.bytes.to_vec();
    let hash = block.header.seal(&mut again);
    let again = Block::read(&Bytes::from(again), block.header.lsn).expect("just sealed");
    assert_eq!((again.header, again.hash), (block.header, hash), "a block is another one when it is written again");
    let mut rest = block.bytes.slice(block::HEADER..);
    for _ in 0..block.header.records {
        let Ok((record, len)) = Record::read(&rest) else { return };
        let mut written = Vec::new();
        let written_len = record.write(&mut written);
        assert_eq!(Record::read(&Bytes::from(written)), Ok((record, written_len)));
        rest = rest.slice(len..);
    }
}

/// A block of these records.
pub(crate) fn block(kind: BlockKind, records: &[Record]) -> Vec<u8> {
    let mut bytes = vec![0; block::HEADER];
    records.iter().for_each(|record| {
        record.write(&mut bytes);
    });
    let header = Header {
        kind,
        records: u32::try_from(records.len()).expect("few"),
        total_len: bytes.len(),
        previous: 7,
        term: Epoch(2),
        leader: 1,
        index: BlockIndex(7),
        lsn: Lsn(4096),
        commit: BlockIndex(6),
        log_time: Timestamp(1_767_225_600_000),
    };
    header.seal(&mut bytes);
    bytes
}

/// One record of each layout.
pub(crate) fn records() -> Vec<Record> {
    let (group, topic, queue) = (GroupId(3), TopicId(2), QueueId(1));
    let (of, offset, request) =
        (QueueOf { group, topic, queue }, QueueOffset(4), RequestId { proxy_incarnation: 5, sequence: 6 });
    let deliveries = Deliveries { delivery: DeliverySeq(9), offsets: [offset, QueueOffset(6)].into() };
    let one = Deliveries { delivery: DeliverySeq(9), offsets: [offset].into() };
    let message = StoredMessage { body_part: Bytes::from_static(b"part A"), properties_part: Bytes::from_static(b"B") };
    let (id, half) = (KeptId { due: Timestamp(1_767_225_600_000), number: 5 }, HalfId(9));
    let (lsn, len, starts) = (Lsn(64), 80, vec![(queue, offset)]);
    let kept = KeptRow { topic, queue, lsn, len, tag_hash: 3, group_hash: 4 };
    let fired = Fired { id, lsn, len, tag_hash: 3, group_hash: 4 };
    vec![
        Record::Message { topic, queue, offset, request, message: message.clone() },
        Record::Lease(Lease {
            queue: of,
            deliveries: deliveries.clone(),
            cursor: QueueOffset(7),
            duration_ms: 10_000,
            auto_renew: true,
            client: 11,
            attempt_id: 12,
            waiting: [QueueOffset(3)].into(),
        }),
        Record::Settle { queue: of, deliveries: deliveries.clone() },
        Record::Change { queue: of, deliveries, duration_ms: 1, by: ChangedBy::Renewal },
        Record::Open { group, topic, starts },
        Record::Close { group },
        Record::Trim { topic, queue, min: offset },
        Record::TopicName { id: topic, name: Topic::parse("ns", "orders").expect("a name") },
        Record::GroupName { id: group, name: ConsumerGroup::parse("", "billing").expect("a name") },
        Record::Kept(Kept { topic, queue, id, request, message: message.clone() }),
        Record::Fire(Fire { topic, queue, first: offset, messages: vec![fired; 2] }),
        Record::Recall(Recall { topic, queue, id, lsn, len }),
        Record::DeadLetter(DeadLetter { origin: of, deliveries: one, topic, queue, offset, message: message.clone() }),
        Record::Half(HalfMessage { topic, queue, id: half, request, check_after_ms: 6000, message }),
        Record::HalfEnd(HalfEnd { id: half, kept, how: Ended::Committed(offset) }),
        Record::CommitOffset(CommitOffset { queue: of, offset }),
        Record::ForgetOffsets(ForgetOffsets { topic }),
        Record::KeyIndex { topic, on: false },
        Record::Seal { topic, epoch: 3 },
    ]
}
