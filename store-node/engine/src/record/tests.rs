use apogee_model::Timestamp;
use apogee_model::store::{HalfId, KeptId};
use proptest::prelude::*;

use super::*;
use crate::block::Lsn;
use crate::views::half::HalfRow;
use crate::views::kept::KeptRow;

fn queue_of() -> QueueOf {
    QueueOf { group: GroupId(3), topic: TopicId(2), queue: QueueId(1) }
}

fn two() -> Deliveries {
    Deliveries { delivery: DeliverySeq(9), offsets: [QueueOffset(4), QueueOffset(6)].into() }
}

fn message() -> StoredMessage {
    StoredMessage { body_part: Bytes::from_static(b"part A"), properties_part: Bytes::from_static(b"B") }
}

fn kept_id() -> KeptId {
    KeptId { due: Timestamp(1_767_225_600_000), number: 5 }
}

/// One of every kind; a new kind belongs here.
fn every_kind() -> Vec<Record> {
    let request = RequestId { proxy_incarnation: 5, sequence: 6 };
    vec![
        Record::Message { topic: TopicId(2), queue: QueueId(1), offset: QueueOffset(4), request, message: message() },
        Record::Lease(Lease {
            queue: queue_of(),
            deliveries: two(),
            cursor: QueueOffset(7),
            duration_ms: 10_000,
            auto_renew: true,
            client: 11,
            attempt_id: 12,
            waiting: Arc::default(),
        }),
        Record::Settle { queue: queue_of(), deliveries: two() },
        Record::Change { queue: queue_of(), deliveries: two(), duration_ms: 1, by: ChangedBy::Client },
        Record::Change { queue: queue_of(), deliveries: two(), duration_ms: 1, by: ChangedBy::Renewal },
        Record::Change { queue: queue_of(), deliveries: two(), duration_ms: 1, by: ChangedBy::Replay },
        Record::Release { queue: queue_of(), deliveries: two() },
        Record::Open { group: GroupId(3), topic: TopicId(2), starts: vec![(QueueId(0), QueueOffset(8))] },
        Record::Close { group: GroupId(3) },
        Record::Trim { topic: TopicId(2), queue: QueueId(1), min: QueueOffset(5) },
        Record::TopicName { id: TopicId(2), name: Topic::parse("ns", "orders").unwrap() },
        Record::GroupName { id: GroupId(3), name: ConsumerGroup::parse("", "billing").unwrap() },
        Record::Reset { group: GroupId(3), topic: TopicId(2), starts: vec![(QueueId(1), QueueOffset(6))] },
        Record::Kept(Kept { topic: TopicId(2), queue: QueueId(1), id: kept_id(), request, message: message() }),
        Record::Carried(Carried {
            topic: TopicId(2),
            queue: QueueId(1),
            id: kept_id(),
            from: Lsn(64),
            from_len: 80,
            message: message(),
        }),
        Record::Fire(Fire {
            topic: TopicId(2),
            queue: QueueId(1),
            first: QueueOffset(7),
            messages: vec![Fired { id: kept_id(), lsn: Lsn(64), len: 80, tag_hash: 3, group_hash: 4 }; 2],
        }),
        Record::Recall(Recall { topic: TopicId(2), queue: QueueId(1), id: kept_id(), lsn: Lsn(64), len: 80 }),
        dead_letter(),
        Record::Half(HalfMessage {
            topic: TopicId(2),
            queue: QueueId(1),
            id: HalfId(9),
            request,
            check_after_ms: 6000,
            message: message(),
        }),
        Record::HalfCarried(HalfCarried { id: HalfId(9), was: half_row(), message: message() }),
        Record::HalfChecked(HalfChecked { id: HalfId(9), row: half_row() }),
        Record::HalfEnd(HalfEnd { id: HalfId(9), kept: half_row().kept, how: Ended::Committed(QueueOffset(7)) }),
        Record::HalfEnd(HalfEnd { id: HalfId(9), kept: half_row().kept, how: Ended::RolledBack }),
        Record::HalfEnd(HalfEnd { id: HalfId(9), kept: half_row().kept, how: Ended::Dropped }),
        Record::Lease(Lease {
            queue: queue_of(),
            deliveries: two(),
            cursor: QueueOffset(7),
            duration_ms: 10_000,
            auto_renew: false,
            client: 11,
            attempt_id: 0,
            waiting: [QueueOffset(3), QueueOffset(5)].into(),
        }),
        Record::CommitOffset(CommitOffset { queue: queue_of(), offset: QueueOffset(6) }),
        Record::ForgetOffsets(ForgetOffsets { topic: TopicId(2) }),
        Record::Change { queue: queue_of(), deliveries: two(), duration_ms: 1, by: ChangedBy::Suspend },
        Record::LiteTopic(LiteTopic { parent: TopicId(2), id: lite(0), name: "session-1".into() }),
        Record::LiteExpiry(LiteExpiry { parent: TopicId(2), after_ms: Some(60_000) }),
        Record::LiteExpiry(LiteExpiry { parent: TopicId(2), after_ms: None }),
        Record::LiteGone(LiteGone { ids: vec![lite(0), lite(1)] }),
        subscribe(LiteChanged::Added),
        subscribe(LiteChanged::Removed),
        subscribe(LiteChanged::TakenOver),
        Record::KeyIndex { topic: TopicId(2), on: false },
        Record::KeyIndex { topic: TopicId(2), on: true },
        Record::Seal { topic: TopicId(2), epoch: 3 },
    ]
}

fn lite(nth: u32) -> TopicId {
    TopicId(TopicId::LITE.0 + nth)
}

fn subscribe(change: LiteChanged) -> Record {
    let (client, ids) = ("host@1@1".into(), vec![lite(0), lite(1)]);
    Record::LiteSubscribe(LiteSubscribe { group: GroupId(3), parent: TopicId(2), client, change, ids })
}

fn half_row() -> HalfRow {
    let (tag_hash, group_hash) =
        (apogee_model::tag_hash(message().tag()), apogee_model::message_group_hash(message().message_group()));
    HalfRow {
        kept: KeptRow { topic: TopicId(2), queue: QueueId(1), lsn: Lsn(64), len: 80, tag_hash, group_hash },
        stored_at: Timestamp(1_767_225_600_000),
        check_after_ms: 6000,
        checks: 3,
        checked_at: Timestamp(1_767_225_700_000),
    }
}

fn dead_letter() -> Record {
    let message = StoredMessage { body_part: Bytes::from_static(b"part A"), properties_part: Bytes::from_static(b"B") };
    let deliveries = Deliveries { delivery: DeliverySeq(9), offsets: [QueueOffset(4)].into() };
    let (topic, queue, offset) = (TopicId(7), QueueId(0), QueueOffset(2));
    Record::DeadLetter(DeadLetter { origin: queue_of(), deliveries, topic, queue, offset, message })
}

fn hex(record: &Record) -> String {
    let mut bytes = Vec::new();
    record.write(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_bytes_of_every_kind() {
    let golden: Vec<&str> = include_str!("golden.txt").lines().collect();
    let found: Vec<String> = every_kind().iter().map(hex).collect();
    assert_eq!(found, golden, "the format on disk changed: that needs a new format version");
}

#[test]
fn every_kind_comes_back() {
    for record in every_kind() {
        let mut bytes = Vec::new();
        let len = record.write(&mut bytes);
        assert_eq!((len, len % 8), (bytes.len(), 0));
        bytes.extend_from_slice(b"next one");
        assert_eq!(Record::read(&Bytes::from(bytes)), Ok((record, len)));
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_is_never_another_record(which in 0..every_kind().len(), bit in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        every_kind()[which].write(&mut bytes);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Record::read(&Bytes::from(bytes)).is_err());
    }

    #[test]
    fn hostile_bodies_never_panic(kind in 0u8..30, body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(&body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        Head::of(kind, TopicId(1), QueueId(0), QueueOffset(0)).seal(&mut bytes, body.len());
        let read = Record::read(&Bytes::from(bytes));
        prop_assert!(!matches!(read, Err(NotARecord::Checksum | NotARecord::Short)));
    }
}
