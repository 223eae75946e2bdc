//! Writing a record as it was elsewhere: with its digest, generation, times and bins, and its user key if it had one.
//!
//! For restoring backups and copying records from one engine to another. It is a write like any other: it gets a new
//! sequence number, so it is the newest version of its key from then on (I5), and is durable when a `flush` after
//! it has ended. What has expired by now is not written: it would be gone at once.

use super::core::{Core, Life, life};
use super::policy::WritePolicy;
use super::record::Record;
use super::write::{Attempt, Current, Target, Updated, begin_record, check_policy};
use crate::clock::Timestamp;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::format::RecordFlags;
use crate::record::{Bins, Key};
use crate::volume::AppendError;
use std::sync::Arc;

/// A record to be written as it is.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord<'a> {
    /// Its set and digest, and its user key if it is to be stored.
    pub key: Key<'a>,
    /// Its generation; 0 counts as 1.
    pub generation: u16,
    /// When it expires; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was last written.
    pub last_update: Timestamp,
    /// Its bins. Each is looked at before anything is written.
    pub bins: Bins<'a>,
}

impl<'a> TryFrom<&'a Record> for StoredRecord<'a> {
    type Error = Error;

    fn try_from(record: &'a Record) -> Result<Self> {
        let key = Key::from_digest(record.set(), record.digest())?;
        let key = record.user_key().map_or(Ok(key), |user_key| key.with_user_key(user_key))?;
        let (generation, expires_at) = (record.generation(), record.expires_at());
        let (last_update, bins) = (record.last_update(), record.try_bins());
        Ok(StoredRecord { key, generation, expires_at, last_update, bins })
    }
}

/// What becomes of a record that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestoreMode {
    /// It is replaced.
    #[default]
    Replace,
    /// It stays. One in its last second counts as gone.
    KeepExisting,
    /// The one with the higher generation stays; of equal ones, the one that is there.
    NewerGeneration,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It was written.
    Written,
    /// The one that is there has stayed.
    Kept,
    /// It has expired, and was not written.
    Expired,
}

impl Core {
    /// Writes a record as it is.
    pub async fn restore(self: &Arc<Self>, record: &StoredRecord<'_>, mode: RestoreMode) -> Result<Restored> {
        let mut bin_count = 0u16;
        for bin in record.bins {
            bin?;
            bin_count += 1;
        }
        // Durable by the flush that follows many of them.
        let policy = WritePolicy { durability: Some(Durability::Relaxed), ..WritePolicy::default() };
        let target = Target::new(self, &record.key, &policy)?;
        loop {
            if record.expires_at.is_some_and(|at| at <= self.now()) {
                return Ok(Restored::Expired);
            }
            let turn = self.gate.turn();
            match self.try_restore(&target, record, bin_count, mode) {
                Attempt::Done(Updated::Put(_), _) => {
                    self.counters.writes.add(1);
                    return Ok(Restored::Written);
                }
                Attempt::Done(Updated::Deleted | Updated::Unchanged, _) => return Ok(Restored::Kept),
                Attempt::Fetch(_) => unreachable!("no old record is asked for"),
                Attempt::NoBlock => self.wait_for_space(turn).await?,
                Attempt::Failed(error) => return Err(error),
            }
        }
    }

    fn try_restore(
        &self,
        target: &Target<'_>,
        record: &StoredRecord<'_>,
        bin_count: u16,
        mode: RestoreMode,
    ) -> Attempt<Error> {
        let now = self.now();
        let mut partition = self.index.lock(target.wanted.partition);
        let entry = partition.get(target.wanted.tag);
        let is_there = |entry: &crate::index::Entry| {
            self.is_visible(entry, now) && life(entry.void_time(), now) == Life::Alive
        };
        let there = entry.filter(is_there);
        let stays = match (mode, there) {
            (RestoreMode::Replace, _) | (_, None) => false,
            (RestoreMode::KeepExisting, Some(_)) => true,
            (RestoreMode::NewerGeneration, Some(there)) => there.generation() >= record.generation.max(1),
        };
        let current = Current { entry, record: None, is_alive: there.is_some() };
        let refused = self.check_open().and_then(|()| check_policy(target.policy, &current));
        let refused = refused.and_then(|()| if stays { Ok(()) } else { self.check_writable() });
        if let Err(error) = refused {
            return Attempt::Failed(error);
        }
        if stays {
            return Attempt::Done(Updated::Unchanged, None);
        }
        let bins = record.bins.as_bytes();
        let mut encoded = begin_record(&record.key, true, bins.len());
        encoded.body().extend_from_slice(bins);
        let limit = self.record_limit();
        if encoded.length() > limit {
            return Attempt::Failed(Error::TooLarge { size: u64::from(encoded.length()), limit });
        }
        let expires_ms = record.expires_at.map_or(0, |at| at.0.max(1));
        let (generation, last_update_ms) = (record.generation.max(1), record.last_update.0);
        let sequence = self.next_sequence();
        encoded.complete(sequence, generation, expires_ms, last_update_ms, RecordFlags(0), bin_count);
        let change = self.change_to(target, &current, encoded);
        match self.apply(&mut partition, target, &current, change, now) {
            Ok((updated, receipt)) => Attempt::Done(updated, Some(receipt)),
            Err(AppendError::NoBlock) => Attempt::NoBlock,
            Err(AppendError::Latched) => {
                let volume = self.volume_of(target.wanted.partition, target.wanted.tag);
                Attempt::Failed(self.device_failed(volume))
            }
        }
    }
}
