//! One device seen as a log: blocks are opened, appended to, sealed, written, emptied and reused.
//!
//! A volume has a few streams, one for each class of expected lifetime, so that records that will die at
//! about the same time share blocks and whole blocks become free by themselves. It knows where bytes
//! are (in an open block, in a sealed one still in RAM, on the device) and how many of each block are live.
//! It does not know the index: who calls says what to append and what to release.
//!
//! Writing is left as work in the streams; the flush job takes it from there (`jobs/flush.rs`).

mod block_table;
mod checkpoint;
mod evacuation;
mod header;
mod listing;
mod sealed;
mod stream;
mod write_buffer;

pub use block_table::{BlockEvent, BlockId, BlockInfo, BlockState, BlockTable, FoundBlock};
pub use checkpoint::{Border, HeldBlock, read_roots};
pub use evacuation::Evacuation;
pub use header::{DeviceSet, FormatOptions, HeaderError, claim_devices, read_header, write_header};
pub use listing::{
    BlockLife, BlockPlace, LogDamage, NoFooter, Seen, Version, listed_record, listed_versions,
    logged_versions,
};
pub use sealed::SealedBlock;
pub use stream::{PendingWrite, Progress, Stream, StreamGuard, StreamId};
pub use write_buffer::{NONE, WriteBuffer};

use crate::device::{AlignedBuffer, Device, Geometry, Request, Ticket};
use crate::format::{BlockHeader, BlockSalt, DeviceHeader, EncodedRecord, FooterEntry, UNIT};
use crate::index::{Location, SizeClass};
use crate::signal::Signal;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Numbers the appends of all volumes of a namespace, so that "everything before this moment" is one number.
pub struct AppendClock(AtomicU64);

impl AppendClock {
    /// A clock whose first tick is `first`.
    pub fn starting_at(first: u64) -> Self {
        AppendClock(AtomicU64::new(first))
    }

    fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel)
    }

    /// The number that the next append gets.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// No free block above the floor: wait for the jobs, then try again.
    NoBlock,
    /// The device has failed and takes no more writes.
    Latched,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// For the index.
    pub location: Location,
    /// For waiting until it is durable.
    pub receipt: Receipt,
}

/// Names an append: enough to ask whether it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which volume of the namespace.
    pub member: u8,
    /// Which stream of the volume.
    pub stream: StreamId,
    /// The append number.
    pub number: u64,
}

/// What an append needs to know besides the record.
#[derive(Clone, Copy, Debug)]
pub struct AppendContext {
    /// Which stream.
    pub stream: StreamId,
    /// Free blocks that must remain.
    pub floor: u32,
    /// The wall clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The monotonic clock, in milliseconds.
    pub mono_ms: u64,
    /// The namespace's next sequence number: the age of what comes now.
    pub sequence: u64,
}

/// Counters of a volume, since it was opened.
#[derive(Default)]
pub struct VolumeStats {
    /// Bytes appended for users.
    pub fresh_size: AtomicU64,
    /// Bytes appended by defrag.
    pub moved_size: AtomicU64,
    /// Records overwritten in place.
    pub overwritten_count: AtomicU64,
    /// Blocks sealed.
    pub sealed_count: AtomicU64,
    /// Bytes of their footers.
    pub footer_size: AtomicU64,
}

/// A volume.
pub struct Volume {
    /// The device.
    pub device: Arc<dyn Device>,
    geometry: Geometry,
    /// Its header, as written when it was opened.
    pub header: DeviceHeader,
    /// Its blocks.
    pub blocks: BlockTable,
    /// Counters.
    pub stats: VolumeStats,
    streams: Box<[Stream]>,
    append_clock: Arc<AppendClock>,
    /// Raised when a block is sealed.
    flush_work: Arc<Signal>,
    next_epoch: AtomicU64,
    /// Sealed blocks that are not yet on the device.
    unwritten_count: AtomicU32,
    /// Written blocks that are still in RAM, oldest first.
    cached: Mutex<VecDeque<BlockId>>,
    /// How many blocks may be in RAM besides the open ones.
    ram_limit: u32,
    spare: Mutex<Vec<AlignedBuffer>>,
    latched: Mutex<Option<String>>,
    is_latched: AtomicBool,
    /// Blocks that should be rewritten elsewhere, whatever they gain.
    pub evacuation: Evacuation,
    /// The block that defrag is emptying; 0: none.
    pub victim: AtomicU32,
}

impl Volume {
    /// A volume on `device`. `found` is what a start found of each block.
    pub fn new(
        device: Arc<dyn Device>,
        header: DeviceHeader,
        found: &[FoundBlock],
        stream_count: usize,
        ram_limit: u32,
        append_clock: Arc<AppendClock>,
        flush_work: Arc<Signal>,
    ) -> Self {
        let geometry = device.geometry();
        Volume {
            device,
            geometry,
            blocks: BlockTable::new(header.block_count, found),
            stats: VolumeStats::default(),
            streams: (0..stream_count).map(|_| Stream::default()).collect(),
            append_clock,
            flush_work,
            next_epoch: AtomicU64::new((header.incarnation << 40) + 1),
            unwritten_count: AtomicU32::new(0),
            cached: Mutex::default(),
            ram_limit,
            spare: Mutex::default(),
            latched: Mutex::default(),
            is_latched: AtomicBool::new(false),
            evacuation: Evacuation::default(),
            victim: AtomicU32::new(0),
            header,
        }
    }

    /// Which member of the device set this is.
    pub fn member(&self) -> u8 {
        self.header.member_index as u8
    }

    /// The device's name, size and alignment.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> u32 {
        self.header.block_size
    }

    /// The streams.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// One stream.
    pub fn stream(&self, id: StreamId) -> &Stream {
        &self.streams[usize::from(id.0)]
    }

    /// The block and the position in it that a location names.
    pub fn place(&self, location: Location) -> (BlockId, u32) {
        let offset = location.unit * u64::from(UNIT);
        let size = u64::from(self.block_size());
        (BlockId((offset / size) as u32), (offset % size) as u32)
    }

    fn location(&self, id: BlockId, pos: u32) -> Location {
        let offset = u64::from(id.0) * u64::from(self.block_size()) + u64::from(pos);
        Location { device: self.member(), unit: offset / u64::from(UNIT) }
    }

    /// The salt of one life of a block.
    pub fn salt(&self, id: BlockId, epoch: u64) -> BlockSalt {
        BlockSalt::new(&self.header.set_uuid, self.header.member_index, id.0, epoch)
    }

    /// Names a block for those who read its bytes.
    pub fn block_place(&self, id: BlockId) -> BlockPlace {
        BlockPlace::new(&self.header, id)
    }

    /// What a block that is open or on its way to the device lists: its life, and one entry a record. None if it is
    /// in no stream's hands any more; then what it lists is on the device.
    pub fn list_in_ram(&self, id: BlockId) -> Option<(u64, Vec<FooterEntry>)> {
        if let Some(stream) = self.streams.get(usize::from(self.blocks.stream(id))) {
            let state = stream.lock();
            if let Some(open) = state.open.as_ref().filter(|open| open.id == id) {
                return Some((open.epoch(), open.entries().to_vec()));
            }
        }
        let sealed = self.blocks.ram(id)?;
        let end = &sealed.bytes[..];
        let epoch = BlockHeader::parse(end).ok()?.epoch;
        let footer = self.block_place(id).footer(epoch, end).ok()?;
        Some((epoch, footer.entries))
    }

    /// The oldest append number of this volume that is not durable, or `NONE`.
    pub fn undurable_from(&self) -> u64 {
        self.streams.iter().map(Stream::undurable_from).min().unwrap_or(NONE)
    }

    /// Sealed blocks that wait for the device.
    pub fn unwritten_count(&self) -> u32 {
        self.unwritten_count.load(Ordering::Relaxed)
    }

    /// Whether so many sealed blocks wait for the device that writers must wait too.
    pub fn is_backed_up(&self) -> bool {
        self.unwritten_count() >= self.unwritten_limit()
    }

    /// How many sealed blocks may wait for the device.
    pub fn unwritten_limit(&self) -> u32 {
        (self.ram_limit / 2).max(2)
    }

    /// Marks the device as failed: no more writes, reads go on.
    pub fn latch(&self, reason: String) {
        let mut latched = self.latched.lock();
        if latched.is_none() {
            tracing::error!("device {}: {reason}; it takes no more writes", self.geometry.name);
            *latched = Some(reason);
            self.is_latched.store(true, Ordering::Release);
        }
    }

    /// Why the device takes no more writes, if so.
    pub fn latch_reason(&self) -> Option<String> {
        if self.is_latched.load(Ordering::Acquire) { self.latched.lock().clone() } else { None }
    }

    /// Appends a record.
    pub fn append(
        &self,
        record: &EncodedRecord,
        class: SizeClass,
        context: AppendContext,
    ) -> Result<Appended, AppendError> {
        self.with_room(context, |open, number| {
            open.append(record, class, number).map(|pos| (open.id, pos, class.bytes()))
        })
        .map(|(id, pos, receipt)| Appended { location: self.location(id, pos), receipt })
    }

    /// Appends `records` as one frame that a crash leaves whole or not at all.
    pub fn append_group(
        &self,
        records: &[(EncodedRecord, SizeClass)],
        context: AppendContext,
    ) -> Result<(Vec<Location>, Receipt), AppendError> {
        let size = records.iter().map(|(_, class)| class.bytes()).sum();
        self.with_room(context, |open, number| {
            let positions = open.append_group(records, number)?;
            Some((open.id, positions, size))
        })
        .map(|(id, positions, receipt)| {
            (positions.into_iter().map(|pos| self.location(id, pos)).collect(), receipt)
        })
    }

    /// Runs `append` on the stream's open block, or on a new one if there is none or it is full.
    fn with_room<P>(
        &self,
        context: AppendContext,
        mut append: impl FnMut(&mut WriteBuffer, u64) -> Option<(BlockId, P, u32)>,
    ) -> Result<(BlockId, P, Receipt), AppendError> {
        if self.is_latched.load(Ordering::Acquire) {
            return Err(AppendError::Latched);
        }
        let mut state = self.stream(context.stream).lock();
        let number = self.append_clock.tick();
        let mut done = state.open.as_mut().and_then(|open| append(open, number));
        if done.is_none() {
            self.open_block(&mut state, context)?;
            done = state.open.as_mut().and_then(|open| append(open, number));
        }
        let (id, positions, size) =
            done.expect("the namespace refuses what is larger than an empty block takes");
        self.blocks.grow(id, size);
        if state.tail_since_ms.is_none() {
            state.tail_since_ms = Some(context.mono_ms);
        }
        Ok((id, positions, Receipt { member: self.member(), stream: context.stream, number }))
    }

    /// Gives the stream a new open block; the one it had is sealed.
    fn open_block(&self, state: &mut StreamGuard<'_>, context: AppendContext) -> Result<(), AppendError> {
        if self.is_backed_up() {
            return Err(AppendError::NoBlock);
        }
        let epoch = self.next_epoch.fetch_add(1, Ordering::Relaxed);
        let stream = context.stream.0;
        let taken = self.blocks.take(context.floor, stream, epoch, context.sequence);
        let id = taken.ok_or(AppendError::NoBlock)?;
        self.seal_open(state, context.sequence);
        let header = BlockHeader {
            block_id: id.0,
            member_index: self.header.member_index,
            stream,
            epoch,
            first_sequence: context.sequence,
            opened_ms: context.now_ms,
            set_uuid: self.header.set_uuid,
            ..bytemuck::Zeroable::zeroed()
        };
        let bytes = self.spare.lock().pop();
        let bytes = bytes.unwrap_or_else(|| AlignedBuffer::zeroed(self.block_size() as usize));
        state.open = Some(WriteBuffer::new(header, bytes));
        Ok(())
    }

    /// Seals the stream's open block, if it has one.
    pub fn seal_open(&self, state: &mut StreamGuard<'_>, sequence: u64) {
        if let Some(sealed) = state.seal_open(self.next_epoch.fetch_add(1, Ordering::Relaxed)) {
            self.unwritten_count.fetch_add(1, Ordering::Relaxed);
            self.stats.sealed_count.fetch_add(1, Ordering::Relaxed);
            self.stats.footer_size.fetch_add(sealed.footer.len() as u64, Ordering::Relaxed);
            self.blocks.seal(sealed, sequence);
            self.flush_work.raise();
        }
    }

    /// Puts a newer version in place of the one at `location`, if that still lies in the tail of its
    /// open block and is at least as large. The receipt to wait for, or none.
    pub fn overwrite(
        &self,
        location: Location,
        old: SizeClass,
        record: &EncodedRecord,
        class: SizeClass,
    ) -> Option<Receipt> {
        let (id, pos) = self.place(location);
        if self.blocks.state(id) != BlockState::Open || self.is_latched.load(Ordering::Acquire) {
            return None;
        }
        let stream = StreamId(self.blocks.stream(id));
        let mut state = self.stream(stream).lock();
        let open = state.open.as_mut().filter(|open| open.id == id)?;
        if !open.overwrite(pos, old, record, class) {
            return None;
        }
        // Whoever waits for the tail's last append waits for this one too.
        let number = self.append_clock.now().saturating_sub(1).max(open.first_unfrozen);
        drop(state);
        self.stats.overwritten_count.fetch_add(1, Ordering::Relaxed);
        if class.bytes() < old.bytes() {
            self.blocks.release(id, old.bytes() - class.bytes(), || self.append_clock.now());
        }
        Some(Receipt { member: self.member(), stream, number })
    }

    /// Counts a record out: nothing points at it any more.
    pub fn release(&self, location: Location, class: SizeClass) {
        let (id, _) = self.place(location);
        self.blocks.release(id, class.bytes(), || self.append_clock.now());
    }

    /// A copy of the bytes at `location`, if they are in RAM; `is_written` becomes whether their block is on the device whole.
    pub fn copy_from_ram(&self, location: Location, size: u32, is_written: &mut bool) -> Option<Vec<u8>> {
        let (id, pos) = self.place(location);
        if self.blocks.state(id) == BlockState::Open {
            let state = self.stream(StreamId(self.blocks.stream(id))).lock();
            if let Some(open) = state.open.as_ref().filter(|open| open.id == id) {
                return open.get(pos, size).map(<[u8]>::to_vec);
            }
        }
        let sealed = self.blocks.ram(id)?;
        *is_written = self.blocks.state(id) != BlockState::Flushing;
        sealed.bytes.get(pos as usize..(pos + size) as usize).map(<[u8]>::to_vec)
    }

    /// Starts a read of `size` bytes at `location`. The answer's buffer begins `skip` bytes before them.
    pub fn read(&self, location: Location, size: u32) -> DeviceRead {
        let sector = u64::from(self.geometry.sector_size);
        let start = location.unit * u64::from(UNIT);
        let from = start - start % sector;
        let to = (start + u64::from(size)).next_multiple_of(sector);
        let buffer = AlignedBuffer::for_read((to - from) as usize);
        let ticket = self.device.submit(Request::Read { offset: from, buffer });
        DeviceRead { ticket, skip: (start - from) as usize, size: size as usize }
    }

    /// Starts a read of a whole block or a part of it.
    pub fn read_block(&self, id: BlockId, pos: u32, size: u32) -> Ticket {
        let offset = u64::from(id.0) * u64::from(self.block_size()) + u64::from(pos);
        self.device.submit(Request::Read { offset, buffer: AlignedBuffer::zeroed(size as usize) })
    }

    /// The flush job has made a write durable.
    pub fn written(&self, stream: StreamId, piece: u64) -> Progress {
        let progress = self.stream(stream).lock().written(piece);
        self.note_progress(progress)
    }

    /// Lets a stream's durability advance over what needs no write: a block may be sealed right behind a commit.
    pub fn advance(&self, stream: StreamId) -> Progress {
        let progress = self.stream(stream).lock().advance();
        self.note_progress(progress)
    }

    fn note_progress(&self, progress: Progress) -> Progress {
        for &id in &progress.finished {
            self.unwritten_count.fetch_sub(1, Ordering::Relaxed);
            self.blocks.written(id, || self.append_clock.now());
            self.cached.lock().push_back(id);
        }
        if !progress.finished.is_empty() {
            self.trim_cache();
        }
        progress
    }

    /// Bytes of blocks in RAM that are open or being written.
    pub fn buffer_size(&self) -> u64 {
        let open = self.streams.iter().filter(|stream| stream.lock().open.is_some()).count() as u64;
        (open + u64::from(self.unwritten_count())) * u64::from(self.block_size())
    }

    /// Bytes of blocks in RAM that were written lately.
    pub fn post_write_size(&self) -> u64 {
        self.cached.lock().len() as u64 * u64::from(self.block_size())
    }

    /// When the oldest record that is not durable was appended, in milliseconds of the monotonic clock; none if all are.
    pub fn oldest_since_ms(&self) -> Option<u64> {
        self.streams.iter().filter_map(|stream| stream.lock().oldest_since_ms()).min()
    }

    /// Gives up the oldest written blocks in RAM beyond the budget.
    fn trim_cache(&self) {
        let mut cached = self.cached.lock();
        while cached.len() as u32 + self.unwritten_count() > self.ram_limit {
            let Some(id) = cached.pop_front() else { break };
            let Some(sealed) = self.blocks.evict_ram(id) else { continue };
            // The buffer can serve again if no reader holds it at this moment.
            let Ok(sealed) = Arc::try_unwrap(sealed) else { continue };
            let Ok(bytes) = Arc::try_unwrap(sealed.bytes) else { continue };
            let mut spare = self.spare.lock();
            if spare.len() < 2 {
                spare.push(bytes);
            }
        }
    }
}

/// A read in flight.
pub struct DeviceRead {
    /// The answer to come.
    pub ticket: Ticket,
    /// Where the wanted bytes start in the answer's buffer.
    pub skip: usize,
    /// How many they are.
    pub size: usize,
}
