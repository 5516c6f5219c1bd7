//! The views of the log: ordered rows in a few tables, written now and then, and the bases taken of them.
//!
//! The log is the truth. A view is what the log says, up to one [`Position`]; every batch carries the position it
//! brings the rows to, so that after a crash they are at one position of the log, and applying what follows is all
//! there is to recovery. Rows that were not flushed may be lost; a base, once taken, is not.
//!
//! Reading order: this file (the seam), `position`, `rows`, `kept`, `half`, `lite`, `key` and `place` (what is stored), `batch` (how it changes),
//! `store` and `base` (what survives), then the two lives of the seam: `memory` and `rocks`.

mod base;
mod batch;
mod error;
pub(crate) mod half;
pub(crate) mod kept;
pub(crate) mod key;
pub(crate) mod lite;
mod memory;
mod place;
mod position;
mod rocks;
pub(crate) mod rows;
mod store;

use std::ops::ControlFlow;

use futures::future::BoxFuture;

pub use base::{Base, BaseFile, PIECE_MAX};
pub(crate) use batch::{Batch, Change};
pub use error::ViewsError;
pub use memory::MemoryViewStore;
pub(crate) use memory::MemoryViews;
pub(crate) use place::{Place, consume_queue_key, offset_of_key};
pub(crate) use position::{Membership, Position};
pub use rocks::{RocksSettings, RocksViewStore};
pub use store::{LiveViews, ViewStore};

/// The answer of the views, in time. Nothing happens before the first poll; dropping it later leaves open whether the
/// operation takes place.
pub type ViewsFuture<T> = BoxFuture<'static, Result<T, ViewsError>>;

/// The tables. Keys are big endian, so that their order is the order of the numbers; values are little endian and begin
/// with a version.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Table {
    /// (topic, queue, offset) to [`Place`].
    ConsumeQueue,
    /// (topic, queue) to the offsets the queue holds.
    QueueMeta,
    /// (group, topic) to whether it is open; (group, topic, queue) to the cursor, and to the offset the group committed itself.
    GroupQueue,
    /// (group, topic, queue, offset) to the delivery that is not settled.
    Lease,
    /// (kind, id) to what the id stands for.
    Name,
    /// Position of a message to requests remembered from there on.
    Resend,
    /// When a message that is kept back is due, and its number, to [`kept::KeptRow`].
    Time,
    /// What there is to know of all of them, see [`kept::KeptKey`].
    Kept,
    /// Half messages, and how transactions ended, see [`half::HalfKey`].
    Half,
    /// Lite topics and who is subscribed to them, see [`lite::LiteKey`].
    Lite,
    /// What messages can be found under, see [`key::KeyOf`].
    Key,
    /// The [`Position`].
    System,
}

impl Table {
    pub(crate) const ALL: [Self; 12] = [
        Self::ConsumeQueue,
        Self::QueueMeta,
        Self::GroupQueue,
        Self::Lease,
        Self::Name,
        Self::Resend,
        Self::Time,
        Self::Kept,
        Self::Half,
        Self::Lite,
        Self::Key,
        Self::System,
    ];

    /// Its name on disk.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ConsumeQueue => "cq",
            Self::QueueMeta => "qmeta",
            Self::GroupQueue => "goff",
            Self::Lease => "lease",
            Self::Name => "name",
            Self::Resend => "resend",
            Self::Time => "time",
            Self::Kept => "kept",
            Self::Half => "half",
            Self::Lite => "lite",
            Self::Key => "key",
            Self::System => "sys",
        }
    }
}

/// Key of the only row of [`Table::System`].
pub(crate) const APPLIED: &[u8] = b"applied";

/// Behind every key of every table.
pub(crate) const END: &[u8] = &[0xff; 24];

/// Looks at one row, key and value, and says whether to go on.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Ordered rows, to read.
pub(crate) trait Rows: Send + Sync {
    /// Visits the rows with `from <= key < to` in order until told to stop. Blocks for as long as the disk takes, so
    /// callers look at few rows.
    ///
    /// # Errors
    /// [`ViewsError`], after some rows may have been visited.
    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewsError>;

    /// The position the rows are at; the start of the log when nothing was ever written.
    ///
    /// # Errors
    /// [`ViewsError`].
    fn position(&self) -> Result<Position, ViewsError> {
        let mut found = Ok(Position::default());
        self.scan(Table::System, APPLIED, END, &mut |_, row| {
            found = Position::decode(row).ok_or_else(|| ViewsError::damaged("the row of the applied position"));
            ControlFlow::Break(())
        })?;
        found
    }
}

/// A job that reads much, to run where reading may take long.
pub(crate) type ReadJob = Box<dyn FnOnce(&dyn Rows) + Send>;

/// Ordered rows with atomic batches. What is written is read at once, and survives a crash from the next flush on.
pub(crate) trait Views: Rows + Send + Sync + 'static {
    /// Makes a batch visible, all of it or nothing. Batches are written in the order of their positions.
    fn write(&self, batch: Batch) -> ViewsFuture<()>;

    /// Makes what was written durable, all of it or nothing.
    fn flush(&self) -> ViewsFuture<()>;

    /// Runs `job` where it may take long.
    fn read(&self, job: ReadJob) -> ViewsFuture<()>;

    /// A row turned out to be nonsense: the next opening does not trust these views.
    fn distrust(&self, why: &str);
}

#[cfg(test)]
pub(crate) mod tests;
