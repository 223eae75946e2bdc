//! Taking out of the index what is no longer there: records that have expired or were truncated.
//!
//! Nothing is read and nothing is written: an expired record is its own tombstone, because a recovery lets
//! the newest version of a key win first and only then drops it for being expired. That holds only as long
//! as the newest version is on the device. Where an older one would outlive it (`OLDER_MAY_OUTLIVE`), the
//! entry stays, as a tombstone, so that defrag goes on carrying the newest version along.

use super::core::{Core, Life, life};
use super::eviction::mask;
use super::pictures::Ttls;
use super::write::is_tombstone;
use crate::index::{Entry, PartitionId};
use std::sync::atomic::Ordering;

impl Core {
    /// Whether truncated entries may still be in the index.
    pub fn needs_sweep(&self) -> bool {
        self.swept_truncations.load(Ordering::Acquire) < self.truncations.load(Ordering::Acquire)
    }

    /// All partitions have been swept since there were so many truncations.
    pub fn swept(&self, truncations: u64) {
        self.swept_truncations.fetch_max(truncations, Ordering::AcqRel);
    }

    /// Sweeps one partition.
    pub fn sweep_partition(&self, id: PartitionId) {
        let now = self.now();
        let mut partition = self.index.lock(id);
        let mut gone: Vec<Entry> = Vec::new();
        let mut masks: Vec<Entry> = Vec::new();
        let mut ttls = Ttls::default();
        for entry in partition.iter_from(None) {
            if self.sets.is_truncated(&entry) {
                gone.push(entry);
            } else if life(entry.void_time(), now) == Life::Over && !is_tombstone(&entry) {
                if mask(entry).is_some() { masks.push(entry) } else { gone.push(entry) }
            } else if entry.void_time() != 0 && !is_tombstone(&entry) {
                ttls.note(entry.void_time(), now);
            }
        }
        self.ttls.note(id, ttls);
        for entry in gone {
            self.before_change(&partition, &entry);
            partition.remove(entry.tag());
            self.forget(&entry);
            self.volume(entry.location().device).release(entry.location(), entry.size_class());
        }
        for entry in masks {
            self.before_change(&partition, &entry);
            self.forget(&entry);
            self.counters.tombstones.fetch_add(1, Ordering::Relaxed);
            mask(entry).into_iter().for_each(|mask| {
                partition.insert(mask);
            });
        }
    }

    /// Counts an entry out that has expired or was truncated.
    pub fn forget(&self, entry: &Entry) {
        if !self.sets.is_truncated(entry) && !is_tombstone(entry) {
            self.counters.expired.add(1);
        }
        if let Some(set) = self.sets.get(entry.set_id()) {
            self.uncount(&set, entry);
        }
    }
}
