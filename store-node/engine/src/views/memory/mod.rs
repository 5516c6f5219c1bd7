//! Views in ordered maps, with explicit flush and crash: for simulation and tests.
//!
//! Everything completes inline, so that one seed is one run. Reading order: this file (the rows), `store` (what
//! survives), `pack` (a base as bytes).

mod pack;
mod store;

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;

use apogee_model::QueueOffset;

pub use self::store::MemoryViewStore;
use self::store::Shared;
use super::{Batch, Change, ReadJob, Rows, Table, Views, ViewsError, ViewsFuture, Visit, consume_queue_key};

/// The rows of all tables.
type Tables = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

/// One opening of the live views; see [`MemoryViewStore`].
pub(crate) struct MemoryViews {
    shared: Arc<Shared>,
    opening: u64,
}

impl Default for MemoryViews {
    /// Empty views that share their store with nobody.
    fn default() -> Self {
        MemoryViewStore::default().open_now()
    }
}

impl MemoryViews {
    /// The rows as they are now, while this opening is the newest.
    fn tables(&self) -> Result<Arc<Tables>, ViewsError> {
        self.shared.lock().live(self.opening).map(|live| Arc::clone(live))
    }
}

impl Rows for MemoryViews {
    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewsError> {
        scan(&*self.tables()?, table, from, to, visit);
        Ok(())
    }
}

impl Views for MemoryViews {
    fn write(&self, batch: Batch) -> ViewsFuture<()> {
        let (shared, opening) = (Arc::clone(&self.shared), self.opening);
        Box::pin(async move {
            let mut state = shared.lock();
            apply(Arc::make_mut(state.live(opening)?), &batch);
            Ok(())
        })
    }

    fn flush(&self) -> ViewsFuture<()> {
        let (shared, opening) = (Arc::clone(&self.shared), self.opening);
        Box::pin(async move { shared.lock().flush(opening) })
    }

    fn read(&self, job: ReadJob) -> ViewsFuture<()> {
        let views = Self { shared: Arc::clone(&self.shared), opening: self.opening };
        Box::pin(async move {
            job(&views);
            Ok(())
        })
    }

    fn distrust(&self, _why: &str) {
        self.shared.lock().distrust();
    }
}

fn scan(tables: &Tables, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) {
    let Some(rows) = tables.get(&table).filter(|_| from < to) else { return };
    for (key, value) in rows.range::<[u8], _>((Included(from), Excluded(to))) {
        if visit(key, value).is_break() {
            return;
        }
    }
}

fn apply(tables: &mut Tables, batch: &Batch) {
    for change in batch.changes() {
        match change {
            Change::Put(table, key, value) => {
                tables.entry(table).or_default().insert(key.to_vec(), value.to_vec());
            }
            Change::Delete(table, key) => {
                tables.entry(table).or_default().remove(key);
            }
            Change::DeleteRange(table, from, to) => remove_range(tables, table, from, to),
        }
    }
    for ((topic, queue), min) in batch.trims() {
        let from = consume_queue_key(*topic, *queue, QueueOffset(0));
        remove_range(tables, Table::ConsumeQueue, &from, &consume_queue_key(*topic, *queue, *min));
    }
}

fn remove_range(tables: &mut Tables, table: Table, from: &[u8], to: &[u8]) {
    let Some(rows) = tables.get_mut(&table).filter(|_| from < to) else { return };
    let gone: Vec<_> = rows.range::<[u8], _>((Included(from), Excluded(to))).map(|(key, _)| key.clone()).collect();
    for key in gone {
        rows.remove(&key);
    }
}
