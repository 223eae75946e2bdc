//! A snapshot: the records of a namespace as they were at one moment, read while writes go on.
//!
//! **The cut.** Beginning one locks all partitions, as a truncation and a checkpoint do. So no writer is between drawing
//! its sequence number and publishing its entry: whatever has a number below `Cut::sequence` is in the index or has left it,
//! whatever comes later draws that number or a higher one. A group holds all its partitions from before it draws its
//! numbers until it has published all of them, so it lies on one side as a whole. Under the locks the tails of all streams are
//! frozen, which leaves a **border** through the log (`volume/checkpoint.rs`): what was appended before lies below it and never
//! changes in place again, what comes later lies above. The clock is read there too: what has expired by then is not in it.
//!
//! **Before-images.** Nothing is copied then. An entry that points below the border has not changed since the cut; one that points
//! above it is newer, or was moved by defrag. So whoever replaces or removes an entry below the border leaves the old
//! entry with the snapshot first (`before_change`), unless the snapshot has read that far in the partition. What was there at
//! the cut is then: the entries below the border that are still in the index, and those that were left. An entry is
//! in one of the two, never in both, because it is left under its partition's lock in the very step that takes it out. An expiry
//! or an eviction that leaves a mask changes an entry in place: the mask is a tombstone, which is never in a snapshot.
//! A truncation flips the parity of sets, so the cut keeps the parities of its moment.
//!
//! **Who sees it.** The flag that a snapshot runs is set under all partition locks and asked under one of them: the lock
//! orders the two, so a relaxed load is enough, and it is all that a write pays while no snapshot runs.
//!
//! **Bytes.** A block that was opened before the cut is not reused while the snapshot runs, though it may become empty
//! (`BlockTable::keep_below`, under the same locks): every entry of the cut points at its bytes until the end, wherever defrag moves
//! the record meanwhile. Defrag leaves such blocks alone, since emptying them gains nothing, and of the others takes those
//! that are half empty.
//!
//! **Space.** Writers come first. When free blocks run out the snapshot is given up, its blocks settle, and its reader gets
//! an error. The flag for that is set before the blocks are let go and asked after bytes were read, so nothing that was read
//! from a block in its next life is ever told as part of the snapshot.
//!
//! Facts of the system's own (thresholds, the watermark) are not in a snapshot: they say what is gone, and what is gone is
//! not in it either.

mod reader;

pub use reader::Snapshot;

use super::core::{Core, Life, life};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::index::{Entry, Flags, PARTITION_COUNT, Partition, PartitionId, Tag};
use crate::volume::Border;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a snapshot has read in a partition.
#[derive(Clone, Copy)]
enum ReadTo {
    Nothing,
    /// Up to this tag.
    Tag(Tag),
    End,
}

/// What a snapshot keeps of a partition.
struct Part {
    read_to: ReadTo,
    /// Entries of the cut that have left the index before they were read.
    left: Vec<Entry>,
}

/// One moment, and what is needed to read it later.
struct Cut {
    /// Versions with a lower sequence number are in it, if they were the newest.
    sequence: u64,
    now: Timestamp,
    /// Records at that moment, about: some may have expired without being counted out.
    objects: u64,
    borders: Vec<Border>,
    /// The flag that living entries of each set carry.
    parities: Vec<Flags>,
    /// By partition; under the partition's lock.
    parts: Box<[Mutex<Part>]>,
    /// How many entries were left with it.
    left_count: AtomicU64,
    is_given_up: AtomicBool,
}

/// The snapshots of a namespace: one at a time.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// Whether one runs. Set with all partitions locked.
    is_running: AtomicBool,
    current: RwLock<Option<Arc<Cut>>>,
}

impl Cut {
    /// Whether an entry stands for a record that was alive at the cut, if it is of the cut at all.
    fn is_visible(&self, entry: &Entry) -> bool {
        let parity = self.parities.get(usize::from(entry.set_id())).copied().unwrap_or(Flags::NONE);
        let hidden = Flags::TOMBSTONE.with(Flags::SYSTEM);
        entry.flags().bits() & hidden.bits() == 0
            && entry.flags().contains(Flags::PARITY) == parity.contains(Flags::PARITY)
            && life(entry.void_time(), self.now) != Life::Over
    }

    /// Whether an entry has not changed since the cut. Under its partition's lock.
    fn is_below(&self, core: &Core, entry: &Entry) -> bool {
        let device = entry.location().device;
        core.volume(device).is_below(&self.borders[usize::from(device)], entry.location())
    }
}

impl Core {
    /// Begins a snapshot of this moment. Holds up all writes and reads for a moment.
    pub fn snapshot(self: &Arc<Self>) -> Result<Snapshot> {
        self.check_open()?;
        let part = || Mutex::new(Part { read_to: ReadTo::Nothing, left: Vec::new() });
        let parts = (0..PARTITION_COUNT).map(|_| part()).collect();
        // Most of the tails goes before the locks are taken, so that they are held for little.
        self.volumes.iter().for_each(|volume| volume.freeze_tails());
        let partitions = self.index.lock_all();
        self.check_open()?;
        let mut current = self.snapshots.current.write();
        if current.is_some() {
            return Err(Error::SnapshotRunning { namespace: self.config.name.clone() });
        }
        let sets = self.sets.all();
        let cut = Arc::new(Cut {
            sequence: self.next_sequence.load(Ordering::Acquire),
            now: self.now(),
            objects: sets.iter().map(|set| set.objects()).sum(),
            borders: self.volumes.iter().map(|volume| volume.border()).collect(),
            parities: sets.iter().map(|set| set.parity()).collect(),
            parts,
            left_count: AtomicU64::new(0),
            is_given_up: AtomicBool::new(false),
        });
        for (volume, border) in self.volumes.iter().zip(&cut.borders) {
            volume.blocks.keep_below(border.begin_epoch);
        }
        *current = Some(cut.clone());
        self.snapshots.is_running.store(true, Ordering::Relaxed);
        drop(current);
        drop(partitions);
        Ok(Snapshot::new(self.clone(), cut))
    }

    /// Whoever replaces or removes an entry, or hides it, says so here first, once that is certain, under the partition's lock.
    #[inline]
    pub fn before_change(&self, partition: &Partition<'_, Entry>, entry: &Entry) {
        if self.snapshots.is_running.load(Ordering::Relaxed) {
            self.leave_with_snapshot(partition.id(), entry);
        }
    }

    #[cold]
    fn leave_with_snapshot(&self, id: PartitionId, entry: &Entry) {
        let current = self.snapshots.current.read();
        let Some(cut) = current.as_ref() else { return };
        if !cut.is_visible(entry) || !cut.is_below(self, entry) {
            return;
        }
        let mut part = cut.parts[usize::from(id.get())].lock();
        let is_read = match part.read_to {
            ReadTo::Nothing => false,
            ReadTo::Tag(tag) => entry.tag() <= tag,
            ReadTo::End => true,
        };
        if !is_read {
            part.left.push(*entry);
            cut.left_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives the snapshot up if its blocks are needed now. `is_waiting`: a writer has found none, and defrag, which leaves
    /// blocks of the snapshot alone, may have nothing else to gain from.
    pub fn yield_snapshot(&self, is_waiting: bool) {
        if !self.snapshots.is_running.load(Ordering::Relaxed) {
            return;
        }
        // With a block above the floor left nobody waits for what the snapshot keeps.
        let is_short = self.volumes.iter().any(|volume| volume.blocks.free_count() <= self.plan.reserve);
        let current = self.snapshots.current.read().clone();
        if let Some(cut) = current.filter(|_| is_short && (is_waiting || self.kept_blocks() > 0)) {
            tracing::warn!(
                "namespace {}: a snapshot is given up, because writers need the {} blocks that it keeps",
                self.config.name,
                self.kept_blocks()
            );
            self.end_snapshot(&cut, true);
        }
    }

    /// Empty blocks that are not reused because a snapshot may still read them, over all volumes.
    pub fn kept_blocks(&self) -> u64 {
        self.volumes.iter().map(|volume| u64::from(volume.blocks.kept_count())).sum()
    }

    /// Ends the snapshot, if it has not ended yet.
    fn end_snapshot(&self, cut: &Arc<Cut>, is_given_up: bool) {
        let mut current = self.snapshots.current.write();
        if !current.as_ref().is_some_and(|running| Arc::ptr_eq(running, cut)) {
            return;
        }
        // Before the blocks go: whoever reads what they hold next has asked too early, or sees this.
        cut.is_given_up.store(is_given_up, Ordering::SeqCst);
        self.snapshots.is_running.store(false, Ordering::Relaxed);
        self.volumes.iter().for_each(|volume| volume.blocks.release_kept());
        *current = None;
        drop(current);
        self.flush_work.raise();
        self.upkeep_work.raise();
        self.gate.open();
    }
}
