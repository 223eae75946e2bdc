//! The handles that programs hold: `Namespace` for blocking calls, `AsyncNamespace` for futures.
//!
//! Both have the same verbs with the same meaning. The blocking ones do their device I/O on the calling
//! thread. The futures do it on the thread's own ring where one is installed (`LocalRing`), else on a ring
//! thread that the engine shares; they can be awaited under any runtime.

use super::core::{Core, Life, Wanted, life};
use super::draft::{Draft, Outcome};
use super::policy::{Exists, Generation, Metadata, Ttl, WritePolicy};
use super::read::Get;
use super::record::Record;
use super::restore::{RestoreMode, Restored, StoredRecord};
use super::scan::{ScanPage, ScanPoint};
use super::scrub::ScrubFault;
use super::snapshot::Snapshot;
use super::stats::Stats;
use super::verify::Verified;
use super::write::{Updated, metadata_of};
use crate::clock::Timestamp;
use crate::device::context;
use crate::error::{Error, Result};
use crate::record::{Key, Value};
use std::sync::Arc;

/// A bin to write: its name and its value.
pub type Bin<'a> = (&'a str, Value<'a>);

/// A namespace, for programs that await. Cheap to clone.
///
/// ```
/// use aerolith_engine::{Config, Engine, Key, NamespaceConfig, WritePolicy};
///
/// let engine = Engine::open(Config::of(NamespaceConfig::in_memory("test", 64 << 20)))?;
/// let test = engine.namespace("test")?.to_async();
/// let work = async {
///     let key = Key::new("users", "ada")?;
///     test.put(&key, &[("born", 1815.into())], &WritePolicy::default()).await?;
///     let record = test.get(&key).await?.expect("it was just written");
///     assert_eq!(record.bin("born").and_then(|value| value.as_i64()), Some(1815));
///     Ok::<(), aerolith_engine::Error>(())
/// };
/// aerolith_engine::block_on(work)?;
/// # Ok::<(), aerolith_engine::Error>(())
/// ```
#[derive(Clone)]
pub struct AsyncNamespace {
    pub(crate) core: Arc<Core>,
}

impl AsyncNamespace {
    /// Reads a record.
    pub async fn get(&self, key: &Key<'_>) -> Result<Option<Record>> {
        self.begin_get(key).await
    }

    /// Starts reading a record: the device read, if there is one, is in flight when this returns.
    pub fn begin_get(&self, key: &Key<'_>) -> Get {
        self.core.begin_get(Wanted::of(key.digest()))
    }

    /// Reads several records, all device reads in flight at once. Results are in the order of the keys.
    pub async fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Record>>> {
        let reads: Vec<Get> = keys.iter().map(|key| self.begin_get(key)).collect();
        let mut records = Vec::with_capacity(reads.len());
        for read in reads {
            records.push(read.await?);
        }
        Ok(records)
    }

    /// What the index knows of a record. Reads the device only in the record's last second, when the index
    /// does not know its end exactly enough.
    pub async fn exists(&self, key: &Key<'_>) -> Result<Option<Metadata>> {
        let wanted = Wanted::of(key.digest());
        let now = self.core.now();
        let Some(found) = self.core.find(&wanted, now) else { return Ok(None) };
        let metadata = metadata_of(&found.entry);
        if life(found.entry.void_time(), now) == Life::Alive {
            return Ok(Some(metadata));
        }
        let record = self.core.begin_get(wanted).await?;
        Ok(record.map(|record| Metadata {
            generation: record.generation(),
            expires_at: record.expires_at(),
            stored_size: metadata.stored_size,
        }))
    }

    /// As `exists`, but never reads the device: in its last second a record that is not in RAM counts as there.
    pub fn peek(&self, key: &Key<'_>) -> Option<Metadata> {
        let wanted = Wanted::of(key.digest());
        let now = self.core.now();
        let found = self.core.find(&wanted, now)?;
        let metadata = metadata_of(&found.entry);
        if life(found.entry.void_time(), now) == Life::Alive {
            return Some(metadata);
        }
        match self.core.read_ram(&found, &wanted) {
            Some(record) if record.is_expired(now) => None,
            Some(record) => Some(Metadata { expires_at: record.expires_at(), ..metadata }),
            None => Some(metadata),
        }
    }

    /// Writes a record whole: bins that it had before are gone.
    ///
    /// # Errors
    /// What the policy refuses; `TooLarge`; `NoSpace`; `DeviceFailed`.
    pub async fn put(&self, key: &Key<'_>, bins: &[Bin<'_>], policy: &WritePolicy) -> Result<Metadata> {
        let updated =
            self.core.write_blind(key, policy, false, || Ok(Outcome::Put(Draft::of(bins)?))).await?;
        expect_put(updated)
    }

    /// Writes these bins and keeps the record's others.
    pub async fn merge(&self, key: &Key<'_>, bins: &[Bin<'_>], policy: &WritePolicy) -> Result<Metadata> {
        let updated = self
            .core
            .update(key, policy, |old| Ok::<_, Error>(Outcome::Put(Draft::merged(old, bins)?)))
            .await?;
        expect_put(updated)
    }

    /// Deletes a record. False if there was none.
    pub async fn delete(&self, key: &Key<'_>, policy: &WritePolicy) -> Result<bool> {
        let updated = self.core.write_blind(key, policy, true, || Ok(Outcome::Delete)).await?;
        Ok(updated == Updated::Deleted)
    }

    /// Gives a record a new generation and the policy's time to live, and nothing else. `None` if there is none.
    pub async fn touch(&self, key: &Key<'_>, policy: &WritePolicy) -> Result<Option<Metadata>> {
        let updated = self
            .core
            .update(key, policy, |old| match old {
                Some(old) => Ok::<_, Error>(Outcome::Put(Draft::merged(Some(old), &[])?)),
                None => Ok(Outcome::Keep),
            })
            .await?;
        Ok(match updated {
            Updated::Put(metadata) => Some(metadata),
            Updated::Deleted | Updated::Unchanged => None,
        })
    }

    /// Reads a record, lets `change` decide what becomes of it, and applies that, as one step. `change` may
    /// run more than once.
    pub async fn update<E: From<Error>>(
        &self,
        key: &Key<'_>,
        policy: &WritePolicy,
        change: impl FnMut(Option<&Record>) -> Result<Outcome, E>,
    ) -> Result<Updated, E> {
        self.core.update(key, policy, change).await
    }

    /// As `update`, with a record that `begin_get` has read before: used if it is still the current
    /// version, else it is read again.
    pub async fn update_with<E: From<Error>>(
        &self,
        key: &Key<'_>,
        policy: &WritePolicy,
        known: Option<Record>,
        change: impl FnMut(Option<&Record>) -> Result<Outcome, E>,
    ) -> Result<Updated, E> {
        self.core.update_with(key, policy, known, change).await
    }

    /// As `update`, for several records as one step, on a crash too. One outcome for each key, in their order. The
    /// policy holds for each of them.
    ///
    /// # Errors
    /// `TooLarge` if all records together do not fit into one block.
    pub async fn update_many<E: From<Error>>(
        &self,
        keys: &[Key<'_>],
        policy: &WritePolicy,
        change: impl FnMut(&[Option<Record>]) -> Result<Vec<Outcome>, E>,
    ) -> Result<Vec<Updated>, E> {
        self.core.update_many(keys, policy, true, change).await
    }

    /// Writes several records as one step, on a crash too. Of equal keys the last counts. None is read, unless the
    /// policy asks for something that only the records know. What it refuses for one it refuses for all.
    pub async fn put_many(&self, records: &[(Key<'_>, &[Bin<'_>])], policy: &WritePolicy) -> Result<()> {
        let is_last =
            |i: usize, key: &Key<'_>| !records[i + 1..].iter().any(|(k, _)| k.digest() == key.digest());
        let last: Vec<_> =
            records.iter().enumerate().filter(|(i, (key, _))| is_last(*i, key)).map(|(_, r)| r).collect();
        let keys: Vec<Key<'_>> = last.iter().map(|(key, _)| *key).collect();
        let needs_records =
            policy.ttl == Ttl::Keep || policy.exists != Exists::Any || policy.generation != Generation::Any;
        self.core
            .update_many(&keys, policy, needs_records, |_| {
                last.iter().map(|(_, bins)| Ok::<_, Error>(Outcome::Put(Draft::of(bins)?))).collect()
            })
            .await?;
        Ok(())
    }

    /// One page of a walk over all records, or those of `set`; see `ScanPoint`.
    pub async fn scan(&self, from: ScanPoint, set: Option<&str>, limit: usize) -> Result<ScanPage> {
        self.core.scan(from, set, limit).await
    }

    /// All records as they are at this moment, to be read while writes go on; see `Snapshot`.
    ///
    /// # Errors
    /// `SnapshotRunning` if there is one already.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.core.snapshot()
    }

    /// Writes a record as it was elsewhere: digest, generation, times, bins. Durable when a `flush` after it has ended.
    pub async fn restore(&self, record: &StoredRecord<'_>, mode: RestoreMode) -> Result<Restored> {
        self.core.restore(record, mode).await
    }

    /// Removes all records of `set`, or of the whole namespace, from this moment on; durable like a write.
    pub async fn truncate(&self, set: Option<&str>) -> Result<()> {
        self.core.truncate(set).await
    }

    /// Writes a checkpoint now; see `Namespace::checkpoint`.
    pub async fn checkpoint(&self) -> Result<bool> {
        self.core.checkpoint().await
    }

    /// Waits until everything acknowledged so far is on the device.
    pub async fn flush(&self) -> Result<()> {
        self.core.flush().await
    }

    /// A picture of the namespace.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Counts records and live bytes afresh from the index and compares them with what is kept as they come and
    /// go: for tests and for whoever doubts. Holds up all writes and reads meanwhile.
    ///
    /// # Errors
    /// What differs, in words: a mistake of the engine.
    pub fn verify(&self) -> Result<Verified, String> {
        self.core.verify()
    }

    /// The last damage that the scrub has found, oldest first; at most 100 faults.
    pub fn scrub_faults(&self) -> Vec<ScrubFault> {
        self.core.counters.scrub.faults()
    }

    /// How many records a set has; expired ones count until a sweep has met them. 0 if there is no such set.
    pub fn count(&self, set: &str) -> u64 {
        self.core.sets.find(set).map_or(0, |set| set.objects())
    }

    /// How many records of a set have a time to live.
    pub fn count_expiring(&self, set: &str) -> u64 {
        self.core.sets.find(set).map_or(0, |set| set.expiring())
    }

    /// The time as the engine sees it.
    pub fn now(&self) -> Timestamp {
        self.core.now()
    }

    /// The largest record, in bytes: header, key and bins.
    pub fn record_limit(&self) -> u32 {
        self.core.record_limit()
    }
}

fn expect_put(updated: Updated) -> Result<Metadata> {
    match updated {
        Updated::Put(metadata) => Ok(metadata),
        Updated::Deleted | Updated::Unchanged => unreachable!("a put puts"),
    }
}

/// A namespace, for programs that call and wait. Cheap to clone.
///
/// ```
/// use aerolith_engine::{Config, Engine, Key, NamespaceConfig, WritePolicy};
///
/// let engine = Engine::open(Config::of(NamespaceConfig::in_memory("test", 64 << 20)))?;
/// let test = engine.namespace("test")?;
/// let key = Key::new("users", "ada")?;
/// test.put(&key, &[("name", "Ada".into())], &WritePolicy::default())?;
/// test.merge(&key, &[("born", 1815.into())], &WritePolicy::default())?;
/// assert_eq!(test.get(&key)?.expect("it exists").bin_count(), 2);
/// assert!(test.delete(&key, &WritePolicy::default())?);
/// assert!(test.get(&key)?.is_none());
/// # Ok::<(), aerolith_engine::Error>(())
/// ```
#[derive(Clone)]
pub struct Namespace {
    inner: AsyncNamespace,
}

macro_rules! example {
    ($($line:literal)*) => { concat!(
        "\n```\n# use aerolith_engine::*;\n",
        "# let engine = Engine::open(Config::of(NamespaceConfig::in_memory(\"test\", 64 << 20)))?;\n",
        "# let test = engine.namespace(\"test\")?;\n",
        $($line, "\n",)*
        "# Ok::<(), Error>(())\n```\n"
    ) };
}

impl Namespace {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Namespace { inner: AsyncNamespace { core } }
    }

    /// The same namespace with futures.
    #[doc = example!("let test = test.to_async();" "assert_eq!(test.count(\"users\"), 0);")]
    pub fn to_async(&self) -> AsyncNamespace {
        self.inner.clone()
    }

    /// Reads a record.
    #[doc = example!("assert!(test.get(&Key::new(\"users\", \"nobody\")?)?.is_none());")]
    pub fn get(&self, key: &Key<'_>) -> Result<Option<Record>> {
        context::block_on(self.inner.get(key))
    }

    /// Reads several records; results are in the order of the keys.
    #[doc = example!(
        "let keys = [Key::new(\"users\", 1)?, Key::new(\"users\", 2)?];"
        "test.put(&keys[1], &[(\"name\", \"Bob\".into())], &WritePolicy::default())?;"
        "let records = test.get_many(&keys)?;"
        "assert!(records[0].is_none() && records[1].is_some());"
    )]
    pub fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Record>>> {
        context::block_on(self.inner.get_many(keys))
    }

    /// What the index knows of a record; see `AsyncNamespace::exists`.
    #[doc = example!(
        "let key = Key::new(\"users\", 1)?;"
        "test.put(&key, &[(\"name\", \"Bob\".into())], &WritePolicy::default())?;"
        "assert_eq!(test.exists(&key)?.map(|metadata| metadata.generation), Some(1));"
    )]
    pub fn exists(&self, key: &Key<'_>) -> Result<Option<Metadata>> {
        context::block_on(self.inner.exists(key))
    }

    /// Writes a record whole: bins that it had before are gone.
    #[doc = example!(
        "let key = Key::new(\"users\", 1)?;"
        "test.put(&key, &[(\"name\", \"Bob\".into())], &WritePolicy::default())?;"
        "let only_new = WritePolicy { exists: Exists::CreateOnly, ..WritePolicy::default() };"
        "assert!(matches!(test.put(&key, &[], &only_new), Err(Error::Exists)));"
    )]
    ///
    /// # Errors
    /// What the policy refuses; `TooLarge`; `NoSpace`; `DeviceFailed`.
    pub fn put(&self, key: &Key<'_>, bins: &[Bin<'_>], policy: &WritePolicy) -> Result<Metadata> {
        context::block_on(self.inner.put(key, bins, policy))
    }

    /// Writes these bins and keeps the record's others.
    #[doc = example!(
        "let key = Key::new(\"users\", 1)?;"
        "test.put(&key, &[(\"name\", \"Bob\".into())], &WritePolicy::default())?;"
        "test.merge(&key, &[(\"age\", 7.into())], &WritePolicy::default())?;"
        "assert_eq!(test.get(&key)?.expect(\"it exists\").bin_count(), 2);"
    )]
    pub fn merge(&self, key: &Key<'_>, bins: &[Bin<'_>], policy: &WritePolicy) -> Result<Metadata> {
        context::block_on(self.inner.merge(key, bins, policy))
    }

    /// Deletes a record. False if there was none.
    #[doc = example!(
        "let key = Key::new(\"users\", 1)?;"
        "assert!(!test.delete(&key, &WritePolicy::default())?);"
    )]
    pub fn delete(&self, key: &Key<'_>, policy: &WritePolicy) -> Result<bool> {
        context::block_on(self.inner.delete(key, policy))
    }

    /// Gives a record a new generation and the policy's time to live, and nothing else.
    #[doc = example!(
        "use std::time::Duration;"
        "let key = Key::new(\"users\", 1)?;"
        "test.put(&key, &[], &WritePolicy::default())?;"
        "let an_hour = WritePolicy::with_ttl(Ttl::For(Duration::from_secs(3600)));"
        "assert!(test.touch(&key, &an_hour)?.expect(\"it exists\").expires_at.is_some());"
    )]
    pub fn touch(&self, key: &Key<'_>, policy: &WritePolicy) -> Result<Option<Metadata>> {
        context::block_on(self.inner.touch(key, policy))
    }

    /// Reads a record, lets `change` decide what becomes of it, and applies that, as one step. `change` may
    /// run more than once.
    #[doc = example!(
        "let key = Key::new(\"counters\", \"visits\")?;"
        "let add_one = |old: Option<&Record>| {"
        "    let count = old.and_then(|r| r.bin(\"n\")).and_then(|v| v.as_i64()).unwrap_or(0);"
        "    Ok::<_, Error>(Outcome::Put(Draft::new().bin(\"n\", count + 1)?))"
        "};"
        "test.update(&key, &WritePolicy::default(), add_one)?;"
        "test.update(&key, &WritePolicy::default(), add_one)?;"
        "assert_eq!(test.get(&key)?.expect(\"it exists\").bin(\"n\"), Some(Value::Integer(2)));"
    )]
    pub fn update<E: From<Error>>(
        &self,
        key: &Key<'_>,
        policy: &WritePolicy,
        change: impl FnMut(Option<&Record>) -> Result<Outcome, E>,
    ) -> Result<Updated, E> {
        context::block_on(self.inner.update(key, policy, change))
    }

    /// As `update`, for several records as one step, on a crash too.
    #[doc = example!(
        "let (from, to) = (Key::new(\"accounts\", 1)?, Key::new(\"accounts\", 2)?);"
        "test.put(&from, &[(\"euro\", 10.into())], &WritePolicy::default())?;"
        "let euro = |r: &Option<Record>| r.as_ref().and_then(|r| r.bin(\"euro\")?.as_i64()).unwrap_or(0);"
        "test.update_many(&[from, to], &WritePolicy::default(), |old| {"
        "    let (a, b) = (euro(&old[0]) - 3, euro(&old[1]) + 3);"
        "    Ok::<_, Error>(vec!["
        "        Outcome::Put(Draft::new().bin(\"euro\", a)?),"
        "        Outcome::Put(Draft::new().bin(\"euro\", b)?),"
        "    ])"
        "})?;"
        "assert_eq!(euro(&test.get(&to)?), 3);"
    )]
    pub fn update_many<E: From<Error>>(
        &self,
        keys: &[Key<'_>],
        policy: &WritePolicy,
        change: impl FnMut(&[Option<Record>]) -> Result<Vec<Outcome>, E>,
    ) -> Result<Vec<Updated>, E> {
        context::block_on(self.inner.update_many(keys, policy, change))
    }

    /// Writes several records as one step, on a crash too, without reading any.
    #[doc = example!(
        "let (a, b) = (Key::new(\"users\", 1)?, Key::new(\"users\", 2)?);"
        "let bob: &[Bin] = &[(\"name\", \"Bob\".into())];"
        "test.put_many(&[(a, bob), (b, bob)], &WritePolicy::default())?;"
        "assert_eq!(test.count(\"users\"), 2);"
    )]
    pub fn put_many(&self, records: &[(Key<'_>, &[Bin<'_>])], policy: &WritePolicy) -> Result<()> {
        context::block_on(self.inner.put_many(records, policy))
    }

    /// One page of a walk over all records, or those of `set`.
    #[doc = example!(
        "test.put(&Key::new(\"users\", 1)?, &[], &WritePolicy::default())?;"
        "let (mut from, mut seen) = (Some(ScanPoint::START), 0);"
        "while let Some(point) = from {"
        "    let page = test.scan(point, Some(\"users\"), 100)?;"
        "    seen += page.records.len();"
        "    from = page.next;"
        "}"
        "assert_eq!(seen, 1);"
    )]
    pub fn scan(&self, from: ScanPoint, set: Option<&str>, limit: usize) -> Result<ScanPage> {
        context::block_on(self.inner.scan(from, set, limit))
    }

    /// All records as they are at this moment, to be read while writes go on; see `Snapshot`.
    #[doc = example!(
        "let key = Key::new(\"users\", 1)?;"
        "test.put(&key, &[(\"name\", \"Bob\".into())], &WritePolicy::default())?;"
        "let snapshot = test.snapshot()?;"
        "test.delete(&key, &WritePolicy::default())?;"
        "let records: Vec<Record> = snapshot.collect::<Result<_>>()?;"
        "assert_eq!((records.len(), records[0].digest()), (1, key.digest()));"
    )]
    ///
    /// # Errors
    /// `SnapshotRunning` if there is one already.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.inner.snapshot()
    }

    /// Writes a record as it was elsewhere: digest, generation, times, bins. Durable when a `flush` after it has ended.
    #[doc = example!(
        "let elsewhere = Engine::open(Config::of(NamespaceConfig::in_memory(\"test\", 64 << 20)))?;"
        "let other = elsewhere.namespace(\"test\")?;"
        "other.put(&Key::new(\"users\", 1)?, &[(\"name\", \"Bob\".into())], &WritePolicy::default())?;"
        "for record in other.snapshot()? {"
        "    test.restore(&StoredRecord::try_from(&record?)?, RestoreMode::KeepExisting)?;"
        "}"
        "test.flush()?;"
        "assert_eq!(test.get(&Key::new(\"users\", 1)?)?.expect(\"it was copied\").generation(), 1);"
    )]
    pub fn restore(&self, record: &StoredRecord<'_>, mode: RestoreMode) -> Result<Restored> {
        context::block_on(self.inner.restore(record, mode))
    }

    /// Removes all records of `set`, or of the whole namespace, from this moment on; durable like a write.
    #[doc = example!(
        "let key = Key::new(\"users\", 1)?;"
        "test.put(&key, &[], &WritePolicy::default())?;"
        "test.truncate(Some(\"users\"))?;"
        "assert!(test.get(&key)?.is_none());"
    )]
    pub fn truncate(&self, set: Option<&str>) -> Result<()> {
        context::block_on(self.inner.truncate(set))
    }

    /// Waits until everything acknowledged so far is on the device.
    #[doc = example!("test.flush()?;")]
    pub fn flush(&self) -> Result<()> {
        context::block_on(self.inner.flush())
    }

    /// Writes the index to the devices, so that the next start reads it and what was written since, not every block. False
    /// if there is no room for it. Happens by itself too, by `checkpoint_period`.
    #[doc = example!(
        "test.put(&Key::new(\"users\", 1)?, &[], &WritePolicy::default())?;"
        "assert!(test.checkpoint()?);"
    )]
    pub fn checkpoint(&self) -> Result<bool> {
        context::block_on(self.inner.checkpoint())
    }

    /// A picture of the namespace.
    #[doc = example!("assert_eq!(test.stats().objects, 0);")]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Counts records and live bytes afresh and compares; see `AsyncNamespace::verify`.
    #[doc = example!("assert_eq!(test.verify().expect(\"the books are right\").objects, 0);")]
    pub fn verify(&self) -> Result<Verified, String> {
        self.inner.verify()
    }

    /// The last damage that the scrub has found, oldest first; at most 100 faults.
    #[doc = example!("assert!(test.scrub_faults().is_empty());")]
    pub fn scrub_faults(&self) -> Vec<ScrubFault> {
        self.inner.scrub_faults()
    }

    /// How many records a set has; expired ones count until a sweep has met them.
    #[doc = example!("assert_eq!(test.count(\"users\"), 0);")]
    pub fn count(&self, set: &str) -> u64 {
        self.inner.count(set)
    }

    /// Its name.
    #[doc = example!("assert_eq!(test.name(), \"test\");")]
    pub fn name(&self) -> &str {
        &self.inner.core.config.name
    }

    /// Names its device set: no other one has it.
    #[doc = example!("assert_ne!(test.device_set(), [0; 16]);")]
    pub fn device_set(&self) -> [u8; 16] {
        self.inner.core.volume(0).header.set_uuid
    }

    /// The largest record, in bytes: header, key and bins.
    #[doc = example!("assert!(test.record_limit() > 1_000_000);")]
    pub fn record_limit(&self) -> u32 {
        self.inner.record_limit()
    }
}
