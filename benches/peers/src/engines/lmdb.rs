//! LMDB by heed: a copy-on-write B-tree in a memory map, without read-ahead, with one writer at a time.
//!
//! A relaxed put is a transaction of its own with `NO_SYNC`, and a thread syncs every second; a durable put is a
//! transaction that syncs. It loads 10,000 sorted records a transaction. It has no cache of its own.

use crate::store::{EverySecond, Key, Result, Settings, Store};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};
use std::path::Path;

/// An open environment with its one database.
pub struct Lmdb {
    _flusher: Option<EverySecond>,
    table: Database<'static, Bytes, Bytes>,
    env: Env,
}

impl Lmdb {
    /// Opens it.
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        let data = settings.records as usize * (settings.size + 80);
        options.map_size((data * 4).max(1 << 30).next_multiple_of(1 << 20)).max_readers(256);
        let mut flags = EnvFlags::NO_READ_AHEAD;
        if !settings.durable {
            flags |= EnvFlags::NO_SYNC;
        }
        // SAFETY: the folder was made by this bench for this process alone: nobody else opens or changes its files
        // while they are mapped, and no system crash is survived by anyone here, which is what NO_SYNC asks for.
        let env = unsafe { options.flags(flags).open(dir)? };
        let opened = env.create_databases_and_commit(env.write_txn()?, |opener, writing| {
            opener.create_database(writing, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let CommitOrAbort::Commit(table) = opened else { return Err("nothing aborts it".into()) };
        let synced = env.clone();
        let flusher = (!settings.durable).then(|| EverySecond::start(move || Ok(synced.force_sync()?)));
        Ok(Lmdb { _flusher: flusher, table, env })
    }

    fn commit<'r>(&self, records: impl IntoIterator<Item = (&'r Key, &'r [u8])>) -> Result<()> {
        let mut writing = self.env.write_txn()?;
        for (key, value) in records {
            self.table.put(&mut writing, key, value)?;
        }
        Ok(writing.commit()?)
    }
}

impl Store for Lmdb {
    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut sorted: Vec<(&Key, &[u8])> =
            batch.iter().map(|(key, value)| (key, value.as_slice())).collect();
        sorted.sort_unstable();
        self.commit(sorted)
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.commit([(key, value)])
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.commit([(key, value)])
    }

    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let reading = self.env.read_txn()?;
        let value = self.table.get(&reading, key)?;
        value.iter().for_each(|value| see(value));
        Ok(value.is_some())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }
}
