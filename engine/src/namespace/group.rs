//! Writing several records as one: all partitions locked in order, one contiguous frame, one checksum.
//!
//! The shape is that of a single update. A crash leaves the whole group or nothing of it, because the frame is one
//! run of bytes in one block: recovery takes it whole or not at all (`format/group.rs`). Whatever device
//! the keys would otherwise go to, a frame goes to the first key's.

use super::core::{Core, Found, Need};
use super::draft::Outcome;
use super::policy::WritePolicy;
use super::record::Record;
use super::write::{Change, Current, Target, Updated, check_policy, is_tombstone, outcome_of};
use crate::error::{Error, Result};
use crate::format::RecordFlags;
use crate::index::{Entry, Partition, PartitionId, Partitions};
use crate::record::Key;
use crate::volume::{AppendError, Receipt, WriteBuffer};
use std::sync::Arc;
use std::sync::atomic::Ordering;

enum Attempt<E> {
    Done(Vec<Updated>, Option<Receipt>),
    /// These are missing; those were there already.
    Fetch(Vec<Found>, Fetched),
    NoBlock,
    Failed(E),
}

type Fetched = Vec<Option<(Found, Record)>>;

impl Core {
    /// Reads the records of `keys`, lets `change` decide for all, and applies its outcomes as one step.
    pub async fn update_many<E: From<Error>>(
        self: &Arc<Self>,
        keys: &[Key<'_>],
        policy: &WritePolicy,
        needs_records: bool,
        mut change: impl FnMut(&[Option<Record>]) -> Result<Vec<Outcome>, E>,
    ) -> Result<Vec<Updated>, E> {
        let targets = keys.iter().map(|key| Target::new(self, key, policy)).collect::<Result<Vec<_>>>()?;
        if keys.iter().enumerate().any(|(i, key)| keys[..i].iter().any(|k| k.digest() == key.digest())) {
            return Err(Error::Config("the same key is given twice in one group".into()).into());
        }
        let mut fetched: Fetched = keys.iter().map(|_| None).collect();
        let (updated, receipt) = loop {
            let turn = self.gate.turn();
            match self.try_update_many(&targets, std::mem::take(&mut fetched), needs_records, &mut change) {
                Attempt::Done(updated, receipt) => break (updated, receipt),
                Attempt::Fetch(missing, kept) => {
                    // What was fetched before stays: else two keys that are not in RAM by turns are read for ever.
                    fetched = self.fetch_all(&targets, &missing).await?;
                    for (known, kept) in fetched.iter_mut().zip(kept).filter(|(known, _)| known.is_none()) {
                        *known = kept;
                    }
                }
                Attempt::NoBlock => self.wait_for_space(turn).await?,
                Attempt::Failed(error) => return Err(error),
            }
        };
        for one in &updated {
            match one {
                Updated::Put(_) => self.counters.writes.add(1),
                Updated::Deleted => self.counters.deletes.add(1),
                Updated::Unchanged => {}
            }
        }
        if let Some(receipt) = receipt {
            self.acknowledge(receipt, policy.durability).await?;
        }
        Ok(updated)
    }

    /// Fetches the versions in `missing`, all reads in flight at once.
    async fn fetch_all(&self, targets: &[Target<'_>], missing: &[Found]) -> Result<Fetched> {
        let started: Vec<_> = targets
            .iter()
            .map(|target| {
                let found = missing.iter().find(|found| found.entry.tag() == target.wanted.tag)?;
                Some((*found, self.read_device(found)))
            })
            .collect();
        let mut fetched = Vec::with_capacity(started.len());
        for (target, read) in targets.iter().zip(started) {
            fetched.push(match read {
                Some((found, read)) => self.receive(&target.wanted, &found, read).await?.map(|r| (found, r)),
                None => None,
            });
        }
        Ok(fetched)
    }

    fn try_update_many<E: From<Error>>(
        &self,
        targets: &[Target<'_>],
        mut fetched: Fetched,
        needs_records: bool,
        change: &mut impl FnMut(&[Option<Record>]) -> Result<Vec<Outcome>, E>,
    ) -> Attempt<E> {
        let now = self.now();
        let ids: Vec<PartitionId> = targets.iter().map(|target| target.wanted.partition).collect();
        let mut partitions = self.index.lock_many(&ids);
        let mut records = Vec::with_capacity(targets.len());
        let mut missing = Vec::new();
        if needs_records {
            for (i, target) in targets.iter().enumerate() {
                let partition = partition_of(&mut partitions, target.wanted.partition);
                let fetched = fetched.get_mut(i).and_then(Option::take);
                match self.current_record(partition, &target.wanted, fetched, now) {
                    Ok(record) => records.push(record),
                    Err(found) => {
                        missing.push(found);
                        records.push(None);
                    }
                }
            }
            if !missing.is_empty() {
                let with_place = |record: Record| record.place().map(|place| (place, record));
                let kept = records.into_iter().map(|record| record.and_then(with_place)).collect();
                return Attempt::Fetch(missing, kept);
            }
        }
        if let Err(error) = self.check_open() {
            return Attempt::Failed(error.into());
        }
        let mut currents = Vec::with_capacity(targets.len());
        for (i, target) in targets.iter().enumerate() {
            let entry = partition_of(&mut partitions, target.wanted.partition).get(target.wanted.tag);
            let is_alive = match records.get(i) {
                Some(record) => record.is_some(),
                None => entry.is_some_and(|entry| self.is_visible(&entry, now)),
            };
            let current = Current { entry, record: records.get(i).and_then(Option::as_ref), is_alive };
            if let Err(error) = check_policy(target.policy, &current) {
                return Attempt::Failed(error.into());
            }
            currents.push(current);
        }
        let outcomes = match change(&records) {
            Ok(outcomes) => outcomes,
            Err(error) => return Attempt::Failed(error),
        };
        assert_eq!(outcomes.len(), targets.len(), "one outcome for each key of the group");
        let mut changes: Vec<(usize, Option<Entry>, Change)> = Vec::new();
        for (i, outcome) in outcomes.into_iter().enumerate() {
            match self.encode(&targets[i], &currents[i], outcome, now) {
                Ok(Some(change)) => changes.push((i, currents[i].entry, change)),
                Ok(None) => {}
                Err(error) => return Attempt::Failed(error.into()),
            }
        }
        self.apply_group(&mut partitions, targets, changes)
    }

    fn apply_group<E: From<Error>>(
        &self,
        partitions: &mut Partitions<'_, Entry>,
        targets: &[Target<'_>],
        changes: Vec<(usize, Option<Entry>, Change)>,
    ) -> Attempt<E> {
        let mut updated = vec![Updated::Unchanged; targets.len()];
        let Some((first, _, _)) = changes.first() else { return Attempt::Done(updated, None) };
        let first = &targets[*first].wanted;
        let size: u64 = changes.iter().map(|(_, _, change)| u64::from(change.class.bytes())).sum();
        let names_size: u64 = changes.iter().map(|(_, _, change)| change.record.set().len() as u64 + 1).sum();
        let volume = self.volume_of(first.partition, first.tag);
        if !WriteBuffer::takes_group(volume.block_size(), size, changes.len() as u64, names_size) {
            return Attempt::Failed(Error::TooLarge { size, limit: self.record_limit() }.into());
        }
        let deletes_only = changes.iter().all(|(_, _, change)| is_tombstone(&change.entry));
        let need = if deletes_only { Need::Delete } else { Need::Put };
        let context = self.append_context(self.fresh_stream(changes[0].1.as_ref()), need, self.now());
        let mut records = Vec::with_capacity(changes.len());
        let mut facts = Vec::with_capacity(changes.len());
        for (i, old, mut change) in changes {
            let flags = change.record.header().flags().0 | RecordFlags::IN_GROUP;
            change.record.set_flags(RecordFlags(flags));
            records.push((change.record, change.class));
            facts.push((i, old, change.entry));
        }
        let (locations, receipt) = match volume.append_group(&records, context) {
            Ok(appended) => appended,
            Err(AppendError::NoBlock) => return Attempt::NoBlock,
            Err(AppendError::Latched) => return Attempt::Failed(self.device_failed(volume).into()),
        };
        volume.stats.fresh_size.fetch_add(size, Ordering::Relaxed);
        for ((i, old, entry), location) in facts.into_iter().zip(locations) {
            let partition = partition_of(partitions, targets[i].wanted.partition);
            self.publish(partition, &targets[i].set, old, entry.with_location(location));
            updated[i] = outcome_of(&entry);
        }
        Attempt::Done(updated, Some(receipt))
    }
}

fn partition_of<'p, 'i>(
    partitions: &'p mut Partitions<'i, Entry>,
    id: PartitionId,
) -> &'p mut Partition<'i, Entry> {
    partitions.get_mut(id).expect("all partitions of the group are locked")
}
