//! When the views are written, flushed, and copied into a base. Knows no thread and no timer: whoever owns the state
//! says what time it is and how far the log is durable, and waits for what is under way.
//!
//! One thing at a time is under way, so batches are written in order and a base is at the end of one.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::Monotonic;
use apogee_model::BlockIndex;

use super::State;
use crate::block::Lsn;
use crate::views::{Base, Batch, ViewStore, ViewsError, ViewsFuture};

/// A batch is written when it has this size, whatever the time.
const BATCH_BYTES: usize = 1 << 20;
/// The views are flushed when the log grew by this much: it bounds what a restart has to apply again.
const FLUSH_BYTES: u64 = 64 << 20;

/// How often at least, when something changed.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) batch_every: Duration,
    pub(crate) flush_every: Duration,
}

/// What came to an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    /// The views have the batch of this index.
    Written(BlockIndex),
    /// A crash leaves the views at this index or later.
    Flushed(BlockIndex),
    /// A base was taken that was asked for.
    Based(Base),
}

/// See the module.
pub(crate) struct Keeper {
    store: Arc<dyn ViewStore>,
    pace: Pace,
    /// Taken, waiting for the log to be durable up to it.
    waiting: Option<Batch>,
    under_way: Option<ViewsFuture<Kept>>,
    /// Position of the last batch written, and of the last flush.
    written: (BlockIndex, Lsn),
    flushed: (BlockIndex, Lsn),
    batch_at: Monotonic,
    flush_at: Monotonic,
    base_wanted: bool,
}

impl Keeper {
    /// Keeps a state that was just opened from the views of `store`.
    pub(crate) fn new(store: Arc<dyn ViewStore>, state: &State, pace: Pace, now: Monotonic) -> Self {
        let at = state.position();
        let opened = (at.index, at.end);
        Self {
            store,
            pace,
            waiting: None,
            under_way: None,
            written: opened,
            flushed: opened,
            batch_at: now,
            flush_at: now,
            base_wanted: false,
        }
    }

    /// Starts what is due. To be called after blocks were applied, when the log got durable, when something ended, and
    /// at [`Keeper::next_turn`]. `durable` is the last block that is durable on this disk.
    pub(crate) fn turn(&mut self, state: &mut State, durable: BlockIndex, now: Monotonic) {
        let old = now.saturating_sub(self.batch_at) >= self.pace.batch_every || self.base_wanted;
        if self.waiting.is_none() && state.has_batch() && (old || state.batch_bytes() >= BATCH_BYTES) {
            self.waiting = Some(state.take_batch());
            self.batch_at = now;
        }
        if self.under_way.is_some() {
            return;
        }
        if let Some(batch) = self.waiting.take_if(|batch| batch.position().index <= durable) {
            let (index, end) = (batch.position().index, batch.position().end);
            self.written = (index, end);
            let writing = state.views().write(batch);
            self.under_way = Some(Box::pin(async move { writing.await.map(|()| Kept::Written(index)) }));
        } else if self.base_wanted && self.waiting.is_none() {
            self.base_wanted = false;
            self.flushing(now);
            let taking = self.store.take_base();
            self.under_way = Some(Box::pin(async move { taking.await.map(Kept::Based) }));
        } else if self.flush_is_due(now) {
            self.flushing(now);
            let (flushing, (index, _)) = (state.views().flush(), self.written);
            self.under_way = Some(Box::pin(async move { flushing.await.map(|()| Kept::Flushed(index)) }));
        }
    }

    /// Asks for a base of what is applied now or later.
    pub(crate) fn want_base(&mut self) {
        self.base_wanted = true;
    }

    /// Waits for what is under way; for ever while that is nothing. Cancel safe. The caller tells the state what was
    /// written, see [`State::written`].
    ///
    /// # Errors
    /// [`ViewsError`]: the views are not to be used any more by this process.
    pub(crate) async fn ended(&mut self) -> Result<Kept, ViewsError> {
        let Some(under_way) = &mut self.under_way else { return std::future::pending().await };
        let ended = under_way.await;
        self.under_way = None;
        ended
    }

    /// Whether a batch could be written if the log were durable up to it.
    pub(crate) fn waits_for_the_log(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_some()
    }

    /// When [`Keeper::turn`] has something to do although nothing happens.
    pub(crate) fn next_turn(&self, state: &State) -> Option<Monotonic> {
        if self.under_way.is_some() || self.waiting.is_some() {
            return None;
        }
        let batch = state.has_batch().then_some(self.batch_at + self.pace.batch_every);
        let flush = (self.written.0 > self.flushed.0).then_some(self.flush_at + self.pace.flush_every);
        batch.into_iter().chain(flush).min()
    }

    /// Whether the views will have everything that is applied when what is under way ends well.
    pub(crate) fn is_idle(&self, state: &State) -> bool {
        self.under_way.is_none() && self.waiting.is_none() && !self.base_wanted && !state.has_batch()
    }

    /// Closes the views when what is under way has ended. Nothing is written after that.
    pub(crate) fn close(&self) -> ViewsFuture<()> {
        self.store.close()
    }

    fn flush_is_due(&self, now: Monotonic) -> bool {
        let grown = self.written.1.0 - self.flushed.1.0 >= FLUSH_BYTES;
        let old = now.saturating_sub(self.flush_at) >= self.pace.flush_every;
        self.written.0 > self.flushed.0 && (grown || old)
    }

    fn flushing(&mut self, now: Monotonic) {
        self.flushed = self.written;
        self.flush_at = now;
    }
}

#[cfg(test)]
mod tests;
