use proptest::prelude::*;

use super::*;

fn two() -> (Bytes, Bytes) {
    (encode(br#"{"a":1}"#), encode(br#"{"b":[2,3]}"#))
}

#[test]
fn golden_bytes() {
    let (first, _) = two();
    assert_eq!(first[..LENGTH], [7, 0, 0, 0]);
    assert_eq!(first[LENGTH..HEADER], checksum([7, 0, 0, 0], br#"{"a":1}"#).to_le_bytes());
    assert_eq!(&first[HEADER..], br#"{"a":1}"#);
}

#[test]
fn the_checksum_is_crc_32c() {
    assert_eq!(checksum(*b"1234", b"56789"), 0xe306_9283);
}

#[test]
fn records_lie_one_behind_the_other() {
    let (first, second) = two();
    let file = [&first[..], &second[..], &[0; 64]].concat();
    let Found::Record { json, next } = find(&file, 0) else { panic!("the first record is whole") };
    assert_eq!((json, next), (&br#"{"a":1}"#[..], first.len()));
    let Found::Record { json, next } = find(&file, next) else { panic!("the second record is whole") };
    assert_eq!((json, next), (&br#"{"b":[2,3]}"#[..], first.len() + second.len()));
    assert!(matches!(find(&file, next), Found::End));
    assert!(matches!(find(&file, file.len()), Found::End));
    let places = (next_whole(&file, 0), next_whole(&file, 1), next_whole(&file, next));
    assert_eq!(places, (Some(0), Some(first.len()), None));
}

proptest! {
    #[test]
    fn no_flipped_bit_is_believed(bit in 0_usize..1000) {
        let mut bytes = two().0.to_vec();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(matches!(find(&bytes, 0), Found::Broken));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..400) {
        let _any_answer = (find(&bytes, at), next_whole(&bytes, at));
    }
}
