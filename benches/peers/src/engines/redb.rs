//! redb: a copy-on-write B-tree in one file, through the page cache, with one writer at a time.
//!
//! A relaxed put is a transaction of its own without durability, and one that is durable is committed every second, so
//! that both promise what Aerolith's do. It loads 10,000 sorted records a transaction.

use crate::store::{EverySecond, Key, Result, Settings, Store};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::path::Path;
use std::sync::Arc;

const TABLE: TableDefinition<'static, Key, &'static [u8]> = TableDefinition::new("bench");

/// An open redb file.
pub struct Redb {
    _flusher: Option<EverySecond>,
    db: Arc<Database>,
}

fn commit<'r>(
    db: &Database,
    durability: Durability,
    records: impl IntoIterator<Item = (&'r Key, &'r [u8])>,
) -> Result<()> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(durability)?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in records {
            table.insert(key, value)?;
        }
    }
    Ok(transaction.commit()?)
}

impl Redb {
    /// Opens it.
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let db =
            Database::builder().set_cache_size(settings.cache as usize).create(dir.join("bench.redb"))?;
        let db = Arc::new(db);
        commit(&db, Durability::Immediate, [])?;
        let flushed = db.clone();
        let flusher = (!settings.durable)
            .then(|| EverySecond::start(move || commit(&flushed, Durability::Immediate, [])));
        Ok(Redb { _flusher: flusher, db })
    }
}

impl Store for Redb {
    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut sorted: Vec<(&Key, &[u8])> =
            batch.iter().map(|(key, value)| (key, value.as_slice())).collect();
        sorted.sort_unstable();
        commit(&self.db, Durability::Immediate, sorted)
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        commit(&self.db, Durability::None, [(key, value)])
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        commit(&self.db, Durability::Immediate, [(key, value)])
    }

    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        let value = redb::ReadableTable::get(&table, key)?;
        value.iter().for_each(|value| see(value.value()));
        Ok(value.is_some())
    }

    fn flush(&self) -> Result<()> {
        commit(&self.db, Durability::Immediate, [])
    }
}
