//! The words of openraft in ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use apogee_host::consensus::Runtime;
use apogee_model::{BlockIndex, Epoch, ReplicaId, Timestamp};
use bytes::{Bytes, BytesMut};
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId as _;
use openraft::{EntryPayload, Membership};

use crate::block::{self, Block, BlockKind, Header, Lsn};
use crate::codec::Reader;
use crate::commitlog::{Append, Entry, Proposal, Vote};
use crate::replica::{Instance, Member};

openraft::declare_raft_types!(
    /// One block is one entry. Standard leader ids: at most one leader per term, so that the term is our epoch. The
    /// random numbers of elections come from the engine's entropy. A node of consensus is one life of a replica, because
    /// it must never meet a node that forgot what it said.
    pub(crate) Types:
        D = Payload,
        R = (),
        NodeId = Member,
        Node = (),
        LeaderId = leader_id_std::LeaderId<u64, Member>,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type RaftEntry = openraft::alias::EntryOf<Types>;
pub(crate) type RaftVote = openraft::alias::VoteOf<Types>;
pub(crate) type RaftMembership = Membership<Member, ()>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;

/// The records of a block, with room for the block header in front; a block that was read back has its header there.
#[derive(Clone)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) records: u32,
    pub(crate) log_time: Timestamp,
    /// See [`Append::proposal`].
    pub(crate) proposal: Option<Proposal>,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records, {} bytes", self.records, self.bytes.len())
    }
}

/// Blocks are counted from 1, entries of openraft from 0.
pub(crate) fn index_of(id: &LogId) -> BlockIndex {
    BlockIndex(id.index + 1)
}

pub(crate) fn log_id(term: Epoch, index: BlockIndex) -> Option<LogId> {
    let index = index.0.checked_sub(1)?;
    Some(LogId::new(committed_leader(term), index))
}

/// How log ids name the leader of a term.
pub(crate) fn committed_leader(term: Epoch) -> openraft::alias::CommittedLeaderIdOf<Types> {
    leader_id_std::LeaderId::new(term.0, Member::default()).to_committed()
}

pub(crate) fn term_of(id: &LogId) -> Epoch {
    Epoch(*id.leader_id)
}

pub(crate) fn vote_to_raft(vote: Vote) -> RaftVote {
    let Vote { term, leader, granted } = vote;
    if granted { RaftVote::new_committed(term.0, leader) } else { RaftVote::new(term.0, leader) }
}

pub(crate) fn vote_of_raft(vote: &RaftVote) -> Vote {
    Vote { term: Epoch(vote.leader_id.term), leader: vote.leader_id.voted_for, granted: vote.committed }
}

/// What the log is to append for an entry. Entries that consensus makes for itself have no time of their own; their
/// blocks get that of the block before.
pub(crate) fn to_append(entry: RaftEntry) -> Append {
    let (kind, records, log_time, bytes, proposal) = match entry.payload {
        EntryPayload::Blank => (BlockKind::Blank, 0, Timestamp(0), empty(), None),
        EntryPayload::Membership(members) => {
            (BlockKind::Membership, 0, Timestamp(0), membership_to_bytes(&members), None)
        }
        EntryPayload::Normal(Payload { bytes, records, log_time, proposal }) => {
            (BlockKind::Records, records, log_time, bytes, proposal)
        }
    };
    let (term, index) = (term_of(&entry.log_id), index_of(&entry.log_id));
    Append { entry: Entry { kind, index, term, records, log_time }, bytes, proposal }
}

/// The entry that a block is; `None` when a membership in it cannot be read.
pub(crate) fn to_entry(block: Block) -> Option<RaftEntry> {
    let header = block.header;
    let payload = match header.kind {
        BlockKind::Blank => EntryPayload::Blank,
        BlockKind::Membership => EntryPayload::Membership(membership_of_bytes(&block.bytes[block::HEADER..])?),
        BlockKind::Records => EntryPayload::Normal(Payload {
            bytes: block.bytes,
            records: header.records,
            log_time: header.log_time,
            proposal: None,
        }),
        BlockKind::Filler => return None,
    };
    Some(RaftEntry { log_id: log_id(header.term, header.index)?, payload })
}

/// The block of an entry that was read from our log. Entries without records do not keep their bytes: their blocks are
/// sealed anew, at no place.
pub(crate) fn block_bytes(entry: &RaftEntry) -> Bytes {
    let (kind, bytes) = match &entry.payload {
        EntryPayload::Normal(payload) => return payload.bytes.clone(),
        EntryPayload::Blank => (BlockKind::Blank, empty()),
        EntryPayload::Membership(members) => (BlockKind::Membership, membership_to_bytes(members)),
    };
    let mut bytes = BytesMut::from(bytes);
    let header = Header {
        kind,
        records: 0,
        total_len: bytes.len(),
        previous: 0,
        term: term_of(&entry.log_id),
        leader: 0,
        index: index_of(&entry.log_id),
        lsn: Lsn(0),
        commit: BlockIndex(0),
        log_time: Timestamp(0),
    };
    header.seal(&mut bytes);
    bytes.freeze()
}

fn empty() -> Bytes {
    Bytes::from(vec![0; block::HEADER])
}

/// Layout: count of configurations, of each its count of voters and the voters; count of nodes, the nodes. A voter and a
/// node are replica and instance. Little endian, u64 each, so that it is aligned as blocks are.
fn membership_to_bytes(members: &RaftMembership) -> Bytes {
    let mut words = vec![count(members.get_joint_config().len())];
    for config in members.get_joint_config() {
        put_members(&mut words, config.iter());
    }
    put_members(&mut words, members.nodes().map(|(member, ())| member));
    let mut bytes = vec![0; block::HEADER];
    bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
    Bytes::from(bytes)
}

fn put_members<'a>(words: &mut Vec<u64>, members: impl Iterator<Item = &'a Member>) {
    let at = words.len();
    words.push(0);
    words.extend(members.flat_map(|member| [member.replica.0, member.instance.0]));
    words[at] = count((words.len() - at - 1) / 2);
}

/// The membership in the body of a block of its kind.
pub(crate) fn membership_of_bytes(bytes: &[u8]) -> Option<RaftMembership> {
    let mut words = Reader::new(bytes);
    let configs = words.u64()?;
    let configs: Vec<BTreeSet<Member>> = (0..configs).map(|_| set(&mut words)).collect::<Option<_>>()?;
    let nodes = set(&mut words)?.into_iter().map(|member| (member, ()));
    Membership::new(configs, nodes.collect::<BTreeMap<_, _>>()).ok()
}

fn set(words: &mut Reader<'_>) -> Option<BTreeSet<Member>> {
    (0..words.u64()?).map(|_| member(words)).collect()
}

/// Replica and instance, as they are written everywhere.
pub(crate) fn member(words: &mut Reader<'_>) -> Option<Member> {
    Some(Member { replica: ReplicaId(words.u64()?), instance: Instance(words.u64()?) })
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("memberships are small")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(replica: u64, instance: u64) -> Member {
        Member { replica: ReplicaId(replica), instance: Instance(instance) }
    }

    #[test]
    fn a_membership_is_read_as_it_was_written() {
        let (one, two, three, again) = (life(1, 0xa), life(2, 0xb), life(3, 0xc), life(3, 0xd));
        let joint = Membership::new(
            vec![BTreeSet::from([one, two, three]), BTreeSet::from([one, two, again])],
            BTreeMap::from([one, two, three, again, life(9, 1)].map(|id| (id, ()))),
        );
        let joint = joint.unwrap();
        let bytes = membership_to_bytes(&joint);
        assert!(bytes.len().is_multiple_of(8));
        assert_eq!(membership_of_bytes(&bytes[block::HEADER..]), Some(joint));
        for cut in block::HEADER..bytes.len() {
            assert_eq!(membership_of_bytes(&bytes[block::HEADER..cut]), None, "{cut}");
        }
        assert_eq!(membership_of_bytes(&[0xff; 64]), None);
    }

    #[test]
    fn the_bytes_of_a_membership_stay_what_they_are() {
        let alone = Membership::new(vec![BTreeSet::from([life(1, 0xab)])], BTreeMap::from([(life(1, 0xab), ())]));
        let words = [1, 1, 1, 0xab, 1, 1, 0xab_u64];
        let golden: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        assert_eq!(membership_to_bytes(&alone.unwrap())[block::HEADER..], golden);
    }
}
