//! One entry as bytes: `u32` length of the JSON, `u32` CRC-32C of that length and the JSON, the JSON. Little endian.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use serde::{Deserialize, Serialize};

use crate::state::Command;

const LENGTH: usize = 4;
const HEADER: usize = LENGTH + 4;

/// Commands that became durable together.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The version they lead on from: an entry in the wrong place is noticed.
    pub(super) after: u64,
    pub(super) commands: Vec<Command>,
}

/// What is found at a place where an entry may begin.
pub(super) enum Found<'a> {
    /// A whole entry, and where the next may begin.
    Entry { json: &'a [u8], next: usize },
    /// Zeros to the end: nothing was written here.
    End,
    /// Something, but no whole entry.
    Broken,
}

impl Entry {
    /// # Panics
    /// When the commands take 4 GiB, which no inbox lets in.
    pub(super) fn encode(&self) -> Bytes {
        let json = serde_json::to_vec(self).expect("commands are plain data with text keys");
        let length = u32::try_from(json.len()).expect("the inbox bounds the commands of one entry").to_le_bytes();
        let mut bytes = BytesMut::with_capacity(HEADER + json.len());
        bytes.put_slice(&length);
        bytes.put_u32_le(checksum(length, &json));
        bytes.put_slice(&json);
        bytes.freeze()
    }

    pub(super) fn decode(json: &[u8]) -> serde_json::Result<Entry> {
        serde_json::from_slice(json)
    }
}

/// Looks at `file` from byte `at` on.
pub(super) fn find(file: &[u8], at: usize) -> Found<'_> {
    let rest = file.get(at..).unwrap_or_default();
    match whole(rest) {
        Some(json) => Found::Entry { json, next: at + HEADER + json.len() },
        None if rest.iter().all(|byte| *byte == 0) => Found::End,
        None => Found::Broken,
    }
}

/// Where the first whole entry begins at or after `from`, on any byte.
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
