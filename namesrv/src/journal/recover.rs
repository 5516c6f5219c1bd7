//! From the files of a journal to the state they come to.

use std::ops::Range;

use apogee_host::{Disk, FileId};
use bytes::Bytes;

use super::entry::{self, Entry, Found};
use super::error::OpenError;
use super::{FILE_PREFIX, FOLDER, OpenFile, file_name};
use crate::state::State;

/// What the files say.
pub(super) struct Replayed {
    pub(super) state: State,
    /// `None` when there is no file.
    pub(super) last: Option<LastFile>,
}

/// The last file, read but not yet trusted to be durable.
pub(super) struct LastFile {
    number: u64,
    id: FileId,
    bytes: Bytes,
    /// The last whole entry; empty at 0 when there is none.
    last_entry: Range<usize>,
}

/// Applies every entry of every file.
///
/// # Errors
/// [`OpenError::Corrupt`] for a missing file, and for a broken entry that is not the last thing written: a file is
/// begun only when the one before it is durable, and an entry only when the one before it is.
pub(super) async fn replay(disk: &dyn Disk) -> Result<Replayed, OpenError> {
    let mut found = Replayed { state: State::default(), last: None };
    let count = count_files(disk).await?;
    for number in 1..=count {
        if let Some(full) = found.last.take() {
            disk.close(full.id).await.map_err(OpenError::io(file_name(full.number)))?;
        }
        let mut file = LastFile::read(disk, number).await?;
        file.replay(&mut found.state, number == count)?;
        found.last = Some(file);
    }
    Ok(found)
}

/// How many files there are, from 1 without gap.
async fn count_files(disk: &dyn Disk) -> Result<u64, OpenError> {
    let names = disk.list(FOLDER).await.map_err(OpenError::io(FOLDER.to_owned()))?;
    let mut count = 0;
    for name in names.iter().filter(|name| name.starts_with(FILE_PREFIX)) {
        let expected = file_name(count + 1);
        if format!("{FOLDER}/{name}") != expected {
            return Err(corrupt(&expected, 0, format!("it is missing, though {FOLDER}/{name} exists")));
        }
        count += 1;
    }
    Ok(count)
}

impl LastFile {
    async fn read(disk: &dyn Disk, number: u64) -> Result<LastFile, OpenError> {
        let name = file_name(number);
        let id = disk.open(&name).await.map_err(OpenError::io(name.clone()))?;
        let len = disk.len(id).await.map_err(OpenError::io(name.clone()))?;
        let len = usize::try_from(len).map_err(|_| corrupt(&name, 0, format!("it has {len} bytes")))?;
        let bytes = disk.read_at(id, 0, len).await.map_err(OpenError::io(name))?;
        Ok(LastFile { number, id, bytes, last_entry: 0..0 })
    }

    fn replay(&mut self, state: &mut State, nothing_follows: bool) -> Result<(), OpenError> {
        let file = file_name(self.number);
        loop {
            let at = self.last_entry.end;
            match entry::find(&self.bytes, at) {
                Found::Entry { json, next } => {
                    apply(state, json).map_err(|why| corrupt(&file, at, why))?;
                    self.last_entry = at..next;
                }
                Found::End => return Ok(()),
                Found::Broken if !nothing_follows => {
                    return Err(corrupt(&file, at, "a broken entry, though a later file exists".to_owned()));
                }
                Found::Broken => return self.check_torn(&file, at),
            }
        }
    }

    /// Allows a broken entry when nothing whole comes after it.
    fn check_torn(&self, file: &str, at: usize) -> Result<(), OpenError> {
        if let Some(later) = entry::next_whole(&self.bytes, at + 1) {
            return Err(corrupt(file, at, format!("a broken entry, though a whole one follows at byte {later}")));
        }
        tracing::warn!(
            event = "namesrv_torn_tail_cut",
            file,
            at,
            "the last entry was not written whole and nobody was told of it: cut"
        );
        Ok(())
    }

    /// Makes durable what was read: after a crash it may be in the page cache only, and after a failed sync the
    /// operating system believes that it is on disk. So the last entry is written once more, and zeros behind it.
    pub(super) async fn settle(self, disk: &dyn Disk) -> Result<OpenFile, OpenError> {
        let file = self.number;
        let mut tail = self.bytes[self.last_entry.clone()].to_vec();
        tail.resize(self.bytes.len() - self.last_entry.start, 0);
        let (start, end, len) = (bytes(self.last_entry.start), bytes(self.last_entry.end), bytes(self.bytes.len()));
        disk.write_at(self.id, start, tail.into()).await.map_err(OpenError::io(file_name(file)))?;
        disk.sync(self.id).await.map_err(OpenError::io(file_name(file)))?;
        Ok(OpenFile { number: file, id: self.id, end, len })
    }
}

/// Applies the commands of one entry; the error says why they cannot be ours.
fn apply(state: &mut State, json: &[u8]) -> Result<(), String> {
    let entry = Entry::decode(json).map_err(|error| format!("an entry we cannot read: {error}"))?;
    if entry.after != state.version() {
        return Err(format!("an entry that follows version {}, at version {}", entry.after, state.version()));
    }
    for command in &entry.commands {
        let change = state.decide(command).map_err(|refusal| format!("a command that was never applied: {refusal}"))?;
        state.apply(&change);
    }
    Ok(())
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).expect("a length in memory fits u64")
}

fn corrupt(file: &str, at: usize, why: String) -> OpenError {
    OpenError::Corrupt { file: file.to_owned(), at: bytes(at), why }
}
