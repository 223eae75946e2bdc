//! Writes the index to the device while everything goes on, so that the next start need not read every block.
//!
//! 1. **Border.** With all partitions locked for a moment, the tails of all streams are frozen and their positions noted.
//!    What was appended before lies below the border; what comes after is the tail, which a start replays.
//! 2. **Copy.** Partition by partition, a few a step, entries go into blocks taken from the free list, written as they fill.
//! 3. **Wait** until everything appended before the last copy is durable: an entry in a checkpoint never points at bytes
//!    that a crash could still take away.
//! 4. **Summary**: the border, the epoch of every block at that time, which partitions and sets there are.
//! 5. **Root**, to every device, when all of that is durable. Now the checkpoint counts, and the blocks of the one before
//!    are free. Roots alternate between two slots, so a torn root leaves the older checkpoint.
//!
//! Why a start may trust an entry below the border: versions of its key in the tail were appended after the border, it before,
//! and it was the newest when it was copied; so whatever the tail has is newer, or is itself moved by defrag. An entry
//! whose block has another epoch by now was replaced, durably, before that block was reused (I4).
//!
//! Records need space more than checkpoints do: one that has no room is not begun, and the last one is given up when live
//! records approach the limit that lets defrag finish (I11). Then the next start sweeps all blocks.

use super::{Job, Next};
use crate::device::{AlignedBuffer, Request, Ticket};
use crate::format::{
    CHECKPOINT_ENTRY_SIZE, COMMIT_ALIGNMENT, CheckpointRoot, PART_PAYLOAD, PartHeader, PartPlace,
    PartitionSummary, Summary, hash,
};
use crate::index::{Flags, PARTITION_COUNT, PartitionId};
use crate::namespace::CheckpointOutcome;
use crate::namespace::core::Core;
use crate::volume::HeldBlock;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Partitions copied in one step.
const BATCH: usize = 16;
/// Bytes of one write, so that reads get in between.
const PIECE_SIZE: usize = 1 << 20;
/// Writes in flight.
const DEPTH: usize = 2;
/// The least that must have been appended before a checkpoint is due by volume, in bytes.
const LEAST_TAIL: u64 = 64 << 20;

/// One piece of a part on its way to the device.
struct Piece {
    member: u16,
    offset: u64,
    data: Arc<AlignedBuffer>,
    range: Range<usize>,
}

/// What a checkpoint that is being written does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Copies partitions, from this one on.
    Copy(usize),
    /// Waits until all up to this append number are durable.
    Settle(u64),
    /// Takes blocks for the summary.
    Summarize,
    /// Waits for the summary's parts.
    Summary,
    /// Waits for the roots.
    Root,
    /// Given up: waits for what is in flight, so that its blocks can be freed.
    GiveUp,
}

/// A checkpoint that is being written.
struct Writing {
    id: u64,
    /// It answers those who had asked before it began.
    requests: u64,
    phase: Phase,
    summary: Summary,
    summary_size: u64,
    summary_checksum: u64,
    first_summary: PartPlace,
    entry_count: u64,
    used_sets: Vec<bool>,
    /// Entries that have been copied and are in no part yet, from the first one on that is not.
    copied: VecDeque<[u64; 3]>,
    /// The part being filled, and how many bytes of payload it has.
    part: Option<(HeldBlock, usize)>,
    /// Blocks taken for the summary.
    summary_blocks: Vec<HeldBlock>,
    /// Every block that this checkpoint holds.
    held: Vec<PartPlace>,
    waiting: VecDeque<Piece>,
    in_flight: Vec<(u16, Ticket)>,
    /// Appended so far when it began: the tail is counted from there.
    begin: Appended,
    outcome: CheckpointOutcome,
}

/// Why a block could not be had.
enum Refused {
    NotYet,
    NoRoom,
}

/// How much has been appended.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Appended {
    number: u64,
    size: u64,
}

/// The checkpoint job of a namespace.
pub(crate) struct Checkpoint {
    core: Arc<Core>,
    writing: Option<Box<Writing>>,
    /// Where the tail of the last checkpoint begins.
    last: Appended,
    last_ms: u64,
    /// The last one before the engine ends has been tried.
    is_wound_up: bool,
}

impl Checkpoint {
    pub fn new(core: Arc<Core>) -> Self {
        let last_ms = core.clock.mono_ms();
        // Behind a checkpoint that the start has used there may have been a tail: then the next one is of use at once.
        let is_current = core.checkpoints.last_id.load(Ordering::Relaxed) != 0 && !core.checkpoints.had_tail;
        let last = if is_current || core.index.is_empty() { appended(&core) } else { Appended::default() };
        Checkpoint { core, writing: None, last, last_ms, is_wound_up: false }
    }

    /// Whether one should be begun without being asked for.
    fn is_due(&self) -> bool {
        let Some(period) = self.core.config.checkpoint_period else { return false };
        let now = appended(&self.core);
        if now == self.last {
            return false;
        }
        let (elapsed, period) = (self.core.clock.mono_ms().saturating_sub(self.last_ms), period.as_millis());
        let tail = now.size.saturating_sub(self.last.size);
        let size = self.core.index.len() * u64::from(CHECKPOINT_ENTRY_SIZE);
        // A checkpoint costs its size in writes: it comes sooner when there is more to replay without it.
        let is_first = self.core.checkpoints.last_id.load(Ordering::Relaxed) == 0;
        let is_worth_it = is_first || tail >= size / 4 || u128::from(elapsed) >= period * 10;
        (u128::from(elapsed) >= period && is_worth_it) || tail >= LEAST_TAIL.max(size * 4)
    }

    /// Blocks that a checkpoint of the present index takes, about.
    fn needed_blocks(&self) -> u64 {
        let block_size = self.core.volumes.iter().map(|volume| volume.block_size()).min().unwrap_or(1);
        let capacity = u64::from(PartHeader::capacity(block_size));
        let blocks = self.core.volumes.iter().map(|volume| u64::from(volume.blocks.count())).sum::<u64>();
        let body = self.core.index.len() * u64::from(CHECKPOINT_ENTRY_SIZE);
        body.div_ceil(capacity) + (blocks * 8 + PARTITION_COUNT as u64).div_ceil(capacity) + 1
    }

    fn begin(&mut self) -> Next {
        let core = &self.core;
        let requests = core.checkpoints.requested();
        if core.volumes.iter().any(|volume| volume.latch_reason().is_some()) {
            core.checkpoints.answer(requests, CheckpointOutcome::Failed);
            return Next::Within(1000);
        }
        if !core.has_room_beside(core.held_blocks() + self.needed_blocks()) {
            core.checkpoints.skipped.fetch_add(1, Ordering::Relaxed);
            core.checkpoints.answer(requests, CheckpointOutcome::NoRoom);
            self.last_ms = core.clock.mono_ms();
            return Next::Within(1000);
        }
        // Most of the tails goes before the locks are taken, so that they are held for little.
        core.volumes.iter().for_each(|volume| volume.freeze_tails());
        let partitions = core.index.lock_all();
        let summary = Summary {
            members: core.volumes.iter().map(|volume| volume.border()).collect(),
            ..Summary::default()
        };
        let begin = appended(core);
        drop(partitions);
        core.checkpoints.is_writing.store(true, Ordering::Relaxed);
        self.writing = Some(Box::new(Writing {
            id: core.checkpoints.next_id.fetch_add(1, Ordering::Relaxed),
            requests,
            phase: Phase::Copy(0),
            summary,
            summary_size: 0,
            summary_checksum: 0,
            first_summary: PartPlace::default(),
            entry_count: 0,
            used_sets: Vec::new(),
            copied: VecDeque::new(),
            part: None,
            summary_blocks: Vec::new(),
            held: Vec::new(),
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            begin,
            outcome: CheckpointOutcome::NoRoom,
        }));
        Next::Now
    }

    /// One step of the checkpoint that is being written.
    fn go_on(&mut self, mut writing: Box<Writing>) -> Next {
        let core = self.core.clone();
        let progressed = writing.collect(&core);
        if core.volumes.iter().any(|volume| volume.latch_reason().is_some()) {
            writing.give_up(CheckpointOutcome::Failed);
        } else if !core.has_room_beside(core.held_blocks()) && writing.phase != Phase::Root {
            writing.give_up(CheckpointOutcome::NoRoom);
        }
        writing.submit(&core);
        let is_written = writing.waiting.is_empty() && writing.in_flight.is_empty();
        let next = match writing.phase {
            Phase::Copy(from) if writing.waiting.len() < DEPTH => writing.copy(&core, from),
            Phase::Settle(number) if is_written && core.undurable_from() > number => {
                writing.phase = Phase::Summarize;
                Next::Now
            }
            Phase::Summarize => writing.summarize(&core),
            Phase::Settle(number) => {
                core.volumes.iter().for_each(|volume| volume.hasten(number));
                Next::Within(10)
            }
            Phase::Summary if is_written => {
                writing.root(&core);
                Next::Now
            }
            Phase::Root if is_written => {
                self.complete(&writing);
                return Next::Now;
            }
            Phase::GiveUp if is_written => {
                core.drop_parts(&writing.held);
                self.end(&writing);
                return Next::Within(1000);
            }
            Phase::Copy(_) | Phase::Summary | Phase::Root | Phase::GiveUp => Next::Within(10),
        };
        self.writing = Some(writing);
        if progressed { Next::Now } else { next }
    }

    /// The root is durable: the checkpoint counts, and the one before is not needed any more.
    fn complete(&mut self, writing: &Writing) {
        let checkpoints = &self.core.checkpoints;
        let old = std::mem::replace(&mut *checkpoints.parts.lock(), writing.held.clone());
        checkpoints.last_id.store(writing.id, Ordering::Release);
        checkpoints.written_ms.store(self.core.now().0, Ordering::Relaxed);
        checkpoints.written.fetch_add(1, Ordering::Relaxed);
        checkpoints.entries.store(writing.entry_count, Ordering::Relaxed);
        self.core.drop_parts(&old);
        self.last = writing.begin;
        self.end(writing);
    }

    fn end(&mut self, writing: &Writing) {
        let checkpoints = &self.core.checkpoints;
        self.last_ms = self.core.clock.mono_ms();
        checkpoints.is_writing.store(false, Ordering::Relaxed);
        if writing.outcome == CheckpointOutcome::NoRoom {
            checkpoints.skipped.fetch_add(1, Ordering::Relaxed);
        }
        checkpoints.answer(writing.requests, writing.outcome.clone());
        self.core.upkeep_work.raise();
    }

    /// Gives up the last checkpoint when records need its blocks.
    fn yield_space(&self) {
        if self.core.held_blocks() > 0 && !self.core.has_room_beside(self.core.held_blocks()) {
            let parts = std::mem::take(&mut *self.core.checkpoints.parts.lock());
            self.core.drop_parts(&parts);
            self.core.checkpoints.last_id.store(0, Ordering::Release);
            tracing::info!(
                "namespace {}: records need the space of the checkpoint; without one the next start reads all blocks",
                self.core.config.name
            );
        }
    }
}

fn appended(core: &Core) -> Appended {
    let size = |volume: &crate::volume::Volume| {
        volume.stats.fresh_size.load(Ordering::Relaxed) + volume.stats.moved_size.load(Ordering::Relaxed)
    };
    Appended { number: core.append_clock.now(), size: core.volumes.iter().map(size).sum() }
}

impl Writing {
    fn give_up(&mut self, outcome: CheckpointOutcome) {
        if self.phase != Phase::GiveUp {
            self.phase = Phase::GiveUp;
            self.outcome = outcome;
            self.waiting.clear();
            self.part = None;
            self.summary_blocks.clear();
        }
    }

    /// Collects answers. True if any came.
    fn collect(&mut self, core: &Core) -> bool {
        let before = self.in_flight.len();
        self.in_flight.retain_mut(|(member, ticket)| match ticket.try_take() {
            None => true,
            Some(answer) => {
                if let Err(error) = answer.result {
                    core.fail_device(core.volume(*member as u8), error.to_string());
                }
                false
            }
        });
        self.in_flight.len() < before
    }

    fn submit(&mut self, core: &Core) {
        while self.in_flight.len() < DEPTH {
            let Some(Piece { member, offset, data, range }) = self.waiting.pop_front() else { break };
            let request = Request::Write { offset, data, range, durable: true };
            let ticket = core.volume(member as u8).device.submit(request);
            self.in_flight.push((member, ticket));
        }
    }

    /// Takes a block for the next part, from the device with most free ones.
    fn hold(&mut self, core: &Core) -> Result<HeldBlock, Refused> {
        let volume = core.volumes.iter().max_by_key(|volume| volume.blocks.free_count());
        let volume = volume.ok_or(Refused::NoRoom)?;
        let context = core.context(crate::volume::StreamId(0), core.plan.reserve, core.now());
        match volume.hold_block(context) {
            Some(block) => {
                self.held.push(block.place);
                Ok(block)
            }
            // Free blocks that were never written are made ready a few at a time.
            None if volume.blocks.free_count() > core.plan.reserve => {
                core.flush_work.raise();
                Err(Refused::NotYet)
            }
            None => Err(Refused::NoRoom),
        }
    }

    /// What follows from a block that could not be had.
    fn refused(&mut self, refused: Refused) -> Next {
        match refused {
            Refused::NotYet => Next::Within(5),
            Refused::NoRoom => {
                self.give_up(CheckpointOutcome::NoRoom);
                Next::Now
            }
        }
    }

    /// Seals a part and queues its bytes.
    fn queue(&mut self, core: &Core, block: HeldBlock, payload_size: usize, next: PartPlace) {
        let HeldBlock { place, mut bytes } = block;
        let volume = core.volume(place.member as u8);
        let salt = volume.salt(crate::volume::BlockId(place.block), place.epoch);
        PartHeader::seal(&mut bytes, self.id, next, payload_size as u32, salt);
        let end = (PART_PAYLOAD as usize + payload_size).next_multiple_of(COMMIT_ALIGNMENT as usize);
        let (data, start) = (Arc::new(bytes), u64::from(place.block) * u64::from(volume.block_size()));
        for at in (0..end).step_by(PIECE_SIZE) {
            let range = at..end.min(at + PIECE_SIZE);
            let (data, offset) = (data.clone(), start + at as u64);
            self.waiting.push_back(Piece { member: place.member, offset, data, range });
        }
    }

    /// Copies some partitions, from `from` on.
    fn copy(&mut self, core: &Core, from: usize) -> Next {
        let to = if self.copied.is_empty() { PARTITION_COUNT.min(from + BATCH) } else { from };
        let mut entries = Vec::new();
        for partition in (from..to).map(|id| PartitionId::new(id as u16)) {
            entries.clear();
            let sequence = core.copy_partition(partition, &mut entries);
            let before = self.copied.len();
            for entry in &entries {
                if entry.flags().contains(Flags::SYSTEM) {
                    self.summary.system.push((partition.get(), entry.words()));
                    continue;
                }
                let set = usize::from(entry.set_id());
                if self.used_sets.len() <= set {
                    self.used_sets.resize(set + 1, false);
                }
                self.used_sets[set] = true;
                self.copied.push_back(entry.words());
            }
            let entry_count = (self.copied.len() - before) as u32;
            if entry_count > 0 {
                let partition = partition.get();
                self.summary.partitions.push(PartitionSummary { partition, entry_count, sequence });
                self.entry_count += u64::from(entry_count);
            }
        }
        self.phase = Phase::Copy(to);
        if let Err(refused) = self.fill_parts(core) {
            return self.refused(refused);
        }
        if to == PARTITION_COUNT {
            if let Some((block, size)) = self.part.take() {
                self.finish_part(core, block, size);
            }
            self.phase = Phase::Settle(core.append_clock.now().saturating_sub(1));
        }
        Next::Now
    }

    /// Puts what was copied into parts.
    fn fill_parts(&mut self, core: &Core) -> Result<(), Refused> {
        while let Some(words) = self.copied.front().copied() {
            let (mut block, mut size) = match self.part.take() {
                Some(part) => part,
                None => (self.hold(core)?, 0),
            };
            let at = PART_PAYLOAD as usize + size;
            let entry = bytemuck::bytes_of(&words);
            block.bytes[at..at + entry.len()].copy_from_slice(entry);
            size += entry.len();
            self.copied.pop_front();
            if size + entry.len() > PartHeader::capacity(block.bytes.len() as u32) as usize {
                self.finish_part(core, block, size);
            } else {
                self.part = Some((block, size));
            }
        }
        Ok(())
    }

    fn finish_part(&mut self, core: &Core, block: HeldBlock, size: usize) {
        self.summary.parts.push(block.place);
        self.queue(core, block, size, PartPlace::default());
    }

    /// Writes the summary.
    fn summarize(&mut self, core: &Core) -> Next {
        self.summary.next_sequence = core.next_sequence.load(Ordering::Acquire);
        let numbers = (0..self.used_sets.len()).filter(|&number| self.used_sets[number]);
        let sets = numbers.filter_map(|number| core.sets.get(number as u16));
        self.summary.sets = sets.map(|set| (set.id, set.name.to_string())).collect();
        let bytes = self.summary.encode();
        (self.summary_size, self.summary_checksum) = (bytes.len() as u64, hash(0, &bytes));
        // A part names the next one, so all blocks are taken first.
        let capacity = |block: &HeldBlock| PartHeader::capacity(block.bytes.len() as u32) as usize;
        while self.summary_blocks.iter().map(capacity).sum::<usize>() < bytes.len() {
            match self.hold(core) {
                Ok(block) => self.summary_blocks.push(block),
                Err(refused) => return self.refused(refused),
            }
        }
        let blocks = std::mem::take(&mut self.summary_blocks);
        let places: Vec<PartPlace> = blocks.iter().map(|block| block.place).collect();
        self.first_summary = places[0];
        let nexts = places.into_iter().skip(1).chain([PartPlace::default()]);
        let mut rest = &bytes[..];
        for (mut block, next) in blocks.into_iter().zip(nexts) {
            let (payload, later) = rest.split_at(rest.len().min(capacity(&block)));
            block.bytes[PART_PAYLOAD as usize..][..payload.len()].copy_from_slice(payload);
            self.queue(core, block, payload.len(), next);
            rest = later;
        }
        self.phase = Phase::Summary;
        Next::Now
    }

    /// Writes the root to every device.
    fn root(&mut self, core: &Core) {
        let header = &core.volume(0).header;
        let root = CheckpointRoot {
            id: self.id,
            set_uuid: header.set_uuid,
            incarnation: header.incarnation,
            written_ms: core.now().0,
            entry_count: self.entry_count,
            summary_size: self.summary_size,
            summary_checksum: self.summary_checksum,
            summary_member: self.first_summary.member,
            summary_block: self.first_summary.block,
            summary_epoch: self.first_summary.epoch,
            ..bytemuck::Zeroable::zeroed()
        };
        let tickets =
            core.volumes.iter().map(|volume| (u16::from(volume.member()), volume.write_root(&root)));
        self.in_flight.extend(tickets);
        self.outcome = CheckpointOutcome::Written;
        self.phase = Phase::Root;
    }
}

impl Job for Checkpoint {
    fn step(&mut self) -> Next {
        if let Some(writing) = self.writing.take() {
            return self.go_on(writing);
        }
        self.yield_space();
        if self.core.checkpoints.is_wanted() || self.is_due() { self.begin() } else { Next::Within(100) }
    }

    fn wind_up(&mut self) -> bool {
        if let Some(writing) = self.writing.take() {
            self.go_on(writing);
            return false;
        }
        let is_due = self.core.config.checkpoint_period.is_some() && appended(&self.core) != self.last;
        if self.is_wound_up || !is_due {
            return true;
        }
        self.is_wound_up = true;
        self.begin();
        false
    }
}
