//! The blocks of one device: what state each is in, how much of it is live, which are free.
//!
//! ```text
//!          open           seal              written           emptied            settled
//!   Free ---------> Open ---------> Flushing ---------> Sealed ---------> Settling ---------> Free
//! ```
//!
//! A block with a part of a checkpoint is Held, from Free and back, and nothing points into it.
//!
//! While a snapshot runs, blocks that were opened before it are kept: they become empty and stay Settling, in a list of
//! their own, since the snapshot may still read what was live in them when it began (`namespace/snapshot`).
//!
//! A block is Open while a stream fills it, Flushing until its data and footer are on the device, Sealed
//! as long as something points into it, and Settling until everything appended before it became empty is
//! on the device: only then is it Free (I4).
//!
//! Live bytes are counted with atomics, since every write changes two of them; states and lists change
//! only under the table's lock, which is the last in the lock order (I8). Live bytes rise only while a
//! block is open, so a sealed block that reaches zero stays there (I3).

use super::sealed::SealedBlock;
use crate::format::CHECKPOINT_STREAM;
use crate::planted::{self, Bug};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The number of a block on its device; 0 is the device header's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// Where a block is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockState {
    /// Holds nothing that counts.
    Free,
    /// A stream appends to it.
    Open,
    /// Full; being written.
    Flushing,
    /// On the device whole.
    Sealed,
    /// Empty, but a crash now could still need what it held.
    Settling,
    /// Holds a part of a checkpoint.
    Held,
}

/// What happens to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockEvent {
    /// A stream takes it.
    Open,
    /// It is full, or closed early.
    Seal,
    /// Data and footer are durable.
    Written,
    /// The last live byte is gone.
    Emptied,
    /// Everything appended before that is durable.
    Settled,
    /// A checkpoint takes it.
    Hold,
    /// The checkpoint is no longer needed.
    Drop,
}

impl BlockState {
    /// The state after `event`, or none where the event cannot happen.
    pub fn after(self, event: BlockEvent) -> Option<BlockState> {
        use BlockEvent as E;
        use BlockState as S;
        match (self, event) {
            (S::Free, E::Open) => Some(S::Open),
            (S::Open, E::Seal) => Some(S::Flushing),
            (S::Flushing, E::Written) => Some(S::Sealed),
            (S::Sealed, E::Emptied) => Some(S::Settling),
            (S::Settling, E::Settled) => Some(S::Free),
            (S::Free, E::Hold) => Some(S::Held),
            (S::Held, E::Drop) => Some(S::Free),
            (S::Free, E::Seal | E::Written | E::Emptied | E::Settled | E::Drop)
            | (S::Open, E::Open | E::Written | E::Emptied | E::Settled | E::Hold | E::Drop)
            | (S::Flushing, E::Open | E::Seal | E::Emptied | E::Settled | E::Hold | E::Drop)
            | (S::Sealed, E::Open | E::Seal | E::Written | E::Settled | E::Hold | E::Drop)
            | (S::Settling, E::Open | E::Seal | E::Written | E::Emptied | E::Hold | E::Drop)
            | (S::Held, E::Open | E::Seal | E::Written | E::Emptied | E::Settled | E::Hold) => None,
        }
    }

    fn from_u8(value: u8) -> Self {
        match value {
            0 => BlockState::Free,
            1 => BlockState::Open,
            2 => BlockState::Flushing,
            3 => BlockState::Sealed,
            4 => BlockState::Settling,
            5 => BlockState::Held,
            _ => unreachable!("only BlockState values are stored"),
        }
    }
}

struct Block {
    used_size: AtomicU32,
    state: AtomicU8,
    stream: AtomicU8,
    is_damaged: AtomicBool,
    epoch: AtomicU64,
    first_sequence: AtomicU64,
    sealed_sequence: AtomicU64,
    ram: Mutex<Option<Arc<SealedBlock>>>,
}

#[derive(Default)]
struct Lists {
    /// Free, and its space is certain to be there.
    ready: VecDeque<BlockId>,
    /// Free, and never written by this store: a file may still lack the space for it.
    virgin: VecDeque<BlockId>,
    /// Settling, with the append number that must become durable.
    settling: VecDeque<(BlockId, u64)>,
    /// Settling and kept, with the append number.
    kept: Vec<(BlockId, u64)>,
}

/// What a start found of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FoundBlock {
    /// It was never written.
    #[default]
    Blank,
    /// Its header, or what stands for it.
    Life {
        /// Which life.
        epoch: u64,
        /// The stream that filled it.
        stream: u8,
        /// The namespace's sequence number when it was opened.
        first_sequence: u64,
    },
    /// It holds a part of the checkpoint that the start has used.
    Held {
        /// Which life.
        epoch: u64,
    },
    /// It could not be read: what it holds is not known, so it is not used again.
    Damaged,
}

impl FoundBlock {
    /// Which life it was found in; 0 if in none.
    pub fn epoch(&self) -> u64 {
        match self {
            FoundBlock::Life { epoch, .. } | FoundBlock::Held { epoch } => *epoch,
            FoundBlock::Blank | FoundBlock::Damaged => 0,
        }
    }
}

/// What is known of a block at start-up, or for a report.
#[derive(Clone, Copy, Debug)]
pub struct BlockInfo {
    /// Where it is in its life.
    pub state: BlockState,
    /// Bytes that index entries point at.
    pub used_size: u32,
    /// Which life; 0 if it never had one.
    pub epoch: u64,
    /// The stream that filled it.
    pub stream: u8,
    /// The namespace's sequence number when it was opened.
    pub first_sequence: u64,
    /// The namespace's sequence number when it was sealed.
    pub sealed_sequence: u64,
    /// Whether a start could not read it: it is left alone.
    pub is_damaged: bool,
}

/// The table. Block 0 is never in it as more than a placeholder.
pub struct BlockTable {
    blocks: Box<[Block]>,
    lists: Mutex<Lists>,
    used_size: AtomicU64,
    free_count: AtomicU32,
    virgin_count: AtomicU32,
    host_full: AtomicBool,
    settling_count: AtomicU32,
    held_count: AtomicU32,
    kept_count: AtomicU32,
    keep_below: AtomicU64,
}

impl BlockTable {
    /// A table of `count` blocks. `found` gives for each block what a start found of it; live bytes are added
    /// afterwards with `occupy`, and `finish_recovery` sorts the blocks into used and free.
    pub fn new(count: u32, found: &[FoundBlock]) -> Self {
        let blocks = (0..count as usize)
            .map(|id| {
                let (epoch, stream, first_sequence) = match found.get(id) {
                    Some(&FoundBlock::Life { epoch, stream, first_sequence }) => {
                        (epoch, stream, first_sequence)
                    }
                    Some(&FoundBlock::Held { epoch }) => (epoch, CHECKPOINT_STREAM, 0),
                    Some(FoundBlock::Blank | FoundBlock::Damaged) | None => (0, 0, 0),
                };
                Block {
                    used_size: AtomicU32::new(0),
                    state: AtomicU8::new(BlockState::Free as u8),
                    stream: AtomicU8::new(stream),
                    is_damaged: AtomicBool::new(matches!(found.get(id), Some(FoundBlock::Damaged))),
                    epoch: AtomicU64::new(epoch),
                    first_sequence: AtomicU64::new(first_sequence),
                    sealed_sequence: AtomicU64::new(first_sequence),
                    ram: Mutex::new(None),
                }
            })
            .collect();
        BlockTable {
            blocks,
            lists: Mutex::new(Lists::default()),
            used_size: AtomicU64::new(0),
            free_count: AtomicU32::new(0),
            virgin_count: AtomicU32::new(0),
            host_full: AtomicBool::new(false),
            settling_count: AtomicU32::new(0),
            held_count: AtomicU32::new(0),
            kept_count: AtomicU32::new(0),
            keep_below: AtomicU64::new(0),
        }
    }

    /// Counts live bytes found by a recovery.
    pub fn occupy(&self, id: BlockId, size: u32) {
        self.block(id).used_size.fetch_add(size, Ordering::Relaxed);
        self.used_size.fetch_add(u64::from(size), Ordering::Relaxed);
    }

    /// Ends a recovery: blocks with live bytes are Sealed, the others Free. A damaged block is Free in name only:
    /// it is in no list, so nobody takes it, and what it holds can still be saved from a copy of the device.
    pub fn finish_recovery(&self, found: &[FoundBlock]) {
        let mut lists = self.lists.lock();
        for id in 1..self.blocks.len() as u32 {
            let block = &self.blocks[id as usize];
            match found.get(id as usize) {
                Some(FoundBlock::Damaged) => continue,
                Some(FoundBlock::Held { .. }) => {
                    block.state.store(BlockState::Held as u8, Ordering::Relaxed);
                    self.held_count.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Some(FoundBlock::Blank | FoundBlock::Life { .. }) | None => {}
            }
            if block.used_size.load(Ordering::Relaxed) > 0 {
                block.state.store(BlockState::Sealed as u8, Ordering::Relaxed);
            } else if block.epoch.load(Ordering::Relaxed) > 0 {
                lists.ready.push_back(BlockId(id));
            } else {
                lists.virgin.push_back(BlockId(id));
            }
        }
        self.virgin_count.store(lists.virgin.len() as u32, Ordering::Relaxed);
        self.free_count.store((lists.ready.len() + lists.virgin.len()) as u32, Ordering::Relaxed);
    }

    fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    fn apply(&self, id: BlockId, event: BlockEvent) {
        let block = self.block(id);
        let state = BlockState::from_u8(block.state.load(Ordering::Relaxed));
        let next = state.after(event);
        let Some(next) = next else { panic!("block {}: {event:?} cannot happen in {state:?}", id.0) };
        block.state.store(next as u8, Ordering::Release);
    }

    /// How many blocks there are, block 0 included.
    pub fn count(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Blocks that are free. Those that were never written count only as long as there is space for them.
    pub fn free_count(&self) -> u32 {
        let free = self.free_count.load(Ordering::Relaxed);
        if self.is_host_full() {
            free.saturating_sub(self.virgin_count.load(Ordering::Relaxed))
        } else {
            free
        }
    }

    /// Whether the file system under the device has no room for another block.
    pub fn is_host_full(&self) -> bool {
        self.host_full.load(Ordering::Relaxed)
    }

    /// Notes whether the file system under the device has room. Returns what was noted before.
    pub fn set_host_full(&self, full: bool) -> bool {
        self.host_full.swap(full, Ordering::Relaxed)
    }

    /// From now on blocks in lives before `epoch` are not reused when they become empty, until `release_kept`. The caller
    /// holds all partitions, so no block becomes empty meanwhile that had something in it.
    pub fn keep_below(&self, epoch: u64) {
        let lists = self.lists.lock();
        assert!(lists.kept.is_empty(), "one snapshot at a time keeps blocks");
        self.keep_below.store(epoch, Ordering::Relaxed);
    }

    /// Lets the blocks go that were kept: they settle like others.
    pub fn release_kept(&self) {
        let mut lists = self.lists.lock();
        self.keep_below.store(0, Ordering::Relaxed);
        let kept = std::mem::take(&mut lists.kept);
        self.settling_count.fetch_add(kept.len() as u32, Ordering::Relaxed);
        self.kept_count.store(0, Ordering::Relaxed);
        lists.settling.extend(kept);
        // Those with the lowest numbers settle first, and none may wait behind one that cannot settle yet.
        lists.settling.make_contiguous().sort_by_key(|&(_, stamp)| stamp);
    }

    /// Empty blocks that are not reused because a snapshot may still read them.
    pub fn kept_count(&self) -> u32 {
        self.kept_count.load(Ordering::Relaxed)
    }

    /// Whether a snapshot keeps blocks.
    pub fn is_keeping(&self) -> bool {
        self.keep_below.load(Ordering::Relaxed) != 0
    }

    /// Whether emptying the block would gain nothing now, since a snapshot keeps it.
    pub fn would_be_kept(&self, epoch: u64) -> bool {
        epoch < self.keep_below.load(Ordering::Relaxed)
    }

    /// Blocks that will be free once what was appended is durable.
    pub fn settling_count(&self) -> u32 {
        self.settling_count.load(Ordering::Relaxed)
    }

    /// Bytes of this device that index entries point at.
    pub fn used_size(&self) -> u64 {
        self.used_size.load(Ordering::Relaxed)
    }

    /// The block's current life.
    pub fn epoch(&self, id: BlockId) -> u64 {
        self.block(id).epoch.load(Ordering::Acquire)
    }

    /// Where the block is in its life.
    pub fn state(&self, id: BlockId) -> BlockState {
        BlockState::from_u8(self.block(id).state.load(Ordering::Acquire))
    }

    /// The stream that fills or filled it.
    pub fn stream(&self, id: BlockId) -> u8 {
        self.block(id).stream.load(Ordering::Relaxed)
    }

    /// All that is known of a block.
    pub fn info(&self, id: BlockId) -> BlockInfo {
        let block = self.block(id);
        BlockInfo {
            state: self.state(id),
            used_size: block.used_size.load(Ordering::Relaxed),
            epoch: block.epoch.load(Ordering::Relaxed),
            stream: block.stream.load(Ordering::Relaxed),
            first_sequence: block.first_sequence.load(Ordering::Relaxed),
            sealed_sequence: block.sealed_sequence.load(Ordering::Relaxed),
            is_damaged: block.is_damaged.load(Ordering::Relaxed),
        }
    }

    /// The block's bytes, if it is sealed and still in RAM.
    pub fn ram(&self, id: BlockId) -> Option<Arc<SealedBlock>> {
        self.block(id).ram.lock().clone()
    }

    /// Gives up the block's bytes in RAM, if it has been written. Returns them, for reuse.
    pub fn evict_ram(&self, id: BlockId) -> Option<Arc<SealedBlock>> {
        // The lock comes first: bytes of a new life enter while the block is Open, under this lock.
        let mut ram = self.block(id).ram.lock();
        match self.state(id) {
            BlockState::Open | BlockState::Flushing => None,
            BlockState::Free | BlockState::Sealed | BlockState::Settling | BlockState::Held => ram.take(),
        }
    }

    /// Takes a ready block, if more than `floor` blocks would not be left without it.
    pub fn take(&self, floor: u32, stream: u8, epoch: u64, first_sequence: u64) -> Option<BlockId> {
        self.take_for(BlockEvent::Open, floor, stream, epoch, first_sequence)
    }

    /// Takes a ready block for a part of a checkpoint; as `take`.
    pub fn hold(&self, floor: u32, epoch: u64, first_sequence: u64) -> Option<BlockId> {
        let id = self.take_for(BlockEvent::Hold, floor, CHECKPOINT_STREAM, epoch, first_sequence)?;
        self.held_count.fetch_add(1, Ordering::Relaxed);
        Some(id)
    }

    fn take_for(
        &self,
        event: BlockEvent,
        floor: u32,
        stream: u8,
        epoch: u64,
        first_sequence: u64,
    ) -> Option<BlockId> {
        let mut lists = self.lists.lock();
        if self.free_count() <= floor {
            return None;
        }
        let id = lists.ready.pop_front()?;
        self.apply(id, event);
        let block = self.block(id);
        block.epoch.store(epoch, Ordering::Release);
        block.stream.store(stream, Ordering::Relaxed);
        block.first_sequence.store(first_sequence, Ordering::Relaxed);
        self.free_count.fetch_sub(1, Ordering::Relaxed);
        Some(id)
    }

    /// Frees a block that `hold` gave. Nothing may be on its way into it any more.
    pub fn drop_held(&self, id: BlockId) {
        let mut lists = self.lists.lock();
        self.apply(id, BlockEvent::Drop);
        lists.ready.push_back(id);
        self.free_count.fetch_add(1, Ordering::Relaxed);
        self.held_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Blocks that hold parts of checkpoints.
    pub fn held_count(&self) -> u32 {
        self.held_count.load(Ordering::Relaxed)
    }

    /// A free block that has never been written, to be made ready; none if `enough` are ready.
    pub fn next_virgin(&self, enough: usize) -> Option<BlockId> {
        let mut lists = self.lists.lock();
        if lists.ready.len() >= enough {
            return None;
        }
        let id = lists.virgin.pop_front()?;
        self.virgin_count.fetch_sub(1, Ordering::Relaxed);
        Some(id)
    }

    /// Returns what `next_virgin` gave: with its space certain, or not.
    pub fn return_virgin(&self, id: BlockId, ready: bool) {
        let mut lists = self.lists.lock();
        if ready {
            lists.ready.push_back(id);
        } else {
            lists.virgin.push_front(id);
            self.virgin_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Free blocks that have never been written.
    pub fn virgin_count(&self) -> u32 {
        self.virgin_count.load(Ordering::Relaxed)
    }

    /// How many blocks can be taken at once.
    pub fn ready_count(&self) -> usize {
        self.lists.lock().ready.len()
    }

    /// Counts `size` bytes into an open block.
    pub fn grow(&self, id: BlockId, size: u32) {
        let block = self.block(id);
        debug_assert_eq!(self.state(id), BlockState::Open, "I3: only open blocks grow");
        block.used_size.fetch_add(size, Ordering::Relaxed);
        self.used_size.fetch_add(u64::from(size), Ordering::Relaxed);
    }

    /// Counts `size` bytes out of a block. `append_clock` is the number that the next append will get: if
    /// the block is now empty, it settles until all before that is durable.
    pub fn release(&self, id: BlockId, size: u32, append_clock: impl Fn() -> u64) {
        let before = self.block(id).used_size.fetch_sub(size, Ordering::AcqRel);
        assert!(before >= size, "I3: block {} over-freed: {before} - {size}", id.0);
        self.used_size.fetch_sub(u64::from(size), Ordering::Relaxed);
        if before == size {
            self.settle_if_empty(&mut self.lists.lock(), id, append_clock());
        }
    }

    fn settle_if_empty(&self, lists: &mut Lists, id: BlockId, stamp: u64) {
        let empty = self.block(id).used_size.load(Ordering::Acquire) == 0;
        if empty && self.state(id) == BlockState::Sealed {
            self.apply(id, BlockEvent::Emptied);
            if self.would_be_kept(self.epoch(id)) {
                lists.kept.push((id, stamp));
                self.kept_count.fetch_add(1, Ordering::Relaxed);
                return;
            }
            lists.settling.push_back((id, stamp));
            self.settling_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A stream closes the block; its bytes stay readable from RAM.
    pub fn seal(&self, sealed: Arc<SealedBlock>, sequence: u64) {
        let id = sealed.id;
        let _lists = self.lists.lock();
        self.block(id).sealed_sequence.store(sequence, Ordering::Relaxed);
        *self.block(id).ram.lock() = Some(sealed);
        self.apply(id, BlockEvent::Seal);
    }

    /// The block is on the device. `append_clock` is asked under the lock, as in `release`: a number read
    /// before it could be that of an append that emptied the block meanwhile and is not durable (I4).
    pub fn written(&self, id: BlockId, append_clock: impl Fn() -> u64) {
        let mut lists = self.lists.lock();
        self.apply(id, BlockEvent::Written);
        self.settle_if_empty(&mut lists, id, append_clock());
    }

    /// Frees the settling blocks whose stamp `undurable_from` (the oldest append number that is not
    /// durable) has passed. Returns how many.
    ///
    /// The mark is asked under the lock. Whoever emptied a block had published its append before it queued
    /// the block here, so a mark read now knows of that append; one read earlier need not (I4).
    pub fn settle(&self, undurable_from: impl Fn() -> u64) -> u32 {
        let mut lists = self.lists.lock();
        let undurable_from = undurable_from();
        let mut freed = 0;
        while let Some(&(id, stamp)) = lists.settling.front() {
            if stamp > undurable_from && !planted::is(Bug::ReuseBeforeSettled) {
                break;
            }
            lists.settling.pop_front();
            assert_eq!(
                self.block(id).used_size.load(Ordering::Acquire),
                0,
                "I4: block {} is freed with live bytes",
                id.0
            );
            self.apply(id, BlockEvent::Settled);
            *self.block(id).ram.lock() = None;
            lists.ready.push_back(id);
            freed += 1;
        }
        self.settling_count.fetch_sub(freed, Ordering::Relaxed);
        self.free_count.fetch_add(freed, Ordering::Relaxed);
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_meets_every_event() {
        use BlockEvent as E;
        use BlockState as S;
        let round = [S::Free, S::Open, S::Flushing, S::Sealed, S::Settling];
        let events = [E::Open, E::Seal, E::Written, E::Emptied, E::Settled, E::Hold, E::Drop];
        for (i, state) in round.into_iter().chain([S::Held]).enumerate() {
            for (j, event) in events.into_iter().enumerate() {
                let expected = match (state, event) {
                    (S::Free, E::Hold) => Some(S::Held),
                    (S::Held, E::Drop) => Some(S::Free),
                    _ => (i == j && i < round.len()).then(|| round[(i + 1) % round.len()]),
                };
                assert_eq!(state.after(event), expected, "{state:?} {event:?}");
            }
            assert_eq!(S::from_u8(state as u8), state);
        }
    }

    #[test]
    fn the_floor_is_kept() {
        let table = BlockTable::new(6, &[]);
        table.finish_recovery(&[]);
        while let Some(id) = table.next_virgin(usize::MAX) {
            table.return_virgin(id, true);
            if table.ready_count() == 5 {
                break;
            }
        }
        for free in (3..=5).rev() {
            assert_eq!(table.free_count(), free);
            assert!(table.take(2, 0, 1, 1).is_some());
        }
        assert!(table.take(2, 0, 1, 1).is_none());
        assert!(table.take(0, 0, 1, 1).is_some());
    }
}
