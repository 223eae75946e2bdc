//! Where each record is: all metadata of all records, in RAM, in about 29 bytes a record.
//!
//! An index has 4096 partitions (`partition.rs`), each with its own lock and its own ordered tables
//! (`table.rs`) of 24-byte entries (`entry.rs`), in memory that all partitions share (`arena.rs`). Given a
//! digest, the partition is an array access, the place in its table a multiplication, and the entry is
//! found there or a few slots to the right.
//!
//! What always holds: a digest's entry is in its partition under its tag or nowhere; partition locks are
//! taken in ascending order (`lock_many` does so; whoever calls `lock` while holding a guard must); the
//! index knows no device and does not care what an entry points at.

mod arena;
mod entry;
mod partition;
mod pour;
mod table;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Flags, Location, PARTITION_COUNT, PartitionId, RecoverySlot, SizeClass, Slot, Tag};
pub use partition::{Iter, Partition};

use arena::{Arena, CHUNK_LINES};
use partition::Shard;
use std::marker::PhantomData;
use table::{Layout, Memory};

/// How many lookups of a batch go side by side: each takes one step (partition, directory, slots) before any
/// takes the next, so that their cache misses overlap.
const BATCH_STRIDE: usize = 32;

/// The index of one namespace. `Index` alone holds [`Entry`]s; a cold start uses `Index<RecoverySlot>`.
pub struct Index<S: Slot = Entry> {
    shards: Box<[Shard; PARTITION_COUNT]>,
    memory: Memory,
    slots: PhantomData<S>,
}

impl Index {
    /// The partition a digest belongs to.
    pub const fn partition_of(digest: &[u8; 20]) -> PartitionId {
        PartitionId::of(digest)
    }
}

impl<S: Slot> Default for Index<S> {
    fn default() -> Self {
        Index::new()
    }
}

impl<S: Slot> Index<S> {
    /// An index without entries. It takes 320 KiB, and 64 MiB of address space at a time as it fills.
    pub fn new() -> Index<S> {
        let shards: Vec<Shard> = (0..PARTITION_COUNT).map(|_| Shard::new()).collect();
        let Ok(shards) = shards.into_boxed_slice().try_into() else { unreachable!("as many as asked for") };
        Index { shards, memory: Memory { chunks: Arena::new(), arrays: Arena::new() }, slots: PhantomData }
    }

    /// Looks a record up and copies its entry out. Takes no lock unless the partition is being changed right
    /// now; it never sees part of what a guard has changed.
    #[inline]
    pub fn get(&self, digest: &[u8; 20]) -> Option<S> {
        self.shard(PartitionId::of(digest)).get(&self.memory, Tag::of(digest))
    }

    /// Looks many records up side by side. `out` is cleared and then holds one answer for
    /// each digest, in order.
    pub fn get_batch(&self, digests: &[[u8; 20]], out: &mut Vec<Option<S>>) {
        out.clear();
        out.reserve(digests.len());
        let mut tables = [None; BATCH_STRIDE];
        for digests in digests.chunks(BATCH_STRIDE) {
            let shard = |digest| self.shard(PartitionId::of(digest));
            digests.iter().for_each(|digest| arena::prefetch(shard(digest)));
            for (table, digest) in tables.iter_mut().zip(digests) {
                *table = shard(digest).table_of(&self.memory, Tag::of(digest));
                table.inspect(|table| table.prefetch_directory::<S>(&self.memory, Tag::of(digest)));
            }
            for (table, digest) in tables.iter().zip(digests) {
                table.inspect(|table| table.prefetch_slots::<S>(&self.memory, Tag::of(digest)));
            }
            out.extend(digests.iter().map(|digest| self.get(digest)));
        }
    }

    /// Locks a partition. While holding another guard, only one with a greater id may be locked.
    pub fn lock(&self, id: PartitionId) -> Partition<'_, S> {
        self.shard(id).lock(&self.memory, id)
    }

    /// Locks the partitions named, each once, in ascending order.
    pub fn lock_many(&self, ids: &[PartitionId]) -> Partitions<'_, S> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        Partitions { guards: ids.into_iter().map(|id| self.lock(id)).collect() }
    }

    /// Locks all partitions, in ascending order.
    pub fn lock_all(&self) -> Partitions<'_, S> {
        Partitions { guards: PartitionId::all().map(|id| self.lock(id)).collect() }
    }

    /// How many entries there are; partitions that change meanwhile count as before or after.
    pub fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.len() as u64).sum()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory the index takes, all allocations counted, in whole pages.
    pub fn memory_size(&self) -> u64 {
        let fixed = size_of::<Self>() + PARTITION_COUNT * size_of::<Shard>();
        fixed as u64 + self.memory.chunks.memory_size() + self.memory.arrays.memory_size()
    }

    /// Entries per slot, 0.0..=1.0; 0 for an index without slots.
    pub fn load_factor(&self) -> f64 {
        let chunks = self.memory.chunks.used_lines() / CHUNK_LINES as u64;
        if chunks == 0 { 0.0 } else { self.len() as f64 / (chunks * Layout::<S>::SLOTS as u64) as f64 }
    }

    #[inline]
    fn shard(&self, id: PartitionId) -> &Shard {
        &self.shards[id.get() as usize]
    }
}

impl Index<RecoverySlot> {
    /// Ends a cold start: the entries that `keep` makes of the slots, asked partition by partition in tag
    /// order. Memory is converted in place, one partition after another, and what the smaller entries need
    /// no more goes back to the system. An entry's tag must be that of its slot (panics).
    pub fn into_entries(
        self,
        mut keep: impl FnMut(PartitionId, &RecoverySlot) -> Option<Entry>,
    ) -> Index<Entry> {
        for id in PartitionId::all() {
            self.lock(id).convert(|slot| keep(id, slot));
        }
        self.memory.chunks.compact(|moved| {
            PartitionId::all().for_each(|id| self.lock(id).rename_chunks(moved));
        });
        Index { shards: self.shards, memory: self.memory, slots: PhantomData }
    }
}

/// Several partitions under their locks, in ascending order, each once.
pub struct Partitions<'a, S: Slot> {
    guards: Vec<Partition<'a, S>>,
}

impl<'a, S: Slot> Partitions<'a, S> {
    /// The partition with this id, if it is among them.
    pub fn get(&self, id: PartitionId) -> Option<&Partition<'a, S>> {
        let at = self.guards.binary_search_by_key(&id, Partition::id).ok()?;
        Some(&self.guards[at])
    }

    /// The partition with this id, if it is among them, to be changed.
    pub fn get_mut(&mut self, id: PartitionId) -> Option<&mut Partition<'a, S>> {
        let at = self.guards.binary_search_by_key(&id, Partition::id).ok()?;
        Some(&mut self.guards[at])
    }

    /// The guards in ascending order.
    pub fn as_slice(&self) -> &[Partition<'a, S>] {
        &self.guards
    }

    /// The guards in ascending order, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [Partition<'a, S>] {
        &mut self.guards
    }
}
