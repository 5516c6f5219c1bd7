//! The small file that says how the store is written, and whose it is.

use std::io;

use apogee_host::Disk;
use apogee_model::ReplicaId;
use bytes::Bytes;

use super::OpenError;
use crate::replica::{Instance, Member};

const NAME: &str = "store/FORMAT";
const VERSION: u32 = 3;
/// The newest level of features this program knows: what may be in the log and the views of a store of this level.
const FEATURE_LEVEL: u32 = 1;

/// Fixed when the store is created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Format {
    pub(crate) segment_bytes: u64,
    pub(crate) cluster: u64,
    pub(crate) replica: ReplicaId,
    /// Drawn for a new store; an existing one keeps its own.
    pub(crate) instance: Instance,
}

impl Format {
    /// Who this replica is to the others.
    pub(crate) fn member(&self) -> Member {
        Member { replica: self.replica, instance: self.instance }
    }

    /// Reads the store's format, or writes `self` into an empty folder.
    ///
    /// # Errors
    /// [`OpenError::Format`] for a version this program does not know, [`OpenError::FeatureLevel`] for a store that may
    /// hold what it does not know, [`OpenError::Foreign`] for the folder of another cluster or replica,
    /// [`OpenError::Corrupt`] for rubbish.
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

    /// An existing store keeps its segments and its instance; whose it is must be as we think.
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
        let Self { segment_bytes, cluster, replica, instance } = self;
        format!(
            "apogee-store {VERSION}\nfeature-level {FEATURE_LEVEL}\nsegment-bytes {segment_bytes}\n\
             cluster {cluster:016x}\nreplica {replica}\ninstance {instance}\n"
        )
    }

    fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let text = String::from_utf8_lossy(bytes);
        let words: Vec<&str> = text.split_whitespace().collect();
        let ["apogee-store", version, rest @ ..] = words.as_slice() else { return Err(corrupt(&text)) };
        if *version != VERSION.to_string() {
            return Err(OpenError::Format { found: (*version).to_owned(), known: VERSION.to_string() });
        }
        // A later level may have lines of its own, so it is looked at first.
        let ["feature-level", level, rest @ ..] = rest else { return Err(corrupt(&text)) };
        match level.parse::<u32>() {
            Ok(FEATURE_LEVEL) => Self::parse_rest(rest).ok_or_else(|| corrupt(&text)),
            Ok(found) if found > FEATURE_LEVEL => Err(OpenError::FeatureLevel { found, known: FEATURE_LEVEL }),
            _ => Err(corrupt(&text)),
        }
    }

    fn parse_rest(words: &[&str]) -> Option<Self> {
        let ["segment-bytes", segment, "cluster", cluster, "replica", replica, "instance", instance] = words else {
            return None;
        };
        let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
        Some(Self {
            segment_bytes: segment.parse().ok().filter(|bytes| *bytes >= crate::SEGMENT_TINY)?,
            cluster: hex(cluster)?,
            replica: ReplicaId(replica.parse().ok()?),
            instance: Instance(hex(instance)?),
        })
    }
}

fn corrupt(text: &str) -> OpenError {
    OpenError::Corrupt { file: NAME.to_owned(), offset: 0, why: format!("{text:.60?} is not a store format") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = "apogee-store 3\nfeature-level 1\nsegment-bytes 33554432\ncluster 00000000000000ab\n\
                          replica 3\ninstance 00000000000000cd\n";

    fn ours() -> Format {
        Format { segment_bytes: 32 << 20, cluster: 0xab, replica: ReplicaId(3), instance: Instance(0xcd) }
    }

    fn refused(text: &str) -> OpenError {
        Format::parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_format_stays_what_it_is() {
        assert_eq!(ours().text(), GOLDEN);
        assert_eq!(Format::parse(GOLDEN.as_bytes()).unwrap(), ours());
        for cut in 0..GOLDEN.len() - 16 {
            assert!(Format::parse(&GOLDEN.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn another_store_is_refused_by_name() {
        for version in ["2", "4"] {
            let other = refused(&format!("apogee-store {version}\nsegment-bytes 1\n"));
            assert!(matches!(other, OpenError::Format { ref found, .. } if found == version), "{other}");
        }
        let level = refused(&GOLDEN.replace("level 1\n", "level 2\nsomething new\n"));
        assert!(level.to_string().starts_with("the store is of feature level 2, this version knows 1;"), "{level}");
        assert!(matches!(refused("\u{ff}\0"), OpenError::Corrupt { .. }));
        for (from, to) in [("level 1", "level 0"), ("level 1", "level x"), ("33554432", "7"), ("cd\n", "cx\n")] {
            assert!(matches!(refused(&GOLDEN.replace(from, to)), OpenError::Corrupt { .. }), "{to}");
        }
    }

    #[test]
    fn the_folder_of_another_is_refused_by_name() {
        let other = Format { cluster: 0xcd, ..ours() };
        assert!(matches!(ours().agree(other), Err(OpenError::Foreign { what: "cluster", .. })));
        let other = Format { replica: ReplicaId(2), ..ours() };
        assert!(matches!(ours().agree(other), Err(OpenError::Foreign { what: "replica", .. })));
        let other = Format { segment_bytes: 64 << 20, instance: Instance(1), ..ours() };
        assert_eq!(ours().agree(other.clone()).unwrap(), other);
    }
}
