//! How RocksDB is tuned: for two cores, little memory, and rows that are written once and read in order.

use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, LogLevel, Options, SliceTransform,
    WriteBufferManager,
};

use super::RocksSettings;
use super::filter::{DropOldKeys, DropTrimmed, Mins};
use crate::views::Table;

/// Rows that mean nothing any more go at the latest when a file has this age, in seconds.
const REWRITE_AFTER: u64 = 12 * 3600;
/// Flushes and compactions write at most this much in a second: the disk belongs to the CommitLog first.
const BACKGROUND_BYTES_PER_SECOND: i64 = 64 << 20;
/// Files that are held open.
const OPEN_FILES: i32 = 512;
/// Smallest unit in which tables take memory; most of them are small.
const ARENA_BYTES: usize = 64 << 10;
const BLOCK_BYTES: usize = 16 << 10;

/// Options of the database and of its tables.
pub(super) fn of(settings: RocksSettings, create: bool, mins: &Arc<Mins>) -> (Options, Vec<ColumnFamilyDescriptor>) {
    let cache = Cache::new_lru_cache(settings.views_bytes);
    // What is not flushed is charged to the cache: there is one budget, and at most half of it is unflushed.
    let unflushed =
        WriteBufferManager::new_write_buffer_manager_with_cache(settings.views_bytes / 2, false, cache.clone());
    let mut database = Options::default();
    database.create_if_missing(create);
    // Views of an earlier version lack the newest tables, and have nothing to say there.
    database.create_missing_column_families(true);
    database.set_atomic_flush(true);
    database.set_write_buffer_manager(&unflushed);
    database.set_max_background_jobs(2);
    database.set_ratelimiter(BACKGROUND_BYTES_PER_SECOND, 100_000, 10);
    database.set_bytes_per_sync(1 << 20);
    database.set_max_open_files(OPEN_FILES);
    database.set_avoid_unnecessary_blocking_io(true);
    database.set_stats_dump_period_sec(0);
    database.set_stats_persist_period_sec(0);
    database.set_log_level(LogLevel::Warn);
    database.set_keep_log_file_num(2);
    database.set_max_log_file_size(1 << 20);
    let tables =
        Table::ALL.map(|table| ColumnFamilyDescriptor::new(table.name(), of_table(table, settings, &cache, mins)));
    (database, tables.into())
}

fn of_table(table: Table, settings: RocksSettings, cache: &Cache, mins: &Arc<Mins>) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_arena_block_size(ARENA_BYTES);
    options.set_write_buffer_size(settings.views_bytes / 4);
    if table == Table::ConsumeQueue {
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(6));
        options.set_compaction_filter_factory(DropTrimmed(Arc::clone(mins)));
        options.set_periodic_compaction_seconds(REWRITE_AFTER);
    }
    if table == Table::Key {
        options.set_compaction_filter_factory(DropOldKeys(Arc::clone(mins)));
        options.set_periodic_compaction_seconds(REWRITE_AFTER);
    }
    options
}
