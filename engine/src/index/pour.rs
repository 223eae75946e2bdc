//! How entries get from old tables into new ones: growth, shrinking, a split, a merge, the end of a cold start.
//!
//! A pour reads the old tables from left to right and fills the new ones from left to right. A chunk that has
//! been emptied is the next one to be filled, so a pour needs no second copy of what it moves: only what the
//! new tables are larger by.
//!
//! What always holds: entries arrive in tag order, and each lies at its home or directly right of the one
//! before it, which is what `table.rs` asks of a table.

use super::arena::CHUNK_LINES;
use super::entry::Slot;
use super::table::{Layout, Memory, SPREAD_PCT, TAIL_SLOTS, Table, chunks_for, directory_lines};
use std::marker::PhantomData;

/// Entries on their way from old tables to new ones, with the chunks that the old ones have left so far.
pub(super) struct Pour<'m> {
    memory: &'m Memory,
    spare: Vec<u32>,
}

impl<'m> Pour<'m> {
    /// Nothing poured yet.
    pub(super) fn new(memory: &'m Memory) -> Pour<'m> {
        Pour { memory, spare: Vec::new() }
    }

    /// Empties a table in tag order. A chunk is spare as soon as its last entry has been handed over.
    pub(super) fn drain<S: Slot>(&mut self, table: Table, mut each: impl FnMut(&mut Pour<'m>, S)) {
        let memory = self.memory;
        for at in 0..table.chunks {
            let id = table.chunk_id(memory, at).expect("directories are in memory");
            let chunk = memory.chunks.chunk(id).expect("directories list only chunks that exist");
            for slot in 0..Layout::<S>::SLOTS {
                let entry = Layout::<S>::read(chunk, slot);
                if !entry.is_empty() {
                    each(self, entry);
                }
            }
            self.spare.push(id);
        }
        if table.chunks > 0 {
            memory.arrays.free(table.directory, directory_lines(table.chunks));
        }
    }

    /// Frees what is left over.
    pub(super) fn finish(self) {
        self.spare.iter().for_each(|&chunk| self.memory.chunks.free(chunk, CHUNK_LINES));
    }
}

/// A table being filled from left to right.
pub(super) struct Target<S> {
    table: Table,
    /// The leftmost slot that the next entry may take.
    next: u32,
    spread_chunks: u32,
    slots: PhantomData<S>,
}

impl<S: Slot> Target<S> {
    /// A table spread over `chunks` chunks; no entry may follow when that is 0.
    pub(super) fn new(depth: u32, chunks: u32) -> Target<S> {
        let home_range = (chunks * Layout::<S>::SLOTS).saturating_sub(TAIL_SLOTS);
        Target {
            table: Table { home_range, ..Table::empty(depth) },
            next: 0,
            spread_chunks: chunks,
            slots: PhantomData,
        }
    }

    /// A table with room for `len` entries, and a few more before it grows.
    pub(super) fn for_len(depth: u32, len: u64) -> Target<S> {
        Target::new(depth, chunks_for::<S>(len, SPREAD_PCT))
    }

    /// Puts the entry with the next greater tag.
    pub(super) fn push(&mut self, pour: &mut Pour<'_>, entry: S) {
        let pos = self.table.home(entry.tag().high()).max(self.next);
        while self.table.chunks <= pos / Layout::<S>::SLOTS {
            self.table.add_chunk::<S>(pour.memory, &mut pour.spare);
        }
        self.table.write(pour.memory, pos, &entry);
        self.table.len += 1;
        self.next = pos + 1;
    }

    /// The table, with all its chunks.
    pub(super) fn finish(mut self, pour: &mut Pour<'_>) -> Table {
        while self.table.chunks < self.spread_chunks {
            self.table.add_chunk::<S>(pour.memory, &mut pour.spare);
        }
        self.table
    }
}
