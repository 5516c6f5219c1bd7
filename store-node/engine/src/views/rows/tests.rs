//! Golden bytes, round trips and hostile bytes of every row.

use super::*;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn row(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut row = Vec::new();
    put(&mut row);
    row
}

const OF: QueueOf = QueueOf { group: GroupId(1), topic: TopicId(2), queue: QueueId(3) };

#[test]
fn keys_are_big_endian() {
    assert_eq!(hex(&queue_key((TopicId(2), QueueId(3)))), "000000020003");
    assert_eq!(hex(&group_topic_key(GroupId(1), TopicId(2))), "0000000100000002");
    assert_eq!(hex(&group_queue_key(OF)), "00000001000000020003");
    assert_eq!(hex(&pull_offset_key(OF)), "0000000100000002000301");
    assert_eq!(hex(&lease_key(OF, QueueOffset(4))), "000000010000000200030000000000000004");
    assert_eq!(hex(&topic_name_key(TopicId(2))), "0100000002");
    assert_eq!(hex(&group_name_key(GroupId(1))), "0200000001");
    assert_eq!(hex(&resend_key(Lsn(4096))), "0000000000001000");
}

#[test]
fn keys_come_back() {
    assert_eq!(split_queue_key(&queue_key((TopicId(2), QueueId(3)))), Some((TopicId(2), QueueId(3))));
    let of_topic = GroupKey::Topic(GroupId(1), TopicId(2));
    assert_eq!(split_group_key(&group_topic_key(GroupId(1), TopicId(2))), Some(of_topic));
    assert_eq!(split_group_key(&group_queue_key(OF)), Some(GroupKey::Queue(OF)));
    assert_eq!(split_group_key(&pull_offset_key(OF)), Some(GroupKey::PullOffset(OF)));
    assert_eq!(split_group_key(b"0123456789?"), None);
    assert_eq!(split_lease_key(&lease_key(OF, QueueOffset(4))), Some((OF, QueueOffset(4))));
}

#[test]
fn a_queue() {
    let row = row(|row| put_queue(row, QueueOffset(1), QueueOffset(9), Lsn(4096)));
    assert_eq!(hex(&row), "01010000000000000009000000000000000010000000000000");
    assert_eq!(queue(&row), Some((QueueOffset(1), QueueOffset(9), Lsn(4096))));
}

#[test]
fn a_group() {
    let opened = row(|row| put_open(row, true));
    assert_eq!((hex(&opened).as_str(), open(&opened)), ("0101", Some(true)));
    let moved = row(|row| put_cursor(row, QueueOffset(5)));
    assert_eq!((hex(&moved).as_str(), cursor(&moved)), ("010500000000000000", Some(QueueOffset(5))));
}

#[test]
fn an_entry() {
    let sample = Entry {
        delivery: DeliverySeq(1),
        attempt: 2,
        granted_at: Timestamp(3),
        epoch: Epoch(8),
        lease_from: Timestamp(4),
        duration_ms: 5,
        attempt_id: 6,
        client: 7,
        auto_renew: true,
        confirmed: false,
        replayed: true,
        suspended: false,
    };
    let row = row(|row| put_entry(row, &sample));
    assert_eq!(
        hex(&row),
        concat!(
            "010502000000010000000000000003000000000000000800000000000000",
            "0400000000000000050000000000000006000000000000000700000000000000"
        )
    );
    assert_eq!(entry(&row), Some(sample));
    let suspended = Entry { suspended: true, ..sample };
    let row = self::row(|row| put_entry(row, &suspended));
    assert_eq!((row[1], entry(&row)), (13, Some(suspended)));
}

#[test]
fn a_name() {
    let row = row(|row| put_name(row, "", "orders"));
    assert_eq!(hex(&row), "01000006006f7264657273");
    let expected = Name::Topic(TopicId(2), Topic::parse("", "orders").unwrap());
    assert_eq!(name(&topic_name_key(TopicId(2)), &row), Some(expected));
    assert_eq!(name(&[9, 0, 0, 0, 1], &row), None);
}

#[test]
fn a_request() {
    let sample = Earlier {
        request: RequestId { proxy_incarnation: 1, sequence: 2 },
        lsn: Lsn(3),
        topic: TopicId(4),
        queue: QueueId(5),
        first: QueueOffset(6),
        count: 7,
        stored_at: Timestamp(8),
        due: Timestamp(9),
    };
    let row = row(|row| put_resends(row, [sample, sample].iter()));
    let one = concat!(
        "0300000000000000010000000000000002000000000000000400000005000600000000000000",
        "0700000008000000000000000900000000000000"
    );
    assert_eq!(hex(&row), format!("01{one}{one}"));
    assert_eq!(resends(&row), Some(vec![sample; 2]));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), len in 0usize..60) {
        let mut versioned = bytes.clone();
        versioned.insert(0, VERSION);
        versioned.truncate(len);
        for row in [&bytes, &versioned] {
            let _maybe = (queue(row), open(row), cursor(row), entry(row), resends(row));
            let _maybe = (split_queue_key(row), split_group_key(row), split_lease_key(row));
            let _maybe = (name(&topic_name_key(TopicId(1)), row), name(row, row));
        }
    }
}
