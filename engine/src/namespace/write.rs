//! Writing one record: fetch outside the lock, apply under it.
//!
//! Every modification is a function from the old record (or none) to an outcome. If the function needs the
//! old bytes and they are not in RAM they are fetched first, without a lock; then the partition is locked,
//! the entry must still point where the bytes came from (else they are fetched again), the function runs,
//! the new version is appended, the entry replaced, the lock is gone. A blind put or a delete never reads.
//!
//! When there is no block to append to, nothing has changed yet: the lock is let go, the writer waits for
//! the jobs and starts over. So the function may run more than once.

use super::core::{Core, Found, Life, Need, Wanted, life};
use super::draft::{Draft, Outcome};
use super::policy::{Exists, Generation, Metadata, Ttl, WritePolicy};
use super::record::Record;
use super::sets::Set;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::format::{EncodedRecord, RecordFlags, void_time};
use crate::index::{Entry, Flags, Partition, SizeClass};
use crate::planted::{self, Bug};
use crate::record::{Key, Value};
use crate::volume::{AppendError, Receipt};
use std::sync::Arc;

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// The record is now this.
    Put(Metadata),
    /// There was a record, and it is gone.
    Deleted,
    /// Nothing changed: the outcome was `Keep`, or a deletion of nothing.
    Unchanged,
}

/// What is known of the key when an outcome is applied.
pub(crate) struct Target<'a> {
    pub key: &'a Key<'a>,
    pub wanted: Wanted,
    pub set: Arc<Set>,
    pub policy: &'a WritePolicy,
}

impl<'a> Target<'a> {
    pub fn new(core: &Core, key: &'a Key<'a>, policy: &'a WritePolicy) -> Result<Self> {
        let set = core.sets.named(key.set())?;
        Ok(Target { key, wanted: Wanted::of(key.digest()), set, policy })
    }
}

/// The key's state under the partition's lock.
pub(crate) struct Current<'r> {
    /// The entry, whatever it stands for.
    pub entry: Option<Entry>,
    /// The record that is alive, if its bytes were asked for.
    pub record: Option<&'r Record>,
    /// Whether a record is alive.
    pub is_alive: bool,
}

/// A change that has been encoded but not applied.
pub(crate) struct Change {
    pub record: EncodedRecord,
    pub class: SizeClass,
    pub entry: Entry,
}

/// Whether an entry stands for a deletion.
pub(crate) fn is_tombstone(entry: &Entry) -> bool {
    entry.flags().contains(Flags::TOMBSTONE)
}

/// How one attempt under the lock ended.
pub(crate) enum Attempt<E> {
    Done(Updated, Option<Receipt>),
    /// The bytes that this stands for are needed first.
    Fetch(Found),
    NoBlock,
    Failed(E),
}

impl Core {
    /// Reads, lets `change` decide, and applies its outcome, as one step.
    pub async fn update<E: From<Error>>(
        self: &Arc<Self>,
        key: &Key<'_>,
        policy: &WritePolicy,
        change: impl FnMut(Option<&Record>) -> Result<Outcome, E>,
    ) -> Result<Updated, E> {
        self.update_with(key, policy, None, change).await
    }

    /// As `update`, with a record that has been read before.
    pub async fn update_with<E: From<Error>>(
        self: &Arc<Self>,
        key: &Key<'_>,
        policy: &WritePolicy,
        known: Option<Record>,
        mut change: impl FnMut(Option<&Record>) -> Result<Outcome, E>,
    ) -> Result<Updated, E> {
        let target = Target::new(self, key, policy)?;
        // What came from RAM may have been overwritten in place since; what came from the device cannot.
        let mut fetched = known.and_then(|record| record.place().map(|place| (place, record)));
        let done = loop {
            let turn = self.gate.turn();
            match self.try_update(&target, fetched.take(), &mut change) {
                Attempt::Done(updated, receipt) => break (updated, receipt),
                Attempt::Fetch(found) => {
                    fetched = self.fetch(&target.wanted, &found).await?.map(|record| (found, record));
                }
                Attempt::NoBlock => self.wait_for_space(turn).await?,
                Attempt::Failed(error) => return Err(error),
            }
        };
        self.finish(done.0, done.1, policy).await.map_err(E::from)
    }

    /// Puts or deletes without looking at the old record. `is_exact`: the caller must know whether there was one.
    pub async fn write_blind(
        self: &Arc<Self>,
        key: &Key<'_>,
        policy: &WritePolicy,
        is_exact: bool,
        make: impl Fn() -> Result<Outcome>,
    ) -> Result<Updated> {
        let target = Target::new(self, key, policy)?;
        let done = loop {
            let turn = self.gate.turn();
            let mut partition = self.index.lock(target.wanted.partition);
            let attempt = self.try_blind(&mut partition, &target, is_exact, &make);
            drop(partition);
            match attempt {
                Attempt::Done(updated, receipt) => break (updated, receipt),
                Attempt::Fetch(_) => return self.update(key, policy, |_| make()).await,
                Attempt::NoBlock => self.wait_for_space(turn).await?,
                Attempt::Failed(error) => return Err(error),
            }
        };
        self.finish(done.0, done.1, policy).await
    }

    async fn finish(&self, done: Updated, receipt: Option<Receipt>, policy: &WritePolicy) -> Result<Updated> {
        match done {
            Updated::Put(_) => self.counters.writes.add(1),
            Updated::Deleted => self.counters.deletes.add(1),
            Updated::Unchanged => {}
        }
        if let Some(receipt) = receipt {
            self.acknowledge(receipt, policy.durability).await?;
        }
        Ok(done)
    }

    fn try_blind(
        &self,
        partition: &mut Partition<'_, Entry>,
        target: &Target<'_>,
        is_exact: bool,
        make: impl Fn() -> Result<Outcome>,
    ) -> Attempt<Error> {
        let now = self.now();
        let entry = partition.get(target.wanted.tag);
        let visible = entry.filter(|entry| self.is_visible(entry, now));
        if let Some(entry) = visible {
            // The old record itself matters where its exact end does.
            let in_doubt = life(entry.void_time(), now) == Life::LastSecond
                && (is_exact
                    || target.policy.exists != Exists::Any
                    || target.policy.generation != Generation::Any);
            let keeps_end = target.policy.ttl == Ttl::Keep && entry.void_time() != 0;
            if in_doubt || keeps_end {
                return Attempt::Fetch(self.found(entry));
            }
        }
        let current = Current { entry, record: None, is_alive: visible.is_some() };
        self.decide(partition, target, current, now, make)
    }

    fn try_update<E: From<Error>>(
        &self,
        target: &Target<'_>,
        fetched: Option<(Found, Record)>,
        change: &mut impl FnMut(Option<&Record>) -> Result<Outcome, E>,
    ) -> Attempt<E> {
        let now = self.now();
        let mut partition = self.index.lock(target.wanted.partition);
        let entry = partition.get(target.wanted.tag);
        let record = match self.current_record(&partition, &target.wanted, fetched, now) {
            Ok(record) => record,
            Err(found) => return Attempt::Fetch(found),
        };
        let current = Current { entry, record: record.as_ref(), is_alive: record.is_some() };
        self.decide(&mut partition, target, current, now, || change(record.as_ref()))
    }

    /// The living record under the partition's lock: from RAM, or the one fetched if it is still current.
    /// Else what must be fetched.
    pub fn current_record(
        &self,
        partition: &Partition<'_, Entry>,
        wanted: &Wanted,
        fetched: Option<(Found, Record)>,
        now: Timestamp,
    ) -> Result<Option<Record>, Found> {
        let Some(found) = self.find_in(partition, wanted.tag, now) else { return Ok(None) };
        let record = match fetched {
            Some((of, record)) if of.is_same_place(&found) => Some(record),
            _ => self.read_ram(&found, wanted),
        };
        let record = record.ok_or(found)?;
        Ok(Some(record).filter(|record| !record.is_expired(now)))
    }

    /// Checks the policy, lets `make` decide, applies.
    fn decide<E: From<Error>>(
        &self,
        partition: &mut Partition<'_, Entry>,
        target: &Target<'_>,
        current: Current<'_>,
        now: Timestamp,
        make: impl FnOnce() -> Result<Outcome, E>,
    ) -> Attempt<E> {
        if let Err(error) = self.check_open().and_then(|()| check_policy(target.policy, &current)) {
            return Attempt::Failed(error.into());
        }
        let outcome = match make() {
            Ok(outcome) => outcome,
            Err(error) => return Attempt::Failed(error),
        };
        if planted::is(Bug::DeleteWithoutTombstone)
            && matches!(outcome, Outcome::Delete)
            && let Some(old) = current.entry.filter(|_| current.is_alive)
        {
            partition.remove(old.tag());
            self.uncount(&target.set, &old);
            self.volume(old.location().device).release(old.location(), old.size_class());
            return Attempt::Done(Updated::Deleted, None);
        }
        let change = match self.encode(target, &current, outcome, now) {
            Ok(Some(change)) => change,
            Ok(None) => return Attempt::Done(Updated::Unchanged, None),
            Err(error) => return Attempt::Failed(error.into()),
        };
        match self.apply(partition, target, &current, change, now) {
            Ok((updated, receipt)) => Attempt::Done(updated, Some(receipt)),
            Err(AppendError::NoBlock) => Attempt::NoBlock,
            Err(AppendError::Latched) => {
                let volume = self.volume_of(target.wanted.partition, target.wanted.tag);
                Attempt::Failed(self.device_failed(volume).into())
            }
        }
    }

    /// Turns an outcome into a record to append and an entry to publish; `None` if nothing changes.
    pub fn encode(
        &self,
        target: &Target<'_>,
        current: &Current<'_>,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<Option<Change>> {
        match outcome {
            Outcome::Keep => Ok(None),
            Outcome::Delete if !current.is_alive => Ok(None),
            Outcome::Delete => Ok(Some(self.encode_tombstone(target, now))),
            Outcome::Put(draft) => self.encode_put(target, current, draft, now).map(Some),
        }
    }

    fn encode_put(
        &self,
        target: &Target<'_>,
        current: &Current<'_>,
        draft: Draft,
        now: Timestamp,
    ) -> Result<Change> {
        self.check_writable()?;
        let (bins, bin_count, ttl) = draft.into_parts();
        let expires_ms = self.expires_ms(ttl.unwrap_or(target.policy.ttl), current, now);
        let generation = match current.entry.filter(|_| current.is_alive) {
            Some(entry) if entry.generation() < u16::MAX => entry.generation() + 1,
            _ => 1,
        };
        let mut record = begin_record(target.key, target.policy.send_key, bins.len());
        record.body().extend_from_slice(&bins);
        let limit = self.record_limit();
        if record.length() > limit {
            return Err(Error::TooLarge { size: u64::from(record.length()), limit });
        }
        record.complete(self.next_sequence(), generation, expires_ms, now.0, RecordFlags(0), bin_count);
        Ok(self.change_to(target, current, record))
    }

    /// What publishing this complete record changes.
    pub fn change_to(&self, target: &Target<'_>, current: &Current<'_>, record: EncodedRecord) -> Change {
        let header = record.header();
        let (generation, expires_ms) = (header.generation, header.expires_ms());
        let class = SizeClass::for_size(record.length());
        let void_time = void_time(expires_ms);
        let mut flags = target.set.parity().with(self.evictions.flag(void_time));
        if void_time != 0 && current.entry.is_some_and(|old| may_outlive(&old, void_time)) {
            flags = flags.with(Flags::OLDER_MAY_OUTLIVE);
        }
        let entry = blank_entry(target, class)
            .with_generation(generation)
            .with_void_time(void_time)
            .with_flags(flags);
        Change { record, class, entry }
    }

    fn encode_tombstone(&self, target: &Target<'_>, now: Timestamp) -> Change {
        let mut record = begin_record(target.key, false, 0);
        record.complete(self.next_sequence(), 0, 0, now.0, RecordFlags(RecordFlags::TOMBSTONE), 0);
        let class = SizeClass::for_size(record.length());
        let entry = blank_entry(target, class).with_flags(target.set.parity().with(Flags::TOMBSTONE));
        Change { record, class, entry }
    }

    fn expires_ms(&self, ttl: Ttl, current: &Current<'_>, now: Timestamp) -> u64 {
        let default = || self.config.default_ttl.map_or(0, |ttl| now.plus(ttl).0);
        match ttl {
            Ttl::Default => default(),
            Ttl::Never => 0,
            Ttl::For(duration) => now.plus(duration).0.max(1),
            Ttl::At(at) => at.0.max(1),
            Ttl::Keep => match current.record {
                Some(record) => record.expires_at().map_or(0, |at| at.0),
                None if current.is_alive => 0,
                None => default(),
            },
        }
    }

    /// Appends and publishes a change. Under the partition's lock.
    pub fn apply(
        &self,
        partition: &mut Partition<'_, Entry>,
        target: &Target<'_>,
        current: &Current<'_>,
        change: Change,
        now: Timestamp,
    ) -> Result<(Updated, Receipt), AppendError> {
        if let Some(old) = current.entry {
            let volume = self.volume(old.location().device);
            let receipt = volume.overwrite(old.location(), old.size_class(), &change.record, change.class);
            if let Some(receipt) = receipt {
                partition.insert(change.entry.with_location(old.location()));
                self.recount(&target.set, Some(&old), &change.entry);
                return Ok((outcome_of(&change.entry), receipt));
            }
        }
        let volume = self.volume_of(target.wanted.partition, target.wanted.tag);
        let need = if is_tombstone(&change.entry) { Need::Delete } else { Need::Put };
        let context = self.append_context(self.fresh_stream(current.entry.as_ref()), need, now);
        let appended = volume.append(&change.record, change.class, context)?;
        volume
            .stats
            .fresh_size
            .fetch_add(u64::from(change.class.bytes()), std::sync::atomic::Ordering::Relaxed);
        self.publish(partition, &target.set, current.entry, change.entry.with_location(appended.location));
        Ok((outcome_of(&change.entry), appended.receipt))
    }

    /// Lets the index point at an appended change, and releases what it replaces.
    pub fn publish(&self, partition: &mut Partition<'_, Entry>, set: &Set, old: Option<Entry>, new: Entry) {
        if let Some(old) = &old {
            self.before_change(partition, old);
        }
        partition.insert(new);
        self.recount(set, old.as_ref(), &new);
        if let Some(old) = old {
            self.volume(old.location().device).release(old.location(), old.size_class());
        }
    }

    fn recount(&self, set: &Set, old: Option<&Entry>, new: &Entry) {
        if let Some(old) = old {
            self.uncount(set, old);
        }
        if is_tombstone(new) {
            self.counters.tombstones.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        } else {
            self.count(set, 1, new);
        }
    }

    /// Counts an entry out that leaves the index or is replaced.
    pub fn uncount(&self, set: &Set, old: &Entry) {
        if is_tombstone(old) {
            self.counters.tombstones.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        } else if !self.sets.is_truncated(old) {
            self.count(set, -1, old);
        }
    }
}

/// What publishing this entry did to the record.
pub(crate) fn outcome_of(entry: &Entry) -> Updated {
    if is_tombstone(entry) { Updated::Deleted } else { Updated::Put(metadata_of(entry)) }
}

/// Metadata from the index alone.
pub(crate) fn metadata_of(entry: &Entry) -> Metadata {
    let void_ms = crate::format::VOID_TIME_EPOCH_MS + u64::from(entry.void_time()) * 1000;
    Metadata {
        generation: entry.generation(),
        expires_at: (entry.void_time() != 0).then_some(Timestamp(void_ms)),
        stored_size: entry.size_class().bytes(),
    }
}

/// Whether a version older than the new one, which ends at `void_time`, could still be alive after that. A
/// tombstone hides versions of which nothing is known.
pub(crate) fn may_outlive(old: &Entry, void_time: u32) -> bool {
    old.void_time() == 0
        || old.void_time() > void_time
        || old.flags().contains(Flags::TOMBSTONE)
        || old.flags().contains(Flags::OLDER_MAY_OUTLIVE)
}

/// Whether the policy accepts the record as it is.
pub(crate) fn check_policy(policy: &WritePolicy, current: &Current<'_>) -> Result<()> {
    // A digest that a caller made up may be that of a system record.
    if current.entry.is_some_and(|entry| entry.flags().contains(Flags::SYSTEM)) {
        return Err(Error::Reserved);
    }
    match policy.exists {
        Exists::CreateOnly if current.is_alive => return Err(Error::Exists),
        Exists::UpdateOnly if !current.is_alive => return Err(Error::NotFound),
        _ => {}
    }
    let found = current.entry.filter(|_| current.is_alive).map_or(0, |entry| entry.generation());
    if policy.generation.accepts(found) { Ok(()) } else { Err(Error::Generation { found }) }
}

pub(crate) fn begin_record(key: &Key<'_>, with_user_key: bool, bins_size: usize) -> EncodedRecord {
    let digest = key.digest();
    let set = key.set().as_bytes();
    match key.user_key().filter(|_| with_user_key) {
        Some(user_key) => {
            let value = Value::from(user_key);
            let mut number = Vec::new();
            let bytes = match value {
                Value::String(bytes) | Value::Bytes(bytes) => bytes,
                _ => {
                    value.encode_into(&mut number);
                    &number
                }
            };
            EncodedRecord::begin(digest.as_bytes(), set, value.particle_type(), bytes, bins_size)
        }
        None => EncodedRecord::begin(digest.as_bytes(), set, 0, &[], bins_size),
    }
}

fn blank_entry(target: &Target<'_>, class: SizeClass) -> Entry {
    let nowhere = crate::index::Location { device: 0, unit: 0 };
    Entry::new(target.wanted.tag, nowhere, class).with_set_id(target.set.id)
}
