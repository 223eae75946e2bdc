//! The index's memory: cache lines of plain words, handed out in blocks, never unmapped while the index lives.
//!
//! An arena maps 64 MiB of anonymous memory at a time, aligned to 2 MiB and advised for huge pages, and
//! touches it from the bottom up. A [`Line`] is addressed by a 32-bit number (map, then line in the map):
//! 256 GiB an arena. A block is some adjacent lines; a freed one waits in the list of its size, linked
//! through its own first word, until a block of that size is asked for.
//!
//! Every word is an atomic. That is what keeps this file the only one with `unsafe`, and its argument
//! short: whoever holds the arena may read or write any line of it at any time without undefined behaviour.
//! Reading under no lock, or through a line number that has gone stale, yields words that mean nothing, and
//! what they are believed for is the reader's matter (`partition.rs` proves them by a version). Relaxed
//! loads and stores are ordinary `mov`s.
//!
//! What always holds: a line once readable stays readable until the arena is dropped; a block lies within
//! one map; a block is handed out to one owner at a time.

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use parking_lot::Mutex;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};

/// Eight words: one cache line.
pub(super) type Line = [AtomicU64; 8];
/// A block of [`CHUNK_LINES`]: what tables keep their slots in.
pub(super) type Chunk = [AtomicU64; CHUNK_LINES as usize * 8];

/// Lines in a chunk: 384 bytes, so 16 entries or 12 recovery slots without a rest.
pub(super) const CHUNK_LINES: u32 = 6;
/// The line number of nothing.
pub(super) const NO_LINE: u32 = u32::MAX;

const LINE_SIZE: usize = size_of::<Line>();
/// 2^20 lines, 64 MiB a map: 4096 of them are the 2^32 lines a number can name.
const MAP_SHIFT: u32 = 20;
const MAP_LINES: u32 = 1 << MAP_SHIFT;
const MAP_SIZE: usize = MAP_LINES as usize * LINE_SIZE;
const MAP_COUNT: usize = 1 << (32 - MAP_SHIFT);
const HUGE_PAGE: usize = 2 << 20;
const SMALL_PAGE: usize = 4096;
/// One list for chunks, and one for each power of two.
const CLASSES: usize = MAP_SHIFT as usize + 1;

/// Memory for one kind of block, or for several. See the top of the file.
pub(super) struct Arena {
    /// Start of each map, null where there is none yet. Set once, under the lock of `extent`.
    starts: Box<[AtomicPtr<Line>; MAP_COUNT]>,
    extent: Mutex<Extent>,
}

/// How far the arena reaches and what in it is free.
struct Extent {
    maps: Vec<MmapRaw>,
    /// Bytes left out at the start of each map to align it to a huge page.
    skips: Vec<usize>,
    /// The first line never handed out (or given back to the system since). Wider than a line number,
    /// because the last map ends at 2^32.
    next: u64,
    /// Heads of the lists of free blocks, by class.
    free: [u32; CLASSES],
    used_lines: u64,
}

impl Arena {
    /// An arena without any memory yet.
    pub(super) fn new() -> Arena {
        let starts: Vec<_> = (0..MAP_COUNT).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Arena {
            starts: starts.into_boxed_slice().try_into().expect("as many as asked for"),
            extent: Mutex::new(Extent {
                maps: Vec::new(),
                skips: Vec::new(),
                next: 0,
                free: [NO_LINE; CLASSES],
                used_lines: 0,
            }),
        }
    }

    /// A block of `lines`: a power of two, or [`CHUNK_LINES`]. Its words are whatever they were left as.
    /// Panics when the system has no memory or the arena has no line number left.
    pub(super) fn allocate(&self, lines: u32) -> u32 {
        let mut extent = self.extent.lock();
        extent.used_lines += lines as u64;
        let head = extent.free[class(lines)];
        if head != NO_LINE {
            extent.free[class(lines)] =
                self.line(head).expect("a free block is mapped")[0].load(Relaxed) as u32;
            return head;
        }
        let in_map = extent.next % MAP_LINES as u64;
        if in_map + lines as u64 > MAP_LINES as u64 {
            extent.next += MAP_LINES as u64 - in_map;
        }
        assert!(extent.next + (lines as u64) < 1 << 32, "index: 256 GiB of line numbers are used up");
        let block = extent.next as u32;
        extent.next += lines as u64;
        if (block >> MAP_SHIFT) as usize == extent.maps.len() {
            let start = extent.map();
            self.starts[(block >> MAP_SHIFT) as usize].store(start, Release);
        }
        block
    }

    /// Gives back a block of `lines` that [`allocate`](Arena::allocate) handed out with the same size.
    pub(super) fn free(&self, block: u32, lines: u32) {
        let mut extent = self.extent.lock();
        extent.used_lines -= lines as u64;
        self.line(block).expect("an allocated block is mapped")[0]
            .store(extent.free[class(lines)] as u64, Relaxed);
        extent.free[class(lines)] = block;
    }

    /// The line with this number, or `None` where nothing is mapped. Any number may be asked for.
    #[inline]
    pub(super) fn line(&self, line: u32) -> Option<&Line> {
        let start = self.starts[(line >> MAP_SHIFT) as usize].load(Acquire);
        if start.is_null() {
            return None;
        }
        // SAFETY: `start` is that of a map of MAP_LINES lines and a bit more (`Extent::map`), and the rest of
        // the number is below MAP_LINES. The memory is readable, writable, zeroed by the kernel and only ever
        // reached through atomics; it stays mapped until `extent.maps` is dropped, with the `self` borrowed here.
        Some(unsafe { &*start.add((line & (MAP_LINES - 1)) as usize) })
    }

    /// The chunk that begins at this line, or `None` where nothing is mapped. Any number may be asked for.
    #[inline]
    pub(super) fn chunk(&self, line: u32) -> Option<&Chunk> {
        let first = ptr::from_ref(self.line(line)?);
        // SAFETY: as in `line`. A map is readable for CHUNK_LINES beyond its MAP_LINES (`Extent::map`), so a
        // chunk that begins at any of its lines ends inside it; its words lie one behind the other.
        Some(unsafe { &*first.cast::<Chunk>() })
    }

    /// Lines in blocks that are handed out.
    pub(super) fn used_lines(&self) -> u64 {
        self.extent.lock().used_lines
    }

    /// Bytes of memory the arena takes: what was touched, in whole pages, and its own tables.
    pub(super) fn memory_size(&self) -> u64 {
        let extent = self.extent.lock();
        let touched = extent.next as usize * LINE_SIZE;
        let page = if touched <= HUGE_PAGE { SMALL_PAGE } else { HUGE_PAGE };
        let tables = MAP_COUNT * size_of::<AtomicPtr<Line>>()
            + extent.maps.capacity() * size_of::<MmapRaw>()
            + extent.skips.capacity() * size_of::<usize>();
        (touched.next_multiple_of(page) + tables + size_of::<Arena>()) as u64
    }

    /// Moves chunks down into the gaps that freed ones left, and gives the rest back to the system. `chunks`
    /// calls its argument for every chunk in use, and stores what it returns as that chunk's new number. For
    /// an arena of chunks only; no table may be at work on it meanwhile.
    pub(super) fn compact(&self, chunks: impl FnOnce(&mut dyn FnMut(u32) -> u32)) {
        let mut extent = self.extent.lock();
        let a_map = (MAP_LINES / CHUNK_LINES) as u64;
        let count = extent.used_lines / CHUNK_LINES as u64;
        // Chunks are handed out from the bottom up, so `count` of them end here when no gap is left.
        let end = count / a_map * MAP_LINES as u64 + count % a_map * CHUNK_LINES as u64;
        let mut free = std::mem::replace(&mut extent.free[class(CHUNK_LINES)], NO_LINE);
        let mut gaps = Vec::new();
        while free != NO_LINE {
            if (free as u64) < end {
                gaps.push(free);
            }
            free = self.line(free).expect("a free block is mapped")[0].load(Relaxed) as u32;
        }
        chunks(&mut |chunk| {
            if (chunk as u64) < end {
                return chunk;
            }
            let gap = gaps.pop().expect("below `end` there is a gap for every chunk above");
            let (from, to) = (self.chunk(chunk).expect("in use"), self.chunk(gap).expect("was in use"));
            from.iter().zip(to).for_each(|(from, to)| to.store(from.load(Relaxed), Relaxed));
            gap
        });
        assert!(gaps.is_empty(), "index: a chunk in use was not offered for compaction");
        extent.give_back(end);
    }

    /// Brings a line into the cache, if it is mapped.
    #[inline]
    pub(super) fn prefetch(&self, line: u32) {
        if let Some(line) = self.line(line) {
            prefetch(line);
        }
    }
}

impl Extent {
    /// Maps one more stretch, and says where it begins.
    fn map(&mut self) -> *mut Line {
        // One huge page more than needed: to align the start, and so that a chunk may begin at any line.
        let size = MAP_SIZE + HUGE_PAGE + SMALL_PAGE;
        let map = MmapOptions::new().len(size).no_reserve_swap().map_anon();
        let map = MmapRaw::from(
            map.unwrap_or_else(|error| panic!("index: mapping {size} bytes of memory: {error}")),
        );
        let skip = map.as_mut_ptr().align_offset(HUGE_PAGE);
        // A small index shall stay small: the arena's first 2 MiB are on small pages. A kernel without huge
        // pages refuses the advice, and lookups are slower then (ANCHORS: 12-48 % at 50M): nothing to stop for.
        let small = if self.maps.is_empty() { HUGE_PAGE } else { 0 };
        let _ = map.advise_range(Advice::HugePage, skip + small, MAP_SIZE - small);
        let start = map.as_mut_ptr().wrapping_add(skip).cast();
        self.maps.push(map);
        self.skips.push(skip);
        start
    }

    /// Forgets what lies from line `end` on, down to the last whole page.
    fn give_back(&mut self, end: u64) {
        for (i, (map, skip)) in self.maps.iter().zip(&self.skips).enumerate() {
            let touched_to = self.next.saturating_sub(i as u64 * MAP_LINES as u64).min(MAP_LINES as u64);
            let kept_to = end.saturating_sub(i as u64 * MAP_LINES as u64).min(MAP_LINES as u64);
            let from = (kept_to as usize * LINE_SIZE).next_multiple_of(HUGE_PAGE);
            let to = (touched_to as usize * LINE_SIZE).next_multiple_of(HUGE_PAGE);
            if from < to {
                // SAFETY: the range lies in the map. Its words turn to zero, as if somebody had stored that:
                // lines above `end` have no owner now, and are still mapped for whoever reads them regardless.
                let _ =
                    unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, skip + from, to - from) };
            }
        }
        self.next = end;
    }
}

/// Which list of free blocks a block of this many lines belongs to.
fn class(lines: u32) -> usize {
    match lines {
        CHUNK_LINES => CLASSES - 1,
        _ if lines.is_power_of_two() && lines < MAP_LINES => lines.trailing_zeros() as usize,
        _ => panic!("index: no blocks of {lines} lines"),
    }
}

/// Asks the processor to bring what `at` refers to into its cache; does nothing where that cannot be asked.
#[inline]
pub(super) fn prefetch<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and faults on nothing; SSE is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(at).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_block_is_handed_out_again_for_its_own_size_only() {
        let arena = Arena::new();
        let (chunk, pair) = (arena.allocate(CHUNK_LINES), arena.allocate(2));
        assert_eq!((chunk, pair, arena.used_lines()), (0, 6, 8));
        arena.free(chunk, CHUNK_LINES);
        assert_eq!(arena.allocate(4), 8);
        assert_eq!(arena.allocate(CHUNK_LINES), chunk);
        assert_eq!(arena.allocate(CHUNK_LINES), 12);
    }

    #[test]
    fn no_block_straddles_two_maps_and_every_line_number_is_safe_to_ask_for() {
        let arena = Arena::new();
        for _ in 0..MAP_LINES / CHUNK_LINES {
            arena.allocate(CHUNK_LINES);
        }
        assert!(arena.line(MAP_LINES).is_none());
        assert!(arena.chunk(NO_LINE).is_none());
        assert_eq!(arena.allocate(CHUNK_LINES), MAP_LINES);
        let last = arena.chunk(2 * MAP_LINES - 1).expect("mapped");
        assert_eq!(last[47].load(Relaxed), 0, "readable beyond the last line");
    }

    #[test]
    fn compaction_moves_chunks_below_and_returns_the_rest() {
        let arena = Arena::new();
        let mut used: Vec<u32> = (0..400_000).map(|_| arena.allocate(CHUNK_LINES)).collect();
        for &chunk in &used {
            arena.chunk(chunk).unwrap()[47].store(chunk as u64, Relaxed);
        }
        let before = arena.memory_size();
        let names: Vec<u32> = used.iter().copied().filter(|c| c % 4 == 0).collect();
        used.retain(|&chunk| {
            let keep = chunk % 4 == 0;
            if !keep {
                arena.free(chunk, CHUNK_LINES);
            }
            keep
        });
        arena.compact(|each| used.iter_mut().for_each(|chunk| *chunk = each(*chunk)));
        for (chunk, name) in used.iter().zip(names) {
            assert_eq!(arena.chunk(*chunk).unwrap()[47].load(Relaxed), name as u64);
        }
        assert!(arena.memory_size() < before * 51 / 100 + HUGE_PAGE as u64);
        let fresh = arena.allocate(CHUNK_LINES);
        assert!(!used.contains(&fresh));
    }
}
