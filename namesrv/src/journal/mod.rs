//! The commands on disk, in the order they were applied.
//!
//! `namesrv/journal-<n>` holds entries one after another, zeros behind them; the next file begins when one is full.
//! An entry is what one sync covers: all commands that waited together. So at most the last entry can be torn, and
//! the order in which the disk kept its sectors never matters. A broken entry anywhere else is damage, and refused.
//! What this cannot tell apart is a torn last entry and one that was whole and rotted: both are cut.
//!
//! `namesrv/FORMAT` is written when the birth of the cluster is durable. Its presence therefore promises a journal
//! that begins with a birth: a lost file is noticed, instead of a new cluster being born over old data.
//!
//! Nothing is ever compacted; topics and groups are made by people and by first use, so a journal stays small.

mod entry;
mod error;
mod format;
mod recover;

use std::io;
use std::sync::Arc;

use apogee_host::{Disk, FileId};
use bytes::Bytes;

use crate::state::{Command, State};
use entry::Entry;
use format::{Born, FORMAT};

pub(crate) use error::JournalError;
pub use error::OpenError;

const FOLDER: &str = "namesrv";
const FILE_PREFIX: &str = "journal-";

/// Bytes of one file, allocated at once: some thousand entries.
const FILE_BYTES: u64 = 1 << 20;

/// The open end of the journal.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    file: OpenFile,
    born: Born,
}

/// The file that takes the next entry.
struct OpenFile {
    number: u64,
    id: FileId,
    /// Where the next entry begins.
    end: u64,
    len: u64,
}

impl Journal {
    /// Replays what is on `disk` and returns the state it comes to, not yet born on a new one.
    /// Everything the state rests on is durable, whatever a crash or a failed sync left in the page cache.
    ///
    /// # Errors
    /// [`OpenError`] says which file, and where. A torn entry at the very end is no error: nobody was told that it
    /// exists, so it is cut, with a warning in the log.
    pub(crate) async fn open(disk: Arc<dyn Disk>) -> Result<(Journal, State), OpenError> {
        let born = format::check(disk.as_ref()).await?;
        let found = recover::replay(disk.as_ref()).await?;
        format::agrees(&born, &found.state)?;
        let file = match found.last {
            Some(last) => last.settle(disk.as_ref()).await?,
            None => OpenFile::begin(disk.as_ref(), 1, FILE_BYTES).await.map_err(OpenError::io(file_name(1)))?,
        };
        Ok((Journal { disk, file, born }, found.state))
    }

    /// Promises in `namesrv/FORMAT` that the birth is on disk, unless that was done before.
    pub(crate) async fn mark_born(&mut self) -> Result<(), JournalError> {
        if let Born::NotThatWeKnow = self.born {
            let text = Bytes::from_static(format::TEXT.as_bytes());
            self.disk.replace(FORMAT, text).await.map_err(|cause| JournalError::new(FORMAT.to_owned(), cause))?;
            self.born = Born::Yes;
        }
        Ok(())
    }

    /// Appends the commands that lead on from version `after`, as one entry; durable when it returns.
    ///
    /// # Errors
    /// After [`JournalError`] the end of the journal is unknown. Drop it and recover from disk.
    pub(crate) async fn append(&mut self, after: u64, commands: Vec<Command>) -> Result<(), JournalError> {
        let bytes = Entry { after, commands }.encode();
        self.append_bytes(bytes).await.map_err(|cause| JournalError::new(file_name(self.file.number), cause))
    }

    async fn append_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        let len = u64::try_from(bytes.len()).expect("a length in memory fits u64");
        if self.file.len - self.file.end < len {
            self.begin_next(len).await?;
        }
        self.disk.write_at(self.file.id, self.file.end, bytes).await?;
        self.disk.sync(self.file.id).await?;
        self.file.end += len;
        Ok(())
    }

    /// Leaves the full file, which is durable to its last entry.
    async fn begin_next(&mut self, entry_bytes: u64) -> io::Result<()> {
        let next = OpenFile::begin(self.disk.as_ref(), self.file.number + 1, FILE_BYTES.max(entry_bytes)).await?;
        let full = std::mem::replace(&mut self.file, next);
        self.disk.close(full.id).await
    }
}

impl OpenFile {
    async fn begin(disk: &dyn Disk, number: u64, len: u64) -> io::Result<OpenFile> {
        let id = disk.create(&file_name(number), len).await?;
        Ok(OpenFile { number, id, end: 0, len })
    }
}

fn file_name(number: u64) -> String {
    format!("{FOLDER}/{FILE_PREFIX}{number:010}")
}
