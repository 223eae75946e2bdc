//! What every engine must do here, and the records that all of them are given.
//!
//! A record has a number. Its key is 16 bytes hashed from the number; its value is random bytes that begin with the
//! number, so that each read is checked for the right record at the cost of a comparison.

use crate::workload::{Load, Tally};
use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Whatever an engine fails with.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of what an engine is asked.
pub type Result<T> = std::result::Result<T, Failure>;
/// The key of a record.
pub type Key = [u8; 16];

/// An engine with one table, opened. Dropping it closes it.
pub trait Store: Send + Sync {
    /// Writes new records in the fastest way there is; they are durable after `flush`.
    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()>;
    /// Writes a record that will be durable within about a second.
    fn put(&self, key: &Key, value: &[u8]) -> Result<()>;
    /// Writes a record, and returns when it is durable.
    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()>;
    /// Shows the value of a key to `see`; false if there is none.
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool>;
    /// Returns when everything written before is durable.
    fn flush(&self) -> Result<()>;
    /// Runs a load with all its clients as futures on one thread, where the engine has such a way and this opening is
    /// meant to show it.
    fn run_as_futures(&self, _load: &Load<'_>) -> Option<Result<Tally>> {
        None
    }
}

/// How an engine is opened.
pub struct Settings {
    /// How many records it will hold.
    pub records: u64,
    /// Bytes of each value.
    pub size: usize,
    /// Bytes of its cache of blocks or records, where it has one.
    pub cache: u64,
    /// Whether only durable puts will come.
    pub durable: bool,
}

/// The engines, and the ways to set them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Blocking calls on so many threads.
    Aerolith,
    /// The same data: futures on one thread and its ring.
    AerolithRing,
    /// RocksDB.
    Rocksdb,
    /// RocksDB with values in blob files.
    RocksdbBlobs,
    /// fjall.
    Fjall,
    /// fjall with values in blob files.
    FjallBlobs,
    /// redb.
    Redb,
    /// LMDB, by heed.
    Lmdb,
}

impl Kind {
    /// Its name in tables and on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whose data it works on: the folder's name.
    pub fn folder(self) -> String {
        if self == Kind::AerolithRing { Kind::Aerolith.name() } else { self.name() }
    }

    /// Whether it brings its own data; else it runs on another's, and only the loads of clients.
    pub fn has_own_data(self) -> bool {
        self != Kind::AerolithRing
    }

    /// Whether it is in this build.
    pub fn is_built(self) -> bool {
        cfg!(feature = "rocksdb") || !matches!(self, Kind::Rocksdb | Kind::RocksdbBlobs)
    }

    /// Opens it in a folder that exists.
    pub fn open(self, dir: &Path, settings: &Settings) -> Result<Box<dyn Store>> {
        use crate::engines::{aerolith, fjall, lmdb, redb};
        Ok(match self {
            Kind::Aerolith => Box::new(aerolith::Aerolith::open(dir, settings, false)?),
            Kind::AerolithRing => Box::new(aerolith::Aerolith::open(dir, settings, true)?),
            #[cfg(feature = "rocksdb")]
            Kind::Rocksdb => Box::new(crate::engines::rocksdb::Rocks::open(dir, settings, false)?),
            #[cfg(feature = "rocksdb")]
            Kind::RocksdbBlobs => Box::new(crate::engines::rocksdb::Rocks::open(dir, settings, true)?),
            #[cfg(not(feature = "rocksdb"))]
            Kind::Rocksdb | Kind::RocksdbBlobs => {
                return Err("this build lacks RocksDB: build with --features rocksdb".into());
            }
            Kind::Fjall => Box::new(fjall::Fjall::open(dir, settings, false)?),
            Kind::FjallBlobs => Box::new(fjall::Fjall::open(dir, settings, true)?),
            Kind::Redb => Box::new(redb::Redb::open(dir, settings)?),
            Kind::Lmdb => Box::new(lmdb::Lmdb::open(dir, settings)?),
        })
    }
}

/// The key of record number `id`.
pub fn key_of(id: u64) -> Key {
    let mut key = [0; 16];
    SmallRng::seed_from_u64(id).fill_bytes(&mut key);
    key
}

/// Makes values out of a pool of random bytes, and knows them again.
pub struct Values {
    pool: Vec<u8>,
    size: usize,
}

impl Values {
    /// Values of `size` bytes.
    pub fn new(size: usize) -> Self {
        let mut pool = vec![0; (1 << 20) + size];
        SmallRng::seed_from_u64(1).fill_bytes(&mut pool);
        Values { pool, size }
    }

    /// Fills `value` with a value for record number `id`.
    pub fn fill(&self, id: u64, rng: &mut SmallRng, value: &mut Vec<u8>) {
        let from = rng.random_range(0..1 << 20);
        value.clear();
        value.extend_from_slice(&id.to_le_bytes());
        value.extend_from_slice(&self.pool[from..from + self.size - 8]);
    }

    /// Whether `value` is one of record number `id`.
    pub fn is_of(&self, id: u64, value: &[u8]) -> bool {
        value.len() == self.size && value[..8] == id.to_le_bytes()
    }
}

/// A thread that does something once a second, until it is dropped: how peers are brought to the promise of Aerolith's
/// relaxed puts, on the device within a second.
pub struct EverySecond {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EverySecond {
    /// Starts it. What fails ends the process: a bench that goes on would measure something else.
    pub fn start(work: impl Fn() -> Result<()> + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(Duration::from_secs(1)) {
                if let Err(failure) = work() {
                    eprintln!("the flush of every second failed: {failure}");
                    std::process::exit(1);
                }
            }
        });
        EverySecond { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for EverySecond {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic in it has already been printed.
            let _ = thread.join();
        }
    }
}
