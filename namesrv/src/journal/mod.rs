//! The log of consensus, the state below it and the promises of this member, on disk.
//!
//! A file `namesrv/journal-<n>` begins with a picture: a whole [`Book`], as JSON. Records follow, each with the steps that
//! waited together and that one sync covers, and zeros behind them. When a file is full, the next is written with a
//! picture of its own and synced, and only then the older one is removed: so the journal is compacted, and one file is
//! all there is but for a moment. At most the last record can be torn, and the order in which the disk kept its sectors
//! never matters. A broken record anywhere else is damage, and refused. What this cannot tell apart is a torn last
//! record and one that was whole and rotted: both are cut.
//!
//! `namesrv/FORMAT` is written when the first picture is durable. Its presence therefore promises a journal: a lost file is
//! noticed, instead of a member that forgot what it promised.
//!
//! Reading order: `book` (what it comes to), `frame` (a record as bytes), `writer` (the task that writes), `recover`.

mod book;
mod error;
mod format;
mod frame;
mod recover;
mod writer;

use std::io;
use std::sync::Arc;

use apogee_host::{Disk, FileId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use format::FORMAT;

pub(crate) use book::{Applied, Book, Entry, Members, Place, Step, Vote, What};
pub(crate) use error::JournalError;
pub use error::OpenError;
pub(crate) use writer::{Journal, Writer};

const FOLDER: &str = "namesrv";
const FILE_PREFIX: &str = "journal-";

/// Bytes of one file behind its picture, allocated at once: some thousand records.
const FILE_BYTES: u64 = 1 << 20;

/// Jobs that may wait for the disk.
const QUEUE: usize = 1024;

/// A journal that was opened.
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    /// To be run by a task.
    pub(crate) writer: Writer,
    /// What the journal comes to.
    pub(crate) book: Book,
}

/// Steps that became durable together.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Counts the records of a file from 1 on: one in the wrong place is noticed.
    number: u64,
    steps: Vec<Step>,
}

/// The file that takes the next record.
struct OpenFile {
    number: u64,
    id: FileId,
    records: u64,
    /// Where the next record begins.
    end: u64,
    len: u64,
}

/// Replays what is on `disk`, or begins a journal on a new one. Everything the book rests on is durable, whatever a crash
/// or a failed sync left in the page cache.
///
/// # Errors
/// [`OpenError`] says which file, and where. A torn record at the very end is no error: nobody was told that it exists,
/// so it is cut, with a warning in the log.
pub(crate) async fn open(disk: Arc<dyn Disk>) -> Result<Opened, OpenError> {
    let marked = format::check(disk.as_ref()).await?;
    let found = recover::replay(disk.as_ref(), marked).await?;
    let (book, file) = match found {
        Some((book, last)) => (book, last.settle(disk.as_ref()).await?),
        None => {
            let begun = OpenFile::begin(disk.as_ref(), 1, &Book::default()).await;
            (Book::default(), begun.map_err(OpenError::io(file_name(1)))?)
        }
    };
    format::mark(disk.as_ref(), marked).await?;
    let (jobs, inbox) = mpsc::channel(QUEUE);
    let writer = Writer { disk, file, book: book.clone(), inbox };
    Ok(Opened { journal: Journal(jobs), writer, book })
}

impl OpenFile {
    /// Begins a file with a picture; durable when it returns.
    async fn begin(disk: &dyn Disk, number: u64, book: &Book) -> io::Result<OpenFile> {
        let picture = frame::encode(&json(book));
        let end = bytes(picture.len());
        let len = end + FILE_BYTES;
        let id = disk.create(&file_name(number), len).await?;
        disk.write_at(id, 0, picture).await?;
        disk.sync(id).await?;
        Ok(OpenFile { number, id, records: 0, end, len })
    }

    /// Writes a record behind the last; durable when it returns. `false` when it does not fit.
    async fn append(&mut self, disk: &dyn Disk, steps: Vec<Step>) -> io::Result<bool> {
        let record: Bytes = frame::encode(&json(&Record { number: self.records + 1, steps }));
        let len = bytes(record.len());
        if self.len - self.end < len {
            return Ok(false);
        }
        disk.write_at(self.id, self.end, record).await?;
        disk.sync(self.id).await?;
        self.end += len;
        self.records += 1;
        Ok(true)
    }
}

fn file_name(number: u64) -> String {
    format!("{FOLDER}/{FILE_PREFIX}{number:010}")
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with text keys")
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).expect("a length in memory fits u64")
}
