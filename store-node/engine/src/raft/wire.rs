//! Frames between replicas: what openraft asks its peers, and what they answer. Little endian.
//!
//! A frame begins with its kind and the version of its layout; a replica that does not know one says so by closing.
//! Blocks travel as they are on the leader's disk, with their own checksum. A question ends with the instance it is meant
//! for: what the replica was told before it lost its disk is nothing that the one in its place may answer.

use apogee_model::{BlockIndex, Epoch};
use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use super::types::{
    LogId, RaftEntry, RaftVote, Types, block_bytes, index_of, log_id, member, term_of, to_entry, vote_of_raft,
    vote_to_raft,
};
use crate::block::{self, Block, Lsn};
use crate::codec::{Reader, u64_at};
use crate::commitlog::Vote;
use crate::peers::NotAFrame;
use crate::replica::{Instance, Member};

pub(super) const VERSION: u8 = 2;
const APPEND: u8 = 1;
const VOTE: u8 = 2;
const PRE_VOTE: u8 = 3;
const TRANSFER: u8 = 4;
/// An answer to anything: the question was meant for another instance.
const NOT_MEANT: u8 = 255;
/// Bytes of the instance at the end of a question.
const MEANT_FOR: usize = 8;

/// Blocks of one frame.
const BLOCKS_MAX: u32 = 65_536;

/// A question of another replica.
pub(crate) enum Question {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Transfer(TransferLeaderRequest<Types>),
}

/// The answer to [`Question::Append`].
pub(crate) type Appended = StreamAppendResult<Types>;

/// A question with whom it is meant for at its end.
pub(crate) fn meant_for(to: Instance, question: Bytes) -> Bytes {
    let mut out = question.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    out.put_u64_le(to.0);
    out.freeze()
}

/// The counterpart of [`meant_for`].
///
/// # Errors
/// [`NotAFrame`] when it ends too early.
pub(crate) fn who_is_meant(frame: &Bytes) -> Result<(Instance, Bytes), NotAFrame> {
    let len = frame.len().checked_sub(MEANT_FOR).ok_or(CUT)?;
    Ok((Instance(u64_at(frame, len)), frame.slice(..len)))
}

/// The answer to a question that was meant for another instance, or came before this one is a member. It is no answer
/// that anybody asked for, so the asker takes this replica to be out of reach.
pub(crate) fn not_meant() -> Bytes {
    Bytes::from_static(&[NOT_MEANT, VERSION])
}

pub(crate) fn append(request: &AppendEntriesRequest<Types>) -> Bytes {
    let blocks: Vec<Bytes> = request.entries.iter().map(block_bytes).collect();
    let len: usize = blocks.iter().map(Bytes::len).sum();
    let mut out = BytesMut::with_capacity(len + 128);
    head(&mut out, APPEND);
    put_vote(&mut out, &request.vote);
    put_id(&mut out, request.prev_log_id.as_ref());
    put_id(&mut out, request.leader_commit.as_ref());
    out.put_u32_le(u32::try_from(blocks.len()).expect("a request has few entries"));
    blocks.into_iter().for_each(|block| out.put(block));
    out.freeze()
}

pub(crate) fn vote(request: &VoteRequest<Types>, only_asking: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    head(&mut out, if only_asking { PRE_VOTE } else { VOTE });
    put_vote(&mut out, &request.vote);
    put_id(&mut out, request.last_log_id.as_ref());
    out.put_u8(u8::from(request.leadership_transfer));
    out.freeze()
}

pub(crate) fn transfer(request: &TransferLeaderRequest<Types>) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    head(&mut out, TRANSFER);
    put_vote(&mut out, request.from_leader());
    put_member(&mut out, *request.to_node_id());
    put_id(&mut out, request.last_log_id());
    out.freeze()
}

impl Question {
    /// # Errors
    /// [`NotAFrame`], for bytes of any kind.
    pub(crate) fn read(frame: &Bytes) -> Result<Self, NotAFrame> {
        let mut reader = Reader::new(frame);
        let (kind, version) = (reader.u8().ok_or(CUT)?, reader.u8().ok_or(CUT)?);
        if version != VERSION {
            return Err(NotAFrame { why: "its version is unknown" });
        }
        match kind {
            APPEND => read_append(frame, &mut reader).map(Self::Append),
            VOTE => read_vote(&mut reader).map(Self::Vote),
            PRE_VOTE => read_vote(&mut reader).map(Self::PreVote),
            TRANSFER => {
                let (from, to) = (get_vote(&mut reader)?, member(&mut reader).ok_or(CUT)?);
                Ok(Self::Transfer(TransferLeaderRequest::new(from, to, get_id(&mut reader)?)))
            }
            _ => Err(NotAFrame { why: "its kind is unknown" }),
        }
    }
}

pub(super) const CUT: NotAFrame = NotAFrame { why: "it ends too early" };

fn read_append(frame: &Bytes, reader: &mut Reader<'_>) -> Result<AppendEntriesRequest<Types>, NotAFrame> {
    let vote = get_vote(reader)?;
    let (prev_log_id, leader_commit) = (get_id(reader)?, get_id(reader)?);
    let count = reader.u32().ok_or(CUT)?;
    if count > BLOCKS_MAX {
        return Err(NotAFrame { why: "it has too many blocks" });
    }
    let mut rest = frame.slice(frame.len() - reader.left()..);
    let mut entries: Vec<RaftEntry> = Vec::new();
    for _ in 0..count {
        if rest.len() < block::HEADER {
            return Err(CUT);
        }
        let lsn = Lsn(u64_at(&rest, block::LSN_AT));
        let found = Block::read(&rest, lsn).map_err(|_| NotAFrame { why: "a block in it is damaged" })?;
        rest = rest.slice(found.bytes.len()..);
        // A copy, because the block gets a header of ours, and would hold on to the whole frame otherwise.
        let found = Block { bytes: Bytes::copy_from_slice(&found.bytes), ..found };
        entries.push(to_entry(found).ok_or(NotAFrame { why: "a block in it is no entry" })?);
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

fn read_vote(reader: &mut Reader<'_>) -> Result<VoteRequest<Types>, NotAFrame> {
    let mut request = VoteRequest::new(get_vote(reader)?, get_id(reader)?);
    request.leadership_transfer = reader.u8().ok_or(CUT)? != 0;
    Ok(request)
}

pub(crate) fn appended(answer: &Appended) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    match answer {
        Ok(last) => {
            head(&mut out, 1);
            put_id(&mut out, last.as_ref());
        }
        Err(StreamAppendError::Conflict(id)) => {
            head(&mut out, 2);
            put_id(&mut out, Some(id));
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            head(&mut out, 3);
            put_vote(&mut out, vote);
        }
    }
    out.freeze()
}

pub(crate) fn read_appended(frame: &Bytes) -> Result<Appended, NotAFrame> {
    let mut reader = Reader::new(frame);
    match (reader.u8().ok_or(CUT)?, reader.u8().ok_or(CUT)?) {
        (1, VERSION) => Ok(Ok(get_id(&mut reader)?)),
        (2, VERSION) => Ok(Err(StreamAppendError::Conflict(get_id(&mut reader)?.ok_or(CUT)?))),
        (3, VERSION) => Ok(Err(StreamAppendError::HigherVote(get_vote(&mut reader)?))),
        _ => Err(NotAFrame { why: "it is no answer to an append" }),
    }
}

pub(crate) fn voted(answer: &VoteResponse<Types>) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    head(&mut out, VOTE);
    put_vote(&mut out, &answer.vote);
    put_id(&mut out, answer.last_log_id.as_ref());
    out.put_u8(u8::from(answer.vote_granted));
    out.freeze()
}

pub(crate) fn read_voted(frame: &Bytes) -> Result<VoteResponse<Types>, NotAFrame> {
    let mut reader = Reader::new(frame);
    match (reader.u8().ok_or(CUT)?, reader.u8().ok_or(CUT)?) {
        (VOTE, VERSION) => {
            let (vote, last) = (get_vote(&mut reader)?, get_id(&mut reader)?);
            Ok(VoteResponse::new(vote, last, reader.u8().ok_or(CUT)? != 0))
        }
        _ => Err(NotAFrame { why: "it is no answer to a vote" }),
    }
}

/// Whether the replica that was asked to take over tries to.
pub(crate) fn transferred(taken: bool) -> Bytes {
    Bytes::copy_from_slice(&[TRANSFER, VERSION, u8::from(taken)])
}

pub(crate) fn read_transferred(frame: &Bytes) -> Result<bool, NotAFrame> {
    match frame[..] {
        [TRANSFER, VERSION, taken] => Ok(taken != 0),
        _ => Err(NotAFrame { why: "it is no answer to a hand-over" }),
    }
}

pub(super) fn head(out: &mut BytesMut, kind: u8) {
    out.put_u8(kind);
    out.put_u8(VERSION);
}

pub(super) fn put_member(out: &mut BytesMut, member: Member) {
    out.put_u64_le(member.replica.0);
    out.put_u64_le(member.instance.0);
}

pub(super) fn put_vote(out: &mut BytesMut, vote: &RaftVote) {
    let Vote { term, leader, granted } = vote_of_raft(vote);
    out.put_u64_le(term.0);
    put_member(out, leader);
    out.put_u8(u8::from(granted));
}

pub(super) fn get_vote(reader: &mut Reader<'_>) -> Result<RaftVote, NotAFrame> {
    let (term, leader) = (Epoch(reader.u64().ok_or(CUT)?), member(reader).ok_or(CUT)?);
    Ok(vote_to_raft(Vote { term, leader, granted: reader.u8().ok_or(CUT)? != 0 }))
}

/// Index 0 stands for none.
fn put_id(out: &mut BytesMut, id: Option<&LogId>) {
    out.put_u64_le(id.map_or(0, |id| term_of(id).0));
    out.put_u64_le(id.map_or(0, |id| index_of(id).0));
}

fn get_id(reader: &mut Reader<'_>) -> Result<Option<LogId>, NotAFrame> {
    let (term, index) = (Epoch(reader.u64().ok_or(CUT)?), BlockIndex(reader.u64().ok_or(CUT)?));
    Ok(log_id(term, index))
}
