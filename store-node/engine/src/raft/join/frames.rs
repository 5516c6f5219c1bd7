//! What a replica without a log asks the others, and what they answer. They are frames like those of consensus, and not
//! meant for a certain instance: the asker knows none.

use std::collections::BTreeSet;

use apogee_model::ReplicaId;
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::codec::Reader;
use crate::peers::NotAFrame;
use crate::raft::types::member;
use crate::raft::wire::{CUT, VERSION, head, put_member};
use crate::replica::{Instance, Member};

/// "What am I to you?"
const JOIN: u8 = 16;
const FRESH: u8 = 17;
const FOUNDED: u8 = 18;
const MEMBER: u8 = 19;
const UNKNOWN: u8 = 20;

/// Replicas of one group; far more than there can be.
const MEMBERS_MAX: u32 = 1024;

/// What the asker is to the one who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// "I have no log either, and this is my instance."
    Fresh(Instance),
    /// "These found the group, as far as I know"; the asker may be one of them.
    Founded(BTreeSet<Member>),
    /// The members that are committed have the asker with its very instance.
    Member,
    /// "I am a member, you are not"; and who leads, as far as is known.
    Unknown { leader: Option<ReplicaId> },
}

pub(crate) fn join(asker: Member) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    head(&mut out, JOIN);
    put_member(&mut out, asker);
    out.freeze()
}

/// Who asks; `None` when the frame is of another kind.
///
/// # Errors
/// [`NotAFrame`] for a broken one of this kind.
pub(crate) fn read_join(frame: &Bytes) -> Result<Option<Member>, NotAFrame> {
    let mut reader = Reader::new(frame);
    if reader.u8() != Some(JOIN) {
        return Ok(None);
    }
    match reader.u8().ok_or(CUT)? {
        VERSION => member(&mut reader).ok_or(CUT).map(Some),
        _ => Err(NotAFrame { why: "its version is unknown" }),
    }
}

pub(crate) fn standing(answer: &Standing) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    match answer {
        Standing::Fresh(instance) => {
            head(&mut out, FRESH);
            out.put_u64_le(instance.0);
        }
        Standing::Founded(members) => {
            head(&mut out, FOUNDED);
            out.put_u32_le(u32::try_from(members.len()).expect("replica groups are small"));
            members.iter().for_each(|member| put_member(&mut out, *member));
        }
        Standing::Member => head(&mut out, MEMBER),
        Standing::Unknown { leader } => {
            head(&mut out, UNKNOWN);
            out.put_u64_le(leader.map_or(0, |leader| leader.0));
        }
    }
    out.freeze()
}

/// # Errors
/// [`NotAFrame`], for bytes of any kind.
pub(crate) fn read_standing(frame: &Bytes) -> Result<Standing, NotAFrame> {
    let mut reader = Reader::new(frame);
    let (kind, version) = (reader.u8().ok_or(CUT)?, reader.u8().ok_or(CUT)?);
    match kind {
        _ if version != VERSION => Err(NotAFrame { why: "its version is unknown" }),
        FRESH => Ok(Standing::Fresh(Instance(reader.u64().ok_or(CUT)?))),
        FOUNDED => {
            let count = reader.u32().filter(|count| *count <= MEMBERS_MAX).ok_or(CUT)?;
            let members = (0..count).map(|_| member(&mut reader)).collect::<Option<_>>();
            members.ok_or(CUT).map(Standing::Founded)
        }
        MEMBER => Ok(Standing::Member),
        UNKNOWN => {
            let leader = reader.u64().ok_or(CUT)?;
            Ok(Standing::Unknown { leader: Some(ReplicaId(leader)).filter(|leader| leader.0 > 0) })
        }
        _ => Err(NotAFrame { why: "it does not say what the asker is" }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members() -> impl Strategy<Value = Member> {
        (any::<u64>(), any::<u64>())
            .prop_map(|(replica, instance)| Member { replica: ReplicaId(replica), instance: Instance(instance) })
    }

    fn standings() -> impl Strategy<Value = Standing> {
        prop_oneof![
            any::<u64>().prop_map(|instance| Standing::Fresh(Instance(instance))),
            proptest::collection::btree_set(members(), 0..6).prop_map(Standing::Founded),
            Just(Standing::Member),
            (0..u64::MAX)
                .prop_map(|leader| Standing::Unknown { leader: Some(ReplicaId(leader)).filter(|leader| leader.0 > 0) }),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back_as_they_were_and_cut_ones_do_not(asker in members(), standing_ in standings()) {
            let (asked, answered) = (join(asker), standing(&standing_));
            prop_assert_eq!(read_join(&asked), Ok(Some(asker)));
            prop_assert_eq!(read_standing(&answered), Ok(standing_));
            for cut in 1..asked.len() {
                prop_assert!(read_join(&asked.slice(..cut)).is_err());
            }
            for cut in 0..answered.len() {
                prop_assert!(read_standing(&answered.slice(..cut)).is_err());
            }
        }

        #[test]
        fn rubbish_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _refused_or_not = (read_join(&bytes), read_standing(&bytes));
        }
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let member = Member { replica: ReplicaId(2), instance: Instance(0xabcd) };
        let golden = [16, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0xcd, 0xab, 0, 0, 0, 0, 0, 0];
        assert_eq!(join(member)[..], golden);
        assert_eq!(standing(&Standing::Fresh(Instance(3)))[..], [17, 2, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(standing(&Standing::Founded(BTreeSet::from([member])))[..6], [18, 2, 1, 0, 0, 0]);
        assert_eq!(standing(&Standing::Member)[..], [19, 2]);
        assert_eq!(standing(&Standing::Unknown { leader: Some(ReplicaId(1)) })[..], [20, 2, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
