//! One of the 4096 partitions: a lock, a version, and tables that split the tag space among them.
//!
//! **Tables.** A partition begins with one table. When its tables hold more than 2048 entries on average
//! the next one, from left to right, is split in two by its next tag bit; after a round each has been split
//! once and the next round begins. Where a tag belongs follows from the number of tables alone, and the list
//! of tables stays in tag order. So no table has much more than 4096 entries and no growth step moves more,
//! however large the index is.
//!
//! **Reading without the lock.** `Index::get` is far more frequent than anything else, and a locked
//! instruction waits for every load before it: with a lock, lookups cannot overlap their cache misses. So
//! a lookup notes the partition's version, searches, and believes what it found if the version is still the
//! same. A guard makes the version odd at its first change and even when it is dropped: whoever meets an odd
//! version, or another one at the end, takes the lock and searches again. All a reader can see is therefore
//! the state before a guard's first change or after its last, exactly as if it had taken the lock.
//!
//! What always holds: what is written is written under the lock with the version odd; arenas never unmap,
//! so a reader that is late reads rubbish at worst, and the version tells it so.

use super::arena::Arena;
use super::entry::{PartitionId, Slot, Tag};
use super::pour::{Pour, Target};
use super::table::{Layout, Memory, Table};
use parking_lot::{Mutex, MutexGuard};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};

/// Entries a table has on average before the next one is split.
const MEAN_TABLE_LEN: u32 = 2048;
/// Tables in one line of a list.
const TABLES_PER_LINE: u32 = 4;

/// The fixed part of a partition: one cache line, so that neighbours do not disturb each other.
#[repr(align(64))]
pub(super) struct Shard {
    lock: Mutex<()>,
    /// Odd while a guard is changing something.
    version: AtomicU32,
    len: AtomicU32,
    list: AtomicU64,
    /// Instead of a list of one: the head of the only table.
    only: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Shard>() == 64);

/// The list of tables: how many there are and, when more than one, its first line in the arena of arrays.
#[derive(Clone, Copy)]
struct List {
    line: u32,
    count: u32,
}

impl Shard {
    /// A partition without entries or memory.
    pub(super) fn new() -> Shard {
        let list = List { line: 0, count: 0 };
        Shard {
            lock: Mutex::new(()),
            version: AtomicU32::new(0),
            len: AtomicU32::new(0),
            list: AtomicU64::new(list.pack()),
            only: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// How many entries it has. Takes no lock.
    pub(super) fn len(&self) -> u32 {
        self.len.load(Relaxed)
    }

    /// Finds an entry. Takes the lock only when somebody is changing the partition.
    #[inline]
    pub(super) fn get<S: Slot>(&self, memory: &Memory, tag: Tag) -> Option<S> {
        let before = self.version.load(Acquire);
        if before.is_multiple_of(2) {
            let found = self.search(memory, tag);
            fence(Acquire);
            if self.version.load(Relaxed) == before {
                return found;
            }
        }
        self.get_locked(memory, tag)
    }

    #[cold]
    fn get_locked<S: Slot>(&self, memory: &Memory, tag: Tag) -> Option<S> {
        let _lock = self.lock.lock();
        self.search(memory, tag)
    }

    /// Finds an entry, or rubbish if somebody is changing the partition meanwhile.
    #[inline]
    fn search<S: Slot>(&self, memory: &Memory, tag: Tag) -> Option<S> {
        self.table_of(memory, tag)?.get(memory, tag)
    }

    /// The table that a tag belongs to: none in a partition that never had an entry, and rubbish if somebody
    /// is changing the partition meanwhile.
    #[inline]
    pub(super) fn table_of(&self, memory: &Memory, tag: Tag) -> Option<Table> {
        let list = self.list();
        let (at, depth) = list.find(tag)?;
        self.table(list, &memory.arrays, at, depth)
    }

    /// Where the head of a table is kept.
    #[inline]
    fn head<'m>(&'m self, list: List, arrays: &'m Arena, at: u32) -> Option<&'m [AtomicU64]> {
        if list.count == 1 {
            return Some(&self.only);
        }
        let line = arrays.line(list.line.wrapping_add(at / TABLES_PER_LINE))?;
        Some(&line[(at % TABLES_PER_LINE * 2) as usize..][..2])
    }

    #[inline]
    fn table(&self, list: List, arrays: &Arena, at: u32, depth: u32) -> Option<Table> {
        let head = self.head(list, arrays, at)?;
        Some(Table::from_words([head[0].load(Relaxed), head[1].load(Relaxed)], depth))
    }

    fn put_table(&self, list: List, arrays: &Arena, at: u32, table: Table) {
        let head = self.head(list, arrays, at).expect("the list is in memory");
        head.iter().zip(table.to_words()).for_each(|(to, word)| to.store(word, Relaxed));
    }

    /// Takes the lock.
    pub(super) fn lock<'a, S: Slot>(&'a self, memory: &'a Memory, id: PartitionId) -> Partition<'a, S> {
        Partition { id, shard: self, memory, changing: false, slots: PhantomData, _lock: self.lock.lock() }
    }

    fn list(&self) -> List {
        List::unpack(self.list.load(Relaxed))
    }
}

impl List {
    const fn pack(self) -> u64 {
        self.line as u64 | (self.count as u64) << 32
    }

    const fn unpack(word: u64) -> List {
        List { line: word as u32, count: (word >> 32) as u32 }
    }

    /// The table that a tag belongs to, and its depth; none in a partition that never had an entry.
    ///
    /// With 2^level + split tables the first `split` ranges of the level have been split, so they are two
    /// tables each; then follow the others.
    #[inline]
    fn find(self, tag: Tag) -> Option<(u32, u32)> {
        let level = self.count.checked_ilog2()?;
        let split = self.count - (1 << level);
        // The tag's first level + 1 bits.
        let bits = (tag.high() >> (63 - level)) as u32;
        Some(if bits / 2 < split { (bits, level + 1) } else { (bits / 2 + split, level) })
    }

    /// The depth of the table at this place.
    fn depth(self, at: u32) -> u32 {
        let level = self.count.ilog2();
        if at / 2 < self.count - (1 << level) { level + 1 } else { level }
    }

    /// Where in a list of `count` + 1 tables the two are that are one in a list of `count`.
    fn pair(count: u32) -> u32 {
        (count - (1 << count.ilog2())) * 2
    }

    /// Lines that a list of `count` tables takes.
    fn lines(count: u32) -> u32 {
        if count <= 1 { 0 } else { count.div_ceil(TABLES_PER_LINE).next_power_of_two() }
    }
}

/// A partition under its lock. What it changes becomes visible to lookups when it is dropped.
pub struct Partition<'a, S: Slot> {
    id: PartitionId,
    shard: &'a Shard,
    memory: &'a Memory,
    /// Whether the version has been made odd.
    changing: bool,
    slots: PhantomData<S>,
    _lock: MutexGuard<'a, ()>,
}

impl<'a, S: Slot> Partition<'a, S> {
    /// Which partition this is.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.shard.len() as usize
    }

    /// How many slots its tables have, taken or not.
    pub fn slot_count(&self) -> u64 {
        let (list, slots) = (self.shard.list(), u64::from(Layout::<S>::SLOTS));
        let table = |at| self.shard.table(list, &self.memory.arrays, at, list.depth(at));
        (0..list.count).filter_map(table).map(|table| u64::from(table.chunks) * slots).sum()
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry with this tag.
    pub fn get(&self, tag: Tag) -> Option<S> {
        self.shard.search(self.memory, tag)
    }

    /// Puts an entry in, and returns the one of the same tag that it replaces. The entry must not be an
    /// empty slot (panics).
    pub fn insert(&mut self, entry: S) -> Option<S> {
        assert!(!entry.is_empty(), "an empty slot is not an entry");
        self.change();
        if self.shard.list().count == 0 {
            self.put_tables(&[Table::empty(0)]);
        }
        let (list, at, mut table) = self.table_of(entry.tag()).expect("there is a table");
        let old = table.insert(self.memory, entry);
        self.shard.put_table(list, &self.memory.arrays, at, table);
        if old.is_none() {
            let len = self.shard.len() + 1;
            self.shard.len.store(len, Relaxed);
            if len / MEAN_TABLE_LEN > list.count {
                self.split();
            }
        }
        old
    }

    /// Takes out the entry with this tag and returns it.
    pub fn remove(&mut self, tag: Tag) -> Option<S> {
        let (list, at, mut table) = self.table_of(tag)?;
        table.get::<S>(self.memory, tag)?;
        self.change();
        let old = table.remove(self.memory, tag);
        self.shard.put_table(list, &self.memory.arrays, at, table);
        self.shard.len.store(self.shard.len() - 1, Relaxed);
        self.merge_if_sparse();
        old
    }

    /// Changes the entry with this tag where it lies, and says whether there is one. The tag must stay the
    /// same (panics).
    pub fn update(&mut self, tag: Tag, change: impl FnOnce(&mut S)) -> bool {
        let Some((_, _, table)) = self.table_of(tag) else { return false };
        let (pos, Some(mut entry)) = table.seek::<S>(self.memory, tag) else { return false };
        change(&mut entry);
        assert!(entry.tag() == tag && !entry.is_empty(), "an update changed the tag {tag:?} to {entry:?}");
        self.change();
        table.write(self.memory, pos, &entry);
        true
    }

    /// The entries in tag order: all of them, or those that come after a tag, whether that is still there or
    /// not. A walk may stop after any entry and go on from its tag under another guard, whatever happened
    /// between: what was there all the time is seen exactly once.
    pub fn iter_from(&self, after: Option<Tag>) -> Iter<'_, S> {
        let list = self.shard.list();
        let (mut at, mut pos) = (0, 0);
        if let Some(tag) = after
            && let Some((_, of_tag, table)) = self.table_of(tag)
        {
            let (found_at, found) = table.seek::<S>(self.memory, tag);
            (at, pos) = (of_tag, found_at + found.is_some() as u32);
        }
        Iter { shard: self.shard, memory: self.memory, list, at, pos, slots: PhantomData }
    }

    /// Keeps the entries for which `keep` says yes, asked in tag order, and returns how many went.
    pub fn retain(&mut self, mut keep: impl FnMut(&S) -> bool) -> usize {
        self.change();
        let (list, before) = (self.shard.list(), self.len());
        let mut len = 0;
        for at in 0..list.count {
            let mut table = self
                .shard
                .table(list, &self.memory.arrays, at, list.depth(at))
                .expect("the list is in memory");
            table.retain(self.memory, &mut keep);
            self.shard.put_table(list, &self.memory.arrays, at, table);
            len += table.len();
        }
        self.shard.len.store(len, Relaxed);
        while self.merge_if_sparse() {}
        before - len as usize
    }

    /// Replaces all entries by those that `keep` makes of them, in a table memory made to measure. They may
    /// be of another type; the tags must stay the same (panics).
    pub(super) fn convert<T: Slot>(&mut self, mut keep: impl FnMut(&S) -> Option<T>) {
        self.change();
        let list = self.shard.list();
        let mut pour = Pour::new(self.memory);
        let mut kept: Vec<T> = Vec::with_capacity(self.len());
        for at in 0..list.count {
            let table = self
                .shard
                .table(list, &self.memory.arrays, at, list.depth(at))
                .expect("the list is in memory");
            pour.drain(table, |_, old: S| {
                let new = keep(&old);
                assert!(new.is_none_or(|new| new.tag() == old.tag()), "a conversion changed a tag");
                kept.extend(new);
            });
        }
        self.rebuild(pour, &kept);
    }

    /// Fills an empty partition with entries in tag order, in a table memory made to measure. Panics if it is not empty,
    /// or the entries are not in order.
    pub fn fill(&mut self, entries: &[S]) {
        assert!(self.is_empty(), "only an empty partition is filled");
        assert!(entries.is_sorted_by_key(|entry| entry.tag()), "entries are filled in in tag order");
        if entries.is_empty() {
            return;
        }
        self.change();
        self.rebuild(Pour::new(self.memory), entries);
    }

    /// Makes the tables anew, of `kept` in tag order, from the chunks of `pour`.
    fn rebuild<T: Slot>(&mut self, mut pour: Pour<'_>, kept: &[T]) {
        let len = u32::try_from(kept.len()).expect("a partition counts its entries in 32 bits");
        let count = (len / MEAN_TABLE_LEN).max(len.min(1));
        let mut tables = Vec::with_capacity(count as usize);
        let mut rest = kept;
        let new_list = List { line: 0, count };
        for at in 0..count {
            let here =
                rest.partition_point(|entry| new_list.find(entry.tag()).is_some_and(|found| found.0 <= at));
            let mut target = Target::<T>::for_len(new_list.depth(at), here as u64);
            rest[..here].iter().for_each(|entry| target.push(&mut pour, *entry));
            tables.push(target.finish(&mut pour));
            rest = &rest[here..];
        }
        pour.finish();
        self.put_tables(&tables);
        self.shard.len.store(len, Relaxed);
    }

    /// Replaces every chunk's number by what `moved` makes of it.
    pub(super) fn rename_chunks(&mut self, moved: &mut dyn FnMut(u32) -> u32) {
        self.change();
        self.tables().iter().for_each(|table| table.rename_chunks(self.memory, moved));
    }

    /// Tells readers to stay away until this guard is dropped.
    fn change(&mut self) {
        if !self.changing {
            self.changing = true;
            self.shard.version.store(self.shard.version.load(Relaxed).wrapping_add(1), Relaxed);
            // A reader that sees any store from here on also sees the odd version.
            fence(Release);
        }
    }

    fn table_of(&self, tag: Tag) -> Option<(List, u32, Table)> {
        let list = self.shard.list();
        let (at, depth) = list.find(tag)?;
        Some((
            list,
            at,
            self.shard.table(list, &self.memory.arrays, at, depth).expect("the list is in memory"),
        ))
    }

    fn tables(&self) -> Vec<Table> {
        let list = self.shard.list();
        let table = |at| {
            self.shard.table(list, &self.memory.arrays, at, list.depth(at)).expect("the list is in memory")
        };
        (0..list.count).map(table).collect()
    }

    /// Writes the list anew.
    fn put_tables(&self, tables: &[Table]) {
        let old = self.shard.list();
        let mut new = List { line: old.line, count: tables.len() as u32 };
        let (has, wants) = (List::lines(old.count), List::lines(new.count));
        if has != wants {
            if has > 0 {
                self.memory.arrays.free(old.line, has);
            }
            new.line = if wants > 0 { self.memory.arrays.allocate(wants) } else { 0 };
        }
        tables
            .iter()
            .zip(0..)
            .for_each(|(table, at)| self.shard.put_table(new, &self.memory.arrays, at, *table));
        self.shard.list.store(new.pack(), Relaxed);
    }

    /// Splits the table whose turn it is.
    fn split(&mut self) {
        let mut tables = self.tables();
        let at = List::pair(tables.len() as u32) as usize;
        let depth = self.shard.list().depth(at as u32);
        let is_left = |entry: &S| entry.tag().high() >> (63 - depth) & 1 == 0;
        let (mut left_len, mut pos) = (0, 0);
        while let Some((at, entry)) = tables[at].next::<S>(self.memory, pos)
            && is_left(&entry)
        {
            (left_len, pos) = (left_len + 1, at + 1);
        }
        let mut pour = Pour::new(self.memory);
        let mut left = Target::<S>::for_len(depth + 1, left_len);
        let mut right = Target::<S>::for_len(depth + 1, tables[at].len() as u64 - left_len);
        pour.drain(tables[at], |pour, entry: S| {
            if is_left(&entry) { left.push(pour, entry) } else { right.push(pour, entry) }
        });
        tables.splice(at..=at, [left.finish(&mut pour), right.finish(&mut pour)]);
        pour.finish();
        self.put_tables(&tables);
    }

    /// Undoes the last split if the tables have come down to half of what makes them split.
    fn merge_if_sparse(&mut self) -> bool {
        let count = self.shard.list().count;
        if count <= 1 || self.shard.len() / (MEAN_TABLE_LEN / 2) >= count - 1 {
            return false;
        }
        let mut tables = self.tables();
        let at = List::pair(count - 1) as usize;
        let depth = self.shard.list().depth(at as u32);
        let len = tables[at].len() as u64 + tables[at + 1].len() as u64;
        let mut pour = Pour::new(self.memory);
        let mut target = Target::<S>::for_len(depth - 1, len);
        for table in [tables[at], tables[at + 1]] {
            pour.drain(table, |pour, entry| target.push(pour, entry));
        }
        tables.splice(at..=at + 1, [target.finish(&mut pour)]);
        pour.finish();
        self.put_tables(&tables);
        true
    }
}

impl<S: Slot> Drop for Partition<'_, S> {
    fn drop(&mut self) {
        if self.changing {
            // Release: a reader that sees this version sees all that was changed under it. Then the lock goes.
            self.shard.version.store(self.shard.version.load(Relaxed).wrapping_add(1), Release);
        }
    }
}

/// Walks a partition's entries in tag order: see [`Partition::iter_from`].
pub struct Iter<'p, S: Slot> {
    shard: &'p Shard,
    memory: &'p Memory,
    list: List,
    at: u32,
    pos: u32,
    slots: PhantomData<S>,
}

impl<S: Slot> Iterator for Iter<'_, S> {
    type Item = S;

    fn next(&mut self) -> Option<S> {
        while self.at < self.list.count {
            let table =
                self.shard.table(self.list, &self.memory.arrays, self.at, 0).expect("the list is in memory");
            if let Some((pos, entry)) = table.next(self.memory, self.pos) {
                self.pos = pos + 1;
                return Some(entry);
            }
            (self.at, self.pos) = (self.at + 1, 0);
        }
        None
    }
}
