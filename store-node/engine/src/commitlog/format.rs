//! The small file that says how the store is written.

use std::io;

use apogee_host::Disk;
use bytes::Bytes;

use super::OpenError;

const NAME: &str = "store/FORMAT";
const VERSION: u32 = 1;

/// Fixed when the store is created.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Format {
    pub(crate) segment_bytes: u64,
}

impl Format {
    /// Reads the store's format, or writes `self` into an empty folder.
    ///
    /// # Errors
    /// [`OpenError::Format`] for a version this program does not know, [`OpenError::Corrupt`] for rubbish.
    pub(crate) async fn settle(self, disk: &dyn Disk) -> Result<Self, OpenError> {
        match disk.read(NAME).await {
            Ok(bytes) => Self::parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                assert!(
                    self.segment_bytes >= crate::SEGMENT_MIN && self.segment_bytes.is_multiple_of(8),
                    "usable segments"
                );
                disk.replace(NAME, Bytes::from(self.text())).await.map_err(OpenError::disk("write store/FORMAT"))?;
                Ok(self)
            }
            Err(error) => Err(OpenError::disk("read store/FORMAT")(error)),
        }
    }

    fn text(self) -> String {
        format!("apogee-store {VERSION}\nsegment-bytes {}\n", self.segment_bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let text = String::from_utf8_lossy(bytes);
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["apogee-store", version, "segment-bytes", segment] if *version == VERSION.to_string() => {
                if let Some(segment_bytes) = segment.parse().ok().filter(|bytes| *bytes >= crate::SEGMENT_MIN) {
                    return Ok(Self { segment_bytes });
                }
                Err(corrupt(&text))
            }
            ["apogee-store", version, ..] => {
                Err(OpenError::Format { found: (*version).to_owned(), known: VERSION.to_string() })
            }
            _ => Err(corrupt(&text)),
        }
    }
}

fn corrupt(text: &str) -> OpenError {
    OpenError::Corrupt { file: NAME.to_owned(), offset: 0, why: format!("{text:.60?} is not a store format") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_store_is_refused_by_name() {
        let format = Format { segment_bytes: 32 << 20 };
        assert_eq!(Format::parse(format.text().as_bytes()).unwrap(), format);
        let newer = Format::parse(b"apogee-store 2\nsegment-bytes 1\n").unwrap_err();
        assert!(matches!(newer, OpenError::Format { ref found, .. } if found == "2"), "{newer}");
        assert!(matches!(Format::parse(b"\xff\x00"), Err(OpenError::Corrupt { .. })));
        assert!(matches!(Format::parse(b"apogee-store 1\nsegment-bytes 7\n"), Err(OpenError::Corrupt { .. })));
    }
}
