//! fjall, with values in the tree or, with `blobs`, apart. It reads and writes through the page cache.
//!
//! Its journal is written out once a second, so that relaxed puts promise what Aerolith's do; a durable put persists the
//! journal with `fdatasync`. What it has for read-mostly data is on: filters of 10 bits a key, point reads that hit.

use crate::store::{EverySecond, Key, Result, Settings, Store};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use std::path::Path;

/// An open fjall database with its one keyspace.
pub struct Fjall {
    _flusher: Option<EverySecond>,
    table: Keyspace,
    db: Database,
}

impl Fjall {
    /// Opens it.
    pub fn open(dir: &Path, settings: &Settings, blobs: bool) -> Result<Self> {
        let db = Database::builder(dir).cache_size(settings.cache).manual_journal_persist(true).open()?;
        let apart = blobs.then(|| KvSeparationOptions::default().separation_threshold(256));
        let table = db.keyspace("bench", || {
            KeyspaceCreateOptions::default()
                .expect_point_read_hits(true)
                .manual_journal_persist(true)
                .with_kv_separation(apart)
        })?;
        let flushed = db.clone();
        let flusher = (!settings.durable)
            .then(|| EverySecond::start(move || Ok(flushed.persist(PersistMode::SyncData)?)));
        Ok(Fjall { _flusher: flusher, table, db })
    }
}

impl Store for Fjall {
    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        for part in batch.chunks(1000) {
            let mut writes = self.db.batch();
            part.iter().for_each(|(key, value)| writes.insert(&self.table, key, value.as_slice()));
            writes.commit()?;
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.table.insert(key, value)?)
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.table.insert(key, value)?;
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.table.get(key)?;
        value.iter().for_each(|value| see(value));
        Ok(value.is_some())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}
