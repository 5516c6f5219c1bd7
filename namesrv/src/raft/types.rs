//! The words of openraft in ours.

use apogee_host::consensus::Runtime;
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId as _;
use openraft::{EntryPayload, Membership};

use crate::journal::{Applied, Entry, Members, Place, Vote, What};
use crate::state::{Command, Outcome};

openraft::declare_raft_types!(
    /// One command is one entry. Standard leader ids: at most one leader per term.
    pub(crate) Types:
        D = Command,
        R = Option<Outcome>,
        NodeId = u64,
        Node = (),
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type RaftEntry = openraft::alias::EntryOf<Types>;
pub(crate) type RaftVote = openraft::alias::VoteOf<Types>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, Box<Applied>>;

pub(crate) fn log_id(place: Place) -> LogId {
    LogId::new(leader_id_std::LeaderId::new(place.term, 0).to_committed(), place.index)
}

pub(crate) fn place(id: &LogId) -> Place {
    Place { term: *id.leader_id, index: id.index }
}

pub(crate) fn to_vote(vote: Vote) -> RaftVote {
    let Vote { term, member, won } = vote;
    if won { RaftVote::new_committed(term, member) } else { RaftVote::new(term, member) }
}

pub(crate) fn of_vote(vote: &RaftVote) -> Vote {
    Vote { term: vote.leader_id.term, member: vote.leader_id.voted_for, won: vote.committed }
}

pub(crate) fn of_entry(entry: RaftEntry) -> Entry {
    let what = match entry.payload {
        EntryPayload::Blank => What::Blank,
        EntryPayload::Normal(command) => What::Command(command),
        EntryPayload::Membership(members) => What::Members(of_membership(&members)),
    };
    Entry { at: place(&entry.log_id), what }
}

/// `None` when the members in it cannot be.
pub(crate) fn to_entry(entry: &Entry) -> Option<RaftEntry> {
    let payload = match &entry.what {
        What::Blank => EntryPayload::Blank,
        What::Command(command) => EntryPayload::Normal(command.clone()),
        What::Members(members) => EntryPayload::Membership(to_membership(members)?),
    };
    Some(RaftEntry { log_id: log_id(entry.at), payload })
}

fn of_membership(members: &Membership<u64, ()>) -> Members {
    Members { voters: members.get_joint_config().clone(), all: members.nodes().map(|(id, ())| *id).collect() }
}

fn to_membership(members: &Members) -> Option<Membership<u64, ()>> {
    let nodes: std::collections::BTreeMap<u64, ()> = members.all.iter().map(|id| (*id, ())).collect();
    Membership::new(members.voters.clone(), nodes).ok()
}

/// The members that a state knows of; none when it knows of none that can be.
pub(crate) fn stored_membership(applied: &Applied) -> StoredMembership {
    match (applied.members_at, to_membership(&applied.members)) {
        (Some(at), Some(members)) => StoredMembership::new(Some(log_id(at)), members),
        _ => StoredMembership::default(),
    }
}
