use apogee_model::{NewTopic, Permission, Timestamp, Topic, TopicType};
use proptest::prelude::*;

use super::*;
use crate::state::Secret;

fn birth() -> Entry {
    let mut secret = [0; 32];
    secret[0] = 255;
    Entry { after: 0, commands: vec![Command::Birth { cluster_id: 7, replication_factor: 1, mac_key: Secret(secret) }] }
}

fn two_commands() -> Entry {
    let topic = Topic::parse("shop", "orders").unwrap();
    let new =
        NewTopic { topic: topic.clone(), topic_type: TopicType::Mixed, queues: 8, permission: Permission::ReadWrite };
    let created = Timestamp(1_767_225_600_000);
    Entry { after: 1, commands: vec![Command::CreateTopic { new, created }, Command::DeleteTopic { topic }] }
}

/// Format 1.0, byte for byte. A difference here is a new format, with a new number in `FORMAT`.
#[test]
fn golden_bytes() {
    let zeros = ",0".repeat(31);
    let expected = format!(r#"{{"after":0,"commands":[{{"birth":{{"cluster_id":7,"mac_key":[255{zeros}]}}}}]}}"#);
    check_golden(&birth(), [0x81, 0, 0, 0], 0xd739_3a3d, &expected);
    let expected = concat!(
        r#"{"after":1,"commands":[{"create_topic":{"new":{"topic":{"namespace":"shop","name":"orders"},"#,
        r#""topic_type":"mixed","queues":8,"permission":"read_write"},"created":1767225600000}},"#,
        r#"{"delete_topic":{"topic":{"namespace":"shop","name":"orders"}}}]}"#,
    );
    check_golden(&two_commands(), [0xf2, 0, 0, 0], 0x6541_57fa, expected);
}

fn check_golden(entry: &Entry, length: [u8; 4], crc: u32, json: &str) {
    let bytes = entry.encode();
    assert_eq!(std::str::from_utf8(&bytes[HEADER..]).unwrap(), json);
    assert_eq!((&bytes[..LENGTH], u32::from_le_bytes(bytes[LENGTH..HEADER].try_into().unwrap())), (&length[..], crc));
    assert_eq!(&Entry::decode(&bytes[HEADER..]).unwrap(), entry);
}

#[test]
fn the_checksum_is_crc_32c() {
    assert_eq!(checksum(*b"1234", b"56789"), 0xe306_9283);
}

#[test]
fn entries_lie_one_behind_the_other() {
    let (first, second) = (birth().encode(), two_commands().encode());
    let file = [&first[..], &second[..], &[0; 64]].concat();
    let Found::Entry { json, next } = find(&file, 0) else { panic!("the first entry is whole") };
    assert_eq!((Entry::decode(json).unwrap(), next), (birth(), first.len()));
    let Found::Entry { json, next } = find(&file, next) else { panic!("the second entry is whole") };
    assert_eq!((Entry::decode(json).unwrap(), next), (two_commands(), first.len() + second.len()));
    assert!(matches!(find(&file, next), Found::End));
    assert!(matches!(find(&file, file.len()), Found::End));
    assert_eq!(
        (next_whole(&file, 0), next_whole(&file, 1), next_whole(&file, next)),
        (Some(0), Some(first.len()), None)
    );
}

proptest! {
    #[test]
    fn no_flipped_bit_is_believed(bit in 0_usize..1000) {
        let mut bytes = birth().encode().to_vec();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(matches!(find(&bytes, 0), Found::Broken));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..400) {
        let _any_answer = (find(&bytes, at), next_whole(&bytes, at));
    }
}
