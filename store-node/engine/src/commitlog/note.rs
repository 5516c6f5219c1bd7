//! Small files that say one thing each.

use std::io;

use apogee_host::Disk;

use super::OpenError;

/// What is wrong with a note whose bytes are not those that were written.
pub(crate) const MISMATCH: &str = "checksum mismatch";

/// Reads a note; `None` when there is none.
///
/// # Errors
/// [`OpenError::Corrupt`] with `damaged` as the reason when `parse` makes nothing of it.
pub(crate) async fn read_note<T>(
    disk: &dyn Disk,
    name: &str,
    parse: impl FnOnce(&[u8]) -> Option<T>,
    damaged: &str,
) -> Result<Option<T>, OpenError> {
    match disk.read(name).await {
        Ok(bytes) => match parse(&bytes) {
            Some(note) => Ok(Some(note)),
            None => Err(OpenError::Corrupt { file: name.to_owned(), offset: 0, why: damaged.to_owned() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::disk(format!("read {name}"))(error)),
    }
}
