//! The file that says who wrote the journal, and that a cluster was born in it.

use std::io;

use apogee_host::Disk;

use super::error::OpenError;
use crate::state::State;

pub(super) const FORMAT: &str = "namesrv/FORMAT";

/// Whole content of the file. The number before the dot grows when older versions must not read the journal.
pub(super) const TEXT: &str = "apogee-namesrv 1.0\n";
const MAJOR: u32 = 1;
const NAME: &str = "apogee-namesrv ";

/// Whether a cluster was born here before.
pub(super) enum Born {
    Yes,
    NotThatWeKnow,
}

/// Reads the file, before anything else is looked at.
///
/// # Errors
/// [`OpenError::Newer`] when a later version wrote it, [`OpenError::Corrupt`] when we cannot tell.
pub(super) async fn check(disk: &dyn Disk) -> Result<Born, OpenError> {
    let text = match disk.read(FORMAT).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Born::NotThatWeKnow),
        Err(cause) => return Err(OpenError::Io { file: FORMAT.to_owned(), cause }),
    };
    let shown = String::from_utf8_lossy(&text).trim_end().chars().take(80).collect::<String>();
    match major(&shown) {
        Some(MAJOR) => Ok(Born::Yes),
        Some(later) if later > MAJOR => {
            Err(OpenError::Newer { file: FORMAT, found: shown, known: TEXT.trim_ascii_end() })
        }
        Some(_) | None => Err(corrupt(format!("{shown:?} names no format we know"))),
    }
}

/// Whether the journal keeps what the file promised.
///
/// # Errors
/// [`OpenError::Corrupt`] when there was a birth but it is lost, or when the file is lost that belongs to a journal
/// in use.
pub(super) fn agrees(born: &Born, state: &State) -> Result<(), OpenError> {
    match (born, state.version()) {
        (Born::Yes, 0) => Err(corrupt("it promises a cluster, but no journal holds its birth".to_owned())),
        (Born::NotThatWeKnow, 2..) => Err(corrupt("it is missing beside a journal in use".to_owned())),
        (Born::Yes, 1..) | (Born::NotThatWeKnow, 0..=1) => Ok(()),
    }
}

fn major(text: &str) -> Option<u32> {
    text.strip_prefix(NAME)?.split('.').next()?.parse().ok()
}

fn corrupt(why: String) -> OpenError {
    OpenError::Corrupt { file: FORMAT.to_owned(), at: 0, why }
}
