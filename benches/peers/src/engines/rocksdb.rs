//! RocksDB: direct I/O for reads, flushes and compactions, bloom filters, partitioned index and filters in the cache.
//!
//! With `blobs`, values lie in blob files whose garbage is collected. The log is written out once a second, so that
//! relaxed puts promise what Aerolith's do; a durable put is a write with sync, which RocksDB groups by itself.

use crate::store::{EverySecond, Key, Result, Settings, Store};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompressionType, DataBlockIndexType, Options,
    WriteBatch, WriteOptions,
};
use std::path::Path;
use std::sync::Arc;

/// An open RocksDB.
pub struct Rocks {
    _flusher: Option<EverySecond>,
    db: Arc<DB>,
}

fn options(settings: &Settings, blobs: bool) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(settings.cache as usize));
    table.set_block_size(4096);
    table.set_bloom_filter(10.0, false);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_format_version(5);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::None);
    options.set_use_direct_reads(true);
    options.set_use_direct_io_for_flush_and_compaction(true);
    options.set_max_background_jobs(2);
    options.set_write_buffer_size(64 << 20);
    options.set_manual_wal_flush(!settings.durable);
    if blobs {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(256);
        options.set_enable_blob_gc(true);
        options.set_blob_gc_age_cutoff(0.25);
        options.set_blob_gc_force_threshold(0.5);
    }
    options
}

impl Rocks {
    /// Opens it.
    pub fn open(dir: &Path, settings: &Settings, blobs: bool) -> Result<Self> {
        let db = Arc::new(DB::open(&options(settings, blobs), dir)?);
        let flushed = db.clone();
        let flusher = (!settings.durable).then(|| EverySecond::start(move || Ok(flushed.flush_wal(true)?)));
        Ok(Rocks { _flusher: flusher, db })
    }
}

impl Store for Rocks {
    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        for part in batch.chunks(1000) {
            let mut writes = WriteBatch::default();
            part.iter().for_each(|(key, value)| writes.put(key, value));
            self.db.write(writes)?;
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.db.put(key, value)?)
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        let mut sync = WriteOptions::default();
        sync.set_sync(true);
        Ok(self.db.put_opt(key, value, &sync)?)
    }

    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.db.get_pinned(key)?;
        value.iter().for_each(|value| see(value));
        Ok(value.is_some())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }
}
