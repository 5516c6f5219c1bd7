//! From the files of a journal to the book they come to.

use std::ops::Range;

use apogee_host::{Disk, FileId};
use bytes::Bytes;

use super::error::OpenError;
use super::format::Marked;
use super::frame::{self, Found};
use super::{Book, FILE_PREFIX, FOLDER, OpenFile, Record, bytes, file_name};

/// The file that counts, read but not yet trusted to be durable.
pub(super) struct LastFile {
    number: u64,
    id: FileId,
    bytes: Bytes,
    records: u64,
    /// The last whole record, which may be the picture.
    last_record: Range<usize>,
}

/// What is expected of the end of a file: the next is begun only when the one before it is durable.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Tail {
    MayBeTorn,
    IsWhole,
}

/// What the files come to; `None` when there is nothing, and nothing was promised.
///
/// # Errors
/// [`OpenError::Corrupt`] for a missing file, and for a broken record that is not the last thing written.
pub(super) async fn replay(disk: &dyn Disk, marked: Marked) -> Result<Option<(Book, LastFile)>, OpenError> {
    let numbers = numbers(disk).await?;
    let (older, newest) = match numbers[..] {
        [] if marked == Marked::Yes => {
            return Err(corrupt(super::FORMAT, 0, "it promises a journal, but there is none".to_owned()));
        }
        [] => return Ok(None),
        [only] => (None, only),
        [older, newest] if older + 1 == newest => (Some(older), newest),
        [.., newest] => {
            let missing = (numbers[0]..newest).find(|number| !numbers.contains(number)).unwrap_or(newest);
            return Err(corrupt(
                &file_name(missing),
                0,
                format!("it is missing, or {} is too much", file_name(newest)),
            ));
        }
    };
    let mut file = LastFile::read(disk, newest).await?;
    if let Some(book) = file.replay(Tail::MayBeTorn)? {
        // Complete: what came before is in its picture.
        file.settle_picture(disk).await?;
        remove(disk, older).await?;
        return check_marked(marked, newest, &book).map(|()| Some((book, file)));
    }
    // Its picture was being written when the process ended: nobody was told of it.
    let name = file_name(newest);
    match older {
        Some(older) => {
            disk.close(file.id).await.map_err(OpenError::io(name))?;
            remove(disk, Some(newest)).await?;
            let mut file = LastFile::read(disk, older).await?;
            let picture_broken = || corrupt(&file_name(older), 0, "its picture is broken".to_owned());
            let book = file.replay(Tail::IsWhole)?.ok_or_else(picture_broken)?;
            check_marked(marked, older, &book).map(|()| Some((book, file)))
        }
        None if newest == 1 && marked == Marked::No => {
            disk.close(file.id).await.map_err(OpenError::io(name))?;
            remove(disk, Some(newest)).await?;
            Ok(None)
        }
        None => Err(corrupt(&name, 0, "its picture is broken".to_owned())),
    }
}

/// The mark is missing only as long as nothing has happened.
fn check_marked(marked: Marked, number: u64, book: &Book) -> Result<(), OpenError> {
    if marked == Marked::Yes || (number == 1 && *book == Book::default()) {
        return Ok(());
    }
    Err(corrupt(super::FORMAT, 0, "it is missing beside a journal in use".to_owned()))
}

/// The numbers of the files, in order.
async fn numbers(disk: &dyn Disk) -> Result<Vec<u64>, OpenError> {
    let names = disk.list(FOLDER).await.map_err(OpenError::io(FOLDER.to_owned()))?;
    let journals = names.iter().filter_map(|name| Some((name, name.strip_prefix(FILE_PREFIX)?)));
    let number = |(name, digits): (&String, &str)| {
        let number = digits.parse().ok().filter(|number| file_name(*number) == format!("{FOLDER}/{name}"));
        number.ok_or_else(|| corrupt(&format!("{FOLDER}/{name}"), 0, "its name is none of ours".to_owned()))
    };
    journals.map(number).collect()
}

async fn remove(disk: &dyn Disk, number: Option<u64>) -> Result<(), OpenError> {
    match number.map(file_name) {
        Some(name) => disk.remove(&name).await.map_err(OpenError::io(name)),
        None => Ok(()),
    }
}

impl LastFile {
    async fn read(disk: &dyn Disk, number: u64) -> Result<LastFile, OpenError> {
        let name = file_name(number);
        let id = disk.open(&name).await.map_err(OpenError::io(name.clone()))?;
        let len = disk.len(id).await.map_err(OpenError::io(name.clone()))?;
        let len = usize::try_from(len).map_err(|_| corrupt(&name, 0, format!("it has {len} bytes")))?;
        let bytes = disk.read_at(id, 0, len).await.map_err(OpenError::io(name))?;
        Ok(LastFile { number, id, bytes, records: 0, last_record: 0..0 })
    }

    /// The book of this file; `None` when not even its picture is whole, and nothing whole follows.
    fn replay(&mut self, tail: Tail) -> Result<Option<Book>, OpenError> {
        let file = file_name(self.number);
        let mut book: Option<Book> = None;
        loop {
            let at = self.last_record.end;
            match frame::find(&self.bytes, at) {
                Found::Record { json, next } => {
                    match &mut book {
                        None => book = Some(decode(json).map_err(|why| corrupt(&file, at, why))?),
                        Some(book) => {
                            self.records += 1;
                            turn(book, self.records, json).map_err(|why| corrupt(&file, at, why))?;
                        }
                    }
                    self.last_record = at..next;
                }
                Found::End => return Ok(book),
                Found::Broken if tail == Tail::IsWhole => {
                    return Err(corrupt(&file, at, "a broken record, though a later file was begun".to_owned()));
                }
                Found::Broken => {
                    self.check_torn(&file, at)?;
                    return Ok(book);
                }
            }
        }
    }

    /// Allows a broken record when nothing whole comes after it.
    fn check_torn(&self, file: &str, at: usize) -> Result<(), OpenError> {
        if let Some(later) = frame::next_whole(&self.bytes, at + 1) {
            return Err(corrupt(file, at, format!("a broken record, though a whole one follows at byte {later}")));
        }
        tracing::warn!(
            event = "namesrv_torn_tail_cut",
            file,
            at,
            "the last record was not written whole and nobody was told of it: cut"
        );
        Ok(())
    }

    /// Makes the picture durable before the older file goes.
    async fn settle_picture(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        if self.records == 0 { self.write_again(disk).await } else { Ok(()) }
    }

    /// Makes durable what was read: after a crash it may be in the page cache only, and after a failed sync the operating
    /// system believes that it is on disk. So the last record is written once more, and zeros behind it.
    pub(super) async fn settle(self, disk: &dyn Disk) -> Result<OpenFile, OpenError> {
        self.write_again(disk).await?;
        let (end, len) = (bytes(self.last_record.end), bytes(self.bytes.len()));
        Ok(OpenFile { number: self.number, id: self.id, records: self.records, end, len })
    }

    async fn write_again(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        let mut tail = self.bytes[self.last_record.clone()].to_vec();
        tail.resize(self.bytes.len() - self.last_record.start, 0);
        let name = || file_name(self.number);
        disk.write_at(self.id, bytes(self.last_record.start), tail.into()).await.map_err(OpenError::io(name()))?;
        disk.sync(self.id).await.map_err(OpenError::io(name()))
    }
}

/// Turns the steps of one record; the error says why they cannot be ours.
fn turn(book: &mut Book, number: u64, json: &[u8]) -> Result<(), String> {
    let record: Record = decode(json)?;
    if record.number != number {
        return Err(format!("record {} in the place of record {number}", record.number));
    }
    record.steps.iter().try_for_each(|step| book.turn(step)).map_err(|gap| gap.to_string())
}

fn decode<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| format!("a record we cannot read: {error}"))
}

fn corrupt(file: &str, at: usize, why: String) -> OpenError {
    OpenError::Corrupt { file: file.to_owned(), at: bytes(at), why }
}
