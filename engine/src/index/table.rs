//! An ordered open-addressing table: linear probing in which entries lie in ascending tag order.
//!
//! A tag's home is where it would lie if tags were spread evenly: `home = tag * home_range / 2^64`, which is
//! monotone in the tag and takes any range, not just powers of two. An entry lies at its home or, where that
//! is taken, somewhat to the right; entries keep tag order, and between an entry and its home no slot is
//! empty. Nothing wraps around: beyond the home range lies a short tail for what overflows. Hence
//! * a search goes right from home until it meets a tag that is not smaller: 3.8 slots on average at a load
//!   of 0.85 and 5.5 at 0.9, so two adjacent cache lines, whether the tag is there or not;
//! * growing is one pass from left to right into a range a sixteenth larger, nothing is hashed again;
//! * walking the slots is walking the tags, and "what comes after tag T" has one answer, whatever the
//!   table's size was when T was seen.
//!
//! Slots lie in chunks of 384 bytes, listed in a directory (32-bit line numbers, a power of two of lines).
//! All chunks are alike, so memory that one table leaves is what another needs.
//!
//! Tags that crowd together by malice cost time in proportion to their crowd, and tail chunks to hold it,
//! but break nothing: a tail grows chunk by chunk, without bound and without a new spread.
//!
//! A search may run under no lock while a writer is at work (see `partition.rs`): it then finds rubbish,
//! which its caller discards, but it does not panic and it ends.

use super::arena::{Arena, CHUNK_LINES, Chunk, NO_LINE};
use super::entry::{Slot, Tag};
use super::pour::{Pour, Target};
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;

/// A spread is made at this load ..
pub(super) const SPREAD_PCT: u64 = 85;
/// .. and made anew, one sixteenth larger, when the load passes this.
const GROW_PCT: u64 = 90;
/// A tail that overflows gets one more chunk, or a new spread if the load has come at least this far.
const OVERFLOW_GROW_PCT: u64 = 88;
/// Below this load a table shrinks ..
const SHRINK_PCT: u64 = 65;
/// .. to this one: far from either end, so that a table at the edge does not swing.
const SHRUNK_PCT: u64 = 80;
/// Slots beyond the home range. Fewer, and small tables overflow early; more, and they are crowded.
pub(super) const TAIL_SLOTS: u32 = 8;
/// How many slots from home a lookup compares at once. Eight reach further but touch a line more: at 10M
/// records lookups that hit made 2.5-4.2 M/s with eight and 4.8 with five, on a busy machine (two passes).
const WINDOW_SLOTS: u32 = 5;
/// Directory entries in one line.
const IDS_PER_LINE: u32 = 16;

/// Where tables have their memory: chunks apart from everything else, so that chunks can be compacted.
pub(super) struct Memory {
    pub(super) chunks: Arena,
    /// Directories, and the partitions' lists of tables.
    pub(super) arrays: Arena,
}

/// How slots of one type lie in a chunk.
pub(super) struct Layout<S>(PhantomData<S>);

impl<S: Slot> Layout<S> {
    const WORDS: usize = size_of::<S>() / 8;
    /// Slots in a chunk: 16 entries.
    pub(super) const SLOTS: u32 = {
        let chunk = size_of::<Chunk>();
        assert!(size_of::<S>().is_multiple_of(8) && chunk.is_multiple_of(size_of::<S>()), "see trait Slot");
        (chunk / size_of::<S>()) as u32
    };

    /// The first word of a slot: its tag's high bits, all ones if it is empty.
    #[inline]
    fn key(chunk: &Chunk, slot: u32) -> u64 {
        chunk[slot as usize * Self::WORDS].load(Relaxed)
    }

    #[inline]
    pub(super) fn read(chunk: &Chunk, slot: u32) -> S {
        let mut value = S::EMPTY;
        let words: &mut [u64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut value));
        let from = &chunk[slot as usize * Self::WORDS..][..Self::WORDS];
        words.iter_mut().zip(from).for_each(|(word, from)| *word = from.load(Relaxed));
        value
    }

    /// Which of the slots of a window are empty or hold a tag whose key is not smaller, as bits.
    #[inline]
    fn reached(chunk: &Chunk, window: u32, tag: Tag) -> u32 {
        let words = &chunk[window as usize * Self::WORDS..][..WINDOW_SLOTS as usize * Self::WORDS];
        (0..WINDOW_SLOTS).fold(0, |bits, step| {
            bits | ((words[step as usize * Self::WORDS].load(Relaxed) >= tag.high()) as u32) << step
        })
    }

    #[inline]
    fn write(chunk: &Chunk, slot: u32, value: &S) {
        let words: &[u64] = bytemuck::cast_slice(std::slice::from_ref(value));
        let to = &chunk[slot as usize * Self::WORDS..][..Self::WORDS];
        words.iter().zip(to).for_each(|(word, to)| to.store(*word, Relaxed));
    }
}

/// The head of a table, copied out of the partition's list and put back after a change: 16 bytes there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// First line of the directory.
    pub(super) directory: u32,
    /// Homes are 0..home_range; 0 when the table is empty and has no memory at all.
    pub(super) home_range: u32,
    pub(super) len: u32,
    pub(super) chunks: u32,
    /// How many high bits all tags of this table share: they do not count for the home.
    pub(super) depth: u32,
}

impl Table {
    /// A table without entries or memory, for tags that share `depth` high bits.
    pub(super) const fn empty(depth: u32) -> Table {
        Table { directory: NO_LINE, home_range: 0, len: 0, chunks: 0, depth }
    }

    /// A table from the two words that [`to_words`](Table::to_words) made.
    #[inline]
    pub(super) const fn from_words(words: [u64; 2], depth: u32) -> Table {
        Table {
            directory: words[0] as u32,
            home_range: (words[0] >> 32) as u32,
            len: words[1] as u32,
            chunks: (words[1] >> 32) as u32,
            depth,
        }
    }

    /// The table's head, without its depth.
    pub(super) const fn to_words(self) -> [u64; 2] {
        [self.directory as u64 | (self.home_range as u64) << 32, self.len as u64 | (self.chunks as u64) << 32]
    }

    /// How many entries it has.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// Finds an entry. Safe to call under no lock; then the answer has to be proven otherwise.
    ///
    /// The same as `seek`, made so that lookups overlap: a branch that waits for memory and goes the other
    /// way throws away whatever the processor has begun of the next lookups. So the first slots from home on
    /// are all compared and counted, without a branch; few entries lie further away.
    #[inline]
    pub(super) fn get<S: Slot>(&self, memory: &Memory, tag: Tag) -> Option<S> {
        let home = self.home(tag.high());
        let (at, slot) = (home / Layout::<S>::SLOTS, home % Layout::<S>::SLOTS);
        let first = self.chunk(memory, at)?;
        let last_window = Layout::<S>::SLOTS - WINDOW_SLOTS;
        // Which of the slots from home on hold a tag that is not smaller: bit 0 is home. This branch hangs on
        // the table's head alone, which is known long before the slots are.
        let reached = if slot <= last_window {
            Layout::<S>::reached(first, slot, tag)
        } else {
            let before = Layout::<S>::reached(first, last_window, tag) >> (slot - last_window);
            let after = if at + 1 < self.chunks {
                Layout::<S>::reached(self.chunk(memory, at + 1)?, 0, tag)
            } else {
                0
            };
            before | after << (Layout::<S>::SLOTS - slot)
        };
        if reached != 0 {
            let pos = slot + reached.trailing_zeros();
            let found = if pos < Layout::<S>::SLOTS {
                Layout::<S>::read(first, pos)
            } else {
                Layout::<S>::read(self.chunk(memory, at + 1)?, pos - Layout::<S>::SLOTS)
            };
            if found.tag() == tag && !found.is_empty() {
                return Some(found);
            }
            if found.tag().high() != tag.high() {
                return None;
            }
        }
        self.seek(memory, tag).1
    }

    /// Where the tag lies, with its entry, or else where it would be put. Safe to call under no lock.
    #[inline]
    pub(super) fn seek<S: Slot>(&self, memory: &Memory, tag: Tag) -> (u32, Option<S>) {
        let home = self.home(tag.high());
        let (mut at, mut slot) = (home / Layout::<S>::SLOTS, home % Layout::<S>::SLOTS);
        while at < self.chunks {
            let Some(chunk) = self.chunk(memory, at) else { break };
            while slot < Layout::<S>::SLOTS {
                // An empty slot's key is the greatest, so this one comparison ends most steps of a search.
                if Layout::<S>::key(chunk, slot) >= tag.high() {
                    let found = Layout::<S>::read(chunk, slot);
                    let pos = at.wrapping_mul(Layout::<S>::SLOTS).wrapping_add(slot);
                    if found.is_empty() || found.tag() > tag {
                        return (pos, None);
                    }
                    if found.tag() == tag {
                        return (pos, Some(found));
                    }
                }
                slot += 1;
            }
            (at, slot) = (at + 1, 0);
        }
        (self.chunks.wrapping_mul(Layout::<S>::SLOTS), None)
    }

    /// Brings into the cache the part of the directory that a search for the tag reads first.
    #[inline]
    pub(super) fn prefetch_directory<S: Slot>(&self, memory: &Memory, tag: Tag) {
        let at = self.home(tag.high()) / Layout::<S>::SLOTS;
        memory.arrays.prefetch(self.directory.wrapping_add(at / IDS_PER_LINE));
    }

    /// Brings into the cache the slots that a search for the tag compares first.
    #[inline]
    pub(super) fn prefetch_slots<S: Slot>(&self, memory: &Memory, tag: Tag) {
        let home = self.home(tag.high());
        let (at, slot) = (home / Layout::<S>::SLOTS, home % Layout::<S>::SLOTS);
        let Some(id) = self.chunk_id(memory, at) else { return };
        let line = |slot: u32| slot * size_of::<S>() as u32 / 64;
        // Every line of the window: one left out would be waited for alone, after all the others.
        let last = line(slot + WINDOW_SLOTS - 1);
        (line(slot)..CHUNK_LINES.min(last + 1)).for_each(|i| memory.chunks.prefetch(id.wrapping_add(i)));
        if last >= CHUNK_LINES
            && let Some(next) = self.chunk_id(memory, at + 1)
        {
            (0..=last - CHUNK_LINES).for_each(|i| memory.chunks.prefetch(next.wrapping_add(i)));
        }
    }

    /// Puts an entry in. Returns the one it replaces, if any.
    pub(super) fn insert<S: Slot>(&mut self, memory: &Memory, entry: S) -> Option<S> {
        let (mut pos, old) = self.seek::<S>(memory, entry.tag());
        if old.is_some() {
            self.write(memory, pos, &entry);
            return old;
        }
        if self.passes::<S>(self.len as u64 + 1, GROW_PCT) {
            self.spread::<S>(
                memory,
                chunks_for::<S>(self.len as u64 + 1, SPREAD_PCT).max(self.spread_chunks::<S>() + 1),
            );
            pos = self.seek::<S>(memory, entry.tag()).0;
        }
        self.shift_in(memory, pos, entry);
        None
    }

    /// Takes an entry out and returns it.
    pub(super) fn remove<S: Slot>(&mut self, memory: &Memory, tag: Tag) -> Option<S> {
        let (mut hole, old) = self.seek::<S>(memory, tag);
        old?;
        // What was pushed right for lack of room moves back, so no slot left of it stays empty.
        while hole + 1 < self.chunks * Layout::<S>::SLOTS {
            let next: S = self.read(memory, hole + 1);
            if next.is_empty() || self.home(next.tag().high()) > hole {
                break;
            }
            self.write(memory, hole, &next);
            hole += 1;
        }
        self.write(memory, hole, &S::EMPTY);
        self.len -= 1;
        let shrunk = chunks_for::<S>(self.len as u64, SHRUNK_PCT);
        if self.len == 0
            || !self.passes::<S>(self.len as u64, SHRINK_PCT) && shrunk < self.spread_chunks::<S>()
        {
            self.spread::<S>(memory, shrunk);
        }
        old
    }

    /// Writes an entry over one of the same tag. The position is that of a `seek` that found it.
    pub(super) fn write<S: Slot>(&self, memory: &Memory, pos: u32, entry: &S) {
        let chunk = self.chunk(memory, pos / Layout::<S>::SLOTS).expect("the position is in the table");
        Layout::<S>::write(chunk, pos % Layout::<S>::SLOTS, entry);
    }

    /// The entry at the first taken slot from `pos` on, and its position.
    pub(super) fn next<S: Slot>(&self, memory: &Memory, pos: u32) -> Option<(u32, S)> {
        let (mut at, mut slot) = (pos / Layout::<S>::SLOTS, pos % Layout::<S>::SLOTS);
        while at < self.chunks {
            let chunk = self.chunk(memory, at).expect("directories list only chunks that exist");
            while slot < Layout::<S>::SLOTS {
                let entry = Layout::<S>::read(chunk, slot);
                if !entry.is_empty() {
                    return Some((at * Layout::<S>::SLOTS + slot, entry));
                }
                slot += 1;
            }
            (at, slot) = (at + 1, 0);
        }
        None
    }

    /// Drops the entries for which `keep` says no.
    pub(super) fn retain<S: Slot>(&mut self, memory: &Memory, mut keep: impl FnMut(&S) -> bool) {
        // Ask first, then act: should `keep` panic, nothing has happened.
        let (mut pos, mut doomed) = (0, Vec::new());
        while let Some((at, entry)) = self.next::<S>(memory, pos) {
            if !keep(&entry) {
                doomed.push(at);
            }
            pos = at + 1;
        }
        if doomed.is_empty() {
            return;
        }
        doomed.iter().for_each(|&at| self.write(memory, at, &S::EMPTY));
        // The holes have cut some entries off from their homes. A new spread brings them back.
        self.len -= doomed.len() as u32;
        let (chunks, shrunk) = (self.spread_chunks::<S>(), chunks_for::<S>(self.len as u64, SHRUNK_PCT));
        let dense = self.passes::<S>(self.len as u64, SHRINK_PCT);
        self.spread::<S>(memory, if dense { chunks } else { shrunk.min(chunks) });
    }

    /// Replaces every chunk's number by what `moved` makes of it.
    pub(super) fn rename_chunks(&self, memory: &Memory, moved: &mut dyn FnMut(u32) -> u32) {
        for at in 0..self.chunks {
            let id = self.chunk_id(memory, at).expect("directories are in memory");
            set_id(&memory.arrays, self.directory, at, moved(id));
        }
    }

    /// The home of a tag, given its high bits.
    #[inline]
    pub(super) fn home(&self, key: u64) -> u32 {
        (((key << self.depth) as u128 * self.home_range as u128) >> 64) as u32
    }

    #[inline]
    pub(super) fn chunk_id(&self, memory: &Memory, at: u32) -> Option<u32> {
        id(&memory.arrays, self.directory, at)
    }

    #[inline]
    fn chunk<'m>(&self, memory: &'m Memory, at: u32) -> Option<&'m Chunk> {
        memory.chunks.chunk(self.chunk_id(memory, at)?)
    }

    fn read<S: Slot>(&self, memory: &Memory, pos: u32) -> S {
        let chunk = self.chunk(memory, pos / Layout::<S>::SLOTS).expect("the position is in the table");
        Layout::<S>::read(chunk, pos % Layout::<S>::SLOTS)
    }

    /// How many chunks the spread was made for; more than that are an overflowed tail.
    fn spread_chunks<S: Slot>(&self) -> u32 {
        self.home_range.div_ceil(Layout::<S>::SLOTS)
    }

    /// Whether `len` entries would be more than `pct` percent of the slots that the spread was made for.
    fn passes<S: Slot>(&self, len: u64, pct: u64) -> bool {
        len * 100 > self.spread_chunks::<S>() as u64 * Layout::<S>::SLOTS as u64 * pct
    }

    /// Puts an entry at `pos` and moves what is there one to the right, up to the next empty slot.
    fn shift_in<S: Slot>(&mut self, memory: &Memory, pos: u32, entry: S) {
        self.len += 1;
        let mut carried = entry;
        let (mut at, mut slot) = (pos / Layout::<S>::SLOTS, pos % Layout::<S>::SLOTS);
        while at < self.chunks {
            let chunk = self.chunk(memory, at).expect("directories list only chunks that exist");
            while slot < Layout::<S>::SLOTS {
                let displaced = Layout::<S>::read(chunk, slot);
                Layout::<S>::write(chunk, slot, &carried);
                if displaced.is_empty() {
                    return;
                }
                carried = displaced;
                slot += 1;
            }
            (at, slot) = (at + 1, 0);
        }
        self.add_chunk::<S>(memory, &mut Vec::new());
        self.write(memory, at * Layout::<S>::SLOTS, &carried);
        if self.passes::<S>(self.len as u64, OVERFLOW_GROW_PCT) {
            let wanted = chunks_for::<S>(self.len as u64, SPREAD_PCT);
            self.spread::<S>(memory, wanted.max(self.spread_chunks::<S>() + 1));
        }
    }

    /// Spreads the entries anew, over `chunks` chunks.
    fn spread<S: Slot>(&mut self, memory: &Memory, chunks: u32) {
        let mut pour = Pour::new(memory);
        let mut target = Target::<S>::new(self.depth, chunks);
        pour.drain(*self, |pour, entry| target.push(pour, entry));
        *self = target.finish(&mut pour);
        pour.finish();
    }

    /// Adds a chunk of empty slots at the end.
    pub(super) fn add_chunk<S: Slot>(&mut self, memory: &Memory, spare: &mut Vec<u32>) {
        let chunk = spare.pop().unwrap_or_else(|| memory.chunks.allocate(CHUNK_LINES));
        let words = memory.chunks.chunk(chunk).expect("just allocated");
        (0..Layout::<S>::SLOTS).for_each(|slot| Layout::<S>::write(words, slot, &S::EMPTY));
        let (has, wants) = (directory_lines(self.chunks), directory_lines(self.chunks + 1));
        if has != wants {
            let directory = memory.arrays.allocate(wants);
            if has != 0 {
                for line in 0..has {
                    let from = memory.arrays.line(self.directory + line).expect("the directory is in memory");
                    let to = memory.arrays.line(directory + line).expect("just allocated");
                    from.iter().zip(to).for_each(|(from, to)| to.store(from.load(Relaxed), Relaxed));
                }
                memory.arrays.free(self.directory, has);
            }
            self.directory = directory;
        }
        set_id(&memory.arrays, self.directory, self.chunks, chunk);
        self.chunks += 1;
    }
}

/// Chunks for `len` entries at a load of `pct` percent.
pub(super) fn chunks_for<S: Slot>(len: u64, pct: u64) -> u32 {
    u32::try_from((len * 100).div_ceil(pct * Layout::<S>::SLOTS as u64))
        .expect("a table has less than 2^32 chunks")
}

/// Lines of a directory of this many chunks. It doubles: at two bits a slot that costs little.
pub(super) fn directory_lines(chunks: u32) -> u32 {
    if chunks == 0 { 0 } else { chunks.div_ceil(IDS_PER_LINE).next_power_of_two() }
}

#[inline]
fn id(arrays: &Arena, directory: u32, at: u32) -> Option<u32> {
    let line = arrays.line(directory.wrapping_add(at / IDS_PER_LINE))?;
    Some((line[(at % IDS_PER_LINE / 2) as usize].load(Relaxed) >> (at % 2 * 32)) as u32)
}

fn set_id(arrays: &Arena, directory: u32, at: u32, id: u32) {
    let line = arrays.line(directory + at / IDS_PER_LINE).expect("the directory is in memory");
    let (word, shift) = (&line[(at % IDS_PER_LINE / 2) as usize], at % 2 * 32);
    let other = word.load(Relaxed) & !((u32::MAX as u64) << shift);
    word.store(other | (id as u64) << shift, Relaxed);
}
