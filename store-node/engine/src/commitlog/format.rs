//! The small file that says how the store is written.

use std::io;

use apogee_host::Disk;
use apogee_model::ReplicaId;
use bytes::Bytes;

use super::OpenError;

const NAME: &str = "store/FORMAT";
const VERSION: u32 = 2;

/// Fixed when the store is created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Format {
    pub(crate) segment_bytes: u64,
    pub(crate) cluster: u64,
    pub(crate) replica: ReplicaId,
}

impl Format {
    /// Reads the store's format, or writes `self` into an empty folder.
    ///
    /// # Errors
    /// [`OpenError::Format`] for a version this program does not know, [`OpenError::Foreign`] for the folder of another
    /// cluster or replica, [`OpenError::Corrupt`] for rubbish.
    pub(crate) async fn settle(self, disk: &dyn Disk) -> Result<Self, OpenError> {
        match disk.read(NAME).await {
            Ok(bytes) => self.agree(Self::parse(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                assert!(
                    self.segment_bytes >= crate::SEGMENT_TINY && self.segment_bytes.is_multiple_of(8),
                    "usable segments"
                );
                disk.replace(NAME, Bytes::from(self.text())).await.map_err(OpenError::disk("write store/FORMAT"))?;
                Ok(self)
            }
            Err(error) => Err(OpenError::disk("read store/FORMAT")(error)),
        }
    }

    /// An existing store keeps its segments; whose it is must be as we think.
    fn agree(&self, found: Self) -> Result<Self, OpenError> {
        let foreign = |what, found: String, ours: String| Err(OpenError::Foreign { what, found, ours });
        if found.cluster != self.cluster {
            return foreign("cluster", format!("{:016x}", found.cluster), format!("{:016x}", self.cluster));
        }
        if found.replica != self.replica {
            return foreign("replica", found.replica.to_string(), self.replica.to_string());
        }
        Ok(found)
    }

    fn text(&self) -> String {
        let Self { segment_bytes, cluster, replica } = self;
        format!("apogee-store {VERSION}\nsegment-bytes {segment_bytes}\ncluster {cluster:016x}\nreplica {replica}\n")
    }

    fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let text = String::from_utf8_lossy(bytes);
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["apogee-store", version, "segment-bytes", segment, "cluster", cluster, "replica", replica]
                if *version == VERSION.to_string() =>
            {
                let segment_bytes = segment.parse().ok().filter(|bytes| *bytes >= crate::SEGMENT_TINY);
                let (cluster, replica) = (u64::from_str_radix(cluster, 16).ok(), replica.parse().ok().map(ReplicaId));
                let found = segment_bytes.zip(cluster).zip(replica);
                found
                    .map(|((segment_bytes, cluster), replica)| Self { segment_bytes, cluster, replica })
                    .ok_or_else(|| corrupt(&text))
            }
            ["apogee-store", version, ..] if *version != VERSION.to_string() => {
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

    fn ours() -> Format {
        Format { segment_bytes: 32 << 20, cluster: 0xab, replica: ReplicaId(3) }
    }

    #[test]
    fn a_newer_store_is_refused_by_name() {
        assert_eq!(Format::parse(ours().text().as_bytes()).unwrap(), ours());
        let newer = Format::parse(b"apogee-store 3\nsegment-bytes 1\n").unwrap_err();
        assert!(matches!(newer, OpenError::Format { ref found, .. } if found == "3"), "{newer}");
        assert!(matches!(Format::parse(b"\xff\x00"), Err(OpenError::Corrupt { .. })));
        assert!(matches!(Format::parse(b"apogee-store 2\nsegment-bytes 7\n"), Err(OpenError::Corrupt { .. })));
    }

    #[test]
    fn the_folder_of_another_is_refused_by_name() {
        let other = Format { cluster: 0xcd, ..ours() };
        assert!(matches!(ours().agree(other), Err(OpenError::Foreign { what: "cluster", .. })));
        let other = Format { replica: ReplicaId(2), ..ours() };
        assert!(matches!(ours().agree(other), Err(OpenError::Foreign { what: "replica", .. })));
        let other = Format { segment_bytes: 64 << 20, ..ours() };
        assert_eq!(ours().agree(other.clone()).unwrap(), other);
    }
}
