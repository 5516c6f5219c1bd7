//! The file that says who wrote the journal, and that there is one.

use std::io;

use apogee_host::Disk;
use bytes::Bytes;

use super::error::OpenError;

pub(super) const FORMAT: &str = "namesrv/FORMAT";

/// Whole content of the file. The number before the dot grows when older versions must not read the journal.
pub(super) const TEXT: &str = "apogee-namesrv 2.0\n";
const MAJOR: u32 = 2;
const NAME: &str = "apogee-namesrv ";

/// Whether the file promises a journal.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Marked {
    Yes,
    No,
}

/// Reads the file, before anything else is looked at.
///
/// # Errors
/// [`OpenError::Newer`] when a later version wrote it, [`OpenError::Older`] when an earlier one did, [`OpenError::Corrupt`] when we cannot tell.
pub(super) async fn check(disk: &dyn Disk) -> Result<Marked, OpenError> {
    let text = match disk.read(FORMAT).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Marked::No),
        Err(cause) => return Err(OpenError::Io { file: FORMAT.to_owned(), cause }),
    };
    let shown = String::from_utf8_lossy(&text).trim_end().chars().take(80).collect::<String>();
    match major(&shown) {
        Some(MAJOR) => Ok(Marked::Yes),
        Some(later) if later > MAJOR => {
            Err(OpenError::Newer { file: FORMAT, found: shown, known: TEXT.trim_ascii_end() })
        }
        Some(earlier) if earlier > 0 => {
            Err(OpenError::Older { file: FORMAT, found: shown, known: TEXT.trim_ascii_end() })
        }
        Some(_) | None => Err(corrupt(format!("{shown:?} names no format we know"))),
    }
}

/// Promises the journal, unless that was done before. Its first picture is durable.
pub(super) async fn mark(disk: &dyn Disk, marked: Marked) -> Result<(), OpenError> {
    match marked {
        Marked::Yes => Ok(()),
        Marked::No => {
            let text = Bytes::from_static(TEXT.as_bytes());
            disk.replace(FORMAT, text).await.map_err(OpenError::io(FORMAT.to_owned()))
        }
    }
}

fn major(text: &str) -> Option<u32> {
    text.strip_prefix(NAME)?.split('.').next()?.parse().ok()
}

fn corrupt(why: String) -> OpenError {
    OpenError::Corrupt { file: FORMAT.to_owned(), at: 0, why }
}
