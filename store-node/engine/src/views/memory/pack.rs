//! All rows as one run of bytes: the file a base in memory consists of.

use super::{Table, Tables};
use crate::codec::{Reader, crc32c, u32_at};

/// Name of the file.
pub(super) const FILE: &str = "rows";

pub(super) fn pack(tables: &Tables) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, table) in (0u8..).zip(Table::ALL) {
        for (key, value) in tables.get(&table).into_iter().flatten() {
            bytes.push(at);
            for part in [key, value] {
                let len = u32::try_from(part.len()).expect("rows are small");
                bytes.extend_from_slice(&len.to_le_bytes());
                bytes.extend_from_slice(part);
            }
        }
    }
    let crc = crc32c(&[&bytes]);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// `None` unless every byte is as [`pack`] wrote it.
pub(super) fn unpack(bytes: &[u8]) -> Option<Tables> {
    let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc32c(&[body]) != u32_at(crc, 0) {
        return None;
    }
    let (mut tables, mut rest) = (Tables::new(), Reader::new(body));
    while let Some(at) = rest.u8() {
        let table = *Table::ALL.get(usize::from(at))?;
        let (key, value) = (part(&mut rest)?, part(&mut rest)?);
        tables.entry(table).or_default().insert(key, value);
    }
    Some(tables)
}

fn part(rest: &mut Reader<'_>) -> Option<Vec<u8>> {
    let len = usize::try_from(rest.u32()?).ok()?;
    rest.bytes(len).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_trip() {
        let mut tables = Tables::new();
        tables.entry(Table::Lease).or_default().insert(b"key".to_vec(), b"value".to_vec());
        tables.entry(Table::System).or_default().insert(b"a".to_vec(), Vec::new());
        let mut bytes = pack(&tables);
        assert_eq!(unpack(&bytes), Some(tables));
        bytes[3] ^= 1;
        assert_eq!(unpack(&bytes), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut sealed = bytes.clone();
            sealed.extend_from_slice(&crc32c(&[&bytes]).to_le_bytes());
            let _maybe = (unpack(&bytes), unpack(&sealed));
        }
    }
}
