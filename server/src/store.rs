//! The few engine calls the protocols need, in their words: text keys, text values, milliseconds.
//!
//! A protocol key is a string key of one configured set; its value is the bin with the empty name. Text that
//! reads as a canonical 64-bit integer is stored as an integer, so that counters are numbers for every
//! protocol; other valid UTF-8 is stored as a string, anything else as bytes. A read gives back the same text.
//!
//! Whatever the index can tell ([`Store::metadata`]) is told at once. A read of the value
//! ([`Store::begin_get`]) is either ready or has its device read *already in flight* when the call returns:
//! callers start many before they await one. A modification is a function from the old record to an
//! [`Outcome`], run under the engine's lock: it must not wait for anything, and it may run again when the
//! record has changed meanwhile or there was no space yet.
//!
//! What always holds: no method blocks the thread, and an expired record is never handed out.

use aerolith_engine as engine;
pub mod stats;
mod value;

pub use engine::Record;
pub use stats::StoreStats;
pub use value::{Encoded, NewValue, ProtocolRecord, Text, Value};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What can go wrong in the engine, as far as a protocol has to know. Printed without the word, which is for clients only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// The word a Redis client matches on: `ERR`, `OOM` (no space for writes) or `MISCONF` (a device has failed, or gave
    /// damaged bytes).
    pub code: &'static str,
    /// What happened and what to do about it.
    pub message: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}

/// How the data behind a store is laid out and kept; sizes in bytes.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Where the data file lies.
    pub data_dir: PathBuf,
    /// Size of the data file.
    pub size: u64,
    /// Budget of the read cache.
    pub cache: u64,
    /// Budget of the write buffers and the post-write cache.
    pub write_cache: u64,
    /// Whether an acknowledgement waits for the device (`group`) or not (`relaxed`).
    pub durability: crate::config::Durability,
    /// How long a relaxed write may wait in RAM.
    pub flush_max: Duration,
    /// How often a checkpoint is written; `None`: only when asked for.
    pub checkpoint_period: Option<Duration>,
    /// Bytes a second that the scrub reads; 0: none.
    pub scrub_rate: u64,
    /// Above which share of the space keys are evicted, in percent; 0: never.
    pub evict_above: u8,
    /// The set that protocol keys live in.
    pub set: String,
}

impl StoreConfig {
    /// The part that can change while the data is open.
    pub(crate) fn tunable(&self) -> stats::Tunable {
        stats::Tunable {
            durability: self.durability.into(),
            flush_max: self.flush_max,
            scrub_rate: self.scrub_rate,
            evict_above: self.evict_above,
            checkpoint_period: self.checkpoint_period,
        }
    }

    /// The part of the server's settings that concerns the data.
    pub fn of(config: &crate::Config) -> StoreConfig {
        let period_ms = config.checkpoint_period_ms;
        StoreConfig {
            data_dir: config.data_dir.clone(),
            size: config.size.0,
            cache: config.cache.0,
            write_cache: config.write_cache.0,
            durability: config.durability,
            flush_max: Duration::from_millis(config.flush_max_ms),
            checkpoint_period: (period_ms > 0).then(|| Duration::from_millis(period_ms)),
            scrub_rate: config.scrub_rate.0,
            evict_above: config.evict_above,
            set: config.redis_set.clone(),
        }
    }
}

impl From<engine::Error> for StoreError {
    fn from(error: engine::Error) -> Self {
        let code = match &error {
            engine::Error::NoSpace { .. } => "OOM",
            engine::Error::DeviceFailed { .. } | engine::Error::Device(_) | engine::Error::Corrupt { .. } => {
                "MISCONF"
            }
            _ => "ERR",
        };
        StoreError { code, message: error.to_string() }
    }
}

impl From<engine::record::KeyError> for StoreError {
    fn from(error: engine::record::KeyError) -> Self {
        engine::Error::from(error).into()
    }
}

impl From<crate::config::Durability> for engine::Durability {
    fn from(durability: crate::config::Durability) -> Self {
        match durability {
            crate::config::Durability::Relaxed => engine::Durability::Relaxed,
            crate::config::Durability::Group => engine::Durability::Group,
        }
    }
}

/// What is known of a record without a device read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// When it expires, in milliseconds since the Unix epoch; `None` is never. Rounded up to a second where
    /// only the index was asked.
    pub expires_at_ms: Option<u64>,
}

/// When a stored value expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// When the old version would have; never if there was none.
    Keep,
    /// At this time, in milliseconds since the Unix epoch.
    At(u64),
}

/// Whether a blind write applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Any,
    /// Only if the key is not there.
    IfAbsent,
    /// Only if the key is there.
    IfPresent,
}

/// What a modification makes of a record.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Store this value.
    Put(NewValue<'a>, Expiry),
    /// Keep the value and change only when it expires.
    Touch(Expiry),
    /// Remove the record.
    Delete,
    /// Leave everything as it was.
    Keep,
}

/// The bin that holds a protocol value.
const BIN: &str = "";
/// The namespace of the protocol keys.
const NAMESPACE: &str = "test";
/// The data file within the data directory.
const DATA_FILE: &str = "test.data";

impl Expiry {
    fn ttl(self) -> engine::Ttl {
        match self {
            Expiry::Never => engine::Ttl::Never,
            Expiry::Keep => engine::Ttl::Keep,
            Expiry::At(ms) => engine::Ttl::At(engine::Timestamp(ms)),
        }
    }
}

/// What the engine should make of a record, whose old version is `old`.
fn outcome(outcome: Outcome<'_>, old: Option<&Record>) -> Result<engine::Outcome, StoreError> {
    let (draft, expiry) = match outcome {
        Outcome::Keep => return Ok(engine::Outcome::Keep),
        Outcome::Delete => return Ok(engine::Outcome::Delete),
        Outcome::Put(value, expiry) => {
            (engine::Draft::new().bin(BIN, value.as_value()).map_err(engine::Error::from)?, expiry)
        }
        Outcome::Touch(expiry) => (engine::Draft::merged(old, &[]).map_err(engine::Error::from)?, expiry),
    };
    Ok(engine::Outcome::Put(draft.ttl(expiry.ttl())))
}

/// A read that has been started.
pub enum Get {
    /// The record was in RAM, or the index knows that there is none.
    Ready(Result<Option<Record>, StoreError>),
    /// The device read is in flight.
    Pending(engine::Get),
}

impl Get {
    /// Bytes of RAM that the read holds, now or when it is answered.
    pub fn size(&self) -> usize {
        match self {
            Get::Ready(Ok(Some(record))) => record.size() as usize,
            Get::Ready(_) => 0,
            Get::Pending(read) => read.size(),
        }
    }

    /// Waits for the answer.
    pub async fn wait(self) -> Result<Option<Record>, StoreError> {
        match self {
            Get::Ready(answer) => answer,
            Get::Pending(read) => Ok(read.await?),
        }
    }
}

/// A device read started ahead of the modification that will need it; forgotten when dropped.
pub struct Prefetch {
    digest: engine::record::Digest,
    read: engine::Get,
}

/// The reads started ahead for the commands of one batch, in their order.
#[derive(Default)]
pub struct Ahead(std::collections::VecDeque<Prefetch>);

impl Ahead {
    /// How many reads there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Bytes of RAM that the reads hold when they are answered.
    pub fn size(&self) -> usize {
        self.0.iter().map(|ahead| ahead.read.size()).sum()
    }

    /// Adds a read.
    pub fn push(&mut self, read: Prefetch) {
        self.0.push_back(read);
    }

    /// Takes the read of this key out, and forgets those before it: their commands have been run.
    fn take(&mut self, digest: engine::record::Digest) -> Option<engine::Get> {
        let at = self.0.iter().position(|ahead| ahead.digest == digest)?;
        self.0.drain(..=at).next_back().map(|ahead| ahead.read)
    }
}

/// One step of a walk over all keys.
#[derive(Debug)]
pub struct ScanPage {
    /// Keys with the name that TYPE gives their values.
    pub keys: Vec<(Vec<u8>, &'static str)>,
    /// Where to go on; 0 when the walk is over.
    pub next: u64,
}

/// A cheap handle on the engine, one for each connection. The engine closes, with everything flushed, when the
/// last one is dropped.
#[derive(Clone)]
pub struct Store {
    namespace: engine::AsyncNamespace,
    set: Arc<str>,
    engine: Arc<engine::Engine>,
}

impl Store {
    /// Opens the data; errors say which file and what to do. `progress` tells how far it is and can call it off.
    pub fn open(config: &StoreConfig, progress: Arc<engine::OpenProgress>) -> Result<Store, StoreError> {
        let dir = &config.data_dir;
        std::fs::create_dir_all(dir).map_err(|error| StoreError {
            code: "ERR",
            message: format!("the data directory {} cannot be made: {error}", dir.display()),
        })?;
        Store::with_device(
            config,
            engine::DeviceConfig::Path { path: dir.join(DATA_FILE), size: config.size },
            progress,
        )
    }

    /// The same in RAM only, for tests.
    #[doc(hidden)]
    pub fn in_memory(config: &StoreConfig) -> Result<Store, StoreError> {
        Store::with_device(config, engine::DeviceConfig::Memory { size: config.size }, Arc::default())
    }

    /// The same on a device that the caller has made, for tests.
    #[cfg(test)]
    pub(crate) fn on_device(
        config: &StoreConfig,
        device: Arc<dyn engine::device::Device>,
    ) -> Result<Store, StoreError> {
        Store::with_device(config, engine::DeviceConfig::Handed(device), Arc::default())
    }

    fn with_device(
        config: &StoreConfig,
        device: engine::DeviceConfig,
        progress: Arc<engine::OpenProgress>,
    ) -> Result<Store, StoreError> {
        let namespace = engine::NamespaceConfig {
            name: NAMESPACE.into(),
            devices: vec![device],
            read_cache_size: config.cache,
            write_cache_size: config.write_cache,
            durability: config.durability.into(),
            flush_max: config.flush_max,
            checkpoint_period: config.checkpoint_period,
            scrub_rate: config.scrub_rate,
            evict_above: config.evict_above,
            ..engine::NamespaceConfig::default()
        };
        let engine = engine::Engine::open(engine::Config {
            progress: Some(progress),
            ..engine::Config::of(namespace)
        })?;
        let namespace = engine.namespace(NAMESPACE)?.to_async();
        Ok(Store { namespace, set: config.set.as_str().into(), engine: Arc::new(engine) })
    }

    /// A namespace of the engine, with blocking verbs, by its name; without one, that of the protocol keys.
    pub fn namespace(&self, name: Option<&str>) -> Result<engine::Namespace, StoreError> {
        Ok(self.engine.namespace(name.unwrap_or(NAMESPACE))?)
    }

    fn key<'a>(&'a self, key: &'a [u8]) -> Result<engine::Key<'a>, StoreError> {
        Ok(engine::Key::new(&self.set, engine::UserKey::String(key))?)
    }

    /// Starts reading a record.
    pub fn begin_get(&self, key: &[u8]) -> Get {
        let key = match self.key(key) {
            Ok(key) => key,
            Err(error) => return Get::Ready(Err(error)),
        };
        let mut get = self.namespace.begin_get(&key);
        match get.try_take() {
            Some(answer) => Get::Ready(answer.map_err(StoreError::from)),
            None => Get::Pending(get),
        }
    }

    /// What is known of a record without a device read.
    pub fn metadata(&self, key: &[u8]) -> Result<Option<Metadata>, StoreError> {
        let found = self.namespace.peek(&self.key(key)?);
        Ok(found.map(|found| Metadata { expires_at_ms: found.expires_at.map(|at| at.0) }))
    }

    /// Starts the device read that an `update` of this key will need; none if it will need none.
    pub fn prefetch(&self, key: &[u8]) -> Option<Prefetch> {
        let key = self.key(key).ok()?;
        let mut read = self.namespace.begin_get(&key);
        read.try_take().is_none().then_some(Prefetch { digest: key.digest(), read })
    }

    /// Replaces a record whole, without reading it. Says whether the condition held.
    pub async fn put(
        &self,
        key: &[u8],
        value: NewValue<'_>,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<bool, StoreError> {
        let exists = match condition {
            Condition::Any => engine::Exists::Any,
            Condition::IfAbsent => engine::Exists::CreateOnly,
            Condition::IfPresent => engine::Exists::UpdateOnly,
        };
        let policy = engine::WritePolicy { exists, ..engine::WritePolicy::with_ttl(expiry.ttl()) };
        let key = self.key(key)?;
        match self.namespace.put(&key, &[(BIN, value.as_value())], &policy).await {
            Ok(_) => Ok(true),
            Err(engine::Error::Exists | engine::Error::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores all pairs, all or none of them also on a crash. The keys differ from each other.
    pub async fn put_many(&self, pairs: Vec<(&[u8], NewValue<'_>)>) -> Result<(), StoreError> {
        let keys = pairs.iter().map(|(key, _)| self.key(key)).collect::<Result<Vec<_>, _>>()?;
        let bins: Vec<[engine::Bin<'_>; 1]> =
            pairs.iter().map(|(_, value)| [(BIN, value.as_value())]).collect();
        let records: Vec<_> = keys.into_iter().zip(bins.iter().map(|bins| &bins[..])).collect();
        Ok(self.namespace.put_many(&records, &engine::WritePolicy::with_ttl(engine::Ttl::Never)).await?)
    }

    /// Removes a record, without reading it. Says whether it was there.
    pub async fn delete(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.namespace.delete(&self.key(key)?, &engine::WritePolicy::default()).await?)
    }

    /// Reads a record and replaces it by what `change` makes of it, atomically. Uses the read in `ahead`, if
    /// there is one for this key.
    pub async fn update<'a, T>(
        &self,
        key: &[u8],
        ahead: &mut Ahead,
        mut change: impl FnMut(Option<&Record>) -> (Outcome<'a>, T),
    ) -> Result<T, StoreError> {
        let key = self.key(key)?;
        let known = match ahead.take(key.digest()) {
            Some(read) => read.await?,
            None => None,
        };
        let mut told = None;
        let policy = engine::WritePolicy::default();
        let apply = |old: Option<&Record>| {
            let (wanted, tell) = change(old);
            told = Some(tell);
            outcome(wanted, old)
        };
        self.namespace.update_with(&key, &policy, known, apply).await?;
        Ok(told.expect("an update that succeeds has run its function"))
    }

    /// The same for several keys that differ from each other: all outcomes or none, also on a crash.
    pub async fn update_many<'a, T>(
        &self,
        keys: &[&[u8]],
        mut change: impl FnMut(&[Option<Record>]) -> (Vec<Outcome<'a>>, T),
    ) -> Result<T, StoreError> {
        let keys = keys.iter().map(|key| self.key(key)).collect::<Result<Vec<_>, _>>()?;
        let mut told = None;
        let apply = |old: &[Option<Record>]| {
            let (wanted, tell) = change(old);
            told = Some(tell);
            wanted.into_iter().zip(old).map(|(wanted, old)| outcome(wanted, old.as_ref())).collect()
        };
        self.namespace.update_many(&keys, &engine::WritePolicy::default(), apply).await?;
        Ok(told.expect("an update that succeeds has run its function"))
    }

    /// About `limit` keys from `cursor` on (0 is the start; any other number is a place in the walk too).
    ///
    /// A key that is there during the whole walk is told at least once.
    pub async fn scan(&self, cursor: u64, limit: usize) -> Result<ScanPage, StoreError> {
        let from = engine::ScanPoint::from_cursor(cursor);
        let page = self.namespace.scan(from, Some(&self.set), limit).await?;
        let keys = page.records.into_iter().filter_map(|record| {
            let kind = match record.value() {
                Value::Integer(_) | Value::Text(_) => "string",
                Value::Other(kind) => kind,
            };
            match record.user_key()? {
                engine::UserKey::String(key) => Some((key.to_vec(), kind)),
                _ => None,
            }
        });
        Ok(ScanPage { keys: keys.collect(), next: page.next.map_or(0, engine::ScanPoint::to_cursor) })
    }

    /// The time as the store sees it, in Unix milliseconds: never less than before.
    pub fn now_ms(&self) -> u64 {
        self.namespace.now().0
    }

    /// How many keys there are, without a walk.
    pub fn count(&self) -> u64 {
        self.namespace.count(&self.set)
    }

    /// Removes all keys of the set.
    pub async fn truncate(&self) -> Result<(), StoreError> {
        Ok(self.namespace.truncate(Some(&self.set)).await?)
    }

    /// Returns when everything acknowledged so far is on the device.
    pub async fn flush(&self) -> Result<(), StoreError> {
        Ok(self.namespace.flush().await?)
    }

    /// Writes a checkpoint now. False if there is no room for one.
    pub async fn checkpoint(&self) -> Result<bool, StoreError> {
        Ok(self.namespace.checkpoint().await?)
    }

    /// Closes the engine: flushes, seals the open blocks, gives the data file up. False if other handles are
    /// still held; the last of them closes it then.
    pub fn close(self) -> Result<bool, StoreError> {
        match Arc::try_unwrap(self.engine) {
            Ok(engine) => Ok(engine.close().map(|()| true)?),
            Err(_) => Ok(false),
        }
    }

    /// Puts a value that is not a Redis string, for tests of WRONGTYPE.
    #[doc(hidden)]
    pub async fn put_list(&self, key: &[u8]) -> Result<(), StoreError> {
        let bins = [(BIN, engine::Value::List(&[0x90]))];
        self.namespace.put(&self.key(key)?, &bins, &engine::WritePolicy::default()).await?;
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("set", &self.set).finish_non_exhaustive()
    }
}
