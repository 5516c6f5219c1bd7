//! The frames of a transfer: questions of the replica that sends, answers of the one that receives. Little endian.
//!
//! Every question names its attempt, so that what an attempt that was given up left on the road does no harm to the next.

use apogee_model::{BlockIndex, Epoch};
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::block::Lsn;
use crate::codec::{Reader, crc32c, put_text};
use crate::commitlog::Purged;
use crate::peers::NotAFrame;
use crate::raft::types::RaftVote;
use crate::raft::wire::{CUT, VERSION, get_vote, head, put_vote};
use crate::views::{PIECE_MAX, Position};

const BEGIN: u8 = 32;
const FILE: u8 = 33;
const SEGMENT: u8 = 34;
const END: u8 = 35;
const WAIT: u8 = 36;
const ANSWER: u8 = 40;

const TAKEN: u8 = 1;
const WORKING: u8 = 2;
const HAS_IT: u8 = 3;
const HIGHER_VOTE: u8 = 4;
const REFUSED: u8 = 5;

/// Longest reason of a refusal; the rest is cut off.
const WHY_MAX: usize = 1000;

/// Which attempt: the term of the leader that makes it, and its number among those of that leader.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attempt {
    pub(crate) term: Epoch,
    pub(crate) number: u64,
}

/// What is going to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    /// Segments of both have this size.
    pub(crate) segment_bytes: u64,
    /// Where the base is, and with it the end of the log that comes with it.
    pub(crate) position: Position,
    /// Start of the first segment.
    pub(crate) first: Lsn,
    /// What the sender has given up of its log, and the receiver will have given up of its.
    pub(crate) purged: Option<Purged>,
}

/// A question, of one attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Question {
    Begin(RaftVote, Offer),
    /// A piece of a file of the base; the pieces of one file in order, the manifest last. It has a checksum on the way;
    /// blocks have their own.
    File {
        name: String,
        at: u64,
        bytes: Bytes,
    },
    /// The log from here on; pieces in order, after the base. None goes beyond the end of its segment.
    Segment {
        at: Lsn,
        bytes: Bytes,
    },
    /// That was all.
    End(RaftVote),
    /// Is the last question answered?
    Wait,
}

/// The answer to any of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Taken,
    /// It takes longer; to be asked again by [`Question::Wait`].
    Working,
    /// The receiver has all of this already.
    HasIt,
    /// The receiver has given a vote in a newer term.
    HigherVote(RaftVote),
    /// The attempt is over.
    Refused(String),
}

pub(crate) fn question(attempt: Attempt, question: &Question) -> Bytes {
    let mut out = BytesMut::with_capacity(256 + question.len());
    let kind = match question {
        Question::Begin(..) => BEGIN,
        Question::File { .. } => FILE,
        Question::Segment { .. } => SEGMENT,
        Question::End(_) => END,
        Question::Wait => WAIT,
    };
    head(&mut out, kind);
    out.put_u64_le(attempt.term.0);
    out.put_u64_le(attempt.number);
    match question {
        Question::Begin(vote, offer) => {
            put_vote(&mut out, vote);
            offer.put(&mut out);
        }
        Question::File { name, at, bytes } => {
            let mut text = Vec::new();
            put_text(&mut text, name);
            out.extend_from_slice(&text);
            out.put_u64_le(*at);
            out.put_u32_le(crc32c(&[bytes]));
            out.extend_from_slice(bytes);
        }
        Question::Segment { at, bytes } => {
            out.put_u64_le(at.0);
            out.extend_from_slice(bytes);
        }
        Question::End(vote) => put_vote(&mut out, vote),
        Question::Wait => {}
    }
    out.freeze()
}

/// `None` when the frame is of another kind.
///
/// # Errors
/// [`NotAFrame`] for a broken one of these kinds.
pub(crate) fn read_question(frame: &Bytes) -> Result<Option<(Attempt, Question)>, NotAFrame> {
    let mut reader = Reader::new(frame);
    let Some(kind) = reader.u8().filter(|kind| (BEGIN..=WAIT).contains(kind)) else { return Ok(None) };
    if reader.u8().ok_or(CUT)? != VERSION {
        return Err(NotAFrame { why: "its version is unknown" });
    }
    let attempt = Attempt { term: Epoch(reader.u64().ok_or(CUT)?), number: reader.u64().ok_or(CUT)? };
    let question = match kind {
        BEGIN => Question::Begin(get_vote(&mut reader)?, Offer::get(&mut reader)?),
        FILE => {
            let (name, at) = (reader.text().ok_or(CUT)?.to_owned(), reader.u64().ok_or(CUT)?);
            let (crc, bytes) = (reader.u32().ok_or(CUT)?, piece(frame, &reader)?);
            if crc32c(&[&bytes]) != crc {
                return Err(NotAFrame { why: "a piece of a base in it is damaged" });
            }
            Question::File { name, at, bytes }
        }
        SEGMENT => {
            let at = Lsn(reader.u64().ok_or(CUT)?);
            let bytes = Some(piece(frame, &reader)?).filter(|bytes| !bytes.is_empty()).ok_or(CUT)?;
            Question::Segment { at, bytes }
        }
        END => Question::End(get_vote(&mut reader)?),
        _ => Question::Wait,
    };
    Ok(Some((attempt, question)))
}

pub(crate) fn answer(answer: &Answer) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    head(&mut out, ANSWER);
    match answer {
        Answer::Taken => out.put_u8(TAKEN),
        Answer::Working => out.put_u8(WORKING),
        Answer::HasIt => out.put_u8(HAS_IT),
        Answer::HigherVote(vote) => {
            out.put_u8(HIGHER_VOTE);
            put_vote(&mut out, vote);
        }
        Answer::Refused(why) => {
            out.put_u8(REFUSED);
            let mut text = Vec::new();
            put_text(&mut text, &why.chars().filter(char::is_ascii).take(WHY_MAX).collect::<String>());
            out.extend_from_slice(&text);
        }
    }
    out.freeze()
}

/// # Errors
/// [`NotAFrame`], for bytes of any kind.
pub(crate) fn read_answer(frame: &Bytes) -> Result<Answer, NotAFrame> {
    let mut reader = Reader::new(frame);
    let head = (reader.u8().ok_or(CUT)?, reader.u8().ok_or(CUT)?);
    match (head, reader.u8().ok_or(CUT)?) {
        ((ANSWER, VERSION), TAKEN) => Ok(Answer::Taken),
        ((ANSWER, VERSION), WORKING) => Ok(Answer::Working),
        ((ANSWER, VERSION), HAS_IT) => Ok(Answer::HasIt),
        ((ANSWER, VERSION), HIGHER_VOTE) => Ok(Answer::HigherVote(get_vote(&mut reader)?)),
        ((ANSWER, VERSION), REFUSED) => Ok(Answer::Refused(reader.text().ok_or(CUT)?.to_owned())),
        _ => Err(NotAFrame { why: "it is no answer to a transfer" }),
    }
}

impl Question {
    fn len(&self) -> usize {
        match self {
            Self::File { bytes, .. } | Self::Segment { bytes, .. } => bytes.len(),
            Self::Begin(..) | Self::End(_) | Self::Wait => 0,
        }
    }
}

/// What is left of a frame.
fn piece(frame: &Bytes, reader: &Reader<'_>) -> Result<Bytes, NotAFrame> {
    match reader.left() {
        len if len > PIECE_MAX => Err(NotAFrame { why: "it brings too much at once" }),
        len => Ok(frame.slice(frame.len() - len..)),
    }
}

impl Offer {
    /// Index 0 stands for nothing given up. The position comes last, because it does not say how long it is.
    fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.segment_bytes);
        out.put_u64_le(self.first.0);
        out.put_u64_le(self.purged.map_or(0, |purged| purged.index.0));
        out.put_u64_le(self.purged.map_or(0, |purged| purged.term.0));
        let mut position = Vec::new();
        self.position.encode(&mut position);
        out.extend_from_slice(&position);
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, NotAFrame> {
        let (segment_bytes, first) = (reader.u64().ok_or(CUT)?, Lsn(reader.u64().ok_or(CUT)?));
        let (index, term) = (BlockIndex(reader.u64().ok_or(CUT)?), Epoch(reader.u64().ok_or(CUT)?));
        let purged = Some(Purged { index, term }).filter(|purged| purged.index > BlockIndex(0));
        let position = reader.bytes(reader.left()).and_then(Position::decode).ok_or(CUT)?;
        Ok(Self { segment_bytes, position, first, purged })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vote() -> RaftVote {
        get_vote(&mut Reader::new(&[1; 64])).expect("long enough")
    }

    fn offer() -> Offer {
        let position = Position { index: BlockIndex(9), term: Epoch(2), end: Lsn(4096), ..Position::default() };
        let purged = Some(Purged { index: BlockIndex(4), term: Epoch(1) });
        Offer { segment_bytes: 1 << 24, position, first: Lsn(0), purged }
    }

    #[test]
    fn frames_come_back_as_they_were_and_cut_ones_do_not() {
        let attempt = Attempt { term: Epoch(3), number: 7 };
        let bytes = Bytes::from_static(b"bytes");
        let questions = [
            Question::Begin(vote(), offer()),
            Question::Begin(vote(), Offer { purged: None, ..offer() }),
            Question::File { name: "CURRENT".to_owned(), at: 5, bytes: bytes.clone() },
            Question::File { name: "000007.log".to_owned(), at: 0, bytes: Bytes::new() },
            Question::Segment { at: Lsn(72), bytes },
            Question::End(vote()),
            Question::Wait,
        ];
        for asked in questions {
            let frame = question(attempt, &asked);
            assert_eq!(read_question(&frame), Ok(Some((attempt, asked.clone()))));
            let whole = frame.len() - asked.len();
            for cut in 1..whole {
                assert!(read_question(&frame.slice(..cut)).is_err(), "{asked:?} {cut}");
            }
        }
        let refused = Answer::Refused("no room".to_owned());
        for told in [Answer::Taken, Answer::Working, Answer::HasIt, Answer::HigherVote(vote()), refused] {
            let frame = answer(&told);
            assert_eq!(read_answer(&frame), Ok(told));
            for cut in 0..frame.len() {
                assert!(read_answer(&frame.slice(..cut)).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in BEGIN..=ANSWER) {
            let mut sealed = vec![kind, VERSION];
            sealed.extend_from_slice(&bytes);
            let (bytes, sealed) = (Bytes::from(bytes), Bytes::from(sealed));
            let _refused_or_not = (read_question(&bytes), read_answer(&bytes));
            let _refused_or_not = (read_question(&sealed), read_answer(&sealed));
        }
    }
}
