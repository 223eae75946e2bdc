//! What a namespace is made of, and what its verbs share: finding a record, knowing whether it is alive,
//! waiting for space and for durability.

use super::cache::ReadCache;
use super::checkpoint::Checkpoints;
use super::eviction::Evictions;
use super::pictures::TtlBook;
use super::record::{Record, RecordBytes};
use super::sets::{Set, Sets};
use super::snapshot::Snapshots;
use super::stats::{Counters, RamSource};
use super::tunable::Tunables;
use crate::clock::{ForwardClock, Timestamp};
use crate::config::{Durability, NamespaceConfig};
use crate::error::{Error, Result};
use crate::format::{Fault, RecordView, VOID_TIME_EPOCH_MS};
use crate::index::{Entry, Flags, Index, Partition, PartitionId, SizeClass, Tag};
use crate::planted::{self, Bug};
use crate::record::Digest;
use crate::signal::{Gate, Signal};
use crate::volume::{AppendClock, AppendContext, Receipt, StreamId, Volume, WriteBuffer};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

/// A namespace. The public handles hold it by `Arc`.
pub(crate) struct Core {
    pub config: NamespaceConfig,
    pub index: Index<Entry>,
    pub volumes: Box<[Volume]>,
    pub plan: StreamPlan,
    pub sets: Sets,
    pub cache: ReadCache,
    pub clock: Arc<ForwardClock>,
    pub append_clock: Arc<AppendClock>,
    pub next_sequence: AtomicU64,
    /// Writers wait here for space.
    pub gate: Gate,
    /// The flush job has work.
    pub flush_work: Arc<Signal>,
    /// Defrag or a sweep has work.
    pub upkeep_work: Arc<Signal>,
    pub counters: Counters,
    pub checkpoints: Checkpoints,
    pub snapshots: Snapshots,
    /// How long (in sequence numbers) blocks of short-lived records have lived lately: what is older when it
    /// is overwritten counts as long-lived.
    pub short_lifespan: AtomicU64,
    /// Set when the engine closes: writes are refused.
    pub is_closed: AtomicBool,
    /// How many truncations there were, and up to which of them dead entries have left the index.
    pub truncations: AtomicU64,
    pub swept_truncations: AtomicU64,
    pub evictions: Evictions,
    pub ttls: TtlBook,
    pub tunables: Tunables,
}

/// Free blocks above the reserve below which defrag begins, at least.
const DEFRAG_HEADROOM: u32 = 4;

/// Which streams a volume has.
#[derive(Clone, Copy, Debug)]
pub struct StreamPlan {
    /// 2 (fresh, moved) on small devices, else 6.
    pub count: u8,
    /// Free blocks that writers leave to defrag.
    pub reserve: u32,
}

impl StreamPlan {
    /// Blocks that a device needs for the six classes to be worth their open blocks.
    const MANY: u32 = 96;

    /// The plan for a device of so many blocks.
    pub fn for_blocks(count: u32) -> Self {
        if count < Self::MANY {
            StreamPlan { count: 2, reserve: 4 }
        } else {
            StreamPlan { count: 6, reserve: 8 }
        }
    }

    /// The first stream of moved records.
    pub fn first_moved(self) -> u8 {
        if self.count == 2 { 1 } else { 2 }
    }

    /// The fewest blocks a device must have: header, open blocks, reserve, and two more to be of use.
    pub const MINIMUM_BLOCKS: u32 = 1 + 2 + 4 + 3;
}

/// What a lookup found, and the life of the block it pointed into at that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    pub entry: Entry,
    pub epoch: u64,
}

impl Found {
    /// Whether both stand for the same bytes.
    pub fn is_same_place(&self, other: &Found) -> bool {
        self.entry.location() == other.entry.location() && self.epoch == other.epoch
    }
}

/// Names a record: by partition and tag, and by its whole digest where the caller knows that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub partition: PartitionId,
    pub tag: Tag,
    pub digest: Option<Digest>,
}

impl Wanted {
    pub fn of(digest: Digest) -> Self {
        let bytes = digest.as_bytes();
        Wanted { partition: PartitionId::of(bytes), tag: Tag::of(bytes), digest: Some(digest) }
    }

    /// The digest as far as it is known; the rest zero.
    pub fn name(&self) -> Digest {
        self.digest.unwrap_or_else(|| {
            let mut bytes = [0; 20];
            bytes[..2]
                .copy_from_slice(&(self.partition.get() | u16::from(self.tag.low()) << 12).to_le_bytes());
            bytes[2..10].copy_from_slice(&self.tag.high().to_be_bytes());
            Digest(bytes)
        })
    }

    /// Whether a record with this digest is the one.
    pub fn is(&self, digest: &[u8; 20]) -> bool {
        match self.digest {
            Some(wanted) => wanted.as_bytes() == digest,
            None => PartitionId::of(digest) == self.partition && Tag::of(digest) == self.tag,
        }
    }
}

/// Whether a record with a void-time is alive: in its last second only the record itself knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    LastSecond,
    Over,
}

/// The life of an entry with this void-time.
pub(crate) fn life(void_time: u32, now: Timestamp) -> Life {
    if void_time == 0 {
        return Life::Alive;
    }
    let end_ms = VOID_TIME_EPOCH_MS + u64::from(void_time) * 1000;
    if now.0 >= end_ms {
        Life::Over
    } else if now.0 + 1000 > end_ms {
        Life::LastSecond
    } else {
        Life::Alive
    }
}

/// Why a writer waits, which decides how much space it must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Put,
    Delete,
}

impl Core {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn volume_of(&self, partition: PartitionId, tag: Tag) -> &Volume {
        // The tag's low end, which the index does not use for placement.
        let spread = tag.high() ^ u64::from(partition.get());
        &self.volumes[(spread % self.volumes.len() as u64) as usize]
    }

    pub fn volume(&self, member: u8) -> &Volume {
        &self.volumes[usize::from(member)]
    }

    pub fn found(&self, entry: Entry) -> Found {
        let volume = self.volume(entry.location().device);
        let (block, _) = volume.place(entry.location());
        Found { entry, epoch: volume.blocks.epoch(block) }
    }

    /// Whether the entry stands for a record, by all that the index knows.
    pub fn is_visible(&self, entry: &Entry, now: Timestamp) -> bool {
        !entry.flags().contains(Flags::TOMBSTONE)
            && !entry.flags().contains(Flags::SYSTEM)
            && life(entry.void_time(), now) != Life::Over
            && !self.sets.is_truncated(entry)
    }

    /// Looks a record up, with the partition locked by the caller.
    pub fn find_in(&self, partition: &Partition<'_, Entry>, tag: Tag, now: Timestamp) -> Option<Found> {
        let entry = partition.get(tag)?;
        self.is_visible(&entry, now).then(|| self.found(entry))
    }

    /// Looks a record up. The lock is taken and gone.
    pub fn find(&self, wanted: &Wanted, now: Timestamp) -> Option<Found> {
        let partition = self.index.lock(wanted.partition);
        self.find_in(&partition, wanted.tag, now)
    }

    /// The record, if it can be had without the device.
    pub fn read_ram(&self, found: &Found, wanted: &Wanted) -> Option<Record> {
        self.read_ram_from(found, wanted, &mut RamSource::default())
    }

    /// The same, and where it was. Not in the answer: records are moved about, and a larger one costs more each time.
    pub fn read_ram_from(&self, found: &Found, wanted: &Wanted, source: &mut RamSource) -> Option<Record> {
        let location = found.entry.location();
        let size = found.entry.size_class().bytes();
        let mut is_written = false;
        let record = match self.volume(location.device).copy_from_ram(location, size, &mut is_written) {
            Some(bytes) => {
                *source = if is_written { RamSource::PostWriteCache } else { RamSource::WriteBuffer };
                Record::new(RecordBytes::Owned(bytes)).ok()?
            }
            None => {
                let bytes = self.cache.get(location, found.epoch)?;
                *source = RamSource::ReadCache;
                Record::new(RecordBytes::Shared(bytes)).ok()?.at(*found)
            }
        };
        wanted.is(&record.header().digest).then_some(record)
    }

    /// Checks bytes that the device gave for `found`: checksum, place, digest.
    pub fn prove(&self, found: &Found, wanted: &Wanted, bytes: &[u8]) -> Result<(), Fault> {
        let volume = self.volume(found.entry.location().device);
        let (block, pos) = volume.place(found.entry.location());
        let view = RecordView::parse(bytes, volume.salt(block, found.epoch), pos)?;
        if wanted.is(&view.header().digest) { Ok(()) } else { Err(Fault::Checksum) }
    }

    /// The error for a record whose bytes do not prove themselves.
    pub fn corrupt(&self, found: &Found, wanted: &Wanted, fault: Fault) -> Error {
        let location = found.entry.location();
        let volume = self.volume(location.device);
        self.counters.corrupt.add(1);
        let error = Error::Corrupt {
            digest: wanted.name(),
            device: volume.geometry().name.to_string(),
            block: volume.place(location).0.0,
            offset: location.offset(),
            fault,
        };
        tracing::error!("{error}");
        error
    }

    /// What an append needs to know.
    pub fn append_context(&self, stream: StreamId, need: Need, now: Timestamp) -> AppendContext {
        let floor = match need {
            _ if planted::is(Bug::NoReserve) => 0,
            Need::Put => self.plan.reserve,
            Need::Delete => self.plan.reserve / 2,
        };
        self.context(stream, floor, now)
    }

    /// What an append with this floor needs to know.
    pub fn context(&self, stream: StreamId, floor: u32, now: Timestamp) -> AppendContext {
        AppendContext {
            stream,
            floor,
            now_ms: now.0,
            mono_ms: self.clock.mono_ms(),
            sequence: self.next_sequence.load(Ordering::Relaxed),
        }
    }

    /// The stream for a record that replaces `old`.
    pub fn fresh_stream(&self, old: Option<&Entry>) -> StreamId {
        if self.plan.count == 2 {
            return StreamId(0);
        }
        // After SepBIT (FAST'22): what was overwritten soon will be overwritten soon again. The age of the
        // old version is that of its block, which is exact enough while blocks are small beside lifespans.
        let Some(old) = old else { return StreamId(1) };
        let volume = self.volume(old.location().device);
        let (block, _) = volume.place(old.location());
        let info = volume.blocks.info(block);
        let age = self.next_sequence.load(Ordering::Relaxed).saturating_sub(info.first_sequence);
        let is_short =
            info.stream < self.plan.first_moved() && age < self.short_lifespan.load(Ordering::Relaxed);
        StreamId(if is_short { 0 } else { 1 })
    }

    /// The next sequence number. Under the key's partition lock (I5).
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence.fetch_add(1, Ordering::AcqRel)
    }

    /// Bytes of one record, header and padding included, that still fit into a block.
    pub fn record_limit(&self) -> u32 {
        let limit = self.volumes.iter().map(|v| WriteBuffer::payload_limit(v.block_size())).min();
        // A record takes its whole size class: that is what must fit.
        SizeClass::largest_within(limit.unwrap_or(0)).bytes()
    }

    /// Live bytes, and how many there may be before writes are refused.
    pub fn space(&self) -> (u64, u64) {
        let (used, capacity) = self.occupancy();
        (used, capacity / 100 * u64::from(self.config.stop_writes_pct))
    }

    /// Live bytes, and how many the blocks take that records may use.
    pub fn occupancy(&self) -> (u64, u64) {
        let mut used = 0;
        let mut limit = 0;
        for volume in &self.volumes {
            used += volume.blocks.used_size();
            let lacking = if volume.blocks.is_host_full() { volume.blocks.virgin_count() } else { 0 };
            let fixed = 1 + self.plan.reserve + u32::from(self.plan.count) + lacking;
            let blocks = volume.blocks.count().saturating_sub(fixed);
            limit += u64::from(blocks) * u64::from(WriteBuffer::payload_limit(volume.block_size()));
        }
        (used, limit)
    }

    /// How many blocks defrag has to free yet before it rests.
    pub fn defrag_shortage(&self, volume: &Volume) -> u32 {
        let target = self.plan.reserve + DEFRAG_HEADROOM.max(volume.blocks.count() / 128);
        target.saturating_sub(volume.blocks.free_count() + volume.blocks.settling_count())
    }

    /// Refuses writes once the engine closes. Under a partition's lock.
    pub fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Refuses a put when the namespace is full.
    pub fn check_writable(&self) -> Result<()> {
        let (used_size, limit) = self.space();
        if used_size >= limit {
            self.counters.refused.add(1);
            let lacks_host = self.volumes.iter().any(|v| v.blocks.is_host_full());
            let detail = if lacks_host { " (the file system under it is full)" } else { "" };
            return Err(Error::NoSpace { namespace: self.config.name.clone(), used_size, limit, detail });
        }
        Ok(())
    }

    /// The error for a device that has been latched.
    pub fn device_failed(&self, volume: &Volume) -> Error {
        let reason = volume.latch_reason().unwrap_or_default();
        Error::DeviceFailed { device: volume.geometry().name.to_string(), reason }
    }

    /// Notes that a device has failed a write, and tells everybody who waits for it.
    pub fn fail_device(&self, volume: &Volume, reason: String) {
        volume.latch(reason);
        for stream in volume.streams() {
            let waiters = stream.lock().take_waiters();
            waiters.into_iter().for_each(std::task::Waker::wake);
        }
        self.gate.open();
    }

    /// Waits until space may have come since `turn`. Writers are slowed here, not refused.
    pub async fn wait_for_space(&self, turn: u64) -> Result<()> {
        self.counters.waited.add(1);
        // What waits for a failed device never settles (I4), so no block will become free any more.
        let (failed, sound): (Vec<_>, Vec<_>) =
            self.volumes.iter().partition(|volume| volume.latch_reason().is_some());
        if let Some(failed) = failed.first()
            && !sound.iter().any(|volume| volume.is_backed_up())
        {
            return Err(self.device_failed(failed));
        }
        self.yield_snapshot(true);
        self.flush_work.raise();
        self.upkeep_work.raise();
        self.gate.wait(turn).await;
        self.check_open()
    }

    /// Waits until what `receipt` names is as durable as asked.
    pub async fn acknowledge(&self, receipt: Receipt, durability: Option<Durability>) -> Result<()> {
        match durability.unwrap_or_else(|| self.tunables.durability()) {
            Durability::Relaxed => Ok(()),
            Durability::Group => self.wait_durable(receipt).await,
        }
    }

    /// Waits until what `receipt` names is on the device.
    pub async fn wait_durable(&self, receipt: Receipt) -> Result<()> {
        let volume = self.volume(receipt.member);
        poll_fn(|cx| {
            if volume.stream(receipt.stream).lock().poll_durable(receipt.number, cx.waker()) {
                return Poll::Ready(Ok(()));
            }
            if volume.latch_reason().is_some() {
                return Poll::Ready(Err(self.device_failed(volume)));
            }
            self.flush_work.raise();
            Poll::Pending
        })
        .await
    }

    /// Waits until everything appended so far is on the device.
    pub async fn flush(&self) -> Result<()> {
        let number = self.append_clock.now().saturating_sub(1);
        // All streams are asked at once, so that their commits are on the way together.
        poll_fn(|cx| {
            let mut is_durable = true;
            for volume in &self.volumes {
                let waiting = volume.streams().iter().filter(|s| !s.lock().poll_durable(number, cx.waker()));
                if waiting.count() > 0 {
                    if volume.latch_reason().is_some() {
                        return Poll::Ready(Err(self.device_failed(volume)));
                    }
                    is_durable = false;
                }
            }
            if is_durable {
                return Poll::Ready(Ok(()));
            }
            self.flush_work.raise();
            Poll::Pending
        })
        .await
    }

    /// Counts a record in or out of its set.
    pub fn count(&self, set: &Set, by: i64, entry: &Entry) {
        set.count(by, entry.void_time() != 0);
    }

    /// The oldest append that a crash could lose, over all volumes.
    pub fn undurable_from(&self) -> u64 {
        self.volumes.iter().map(Volume::undurable_from).min().unwrap_or(u64::MAX)
    }
}
