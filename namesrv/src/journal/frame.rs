//! One record as bytes: `u32` length of the JSON, `u32` CRC-32C of that length and the JSON, the JSON. Little endian.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

const LENGTH: usize = 4;
pub(super) const HEADER: usize = LENGTH + 4;

/// What is found at a place where a record may begin.
pub(super) enum Found<'a> {
    /// A whole record, and where the next may begin.
    Record { json: &'a [u8], next: usize },
    /// Zeros to the end: nothing was written here.
    End,
    /// Something, but no whole record.
    Broken,
}

/// # Panics
/// When the JSON has 4 GiB, which nothing lets in.
pub(super) fn encode(json: &[u8]) -> Bytes {
    let length = u32::try_from(json.len()).expect("the queue of steps bounds a record").to_le_bytes();
    let mut bytes = BytesMut::with_capacity(HEADER + json.len());
    bytes.put_slice(&length);
    bytes.put_u32_le(checksum(length, json));
    bytes.put_slice(json);
    bytes.freeze()
}

/// Looks at `file` from byte `at` on.
pub(super) fn find(file: &[u8], at: usize) -> Found<'_> {
    let rest = file.get(at..).unwrap_or_default();
    match whole(rest) {
        Some(json) => Found::Record { json, next: at + HEADER + json.len() },
        None if rest.iter().all(|byte| *byte == 0) => Found::End,
        None => Found::Broken,
    }
}

/// Where the first whole record begins at or after `from`, on any byte.
pub(super) fn next_whole(file: &[u8], from: usize) -> Option<usize> {
    (from..file.len()).find(|at| whole(&file[*at..]).is_some())
}

fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let length: [u8; LENGTH] = bytes.get(..LENGTH)?.try_into().ok()?;
    let crc = u32::from_le_bytes(bytes.get(LENGTH..HEADER)?.try_into().ok()?);
    let json = bytes.get(HEADER..)?.get(..usize::try_from(u32::from_le_bytes(length)).ok()?)?;
    (json.first() == Some(&b'{') && checksum(length, json) == crc).then_some(json)
}

fn checksum(length: [u8; LENGTH], json: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&length);
    digest.update(json);
    u32::try_from(digest.finalize()).expect("CRC-32C has 32 bits")
}

#[cfg(test)]
mod tests;
