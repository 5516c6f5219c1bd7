//! Which appends were made lately, so that a resend gets the first result instead of a second message.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use apogee_model::Timestamp;
use apogee_model::store::RequestId;

use crate::block::Lsn;
use crate::views::rows::{self, Earlier, RESENDS_PER_ROW};
use crate::views::{Batch, Table};

/// How long an append is remembered, in log time. Longer than any caller goes on trying.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Appends that are remembered; beyond, the oldest are forgotten early. Some 50 MiB.
const REMEMBERED_MAX: usize = 1 << 19;

/// The appends of the last minute, in the order of the log.
#[derive(Debug)]
pub(super) struct Resend {
    ring: VecDeque<Earlier>,
    /// Number of the first in the ring, counted from the first append ever seen here.
    first: u64,
    numbers: HashMap<RequestId, u64>,
    /// Rows in the views: where their first and last append is.
    rows: VecDeque<(Lsn, Lsn)>,
    /// Appends at the end of the ring that are in no batch yet.
    untaken: usize,
    max: usize,
}

impl Default for Resend {
    fn default() -> Self {
        Self {
            ring: VecDeque::new(),
            first: 0,
            numbers: HashMap::new(),
            rows: VecDeque::new(),
            untaken: 0,
            max: REMEMBERED_MAX,
        }
    }
}

impl Resend {
    /// What came of a request.
    pub(super) fn earlier(&self, request: &RequestId) -> Option<Earlier> {
        self.numbers.get(request).map(|number| self.ring[self.place(*number)])
    }

    /// Remembers a message. Messages of one append are in one block and follow each other in one queue; `block` is
    /// where theirs begins. A request that is known from before keeps its first result.
    pub(super) fn remember(&mut self, message: Earlier, block: Lsn) {
        if message.request.proxy_incarnation == 0 {
            return;
        }
        if let Some(number) = self.numbers.get(&message.request) {
            let place = self.place(*number);
            let known = &mut self.ring[place];
            let same = (known.topic, known.queue) == (message.topic, message.queue) && known.lsn >= block;
            let same = same && known.due == message.due;
            if same && known.first.0 + u64::from(known.count) == message.first.0 {
                known.count += 1;
            }
            return;
        }
        self.push(message);
        self.untaken += 1;
    }

    /// Forgets what is older than a minute at `log_time`, and the oldest of too many.
    pub(super) fn forget(&mut self, log_time: Timestamp) {
        let max = self.max;
        let mut left = self.ring.len();
        while let Some(oldest) =
            self.ring.pop_front_if(|oldest| left > max || log_time.since(oldest.stored_at) >= REMEMBERED)
        {
            left -= 1;
            // The same request may be remembered anew: rows of the views tell of what was forgotten, too.
            if self.numbers.get(&oldest.request) == Some(&self.first) {
                self.numbers.remove(&oldest.request);
            }
            self.first += 1;
        }
        self.untaken = self.untaken.min(left);
    }

    /// Takes back a row of the views. Rows come in the order of their keys.
    pub(super) fn load(&mut self, row: Vec<Earlier>) -> Option<()> {
        let (first, last) = (row.first()?.lsn, row.last()?.lsn);
        self.rows.push_back((first, last));
        row.into_iter().for_each(|earlier| self.push(earlier));
        Some(())
    }

    /// Puts what is new into a batch, and deletes the rows of which everything is forgotten.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        let taken = self.ring.len() - self.untaken;
        let new: Vec<Earlier> = self.ring.range(taken..).copied().collect();
        let before = self.rows.len();
        for row in new.chunks(RESENDS_PER_ROW) {
            let (first, last) = (row[0].lsn, row[row.len() - 1].lsn);
            self.rows.push_back((first, last));
        }
        self.delete_forgotten(batch, before);
        for row in new.chunks(RESENDS_PER_ROW) {
            batch.put(Table::Resend, &rows::resend_key(row[0].lsn), |out| rows::put_resends(out, row.iter()));
        }
        self.untaken = 0;
    }

    fn delete_forgotten(&mut self, batch: &mut Batch, before: usize) {
        let oldest = self.ring.front().map(|oldest| oldest.lsn);
        let gone = |(_, last): &(Lsn, Lsn)| oldest.is_none_or(|oldest| *last < oldest);
        let mut deleted = None;
        for _ in 0..before {
            let Some((first, _)) = self.rows.pop_front_if(|row| gone(row)) else { break };
            deleted = Some(Lsn(first.0 + 1));
        }
        if let Some(end) = deleted {
            batch.delete_range(Table::Resend, &[], &rows::resend_key(end));
        }
    }

    fn push(&mut self, earlier: Earlier) {
        let number = self.first + u64::try_from(self.ring.len()).expect("memory is smaller than 2^64");
        self.numbers.insert(earlier.request, number);
        self.ring.push_back(earlier);
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number - self.first).expect("an index into memory")
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Earlier> {
        self.ring.iter()
    }

    pub(super) fn untaken(&self) -> usize {
        self.untaken
    }

    #[cfg(test)]
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }
}
