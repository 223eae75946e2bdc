//! Moves live records out of blocks that are mostly garbage, so that the blocks can be used again.
//!
//! A victim is read whole. Each record that the index still points at is appended, unchanged, to a stream
//! of moved records; the rest is left behind. The emptied block settles until those appends are on the
//! device: a crash before that still finds the old copies (I4).
//!
//! Victims are chosen by benefit and age: garbage share times age over live share (LFS, as in SepBIT,
//! FAST'22). Moved records go to classes by the age of their last write, in multiples of how long
//! short-lived blocks live, so that blocks hold records that will die at about the same time. Nothing is
//! moved before free blocks are short: every block that is left alone longer has more garbage.
//!
//! Blocks whose header or footer a scrub found damaged are emptied the same way, when there is no need of space.
//!
//! Defrag can always finish (I11): writers stop while `reserve` blocks are still free, and moving a
//! victim takes less space than it frees.

use super::{Job, Next};
use crate::device::{AlignedBuffer, Ticket};
use crate::format::{EncodedRecord, RecordFlags, RecordView};
use crate::index::{Location, PartitionId, SizeClass, Tag};
use crate::namespace::core::{Core, Life, life};
use crate::namespace::is_tombstone;
use crate::planted::{self, Bug};
use crate::volume::{
    AppendError, BlockId, BlockState, StreamId, Version, Volume, listed_versions, logged_versions,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Records looked at in one step.
const BATCH: usize = 256;
/// Lifespans of so many blocks of short-lived records are averaged.
const LIFESPANS: usize = 16;

/// Where one record of the victim should be.
struct Candidate {
    pos: u32,
    partition: PartitionId,
    tag: Tag,
    class: SizeClass,
}

impl Candidate {
    fn of(version: Version<'_>) -> Self {
        let Version { digest, pos, class, .. } = version;
        Candidate { pos, partition: PartitionId::of(&digest), tag: Tag::of(&digest), class }
    }
}

struct Victim {
    member: u8,
    block: BlockId,
    epoch: u64,
    bytes: VictimBytes,
}

enum VictimBytes {
    Reading(Ticket),
    Read { bytes: Arc<AlignedBuffer>, candidates: Vec<Candidate>, next: usize, failed: u32 },
}

/// The defrag job of a namespace.
pub(crate) struct Defrag {
    core: Arc<Core>,
    /// The victim being emptied, for each volume.
    victims: Vec<Option<Victim>>,
    /// Blocks that hold a damaged record: moving it is not possible, so they stay as they are. By epoch,
    /// since a new life may be sound.
    damaged: HashMap<(u8, u32), u64>,
    lifespans: VecDeque<u64>,
}

impl Defrag {
    pub fn new(core: Arc<Core>) -> Self {
        let victims = core.volumes.iter().map(|_| None).collect();
        Defrag { core, victims, damaged: HashMap::new(), lifespans: VecDeque::new() }
    }

    /// Whether the volume is so short of free blocks that something should be moved.
    fn is_needed(&self, volume: &Volume) -> bool {
        self.core.defrag_shortage(volume) > 0
    }

    /// The block whose emptying gains most.
    fn choose(&self, volume: &Volume) -> Option<BlockId> {
        let now = self.core.next_sequence.load(Ordering::Relaxed);
        let size = f64::from(volume.block_size());
        // Moving what is almost full gains less than the padding and footers that it costs. Beside a snapshot there may not be
        // enough to gain at all, so there only what gains as much as it costs: else the same records go round and round.
        let fullest = if volume.blocks.is_keeping() { 0.5 } else { 0.96 };
        let mut best: Option<(f64, BlockId)> = None;
        for id in (1..volume.blocks.count()).map(BlockId) {
            let info = volume.blocks.info(id);
            if info.state != BlockState::Sealed || info.used_size == 0 {
                continue;
            }
            // What a snapshot keeps gains nothing, however empty it gets.
            if volume.blocks.would_be_kept(info.epoch) {
                continue;
            }
            let live = f64::from(info.used_size) / size;
            if live > fullest || self.damaged.get(&(volume.member(), id.0)) == Some(&info.epoch) {
                continue;
            }
            let age = now.saturating_sub(info.sealed_sequence) as f64 + 1.0;
            let score = (1.0 - live) * age / live;
            if best.is_none_or(|(other, _)| score > other) {
                best = Some((score, id));
            }
        }
        best.map(|(_, id)| id)
    }

    /// A block whose records should be brought to safety. It may take as much space as it frees, so it comes only
    /// where there is no need of space.
    fn evacuee(&self, volume: &Volume) -> Option<BlockId> {
        while let Some((id, epoch)) = volume.evacuation.take() {
            let info = volume.blocks.info(id);
            let is_there = info.state == BlockState::Sealed && info.used_size > 0 && info.epoch == epoch;
            if is_there && self.damaged.get(&(volume.member(), id.0)) != Some(&epoch) {
                return Some(id);
            }
        }
        None
    }

    fn begin(&mut self, volume: &Volume, block: BlockId) -> Victim {
        let info = volume.blocks.info(block);
        if info.stream == 0 && self.core.plan.count > 2 {
            self.note_lifespan(info.first_sequence);
        }
        let bytes = match volume.blocks.ram(block) {
            Some(sealed) => self.candidates(volume, block, info.epoch, sealed.bytes.clone()),
            None => VictimBytes::Reading(volume.read_block(block, 0, volume.block_size())),
        };
        Victim { member: volume.member(), block, epoch: info.epoch, bytes }
    }

    /// Learns how long blocks of short-lived records live.
    fn note_lifespan(&mut self, first_sequence: u64) {
        let now = self.core.next_sequence.load(Ordering::Relaxed);
        self.lifespans.push_back(now.saturating_sub(first_sequence));
        if self.lifespans.len() > LIFESPANS {
            self.lifespans.pop_front();
        }
        let mean = self.lifespans.iter().sum::<u64>() / self.lifespans.len() as u64;
        self.core.short_lifespan.store(mean, Ordering::Relaxed);
    }

    fn candidates(
        &self,
        volume: &Volume,
        block: BlockId,
        epoch: u64,
        bytes: Arc<AlignedBuffer>,
    ) -> VictimBytes {
        let mut candidates = Vec::new();
        match volume.block_place(block).footer(epoch, &bytes) {
            Ok(footer) => candidates.extend(listed_versions(&footer).map(Candidate::of)),
            Err(_) => {
                logged_versions(&bytes, volume.salt(block, epoch), |version| {
                    candidates.push(Candidate::of(version));
                });
            }
        }
        VictimBytes::Read { bytes, candidates, next: 0, failed: 0 }
    }

    /// Works on one volume's victim.
    fn work(&mut self, index: usize) -> Next {
        let core = self.core.clone();
        let volume = &core.volumes[index];
        let Some(mut victim) = self.victims[index].take() else {
            if volume.latch_reason().is_some() {
                return Next::Within(100);
            }
            let block = if self.is_needed(volume) { self.choose(volume) } else { self.evacuee(volume) };
            let Some(block) = block else { return Next::Within(100) };
            self.victims[index] = Some(self.begin(volume, block));
            volume.victim.store(block.0, Ordering::Relaxed);
            return Next::Now;
        };
        let next = match &mut victim.bytes {
            VictimBytes::Reading(ticket) => match ticket.try_take() {
                None => Some(Next::Within(100)),
                Some(answer) => match answer.into_buffer() {
                    Ok(buffer) => {
                        victim.bytes = self.candidates(volume, victim.block, victim.epoch, Arc::new(buffer));
                        Some(Next::Now)
                    }
                    Err(error) => {
                        tracing::error!("defrag cannot read block {}: {error}", victim.block.0);
                        self.damaged.insert((victim.member, victim.block.0), victim.epoch);
                        None
                    }
                },
            },
            VictimBytes::Read { bytes, candidates, next, failed } => {
                let batch = candidates.iter().skip(*next).take(BATCH);
                let place = Place { volume, block: victim.block, epoch: victim.epoch, bytes: &bytes[..] };
                let mut blocked = false;
                for candidate in batch {
                    match self.move_record(&place, candidate) {
                        Moved::Done => {}
                        Moved::Damaged => *failed += 1,
                        Moved::NoRoom => {
                            blocked = true;
                            break;
                        }
                    }
                    *next += 1;
                }
                if blocked {
                    core.flush_work.raise();
                    Some(Next::Within(20))
                } else if *next < candidates.len() {
                    Some(Next::Now)
                } else {
                    // Live bytes that no list names stay: footer and record are damaged. Without this the block
                    // would be chosen again and again.
                    let info = volume.blocks.info(victim.block);
                    let is_left = info.epoch == victim.epoch && info.used_size > 0;
                    if *failed > 0 || is_left {
                        self.damaged.insert((victim.member, victim.block.0), victim.epoch);
                    }
                    core.counters.defragged_blocks.add(1);
                    // What was moved must reach the device before the block can be used again.
                    core.flush_work.raise();
                    None
                }
            }
        };
        match next {
            Some(next) => {
                self.victims[index] = Some(victim);
                next
            }
            None => {
                volume.victim.store(0, Ordering::Relaxed);
                Next::Now
            }
        }
    }

    fn move_record(&self, place: &Place<'_>, candidate: &Candidate) -> Moved {
        let core = &self.core;
        let volume = place.volume;
        let offset = u64::from(place.block.0) * u64::from(volume.block_size()) + u64::from(candidate.pos);
        let here = Location { device: volume.member(), unit: offset / Location::UNIT_SIZE };
        let mut partition = core.index.lock(candidate.partition);
        let is_current =
            |entry: &crate::index::Entry| entry.location() == here || planted::is(Bug::DefragMovesStale);
        let Some(entry) = partition.get(candidate.tag).filter(is_current) else {
            return Moved::Done;
        };
        // An entry points into the block as it is now: was that the life that was read?
        if volume.blocks.epoch(place.block) != place.epoch {
            return Moved::Done;
        }
        let now = core.now();
        let is_masking =
            entry.flags().contains(crate::index::Flags::OLDER_MAY_OUTLIVE) || is_tombstone(&entry);
        let is_dropped = is_tombstone(&entry) && planted::is(Bug::DefragDropsTombstones);
        if is_dropped
            || core.sets.is_truncated(&entry)
            || (life(entry.void_time(), now) == Life::Over && !is_masking)
        {
            core.before_change(&partition, &entry);
            partition.remove(candidate.tag);
            core.forget(&entry);
            volume.release(here, entry.size_class());
            return Moved::Done;
        }
        let bytes = place.bytes.get(candidate.pos as usize..).unwrap_or_default();
        let bytes = bytes.get(..candidate.class.bytes() as usize).unwrap_or_default();
        let salt = volume.salt(place.block, place.epoch);
        let Ok(view) = RecordView::parse(bytes, salt, candidate.pos) else {
            tracing::error!(
                "device {}: block {} offset {}: a damaged record cannot be moved; the block is left alone",
                volume.geometry().name,
                place.block.0,
                offset
            );
            return Moved::Damaged;
        };
        let mut record = EncodedRecord::copy_of(&view);
        record.set_flags(RecordFlags(view.header().flags().0 & !RecordFlags::IN_GROUP));
        let stream = self.stream_for(volume.blocks.stream(place.block), view.header().sequence);
        let class = entry.size_class();
        match volume.append(&record, class, core.context(stream, 0, now)) {
            Ok(appended) => {
                core.before_change(&partition, &entry);
                partition.insert(entry.with_location(appended.location));
                volume.release(here, class);
                volume.stats.moved_size.fetch_add(u64::from(class.bytes()), Ordering::Relaxed);
                core.counters.moved.add(1);
                Moved::Done
            }
            Err(AppendError::NoBlock | AppendError::Latched) => Moved::NoRoom,
        }
    }

    /// The stream for a record that was last written as version `sequence` and comes from `stream`.
    fn stream_for(&self, stream: u8, sequence: u64) -> StreamId {
        let first = self.core.plan.first_moved();
        if self.core.plan.count == 2 {
            return StreamId(first);
        }
        if stream == 0 {
            return StreamId(first);
        }
        let age = self.core.next_sequence.load(Ordering::Relaxed).saturating_sub(sequence);
        let lifespan = self.core.short_lifespan.load(Ordering::Relaxed);
        let class = match age {
            _ if age < lifespan.saturating_mul(4) => 1,
            _ if age < lifespan.saturating_mul(16) => 2,
            _ => 3,
        };
        StreamId(first + class)
    }
}

struct Place<'a> {
    volume: &'a Volume,
    block: BlockId,
    epoch: u64,
    bytes: &'a [u8],
}

enum Moved {
    Done,
    Damaged,
    NoRoom,
}

impl Job for Defrag {
    fn step(&mut self) -> Next {
        let next = (0..self.victims.len()).map(|index| self.work(index)).fold(Next::Within(100), Next::min);
        let sound: HashSet<(u8, u32)> = self
            .damaged
            .iter()
            .filter(|((member, block), epoch)| {
                self.core.volume(*member).blocks.epoch(BlockId(*block)) != **epoch
            })
            .map(|(key, _)| *key)
            .collect();
        self.damaged.retain(|key, _| !sound.contains(key));
        next
    }
}
