//! The sweep: what the blocks of a device set hold, merged into one index.
//!
//! Without a checkpoint that is all blocks. Behind one it is the tail: blocks of later lives, and of the blocks that were
//! open when the checkpoint began what was appended after. Of all other blocks only the first and the last page are read, to
//! see that they are still what they were: a block whose new header never arrived shows the old one, but the new footer.

use super::recovery::Recovery;
use super::settle::Media;
use crate::clock::Timestamp;
use crate::device::{AlignedBuffer, Device, DeviceError, Request};
use crate::format::{
    BLOCK_HEADER_SIZE, BlockHeader, BlockSalt, CHECKPOINT_STREAM, DeviceHeader, FOOTER_TRAILER_SIZE, Fault,
    Footer, FooterEntry, FooterTrailer, HEADER_PAGE, LogItem, MemberSummary, RecordFlags, UNIT, scan_log,
    void_time,
};
use crate::index::{Entry, Flags, Index, Location, PartitionId, RecoverySlot, SizeClass, Tag};
use crate::namespace::{Sets, may_outlive};
use crate::planted::{self, Bug};
use crate::progress::OpenProgress;
use crate::volume::FoundBlock;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
struct Tally {
    blocks: AtomicU64,
    listed: AtomicU64,
    scanned: AtomicU64,
    damaged: AtomicU64,
    versions: AtomicU64,
    max_sequence: AtomicU64,
    latest_ms: AtomicU64,
}

/// Merges blocks into one index.
pub(super) struct BlockSweep<'a> {
    devices: &'a [Arc<dyn Device>],
    headers: &'a [DeviceHeader],
    sets: &'a Sets,
    /// For each device, where the tail begins; without, everything is looked at.
    border: Option<&'a [MemberSummary]>,
    index: Index<RecoverySlot>,
    found: Vec<Mutex<Vec<FoundBlock>>>,
    /// For each device, when each block was sealed; see `sealed_order`.
    sealed: Vec<Box<[AtomicU64]>>,
    tally: Tally,
}

/// What the sweep found.
pub(super) struct Swept {
    pub index: Index<RecoverySlot>,
    /// For each device, each block's last life.
    pub found: Vec<Vec<FoundBlock>>,
    pub max_sequence: u64,
    /// The latest moment that anything speaks of.
    pub latest: Timestamp,
    pub recovery: Recovery,
}

/// One version of one record, from a footer or a scan.
struct Version {
    digest: [u8; 20],
    pos: u32,
    class: SizeClass,
    sequence: u64,
    generation: u16,
    void_time: u32,
    flags: u8,
    set_id: u16,
}

impl<'a> BlockSweep<'a> {
    pub fn new(media: &'a Media<'a>, sets: &'a Sets, border: Option<&'a [MemberSummary]>) -> Self {
        let Media { devices, headers } = *media;
        let blank = |h: &DeviceHeader| vec![FoundBlock::Blank; h.block_count as usize];
        let found = headers.iter().map(|header| Mutex::new(blank(header))).collect();
        let blocks = |h: &DeviceHeader| (0..h.block_count).map(|_| AtomicU64::new(0)).collect();
        let sealed = headers.iter().map(blocks).collect();
        let (index, tally) = (Index::new(), Tally::default());
        BlockSweep { devices, headers, sets, border, index, found, sealed, tally }
    }

    /// Sweeps everything, on `threads` threads; stops early, with less than everything, if that is called off.
    pub fn run(self, threads: usize, progress: &OpenProgress) -> Swept {
        let blocks: Vec<(usize, u32)> = (0..self.headers.len())
            .flat_map(|device| (1..self.headers[device].block_count).map(move |block| (device, block)))
            .collect();
        let size_of = |device: usize| u64::from(self.headers[device].block_size);
        progress.begin_sweep(blocks.len() as u64, blocks.iter().map(|block| size_of(block.0)).sum());
        crate::jobs::in_parallel(threads, blocks.len(), |i| {
            if !progress.is_cancelled() {
                self.block(blocks[i].0, blocks[i].1);
                progress.block_done(size_of(blocks[i].0), self.tally.versions.load(Ordering::Relaxed));
            }
        });
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let recovery = Recovery {
            blocks: get(&self.tally.blocks),
            listed_blocks: get(&self.tally.listed),
            scanned_blocks: get(&self.tally.scanned),
            damaged_blocks: get(&self.tally.damaged),
            versions: get(&self.tally.versions),
            ..Recovery::default()
        };
        Swept {
            max_sequence: get(&self.tally.max_sequence),
            latest: Timestamp(get(&self.tally.latest_ms)),
            index: self.index,
            found: self.found.into_iter().map(Mutex::into_inner).collect(),
            recovery,
        }
    }

    fn read(&self, device: usize, block: u32, pos: u32, size: u32) -> Result<AlignedBuffer, DeviceError> {
        let block_size = self.headers[device].block_size;
        let offset = u64::from(block) * u64::from(block_size) + u64::from(pos);
        let buffer = AlignedBuffer::zeroed(size as usize);
        self.devices[device].submit(Request::Read { offset, buffer }).wait().into_buffer()
    }

    /// The whole block, for a scan. Pages that cannot be read are zeros: what they held may be missing, the rest is not.
    fn read_whole(&self, device: usize, block: u32) -> AlignedBuffer {
        let size = self.headers[device].block_size;
        self.read(device, block, 0, size).unwrap_or_else(|error| {
            let name = self.devices[device].geometry().name;
            tracing::error!(
                "device {name}: block {block}: what cannot be read of it may be missing: {error}"
            );
            self.tally.damaged.fetch_add(1, Ordering::Relaxed);
            let mut bytes = AlignedBuffer::zeroed(size as usize);
            let page = HEADER_PAGE as u32;
            for pos in (0..size).step_by(page as usize) {
                if let Ok(read) = self.read(device, block, pos, page) {
                    bytes[pos as usize..][..page as usize].copy_from_slice(&read);
                }
            }
            bytes
        })
    }

    /// What the block held is not known: it is left as it is, and never used again.
    fn damaged(&self, device: usize, block: u32, why: &str) {
        let name = self.devices[device].geometry().name;
        tracing::error!("device {name}: block {block} is left alone, what it held may be missing: {why}");
        self.tally.damaged.fetch_add(1, Ordering::Relaxed);
        self.found[device].lock()[block as usize] = FoundBlock::Damaged;
    }

    fn block(&self, device: usize, block: u32) {
        let head = &self.headers[device];
        let block_size = head.block_size;
        let page = HEADER_PAGE as u32;
        let first = self.read(device, block, 0, page);
        let last = self.read(device, block, block_size - page, page);
        let (first, last) = match (first, last) {
            (Err(error), Err(_)) => return self.damaged(device, block, &error.to_string()),
            (first, last) => (first.ok(), last.ok()),
        };
        let header = match self.header(device, block, first.as_deref(), last.as_deref()) {
            Ok(Some(header)) => header,
            Ok(None) => return,
            Err(fault) => {
                self.damaged(device, block, &format!("its header is damaged: {fault}"));
                return;
            }
        };
        self.note(device, block, &header);
        if header.stream == CHECKPOINT_STREAM {
            return;
        }
        let Some(from) = self.tail_from(device, block, header.epoch) else { return };
        let salt = BlockSalt::new(&head.set_uuid, head.member_index, block, header.epoch);
        let footer = last.and_then(|last| self.footer(device, block, salt, header.epoch, &last));
        let order = sealed_order(header.epoch, footer.as_ref());
        self.sealed[device][block as usize].store(order, Ordering::Relaxed);
        if let Some(footer) = footer {
            self.tally.listed.fetch_add(1, Ordering::Relaxed);
            self.merge_footer(device, block, &footer, from);
            return;
        }
        let bytes = self.read_whole(device, block);
        self.tally.scanned.fetch_add(1, Ordering::Relaxed);
        scan_log(&bytes, salt, |item| {
            let LogItem::Record(pos, record) = item else { return };
            if pos < from {
                return;
            }
            let header = record.header();
            self.tally.latest_ms.fetch_max(header.last_update_ms(), Ordering::Relaxed);
            let Some(set_id) = self.set_id(record.set()) else { return };
            self.merge(
                device,
                block,
                Version {
                    digest: header.digest,
                    pos,
                    class: SizeClass::for_size(header.length.min(SizeClass::MAX_SIZE)),
                    sequence: header.sequence,
                    generation: header.generation,
                    void_time: void_time(header.expires_ms()),
                    flags: header.flags,
                    set_id,
                },
            );
        });
    }

    /// Notes which life a block is in.
    fn note(&self, device: usize, block: u32, header: &BlockHeader) {
        self.tally.blocks.fetch_add(1, Ordering::Relaxed);
        self.tally.max_sequence.fetch_max(header.first_sequence, Ordering::Relaxed);
        self.tally.latest_ms.fetch_max(header.opened_ms, Ordering::Relaxed);
        let BlockHeader { epoch, stream, first_sequence, .. } = *header;
        self.found[device].lock()[block as usize] = FoundBlock::Life { epoch, stream, first_sequence };
    }

    fn is_in_place(&self, device: usize, block: u32, header: &BlockHeader) -> bool {
        let head = &self.headers[device];
        header.set_uuid == head.set_uuid
            && header.member_index == head.member_index
            && header.block_id == block
    }

    /// From which position on a life of a block is to be looked at; none if all of it lies before the border.
    fn tail_from(&self, device: usize, block: u32, epoch: u64) -> Option<u32> {
        let Some(border) = self.border.map(|members| &members[device]) else { return Some(0) };
        if epoch >= border.begin_epoch {
            return Some(0);
        }
        let open = border.open.iter().find(|(open, _)| *open == block);
        match open {
            Some(&(_, position)) if border.epochs.get(block as usize) == Some(&epoch) => Some(position),
            _ => None,
        }
    }

    /// A header made up from the footer, if that is whole: the trailer names its epoch, and only if that is right does its
    /// salted checksum hold.
    fn by_footer(&self, device: usize, block: u32, last: &[u8]) -> Option<BlockHeader> {
        let head = &self.headers[device];
        let at = last.len() - FOOTER_TRAILER_SIZE as usize + 8;
        let epoch = u64::from_le_bytes(last[at..at + 8].try_into().ok()?);
        let salt = BlockSalt::new(&head.set_uuid, head.member_index, block, epoch);
        FooterTrailer::parse(last, salt, epoch, head.block_size).ok()?;
        Some(BlockHeader { block_id: block, epoch, ..bytemuck::Zeroable::zeroed() })
    }

    /// The block's header; none if the block never had one. A damaged header is made up from the footer, and so is one that was
    /// never written: a footer comes after everything else, so with a header older than it the header's write was lost.
    fn header(
        &self,
        device: usize,
        block: u32,
        first: Option<&[u8]>,
        last: Option<&[u8]>,
    ) -> Result<Option<BlockHeader>, Fault> {
        let head = &self.headers[device];
        let listed = last.and_then(|last| self.by_footer(device, block, last));
        let fault = match first.map_or(Err(Fault::Short), BlockHeader::parse) {
            Ok(header) => {
                let is_ours = self.is_in_place(device, block, &header);
                // Another set's header is what an earlier use of the device left behind. A header of this set in
                // the wrong place was written there instead of what should be there.
                let is_misplaced = !is_ours && header.set_uuid == head.set_uuid;
                if let Some(listed) = listed.filter(|listed| !is_ours || listed.epoch > header.epoch) {
                    let name = self.devices[device].geometry().name;
                    tracing::error!(
                        "device {name}: the header of block {block} is not that of what it holds: its footer is used"
                    );
                    return Ok(Some(listed));
                }
                return if is_misplaced { Err(Fault::Magic) } else { Ok(is_ours.then_some(header)) };
            }
            Err(fault) => fault,
        };
        if listed.is_some() {
            return Ok(listed);
        }
        // Zeros: never used, or the first write of a life that never reached the device.
        let is_blank =
            first.is_some_and(|first| first[..BLOCK_HEADER_SIZE as usize].iter().all(|&byte| byte == 0));
        if is_blank { Ok(None) } else { Err(fault) }
    }

    fn footer(&self, device: usize, block: u32, salt: BlockSalt, epoch: u64, last: &[u8]) -> Option<Footer> {
        let block_size = self.headers[device].block_size;
        let trailer = FooterTrailer::parse(last, salt, epoch, block_size).ok()?;
        let read;
        let bytes = if trailer.footer_size as usize <= last.len() {
            last
        } else {
            read = self.read(device, block, block_size - trailer.footer_size, trailer.footer_size).ok()?;
            &read[..]
        };
        match Footer::parse(bytes, trailer) {
            Ok(footer) => Some(footer),
            Err(fault) => {
                let name = self.devices[device].geometry().name;
                tracing::error!(
                    "device {name}: the footer of block {block} is damaged ({fault}): it is read whole"
                );
                None
            }
        }
    }

    fn set_id(&self, name: &[u8]) -> Option<u16> {
        let name = std::str::from_utf8(name).ok()?;
        match self.sets.named(name) {
            Ok(set) => Some(set.id),
            Err(error) => {
                tracing::error!("a record is left out: {error}");
                None
            }
        }
    }

    fn merge_footer(&self, device: usize, block: u32, footer: &Footer, from: u32) {
        // What a footer says of places outside the log is not believed.
        let data_end = footer.trailer.data_end;
        let set_ids: Vec<_> = footer.set_names.iter().map(|name| self.set_id(name.as_bytes())).collect();
        let is_inside = |entry: &&FooterEntry| (from / UNIT..data_end / UNIT).contains(&entry.position);
        for entry in footer.entries.iter().filter(is_inside) {
            let Some(&Some(set_id)) = set_ids.get(usize::from(entry.set_index)) else { continue };
            let mut digest = [0; 20];
            digest[..10].copy_from_slice(&entry.digest_prefix);
            self.merge(
                device,
                block,
                Version {
                    digest,
                    pos: entry.position * UNIT,
                    class: SizeClass::new(entry.class()),
                    sequence: entry.sequence,
                    generation: entry.generation,
                    void_time: entry.void_time,
                    flags: entry.flags(),
                    set_id,
                },
            );
        }
    }

    fn sealed_order_of(&self, slot: &RecoverySlot) -> u64 {
        let location = slot.entry.location();
        let device = usize::from(location.device);
        let block = location.offset() / u64::from(self.headers[device].block_size);
        self.sealed[device][block as usize].load(Ordering::Relaxed)
    }

    fn merge(&self, device: usize, block: u32, version: Version) {
        self.tally.versions.fetch_add(1, Ordering::Relaxed);
        self.tally.max_sequence.fetch_max(version.sequence, Ordering::Relaxed);
        let header = &self.headers[device];
        let offset = u64::from(block) * u64::from(header.block_size) + u64::from(version.pos);
        let location = Location { device: header.member_index as u8, unit: offset / u64::from(UNIT) };
        let mut flags = Flags::NONE;
        if version.flags & RecordFlags::TOMBSTONE != 0 {
            flags = flags.with(Flags::TOMBSTONE);
        }
        if version.flags & RecordFlags::SYSTEM != 0 {
            flags = flags.with(Flags::SYSTEM);
        }
        let entry = Entry::new(Tag::of(&version.digest), location, version.class)
            .with_generation(version.generation)
            .with_void_time(version.void_time)
            .with_set_id(version.set_id)
            .with_flags(flags);
        let new = RecoverySlot { entry, sequence: version.sequence };
        let mut partition = self.index.lock(PartitionId::of(&version.digest));
        let merged = match partition.get(entry.tag()) {
            Some(old) => newest(old, new, |slot| self.sealed_order_of(slot)),
            None => new,
        };
        partition.insert(merged);
    }
}

/// The newest entries of the system's own records that a sweep has found, with their partitions.
pub(super) fn system_entries(index: &Index<RecoverySlot>) -> Vec<(PartitionId, Entry)> {
    let mut system = Vec::new();
    for id in PartitionId::all() {
        let partition = index.lock(id);
        let slots = partition.iter_from(None).filter(|slot| slot.entry.flags().contains(Flags::SYSTEM));
        system.extend(slots.map(|slot| (id, slot.entry)));
    }
    system
}

/// When a block was sealed, as a number that grows: the epoch in its footer, or, if the run that filled it ended
/// before that, the end of that run.
fn sealed_order(epoch: u64, footer: Option<&Footer>) -> u64 {
    footer.map_or(epoch | ((1 << 40) - 1), |footer| footer.trailer.sealed_epoch)
}

/// The newer of two versions of a key, which also remembers whether the other could outlive it.
///
/// Equal sequence numbers are copies of one version. Defrag copies out of sealed blocks, so the copy whose block
/// was sealed later is the one to keep: the other's block may have been reused, and of its next life's first
/// write everything may have arrived but the header, so that it still looks like what it was.
fn newest(a: RecoverySlot, b: RecoverySlot, sealed_order: impl Fn(&RecoverySlot) -> u64) -> RecoverySlot {
    let is_copy = a.sequence == b.sequence;
    let rank = |slot: &RecoverySlot| {
        let order = if is_copy { sealed_order(slot) } else { 0 };
        let sequence = if planted::is(Bug::LastSeenWins) { 0 } else { slot.sequence };
        (sequence, order, slot.entry.location())
    };
    let (mut winner, loser) = if rank(&a) >= rank(&b) { (a, b) } else { (b, a) };
    if !is_copy {
        winner.entry = outlives(winner.entry, &loser.entry);
    } else if winner.entry.void_time() != 0 {
        let inherited = loser.entry.flags().bits() & Flags::OLDER_MAY_OUTLIVE.bits();
        winner.entry = winner.entry.with_flags(winner.entry.flags().with(Flags::from_bits(inherited)));
    }
    winner
}

/// The winner, which remembers whether the version that it hides could outlive it.
pub(super) fn outlives(winner: Entry, hidden: &Entry) -> Entry {
    let void_time = winner.void_time();
    if void_time != 0 && may_outlive(hidden, void_time) {
        return winner.with_flags(winner.flags().with(Flags::OLDER_MAY_OUTLIVE));
    }
    winner
}
