//! What the scrub asks of a namespace: is this record still the current one, has this tombstone something left to
//! hide; and the book of what it has found.
//!
//! A tombstone is an entry with `Flags::TOMBSTONE`: a deletion, or a mask (an expired record that an older version
//! would outlive). Why and when one may go is argued in `jobs/scrub/mod.rs`; here are the three things that are
//! done to entries for it, each under the partition's lock.

use super::core::Core;
use super::write::is_tombstone;
use crate::index::{Entry, Flags, Location, PartitionId, Tag};
use crate::record::Digest;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many faults are kept for whoever asks.
const FAULTS: usize = 100;

/// What of a device is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One of the two copies of the device's header. The other one serves.
    DeviceHeader,
    /// The header of a block with records in it. They are moved elsewhere.
    BlockHeader,
    /// The footer of a block with records in it. They are moved elsewhere.
    Footer,
    /// A part of the checkpoint with this number. The next start will not use it, and reads all blocks instead.
    Checkpoint(u64),
    /// The current version of a record: it is lost, unless its key is written again.
    Record(Digest),
}

/// Damage that a scrub has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubFault {
    /// The scrub pass that found it, from 1.
    pub pass: u64,
    /// The device's name.
    pub device: Arc<str>,
    /// Which block.
    pub block: u32,
    /// Where on the device, in bytes.
    pub offset: u64,
    /// What is damaged.
    pub damage: Damage,
    /// How that shows.
    pub why: String,
}

/// What the scrub of a namespace is doing, and what it has found.
#[derive(Default)]
pub(crate) struct ScrubBook {
    pass_blocks: AtomicU64,
    faults: Mutex<VecDeque<ScrubFault>>,
}

impl ScrubBook {
    /// Blocks that the pass under way has done; 0 between passes.
    pub fn pass_blocks(&self) -> u64 {
        self.pass_blocks.load(Ordering::Relaxed)
    }

    /// Notes how far the pass under way has come.
    pub fn set_pass_blocks(&self, count: u64) {
        self.pass_blocks.store(count, Ordering::Relaxed);
    }

    /// The last faults that were found, oldest first.
    pub fn faults(&self) -> Vec<ScrubFault> {
        self.faults.lock().iter().cloned().collect()
    }
}

impl Core {
    /// Notes, counts and tells damage.
    pub fn scrub_fault(&self, fault: ScrubFault) {
        self.counters.scrub_faults.add(1);
        let ScrubFault { device, block, offset, why, .. } = &fault;
        match &fault.damage {
            Damage::DeviceHeader => tracing::error!(
                "scrub: device {device}: the copy of the device header at offset {offset} is damaged ({why}); \
                 the other copy serves"
            ),
            Damage::BlockHeader => tracing::error!(
                "scrub: device {device}: the header of block {block} at offset {offset} is damaged ({why}); \
                 its records are being moved elsewhere"
            ),
            Damage::Footer => tracing::error!(
                "scrub: device {device}: the footer of block {block} at offset {offset} is damaged ({why}); \
                 its records are being moved elsewhere"
            ),
            Damage::Checkpoint(id) => tracing::error!(
                "scrub: device {device}: block {block}, a part of checkpoint {id}, is damaged ({why}); until the \
                 next checkpoint a start reads all blocks"
            ),
            Damage::Record(digest) => tracing::error!(
                "scrub: device {device}: record {digest} in block {block} at offset {offset} is damaged ({why}); \
                 write it again or delete it"
            ),
        }
        let mut faults = self.counters.scrub.faults.lock();
        if faults.len() == FAULTS {
            faults.pop_front();
        }
        faults.push_back(fault);
    }

    /// The entry that stands for the bytes at `here` in life `epoch` of their block, if one does now.
    pub fn entry_at(&self, id: PartitionId, tag: Tag, here: Location, epoch: u64) -> Option<Entry> {
        let partition = self.index.lock(id);
        let entry = partition.get(tag).filter(|entry| entry.location() == here)?;
        (self.found(entry).epoch == epoch).then_some(entry)
    }

    /// A pass begins: from now on every tombstone of this partition is a candidate for removal. Returns how many
    /// there are.
    pub fn mark_candidates(&self, id: PartitionId) -> u64 {
        let mut partition = self.index.lock(id);
        let is_one = |entry: &Entry| is_tombstone(entry) && !entry.flags().contains(Flags::SYSTEM);
        let tags: Vec<Tag> = partition.iter_from(None).filter(is_one).map(|entry| entry.tag()).collect();
        for &tag in &tags {
            partition.update(tag, |entry| {
                *entry = entry.with_flags(entry.flags().with(Flags::CANDIDATE));
            });
        }
        tags.len() as u64
    }

    /// A version that is no deletion lies at `here`, in life `epoch` of its block. If its key is deleted, and that is
    /// not the version which the entry stands for, the tombstone still has something to hide.
    pub fn keep_tombstone(&self, id: PartitionId, tag: Tag, here: Location, epoch: u64) {
        let mut partition = self.index.lock(id);
        let Some(entry) = partition.get(tag) else { return };
        // In the entry of a record the bit means something else (`eviction.rs`).
        if !entry.flags().contains(Flags::CANDIDATE) || !is_tombstone(&entry) {
            return;
        }
        // A mask is itself a version that is no deletion. The same place in another life of the block is another
        // version.
        let is_itself = entry.location() == here && self.found(entry).epoch == epoch;
        if !is_itself {
            partition.update(tag, |entry| {
                *entry = entry.with_flags(entry.flags().without(Flags::CANDIDATE));
            });
        }
    }

    /// A pass has looked everywhere: the candidates that are left in this partition have nothing to hide. They
    /// leave the index. Returns how many did.
    pub fn remove_candidates(&self, id: PartitionId) -> u64 {
        let mut partition = self.index.lock(id);
        let is_one = |entry: &Entry| {
            let wanted = Flags::CANDIDATE.with(Flags::TOMBSTONE);
            // What a truncation took away is the sweep's.
            entry.flags().contains(wanted) && !self.sets.is_truncated(entry)
        };
        let gone: Vec<Entry> = partition.iter_from(None).filter(is_one).collect();
        for entry in &gone {
            partition.remove(entry.tag());
            self.forget(entry);
            self.volume(entry.location().device).release(entry.location(), entry.size_class());
        }
        self.counters.tombstones_removed.add(gone.len() as u64);
        gone.len() as u64
    }
}
