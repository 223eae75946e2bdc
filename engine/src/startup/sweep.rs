//! The sweep: what the blocks of a device set hold, merged into one index.
//!
//! Without a checkpoint that is all blocks. Behind one it is the tail: blocks of later lives, and of the blocks that were
//! open when the checkpoint began what was appended after. Of all other blocks only the first and the last page are read, to
//! see that they are still what they were: a block whose new header never arrived shows the old one, but the new footer.

use super::recovery::Recovery;
use super::settle::Media;
use crate::clock::Timestamp;
use crate::device::{AlignedBuffer, Device, DeviceError, Request};
use crate::format::{BlockHeader, DeviceHeader, Footer, HEADER_PAGE, MemberSummary, RecordFlags, UNIT};
use crate::index::{Entry, Flags, Index, Location, PartitionId, RecoverySlot, Tag};
use crate::namespace::{Sets, may_outlive};
use crate::planted::{self, Bug};
use crate::progress::OpenProgress;
use crate::volume::{
    BlockId, BlockLife, BlockPlace, FoundBlock, LogDamage, NoFooter, Seen, Version, listed_versions,
    logged_versions,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Stands for bytes that cannot be read.
const UNREADABLE: u8 = 0xFF;

#[derive(Default)]
struct Tally {
    blocks: AtomicU64,
    listed: AtomicU64,
    scanned: AtomicU64,
    damaged: AtomicU64,
    damaged_versions: AtomicU64,
    damaged_runs: AtomicU64,
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
            damaged_versions: get(&self.tally.damaged_versions),
            damaged_runs: get(&self.tally.damaged_runs),
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

    /// The whole block, for a scan. Sectors that cannot be read are filled with a byte that begins nothing and is no
    /// padding: what they held may be missing, the rest is not.
    fn read_whole(&self, device: usize, block: u32) -> AlignedBuffer {
        let size = self.headers[device].block_size;
        self.read(device, block, 0, size).unwrap_or_else(|error| {
            let name = self.devices[device].geometry().name;
            tracing::error!(
                "device {name}: block {block}: what cannot be read of it may be missing: {error}"
            );
            self.tally.damaged.fetch_add(1, Ordering::Relaxed);
            let mut bytes = AlignedBuffer::zeroed(size as usize);
            self.read_around(device, block, 0, &mut bytes);
            bytes
        })
    }

    /// Reads what can be read, by halves down to single sectors.
    fn read_around(&self, device: usize, block: u32, pos: u32, into: &mut [u8]) {
        let size = into.len() as u32;
        match self.read(device, block, pos, size) {
            Ok(read) => into.copy_from_slice(&read),
            Err(_) if size <= self.devices[device].geometry().sector_size => into.fill(UNREADABLE),
            Err(_) => {
                let (left, right) = into.split_at_mut(size as usize / 2);
                self.read_around(device, block, pos, left);
                self.read_around(device, block, pos + size / 2, right);
            }
        }
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
        let place = BlockPlace::new(head, BlockId(block));
        let page = HEADER_PAGE as u32;
        // One bad sector of the first page does not take the header with it.
        let sector = self.devices[device].geometry().sector_size;
        let first = self.read(device, block, 0, page).or_else(|_| self.read(device, block, 0, sector));
        // Also of a block before the border: where the footer is newer than the header, the header's write was lost.
        let last = self.read(device, block, head.block_size - page, page);
        let (first, last) = match (first, last) {
            (Err(error), Err(_)) => return self.damaged(device, block, &error.to_string()),
            (first, last) => (first.ok(), last.ok()),
        };
        let (first, last) = (first.as_deref().unwrap_or_default(), last.as_deref().unwrap_or_default());
        let life = match place.life(first, last) {
            Seen::Life(life) => life,
            Seen::Blank => return,
            Seen::Misplaced(header) => {
                let why = format!("its header is damaged: it is that of block {}", header.block_id);
                return self.damaged(device, block, &why);
            }
            Seen::Damaged(fault) => {
                return self.damaged(device, block, &format!("its header is damaged: {fault}"));
            }
        };
        self.note(device, block, &life);
        if life.is_checkpoint() {
            return;
        }
        let Some(from) = self.tail_from(device, block, life.epoch) else { return };
        let footer = self.footer(device, &place, life.epoch, last);
        let order = sealed_order(life.epoch, footer.as_ref());
        self.sealed[device][block as usize].store(order, Ordering::Relaxed);
        let mut set_ids = SetIds { sweep: self, last: None };
        if let Some(footer) = footer {
            self.tally.listed.fetch_add(1, Ordering::Relaxed);
            // What a footer says of places outside the log is not believed.
            let log = from..footer.trailer.data_end;
            for version in listed_versions(&footer).filter(|version| log.contains(&version.pos)) {
                self.merge(device, block, &version, &mut set_ids);
            }
            return;
        }
        let bytes = self.read_whole(device, block);
        self.tally.scanned.fetch_add(1, Ordering::Relaxed);
        let damage = logged_versions(&bytes, place.salt(life.epoch), |version| {
            if version.pos >= from {
                self.tally.latest_ms.fetch_max(version.last_update_ms, Ordering::Relaxed);
                self.merge(device, block, &version, &mut set_ids);
            }
        });
        self.tell(device, block, from, &damage);
    }

    /// Tells of damage in a block that was open: what was certainly on the device, and does not prove itself now.
    fn tell(&self, device: usize, block: u32, from: u32, damage: &LogDamage) {
        let name = &self.devices[device].geometry().name;
        let named = damage.named.iter().filter(|&&pos| pos >= from).count();
        if named > 0 {
            self.tally.damaged_versions.fetch_add(named as u64, Ordering::Relaxed);
            tracing::error!(
                "device {name}: block {block}: damage within the durable part of an open block: {named} records do not \
                 prove themselves; reads of their keys say so, unless there are newer versions"
            );
        }
        // Below the border the checkpoint knows what was there.
        for run in damage.unnamed.iter().filter(|run| run.end > from) {
            self.tally.damaged_runs.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                "device {name}: block {block} offset {} length {}: damage within the durable part of an open block: it is \
                 not known whose records these were; their keys may show an older version, or none",
                run.start,
                run.len()
            );
        }
    }

    /// Notes which life a block is in. One whose header is damaged is known by its epoch alone.
    fn note(&self, device: usize, block: u32, life: &BlockLife) {
        let (stream, first_sequence) =
            life.header.map_or((0, 0), |header: BlockHeader| (header.stream, header.first_sequence));
        self.tally.blocks.fetch_add(1, Ordering::Relaxed);
        let opened_ms = life.header.map_or(0, |header| header.opened_ms);
        self.tally.max_sequence.fetch_max(first_sequence, Ordering::Relaxed);
        self.tally.latest_ms.fetch_max(opened_ms, Ordering::Relaxed);
        self.found[device].lock()[block as usize] =
            FoundBlock::Life { epoch: life.epoch, stream, first_sequence };
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

    /// The footer of life `epoch`; `last` is the block's last page, or nothing.
    fn footer(&self, device: usize, place: &BlockPlace, epoch: u64, last: &[u8]) -> Option<Footer> {
        let trailer = place.trailer(epoch, last).ok()?;
        let read;
        let end = if trailer.footer_size as usize <= last.len() {
            last
        } else {
            let start = place.block_size - trailer.footer_size;
            read = self.read(device, place.block.0, start, trailer.footer_size).ok()?;
            &read[..]
        };
        match place.footer(epoch, end) {
            Ok(footer) => Some(footer),
            Err(NoFooter::NeverSealed) => None,
            Err(NoFooter::Damaged(fault)) => {
                let name = self.devices[device].geometry().name;
                let block = place.block.0;
                tracing::error!(
                    "device {name}: the footer of block {block} is damaged ({fault}): it is read whole"
                );
                None
            }
        }
    }

    fn sealed_order_of(&self, slot: &RecoverySlot) -> u64 {
        let location = slot.entry.location();
        let device = usize::from(location.device);
        let block = location.offset() / u64::from(self.headers[device].block_size);
        self.sealed[device][block as usize].load(Ordering::Relaxed)
    }

    fn merge(&self, device: usize, block: u32, version: &Version<'_>, set_ids: &mut SetIds<'_, 'a>) {
        let Some(set_id) = set_ids.of(version.set) else { return };
        self.tally.versions.fetch_add(1, Ordering::Relaxed);
        self.tally.max_sequence.fetch_max(version.sequence, Ordering::Relaxed);
        let header = &self.headers[device];
        let offset = u64::from(block) * u64::from(header.block_size) + u64::from(version.pos);
        let location = Location { device: header.member_index as u8, unit: offset / u64::from(UNIT) };
        let mut flags = Flags::NONE;
        if version.flags.has(RecordFlags::TOMBSTONE) {
            flags = flags.with(Flags::TOMBSTONE);
        }
        if version.flags.has(RecordFlags::SYSTEM) {
            flags = flags.with(Flags::SYSTEM);
        }
        let entry = Entry::new(Tag::of(&version.digest), location, version.class)
            .with_generation(version.generation)
            .with_void_time(version.void_time)
            .with_set_id(set_id)
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

/// The numbers of sets by their names, the last of which is remembered: most records of a block are of one set.
struct SetIds<'s, 'a> {
    sweep: &'s BlockSweep<'a>,
    last: Option<(Vec<u8>, Option<u16>)>,
}

impl SetIds<'_, '_> {
    fn of(&mut self, name: &[u8]) -> Option<u16> {
        if let Some((_, id)) = self.last.as_ref().filter(|(last, _)| last == name) {
            return *id;
        }
        let named = std::str::from_utf8(name).ok().map(|name| self.sweep.sets.named(name));
        let id = match named {
            Some(Ok(set)) => Some(set.id),
            Some(Err(error)) => {
                tracing::error!("a record is left out: {error}");
                None
            }
            None => None,
        };
        self.last = Some((name.to_vec(), id));
        id
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
