//! Blocks under construction, and the answers that wait for them.

use std::collections::VecDeque;
use std::time::Duration;

use apogee_model::Timestamp;

use super::{Answer, Ticket};
use crate::block::HEADER;
use crate::record::Record;

/// A block is closed at this size at the latest, unless one request alone is larger.
const TARGET_BYTES: usize = 1 << 20;
const TARGET_RECORDS: usize = 4096;
/// A block takes no more records when its log time is older than this: the next leader would end leases as much too
/// early, and messages would look as much too old. Blocks are that old only while the log is stuck.
const STALE: Duration = Duration::from_millis(100);
/// Room a block starts with, so that it does not grow in many small steps.
const START_BYTES: usize = 64 << 10;

/// A block without its place: room for the header, then the records.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u32,
    pub(crate) log_time: Timestamp,
}

/// The open block, full ones that wait to be written, and every answer not given yet.
#[derive(Debug)]
pub(crate) struct Blocks {
    closed: VecDeque<(Ticket, Draft)>,
    open: Draft,
    /// What the open block will be proposed as.
    ticket: Ticket,
    answers: VecDeque<(Ticket, Answer)>,
    /// Results of sends, which some ack modes give before the others.
    sends: VecDeque<(Ticket, Answer)>,
    /// The last block whose answers were taken.
    answered: Ticket,
    /// A block is closed at this size.
    target: usize,
}

impl Blocks {
    pub(crate) fn new(first: Ticket, log_time: Timestamp) -> Self {
        Self {
            closed: VecDeque::new(),
            open: empty(log_time),
            ticket: first,
            answers: VecDeque::new(),
            sends: VecDeque::new(),
            answered: Ticket(first.0 - 1),
            target: TARGET_BYTES,
        }
    }

    /// No block gets larger than this. A record that is no message is much smaller than half of it.
    pub(crate) fn limit(&mut self, block_max: usize) {
        self.target = TARGET_BYTES.min(block_max / 2);
    }

    /// Makes room for `records` that must share a block. Log time is fixed when a block gets its first record.
    pub(crate) fn reserve(&mut self, bytes: usize, records: usize, wall: Timestamp) {
        let held = usize::try_from(self.open.records).expect("blocks hold few records");
        let full = self.open.bytes.len() + bytes > self.target || held + records > TARGET_RECORDS;
        if held > 0 && (full || wall.since(self.open.log_time) > STALE) {
            self.close();
        }
        if self.open.records == 0 {
            self.open.log_time = self.open.log_time.max(wall);
        }
    }

    /// What is written next gets a log time that is not before `at`, which is not ahead of the wall clock.
    pub(crate) fn not_before(&mut self, at: Timestamp) {
        if self.open.records > 0 && self.open.log_time < at {
            self.close();
        }
    }

    /// What the open block will be proposed as.
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Log time of the open block.
    pub(crate) fn log_time(&self) -> Timestamp {
        self.open.log_time
    }

    /// Writes a record into the open block; says which block and log time that is. Messages and dead letters have their room from
    /// [`Blocks::reserve`]; other records are small and start a new block when this one is full.
    pub(crate) fn push(&mut self, record: &Record, wall: Timestamp) -> (Ticket, Timestamp) {
        let sized = matches!(
            record,
            Record::Message { .. }
                | Record::Kept(_)
                | Record::Carried(_)
                | Record::Half(_)
                | Record::HalfCarried(_)
                | Record::DeadLetter(_)
        );
        if !sized {
            self.reserve(0, 1, wall);
        }
        if self.open.records == 0 {
            self.open.log_time = self.open.log_time.max(wall);
        }
        record.write(&mut self.open.bytes);
        self.open.records += 1;
        (self.ticket, self.open.log_time)
    }

    /// Keeps an answer for the newest block that has content, or hands it back when all blocks are answered.
    pub(crate) fn answer(&mut self, answer: Answer) -> Option<Answer> {
        let newest = if self.open.records > 0 { self.ticket } else { Ticket(self.ticket.0 - 1) };
        if newest <= self.answered {
            return Some(answer);
        }
        let queue = if matches!(answer, Answer::Appended(..)) { &mut self.sends } else { &mut self.answers };
        queue.push_back((newest, answer));
        None
    }

    pub(crate) fn take(&mut self, may_be_partial: bool) -> Option<(Ticket, Draft)> {
        if self.closed.is_empty() && may_be_partial && self.open.records > 0 {
            self.close();
        }
        self.closed.pop_front()
    }

    pub(crate) fn open_bytes(&self) -> usize {
        if self.open.records > 0 { self.open.bytes.len() } else { 0 }
    }

    /// The answers of blocks up to `upto`, and the results of sends in blocks up to `stored`.
    pub(crate) fn take_answers(&mut self, upto: Ticket, stored: Ticket) -> VecDeque<Answer> {
        self.answered = self.answered.max(upto);
        let mut taken = take(&mut self.sends, upto.max(stored));
        taken.append(&mut take(&mut self.answers, upto));
        taken
    }

    fn close(&mut self) {
        let next = empty(self.open.log_time);
        let full = std::mem::replace(&mut self.open, next);
        self.closed.push_back((self.ticket, full));
        self.ticket = Ticket(self.ticket.0 + 1);
    }
}

fn take(answers: &mut VecDeque<(Ticket, Answer)>, upto: Ticket) -> VecDeque<Answer> {
    let due = answers.partition_point(|(block, _)| *block <= upto);
    answers.drain(..due).map(|(_, answer)| answer).collect()
}

fn empty(log_time: Timestamp) -> Draft {
    let mut bytes = Vec::with_capacity(START_BYTES);
    bytes.resize(HEADER, 0);
    Draft { bytes, records: 0, log_time }
}
