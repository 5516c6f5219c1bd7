//! Rows about half messages and how their transactions ended. What cannot be read gives `None`.

use apogee_model::store::{HalfId, Resolution};
use apogee_model::{Timestamp, TopicId};

use super::kept::{self, KeptRow};
use crate::codec::Reader;

const VERSION: u8 = 1;

/// Transactions whose ends share a row.
pub(crate) const ENDS_PER_ROW: u64 = 4096;
/// Two bits for each of them.
const WORDS: usize = 128;

/// A half message that is not decided: where it is, and how often its producer was asked.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct HalfRow {
    pub(crate) kept: KeptRow,
    pub(crate) stored_at: Timestamp,
    pub(crate) check_after_ms: u32,
    /// Checks that reached a producer,
    pub(crate) checks: u32,
    /// and when the last one did.
    pub(crate) checked_at: Timestamp,
}

/// How some transactions ended that follow one another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ends {
    /// When the last of them did, by log time.
    pub(crate) last: Timestamp,
    bits: Box<[u64; WORDS]>,
}

impl Default for Ends {
    fn default() -> Self {
        Self { last: Timestamp(0), bits: Box::new([0; WORDS]) }
    }
}

impl Ends {
    pub(crate) fn set(&mut self, id: HalfId, how: Resolution) {
        let (word, shift) = place(id);
        let bits = match how {
            Resolution::Commit => 1,
            Resolution::Rollback => 2,
        };
        self.bits[word] |= bits << shift;
    }

    pub(crate) fn get(&self, id: HalfId) -> Option<Resolution> {
        let (word, shift) = place(id);
        match self.bits[word] >> shift & 3 {
            1 => Some(Resolution::Commit),
            2 => Some(Resolution::Rollback),
            _ => None,
        }
    }

    /// Commits and rollbacks.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let count = |mask: u64| self.bits.iter().map(|word| (word & mask).count_ones()).sum();
        (count(0x5555_5555_5555_5555), count(0xaaaa_aaaa_aaaa_aaaa))
    }
}

fn place(id: HalfId) -> (usize, u64) {
    let nth = id.0 % ENDS_PER_ROW;
    (usize::try_from(nth / 32).expect("fewer than the words"), nth % 32 * 2)
}

/// A row of [`super::Table::Half`]. Half messages come last: of them there may be many.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum HalfKey {
    /// How many half messages there ever were.
    Count,
    /// The half messages of a topic that are not decided.
    Topic(TopicId),
    /// Ends of the transactions of this number times [`ENDS_PER_ROW`], and those that follow.
    Ends(u64),
    Half(HalfId),
}

/// What it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum HalfValue {
    Count(u64),
    Topic(u64),
    Ends(Ends),
    Half(HalfRow),
}

const COUNT: u8 = 1;
const TOPIC: u8 = 2;
const ENDS: u8 = 3;
const HALF: u8 = 4;

/// The first key of half messages, behind all others.
pub(crate) const HALVES: &[u8] = &[HALF];

pub(crate) fn put_key(out: &mut Vec<u8>, key: HalfKey) {
    match key {
        HalfKey::Count => out.push(COUNT),
        HalfKey::Topic(topic) => {
            out.push(TOPIC);
            out.extend_from_slice(&topic.0.to_be_bytes());
        }
        HalfKey::Ends(row) => {
            out.push(ENDS);
            out.extend_from_slice(&row.to_be_bytes());
        }
        HalfKey::Half(id) => {
            out.push(HALF);
            out.extend_from_slice(&id.0.to_be_bytes());
        }
    }
}

pub(crate) fn half_key(id: HalfId) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    put_key(&mut key, HalfKey::Half(id));
    key
}

pub(crate) fn put_count(out: &mut Vec<u8>, count: u64) {
    out.push(VERSION);
    out.extend_from_slice(&count.to_le_bytes());
}

pub(crate) fn put_ends(out: &mut Vec<u8>, ends: &Ends) {
    out.push(VERSION);
    out.extend_from_slice(&ends.last.0.to_le_bytes());
    ends.bits.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

pub(crate) fn put_half(out: &mut Vec<u8>, row: &HalfRow) {
    out.push(VERSION);
    [row.check_after_ms, row.checks].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    [row.stored_at.0, row.checked_at.0].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    kept::put_kept(out, &row.kept);
}

pub(crate) fn row(key: &[u8], row: &[u8]) -> Option<(HalfKey, HalfValue)> {
    let (kind, key) = key.split_first()?;
    let (version, rest) = row.split_first()?;
    let mut rest = Some(Reader::new(rest)).filter(|_| *version == VERSION)?;
    let be64 = || Some(u64::from_be_bytes(key.try_into().ok()?));
    let found = match (*kind, key.len()) {
        (COUNT, 0) => (HalfKey::Count, HalfValue::Count(rest.u64()?)),
        (TOPIC, 4) => {
            let topic = TopicId(u32::from_be_bytes(key.try_into().ok()?));
            (HalfKey::Topic(topic), HalfValue::Topic(rest.u64()?))
        }
        (ENDS, 8) => {
            let mut ends = Ends { last: Timestamp(rest.u64()?), ..Ends::default() };
            for word in ends.bits.iter_mut() {
                *word = rest.u64()?;
            }
            (HalfKey::Ends(be64()?), HalfValue::Ends(ends))
        }
        (HALF, 8) => {
            let (check_after_ms, checks) = (rest.u32()?, rest.u32()?);
            let (stored_at, checked_at) = (Timestamp(rest.u64()?), Timestamp(rest.u64()?));
            let kept = kept::kept(rest.bytes(rest.left())?)?;
            let row = HalfRow { kept, stored_at, check_after_ms, checks, checked_at };
            (HalfKey::Half(HalfId(be64()?)), HalfValue::Half(row))
        }
        _ => return None,
    };
    (rest.left() == 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use apogee_model::QueueId;
    use proptest::prelude::*;

    use super::*;
    use crate::block::Lsn;

    fn put(key: HalfKey, value: &HalfValue) -> (Vec<u8>, Vec<u8>) {
        let (mut key_bytes, mut bytes) = (Vec::new(), Vec::new());
        put_key(&mut key_bytes, key);
        match value {
            HalfValue::Count(count) | HalfValue::Topic(count) => put_count(&mut bytes, *count),
            HalfValue::Ends(ends) => put_ends(&mut bytes, ends),
            HalfValue::Half(row) => put_half(&mut bytes, row),
        }
        (key_bytes, bytes)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_row_comes_back_as_it_was_put() {
        let kept = KeptRow { topic: TopicId(1), queue: QueueId(2), lsn: Lsn(3), len: 4, tag_hash: 5, group_hash: 6 };
        let (stored_at, checked_at) = (Timestamp(7), Timestamp(8));
        let row = HalfRow { kept, stored_at, check_after_ms: 9, checks: 10, checked_at };
        let half =
            "01090000000a0000000700000000000000080000000000000001010000000200030000000000000004000000050000000600 0000";
        let all = [
            (HalfKey::Count, HalfValue::Count(5), "01", "010500000000000000"),
            (HalfKey::Topic(TopicId(7)), HalfValue::Topic(5), "0200000007", "010500000000000000"),
            (HalfKey::Half(HalfId(3)), HalfValue::Half(row), "040000000000000003", &half.replace(' ', "")),
        ];
        for (key, value, key_text, value_text) in all {
            let (key_bytes, bytes) = put(key, &value);
            assert_eq!((hex(&key_bytes).as_str(), hex(&bytes).as_str()), (key_text, value_text));
            assert_eq!(super::row(&key_bytes, &bytes), Some((key, value)));
        }
    }

    #[test]
    fn ends_take_two_bits_each() {
        let mut ends = Ends { last: Timestamp(9), ..Ends::default() };
        ends.set(HalfId(0), Resolution::Commit);
        ends.set(HalfId(33), Resolution::Rollback);
        ends.set(HalfId(ENDS_PER_ROW * 7 + 4095), Resolution::Commit);
        let get = |id| ends.get(HalfId(id));
        assert_eq!(
            (get(0), get(33), get(4095)),
            (Some(Resolution::Commit), Some(Resolution::Rollback), Some(Resolution::Commit))
        );
        assert_eq!((get(1), get(32), ends.counts()), (None, None, (2, 1)));
        let (key, bytes) = put(HalfKey::Ends(5), &HalfValue::Ends(ends.clone()));
        assert_eq!((hex(&key).as_str(), bytes.len()), ("030000000000000005", 1033));
        assert_eq!(hex(&bytes[..33]), "010900000000000000010000000000000008000000000000000000000000000000");
        assert_eq!(row(&key, &bytes), Some((HalfKey::Ends(5), HalfValue::Ends(ends))));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            kind in 0u8..6,
            key in proptest::collection::vec(any::<u8>(), 0..12),
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut of_kind = vec![kind];
            of_kind.extend_from_slice(&key);
            let mut versioned = vec![VERSION];
            versioned.extend_from_slice(&bytes);
            for value in [&bytes, &versioned] {
                let _maybe = (row(&key, value), row(&of_kind, value));
            }
        }
    }
}
