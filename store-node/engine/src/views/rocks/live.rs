//! The open database.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use apogee_host::Lane;
use apogee_model::QueueOffset;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, ErrorKind, FlushOptions, ReadOptions, WriteBatch, WriteOptions};

use super::filter::Mins;
use super::{RocksSettings, folders, on_lane, options};
use crate::views::{Batch, Change, END, ReadJob, Rows, Table, Views, ViewsError, ViewsFuture, Visit, rows};

/// Bytes of a key that name its queue; the prefix RocksDB knows.
const CONSUME_QUEUE_PREFIX: usize = 6;

/// One opening of the live views: closed by its store, whoever else still holds it.
pub(super) struct Live {
    folder: PathBuf,
    database: RwLock<Option<DB>>,
    mins: Arc<Mins>,
}

impl Live {
    /// Opens what is in `folder`, or makes new views there.
    pub(super) fn open(folder: &Path, settings: RocksSettings, create: bool) -> Result<Arc<Self>, ViewsError> {
        let mins = Arc::new(Mins::default());
        let (database, tables) = options::of(settings, create, &mins);
        let database = DB::open_cf_descriptors(&database, folder, tables).map_err(failed("open the views"))?;
        let live = Self { folder: folder.to_owned(), database: RwLock::new(Some(database)), mins };
        live.load_mins()?;
        Ok(Arc::new(live))
    }

    /// Flushes and closes. RocksDB waits here for what runs in the background.
    pub(super) fn close(&self) -> Result<(), ViewsError> {
        let flushed = self.flush();
        drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
        flushed
    }

    /// A copy of what is flushed in the new folder `to`; nothing in it is durable yet.
    pub(super) fn checkpoint(&self, to: &Path) -> Result<(), ViewsError> {
        self.flush()?;
        let database = self.database();
        let database = database.as_ref().ok_or(ViewsError::Closed)?;
        let checkpoint = Checkpoint::new(database).map_err(failed("take a base"))?;
        checkpoint.create_checkpoint(to).map_err(failed("take a base"))
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<DB>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn load_mins(&self) -> Result<(), ViewsError> {
        let (mut mins, mut bad) = (Vec::new(), None);
        self.scan(Table::QueueMeta, &[], END, &mut |key, row| {
            match rows::split_queue_key(key).zip(rows::queue(row)) {
                Some((_, (QueueOffset(0), _, _))) => {}
                Some((queue, (min, _, _))) => mins.push((queue, min)),
                None => bad = Some(ViewsError::damaged("a row of the queues")),
            }
            ControlFlow::Continue(())
        })?;
        self.mins.written(&mins);
        self.mins.flushed();
        bad.map_or(Ok(()), Err)
    }

    fn write(&self, batch: &Batch) -> Result<(), ViewsError> {
        let database = self.database();
        let database = database.as_ref().ok_or(ViewsError::Closed)?;
        let mut writes = WriteBatch::with_capacity_bytes(batch.len() + batch.len() / 4);
        for change in batch.changes() {
            match change {
                Change::Put(table, key, value) => writes.put_cf(family(database, table), key, value),
                Change::Delete(table, key) => writes.delete_cf(family(database, table), key),
                Change::DeleteRange(table, from, to) => writes.delete_range_cf(family(database, table), from, to),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        database.write_opt(writes, &options).map_err(failed("write the views"))?;
        self.mins.written(batch.trims());
        self.mins.written_floor(batch.keys_floor());
        Ok(())
    }

    fn flush(&self) -> Result<(), ViewsError> {
        let database = self.database();
        let database = database.as_ref().ok_or(ViewsError::Closed)?;
        let families = Table::ALL.map(|table| family(database, table));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        database.flush_cfs_opt(&families, &options).map_err(failed("flush the views"))?;
        self.mins.flushed();
        Ok(())
    }

    /// Waits for what runs in the background: the files change no more by themselves.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        if let Some(database) = self.database().as_ref() {
            database.wait_for_compact(&rocksdb::WaitForCompactOptions::default()).expect("nothing is damaged");
        }
    }

    /// Rewrites all files of a table.
    #[cfg(test)]
    pub(super) fn compact(&self, table: Table) {
        let database = self.database();
        let database = database.as_ref().expect("it is open");
        let mut options = rocksdb::CompactOptions::default();
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        database.compact_range_cf_opt(family(database, table), None::<&[u8]>, None::<&[u8]>, &options);
    }

    fn distrust(&self, why: &str) {
        tracing::error!(event = "views_damaged", why, "the views are damaged; the next start restores them");
        if let Err(error) = folders::distrust(&self.folder, why) {
            tracing::error!(event = "views_damage_not_noted", %error, "the damage of the views cannot be noted");
        }
    }
}

impl Rows for Live {
    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewsError> {
        if from >= to {
            return Ok(());
        }
        let database = self.database();
        let database = database.as_ref().ok_or(ViewsError::Closed)?;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let one_queue = table == Table::ConsumeQueue
            && from.get(..CONSUME_QUEUE_PREFIX).is_some_and(|prefix| to.starts_with(prefix));
        options.set_prefix_same_as_start(one_queue);
        options.set_total_order_seek(!one_queue);
        let mut found = database.raw_iterator_cf_opt(family(database, table), options);
        found.seek(from);
        while let Some((key, value)) = found.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            found.next();
        }
        let ended = found.status().map_err(failed("read the views"));
        if let Err(ViewsError::Damaged { why }) = &ended {
            self.distrust(why);
        }
        ended
    }
}

fn family(database: &DB, table: Table) -> &ColumnFamily {
    database.cf_handle(table.name()).expect("all tables are opened with the database")
}

/// What an error of RocksDB means for us.
fn failed(what: &'static str) -> impl FnOnce(rocksdb::Error) -> ViewsError {
    move |error| match error.kind() {
        ErrorKind::Corruption => ViewsError::damaged(error.into_string()),
        _ => ViewsError::disk(what)(std::io::Error::other(error)),
    }
}

/// The live views as the engine sees them.
pub(super) struct RocksViews {
    lane: Arc<Lane>,
    live: Arc<Live>,
}

impl RocksViews {
    pub(super) fn new(lane: Arc<Lane>, live: Arc<Live>) -> Self {
        Self { lane, live }
    }
}

impl Rows for RocksViews {
    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewsError> {
        self.live.scan(table, from, to, visit)
    }
}

impl Views for RocksViews {
    fn write(&self, batch: Batch) -> ViewsFuture<()> {
        let live = Arc::clone(&self.live);
        on_lane(&self.lane, move || live.write(&batch))
    }

    fn flush(&self) -> ViewsFuture<()> {
        let live = Arc::clone(&self.live);
        on_lane(&self.lane, move || live.flush())
    }

    fn read(&self, job: ReadJob) -> ViewsFuture<()> {
        let live = Arc::clone(&self.live);
        on_lane(&self.lane, move || {
            job(&*live);
            Ok(())
        })
    }

    fn distrust(&self, why: &str) {
        self.live.distrust(why);
    }
}
