//! What fuzzing does to frames; see [`crate::fuzz`].

use apogee_model::{BlockIndex, Epoch, ReplicaId};
use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse};

use super::join::frames::{self as join, Standing};
use super::transfer::frames::{self as transfer, Answer, Attempt, Offer, Question};
use super::types::{log_id, to_entry, vote_to_raft};
use super::wire;
use crate::block::{Block, BlockKind, Lsn};
use crate::codec::{crc32c, u32_at};
use crate::commitlog::{Purged, Vote};
use crate::fuzz::{block, records, seal};
use crate::replica::{Instance, Member};
use crate::views::Position;

/// Bytes of a question to append before its blocks: head, vote, two ids, count.
const BLOCKS_AT: usize = 2 + 25 + 2 * 16 + 4;
/// Bytes of a piece of a file before its name, and between that and the piece: head and attempt, length; place, checksum.
const NAME_AT: usize = 2 + 16 + 2;
const PLACE_AND_CRC: usize = 8 + 4;

/// What is read of a frame is written and read as the same again: as it comes, and behind checksums that are right.
///
/// # Panics
/// When it is not.
pub fn frames(data: &[u8]) {
    check(&Bytes::copy_from_slice(data));
    let mut blocks = data.to_vec();
    seal_blocks(&mut blocks);
    check(&blocks.into());
    let mut file = data.to_vec();
    if seal_file(&mut file).is_some() {
        check(&file.into());
    }
}

/// Frames of every kind.
pub fn frame_seeds() -> Vec<Vec<u8>> {
    let member = Member { replica: ReplicaId(2), instance: Instance(0xab) };
    let vote = || vote_to_raft(Vote { term: Epoch(3), leader: member, granted: true });
    let last = || log_id(Epoch(2), BlockIndex(6));
    let entry = |block: Vec<u8>| to_entry(Block::read(&Bytes::from(block), Lsn(4096)).expect("a block"));
    let entries = [&records()[..1], &[]].map(|records| entry(block(BlockKind::Records, records)).expect("an entry"));
    let append =
        AppendEntriesRequest { vote: vote(), prev_log_id: last(), entries: entries.into(), leader_commit: last() };
    let asked = VoteRequest::new(vote(), last());
    let attempt = Attempt { term: Epoch(3), number: 7 };
    let purged = Some(Purged { index: BlockIndex(4), term: Epoch(1) });
    let offer = Offer { segment_bytes: 1 << 24, position: Position::default(), first: Lsn(0), purged };
    let bytes = Bytes::from_static(b"MANIFEST-000004");
    let questions = [
        Question::Begin(vote(), offer),
        Question::File { name: "CURRENT".to_owned(), at: 5, bytes: bytes.clone() },
        Question::Segment { at: Lsn(72), bytes },
        Question::End(vote()),
        Question::Wait,
    ];
    let answers = [Answer::Taken, Answer::HigherVote(vote()), Answer::Refused("no room".to_owned())];
    let standings = [
        Standing::Fresh(member.instance),
        Standing::Founded([member].into()),
        Standing::Member,
        Standing::Unknown { leader: Some(member.replica) },
    ];
    let consensus = [
        wire::append(&append),
        wire::vote(&asked, false),
        wire::vote(&asked, true),
        wire::transfer(&TransferLeaderRequest::new(vote(), member, last())),
        wire::appended(&Ok(last())),
        wire::appended(&Err(StreamAppendError::HigherVote(vote()))),
        wire::voted(&VoteResponse::new(vote(), last(), true)),
        wire::transferred(true),
        join::join(member),
    ];
    let frames = consensus.into_iter().chain(standings.iter().map(join::standing));
    let frames = frames.chain(questions.iter().map(|asked| transfer::question(attempt, asked)));
    frames.chain(answers.iter().map(transfer::answer)).map(Vec::from).collect()
}

fn check(frame: &Bytes) {
    if let Ok((_, question)) = wire::who_is_meant(frame) {
        let _a_question_or_not = wire::Question::read(&question);
    }
    stays(frame, |frame| Some(written(&wire::Question::read(frame).ok()?)));
    stays(frame, |frame| Some(wire::appended(&wire::read_appended(frame).ok()?)));
    stays(frame, |frame| Some(wire::voted(&wire::read_voted(frame).ok()?)));
    stays(frame, |frame| Some(wire::transferred(wire::read_transferred(frame).ok()?)));
    stays(frame, |frame| Some(join::join(join::read_join(frame).ok()??)));
    stays(frame, |frame| Some(join::standing(&join::read_standing(frame).ok()?)));
    stays(frame, |frame| transfer::read_question(frame).ok()?.map(|(attempt, it)| transfer::question(attempt, &it)));
    stays(frame, |frame| Some(transfer::answer(&transfer::read_answer(frame).ok()?)));
}

/// What was read and written once, is read and written as the same.
fn stays(frame: &Bytes, again: impl Fn(&Bytes) -> Option<Bytes>) {
    if let Some(once) = again(frame) {
        assert_eq!(again(&once).as_ref(), Some(&once), "a frame is another one when it is written again");
    }
}

fn written(question: &wire::Question) -> Bytes {
    match question {
        wire::Question::Append(request) => wire::append(request),
        wire::Question::Vote(request) => wire::vote(request, false),
        wire::Question::PreVote(request) => wire::vote(request, true),
        wire::Question::Transfer(request) => wire::transfer(request),
    }
}

fn seal_blocks(frame: &mut [u8]) {
    let mut rest = frame.get_mut(BLOCKS_AT..).unwrap_or_default();
    while rest.len() >= crate::block::HEADER {
        seal(rest);
        let len = usize::try_from(u32_at(rest, 12)).expect("32 bits fit");
        rest = std::mem::take(&mut rest).get_mut(len.max(1)..).unwrap_or_default();
    }
}

/// `None` when there is no room for a checksum.
fn seal_file(frame: &mut [u8]) -> Option<()> {
    let name = usize::from(u16::from_le_bytes(frame.get(NAME_AT - 2..NAME_AT)?.try_into().ok()?));
    let (before, piece) = frame.split_at_mut_checked(NAME_AT + name + PLACE_AND_CRC)?;
    let crc_at = before.len() - 4;
    before[crc_at..].copy_from_slice(&crc32c(&[piece]).to_le_bytes());
    Some(())
}
