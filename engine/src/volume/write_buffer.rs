//! The open block of a stream: records are appended to it in RAM, and committed from its start on.
//!
//! ```text
//! 0        frozen              pos                                     block end
//! | header | committed or in flight | tail: appended, still ours | room | footer |
//! ```
//!
//! Bytes below `frozen` have been handed to a commit and never change again. A record in the tail may be
//! overwritten in place by a newer version that fits: a hot counter costs no space. Freezing pads the
//! tail to whole physical sectors, so no sector that holds acknowledged data is written twice.
//!
//! The buffer always keeps room for the footer that describes what it holds. Until the block has that, each commit
//! ends with a mark of what was durable when it was frozen (`format/mark.rs`): in the padding, which costs nothing.

use super::block_table::BlockId;
use super::sealed::SealedBlock;
use crate::device::AlignedBuffer;
use crate::format::{
    BLOCK_HEADER_SIZE, BlockHeader, BlockSalt, COMMIT_ALIGNMENT, EncodedRecord, FOOTER_ENTRY_SIZE,
    FOOTER_TRAILER_SIZE, Footer, FooterEntry, GROUP_HEADER_SIZE, MARK_HEADER_SIZE, RecordFlags, UNIT,
    footer_size, mark_size, seal_group, seal_mark, void_time,
};
use crate::index::SizeClass;
use crate::planted::{self, Bug};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Says that nothing in the tail waits for the device.
pub const NONE: u64 = u64::MAX;

/// Marks may take this share of a block beyond the padding that they find: a commit that leaves none, or a backlog of
/// many small records. What has no room waits for a later commit.
const MARK_SHARE: u32 = 32;
/// Padding of fewer bytes than this takes no mark worth writing: its header, an entry and a set's name.
const SMALLEST_GAP: u32 = MARK_HEADER_SIZE + FOOTER_ENTRY_SIZE + 64;

/// The open block of a stream.
pub struct WriteBuffer {
    /// Which block it becomes.
    pub id: BlockId,
    stream: u8,
    epoch: u64,
    salt: BlockSalt,
    bytes: AlignedBuffer,
    pos: u32,
    frozen: u32,
    /// The append number of the first record in the tail, or `NONE`.
    pub first_unfrozen: u64,
    entries: Vec<FooterEntry>,
    set_names: Vec<Box<str>>,
    set_ids: HashMap<Box<str>, u16>,
    names_size: u32,
    /// Set while the tail holds a group: what a frame covers cannot change in place.
    last_group_end: u32,
    /// What the last mark said is durable.
    marked_end: u32,
    /// How many of `entries` marks have listed.
    marked_count: usize,
    /// Bytes that marks took beyond padding.
    marked_extra: u32,
}

impl WriteBuffer {
    /// Begins the life of a block in `bytes` (one block long; what it held before does not matter).
    pub fn new(header: BlockHeader, mut bytes: AlignedBuffer) -> Self {
        bytes[..BLOCK_HEADER_SIZE as usize].copy_from_slice(&header.encode());
        WriteBuffer {
            id: BlockId(header.block_id),
            stream: header.stream,
            epoch: header.epoch,
            salt: BlockSalt::new(&header.set_uuid, header.member_index, header.block_id, header.epoch),
            bytes,
            pos: BLOCK_HEADER_SIZE,
            frozen: 0,
            first_unfrozen: NONE,
            entries: Vec::new(),
            set_names: Vec::new(),
            set_ids: HashMap::new(),
            names_size: 0,
            last_group_end: 0,
            marked_end: BLOCK_HEADER_SIZE,
            marked_count: 0,
            marked_extra: 0,
        }
    }

    /// The most that one append can take, in a block of `block_size` bytes.
    pub fn payload_limit(block_size: u32) -> u32 {
        // One entry and a set name of 63 bytes; header and trailer; one page of rounding for the data.
        block_size - footer_size(1, 64) - COMMIT_ALIGNMENT
    }

    /// Whether a frame with `size` bytes of `count` records, of sets with `names_size` bytes of names, fits into an
    /// empty block of `block_size` bytes.
    pub fn takes_group(block_size: u32, size: u64, count: u64, names_size: u64) -> bool {
        let data = u64::from(BLOCK_HEADER_SIZE + GROUP_HEADER_SIZE) + size;
        let footer = count * 32 + names_size + u64::from(FOOTER_TRAILER_SIZE);
        let align = u64::from(COMMIT_ALIGNMENT);
        data.next_multiple_of(align) + footer.next_multiple_of(align) <= u64::from(block_size)
    }

    fn block_size(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Whether `size` bytes in `count` records of sets with `new_names` bytes of new names still fit.
    fn fits(&self, size: u32, count: u32, new_names: u32) -> bool {
        let footer = footer_size(self.entries.len() as u32 + count, self.names_size + new_names);
        let data_end = u64::from(self.pos) + u64::from(size);
        data_end.next_multiple_of(u64::from(COMMIT_ALIGNMENT)) + u64::from(footer)
            <= u64::from(self.block_size())
    }

    fn new_name_size(&self, record: &EncodedRecord) -> u32 {
        let known = std::str::from_utf8(record.set()).is_ok_and(|set| self.set_ids.contains_key(set));
        if known { 0 } else { record.set().len() as u32 + 1 }
    }

    fn set_index(&mut self, set: &str) -> u16 {
        if let Some(&index) = self.set_ids.get(set) {
            return index;
        }
        let index = self.set_names.len() as u16;
        self.set_names.push(set.into());
        self.set_ids.insert(set.into(), index);
        self.names_size += set.len() as u32 + 1;
        index
    }

    fn footer_entry(&mut self, pos: u32, record: &EncodedRecord, class: SizeClass) -> FooterEntry {
        let header = record.header();
        let set_index = self.set_index(std::str::from_utf8(record.set()).expect("set names are UTF-8"));
        let mut digest_prefix = [0; 10];
        digest_prefix.copy_from_slice(&header.digest[..10]);
        FooterEntry {
            sequence: header.sequence,
            position: pos / UNIT,
            void_time: void_time(header.expires_ms()),
            digest_prefix,
            generation: header.generation,
            class_and_flags: FooterEntry::pack(class.get(), header.flags),
            set_index,
        }
    }

    fn place(&mut self, pos: u32, record: &EncodedRecord, class: SizeClass) {
        let target = &mut self.bytes[pos as usize..(pos + class.bytes()) as usize];
        record.place(target, self.salt, pos);
    }

    /// Appends a record as append number `number`, and returns its position; none if it does not fit.
    pub fn append(&mut self, record: &EncodedRecord, class: SizeClass, number: u64) -> Option<u32> {
        if !self.fits(class.bytes(), 1, self.new_name_size(record)) {
            return None;
        }
        let pos = self.pos;
        self.place(pos, record, class);
        let entry = self.footer_entry(pos, record, class);
        self.entries.push(entry);
        self.pos += class.bytes();
        self.first_unfrozen = self.first_unfrozen.min(number);
        Some(pos)
    }

    /// Appends `records` as one frame, and returns their positions; none if they do not fit together.
    pub fn append_group(&mut self, records: &[(EncodedRecord, SizeClass)], number: u64) -> Option<Vec<u32>> {
        let size = records.iter().map(|(_, class)| u64::from(class.bytes())).sum::<u64>();
        let size = u32::try_from(size + u64::from(GROUP_HEADER_SIZE)).ok()?;
        let names = records.iter().map(|(record, _)| self.new_name_size(record)).sum();
        if size > self.block_size() || !self.fits(size, records.len() as u32, names) {
            return None;
        }
        let start = self.pos;
        self.pos += GROUP_HEADER_SIZE;
        let mut positions = Vec::with_capacity(records.len());
        let mut first_sequence = NONE;
        for (record, class) in records {
            debug_assert!(record.header().flags().has(RecordFlags::IN_GROUP));
            first_sequence = first_sequence.min(record.header().sequence);
            let pos = self.pos;
            self.place(pos, record, *class);
            let entry = self.footer_entry(pos, record, *class);
            self.entries.push(entry);
            positions.push(pos);
            self.pos += class.bytes();
        }
        let frame = &mut self.bytes[start as usize..self.pos as usize];
        seal_group(frame, records.len() as u32, first_sequence, self.salt, start);
        self.last_group_end = self.pos;
        self.first_unfrozen = self.first_unfrozen.min(number);
        Some(positions)
    }

    /// Puts a newer version over the record at `pos`, of size class `old`, if that lies in the tail,
    /// outside any group, and the newer one is not larger.
    pub fn overwrite(&mut self, pos: u32, old: SizeClass, record: &EncodedRecord, class: SizeClass) -> bool {
        if pos < self.frozen || pos < self.last_group_end || class.bytes() > old.bytes() {
            return false;
        }
        let Ok(at) = self.entries.binary_search_by_key(&(pos / UNIT), |entry| entry.position) else {
            return false;
        };
        if !self.fits(0, 0, self.new_name_size(record)) {
            return false;
        }
        self.bytes[(pos + class.bytes()) as usize..(pos + old.bytes()) as usize].fill(0);
        self.place(pos, record, class);
        self.entries[at] = self.footer_entry(pos, record, class);
        true
    }

    /// Which life of the block this is.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// One entry for each record so far: what the footer will list.
    pub fn entries(&self) -> &[FooterEntry] {
        &self.entries
    }

    /// The bytes at `pos`, if they have been appended.
    pub fn get(&self, pos: u32, size: u32) -> Option<&[u8]> {
        let end = pos.checked_add(size).filter(|&end| end <= self.pos)?;
        self.bytes.get(pos as usize..end as usize)
    }

    /// Whether there is something that no commit has taken yet.
    pub fn has_tail(&self) -> bool {
        self.pos > self.frozen && !self.entries.is_empty() && self.first_unfrozen != NONE
    }

    /// What has been handed to commits lies below this position, all that will be appended at or above it.
    pub fn border(&self) -> u32 {
        self.frozen.max(BLOCK_HEADER_SIZE)
    }

    fn pad(&mut self) {
        let end = self.pos.next_multiple_of(COMMIT_ALIGNMENT);
        self.bytes[self.pos as usize..end as usize].fill(0);
        self.pos = end;
    }

    /// Ends the tail with a mark: below `durable_end` everything is on the device. It lists the records there that no
    /// mark has listed yet, oldest first, as far as there is room.
    fn mark(&mut self, durable_end: u32) {
        let durable_count = self.entries.partition_point(|entry| entry.position < durable_end / UNIT);
        if durable_end <= self.marked_end && durable_count == self.marked_count {
            return;
        }
        let waiting = &self.entries[self.marked_count..durable_count];
        let padded = self.pos.next_multiple_of(COMMIT_ALIGNMENT);
        let gap = padded - self.pos;
        let wanted = mark_size(waiting.len() as u32, 0);
        let pages = (wanted.saturating_sub(gap) / COMMIT_ALIGNMENT).max(u32::from(gap < SMALLEST_GAP));
        let footer = footer_size(self.entries.len() as u32, self.names_size);
        let allowed = (self.pos / MARK_SHARE).saturating_sub(self.marked_extra);
        let free = (self.block_size() - footer - padded).min(allowed) / COMMIT_ALIGNMENT;
        let room = gap + pages.min(free) * COMMIT_ALIGNMENT;
        let (mut listed, mut names, mut names_size): (Vec<FooterEntry>, Vec<&str>, u32) = Default::default();
        let mut indexes: HashMap<u16, u16> = HashMap::new();
        for entry in waiting {
            let name: &str = &self.set_names[usize::from(entry.set_index)];
            let is_new = !indexes.contains_key(&entry.set_index);
            let size = names_size + if is_new { name.len() as u32 + 1 } else { 0 };
            if mark_size(listed.len() as u32 + 1, size) > room {
                break;
            }
            if is_new {
                indexes.insert(entry.set_index, names.len() as u16);
                names.push(name);
                names_size = size;
            }
            listed.push(FooterEntry { set_index: indexes[&entry.set_index], ..*entry });
        }
        let size = mark_size(listed.len() as u32, names_size);
        if size > room {
            return;
        }
        let target = &mut self.bytes[self.pos as usize..(self.pos + size) as usize];
        seal_mark(target, durable_end, &listed, &names, self.salt, self.pos);
        self.pos += size;
        self.marked_end = durable_end;
        self.marked_count += listed.len();
        self.marked_extra += self.pos.next_multiple_of(COMMIT_ALIGNMENT) - padded;
    }

    /// Gives the tail to a commit, as a copy: where it goes in the block, and its bytes. What the block has below
    /// `durable_end` is on the device by now.
    pub fn freeze(&mut self, durable_end: u32) -> (Range<u32>, AlignedBuffer) {
        self.mark(durable_end);
        let unpadded = self.pos;
        self.pad();
        let range = self.frozen..self.pos;
        let mut copy = AlignedBuffer::zeroed(range.len());
        copy.copy_from_slice(&self.bytes[range.start as usize..range.end as usize]);
        self.frozen = self.pos;
        if planted::is(Bug::TailPageRewritten) {
            (self.pos, self.frozen) = (unpadded, unpadded / COMMIT_ALIGNMENT * COMMIT_ALIGNMENT);
        }
        self.first_unfrozen = NONE;
        (range, copy)
    }

    /// Closes the block, at the moment `sealed_epoch` of its device: writes its footer and makes it immutable.
    pub fn seal(mut self, sealed_epoch: u64) -> SealedBlock {
        if self.pos > self.frozen {
            self.pad();
        }
        let block_size = self.block_size();
        let size = Footer::encode_into(
            &mut self.bytes,
            self.salt,
            self.epoch,
            self.pos,
            sealed_epoch,
            &self.entries,
            &self.set_names,
        );
        SealedBlock {
            id: self.id,
            stream: self.stream,
            bytes: Arc::new(self.bytes),
            rest: self.frozen..self.pos,
            footer: block_size - size..block_size,
        }
    }
}

// The trailer of an otherwise empty footer still leaves most of the smallest block to records.
const _: () = assert!(FOOTER_TRAILER_SIZE < COMMIT_ALIGNMENT);
