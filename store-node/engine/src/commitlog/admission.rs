//! How this instance of a replica came into its replica group. Durable before it takes part, and never changed.
//!
//! Without this file the replica has promised nothing to anybody: it may found a group, or ask to be taken in. With it
//! the replica takes part at once, after any crash.

use std::collections::BTreeSet;
use std::fmt;

use apogee_host::Disk;
use apogee_model::ReplicaId;
use bytes::Bytes;

use super::{OpenError, read_note};
use crate::codec::crc32c;
use crate::replica::{Instance, Member, spaced};

const NAME: &str = "store/admission";

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// One of those who found the group; all of them begin with the same members.
    Founder(BTreeSet<Member>),
    /// The group was there, and took it in.
    TakenIn,
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Founder(members) => write!(f, "founder {}", spaced(members)),
            Self::TakenIn => f.write_str("taken-in"),
        }
    }
}

impl Admission {
    /// # Errors
    /// A damaged file is corruption: a replica that does not know how it came in could found a second group.
    pub(crate) async fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        read_note(disk, NAME, Self::parse, "it does not say how this replica came into its group").await
    }

    pub(crate) async fn write(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        disk.replace(NAME, Bytes::from(self.text())).await.map_err(OpenError::disk("write store/admission"))
    }

    fn text(&self) -> String {
        let how = self.to_string();
        format!("{how}\nchecksum {:08x}\n", crc32c(&[how.as_bytes()]))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (how, checksum) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once("\nchecksum ")?;
        if u32::from_str_radix(checksum, 16).ok()? != crc32c(&[how.as_bytes()]) {
            return None;
        }
        match how.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["founder", members @ ..] => {
                Some(Self::Founder(members.iter().map(|text| member(text)).collect::<Option<_>>()?))
            }
            ["taken-in"] => Some(Self::TakenIn),
            _ => None,
        }
    }
}

/// The counterpart of the `Display` of [`Member`].
fn member(text: &str) -> Option<Member> {
    let (replica, instance) = text.split_once('@')?;
    Some(Member {
        replica: ReplicaId(replica.parse().ok()?),
        instance: Instance(u64::from_str_radix(instance, 16).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_is_read_as_it_was_written_or_not_at_all() {
        let founders = [(1, 0xa), (2, u64::MAX)]
            .map(|(replica, instance)| Member { replica: ReplicaId(replica), instance: Instance(instance) });
        let founder = Admission::Founder(BTreeSet::from(founders));
        let golden = "founder 1@000000000000000a 2@ffffffffffffffff\nchecksum ";
        assert!(founder.text().starts_with(golden), "{}", founder.text());
        for admission in [founder, Admission::TakenIn] {
            let text = admission.text();
            assert_eq!(Admission::parse(text.as_bytes()), Some(admission));
            for at in 0..text.len() {
                let mut damaged = text.clone().into_bytes();
                damaged[at] ^= 1;
                assert_eq!(Admission::parse(&damaged), None, "{text} at {at}");
                assert_eq!(Admission::parse(&text.as_bytes()[..at]), None, "{text} cut at {at}");
            }
        }
    }
}
