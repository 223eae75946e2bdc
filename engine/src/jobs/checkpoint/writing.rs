//! A checkpoint while it is being written: copied entries, the blocks that they fill, and writes on their way.
//!
//! It knows only its own phases; when one begins, and what becomes of it when it counts, is `jobs/checkpoint.rs`, where
//! the phases are told one after the other.
//!
//! What always holds: a root is sent only after every part, and everything that an entry points at, is durable (I6). A step
//! copies a bounded number of entries and partitions (I10), and none while more than `DEPTH` writes wait (I9). Blocks
//! that it holds are in `held`, whatever comes of it.

use super::Appended;
use crate::device::{AlignedBuffer, Request, Ticket};
use crate::format::{
    COMMIT_ALIGNMENT, CheckpointRoot, PART_PAYLOAD, PartHeader, PartPlace, PartitionSummary, Summary, hash,
};
use crate::index::{Flags, PARTITION_COUNT, PartitionId};
use crate::jobs::Next;
use crate::namespace::CheckpointOutcome;
use crate::namespace::core::Core;
use crate::planted::{self, Bug};
use crate::volume::HeldBlock;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What one step copies at the most: so many entries (and the rest of the partition that passes them), and so many
/// partitions, which in a small index have next to none.
const ENTRY_BATCH: usize = 4096;
const PARTITION_BATCH: usize = 1024;
/// Bytes of one write, so that reads get in between.
const PIECE_SIZE: usize = 1 << 20;
/// Writes in flight.
const DEPTH: usize = 2;
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
pub(super) struct Writing {
    pub id: u64,
    /// It answers those who had asked before it began.
    pub requests: u64,
    phase: Phase,
    summary: Summary,
    summary_size: u64,
    summary_checksum: u64,
    first_summary: PartPlace,
    pub entry_count: u64,
    used_sets: Vec<bool>,
    /// Entries that have been copied and are in no part yet, from the first one on that is not.
    copied: VecDeque<[u64; 3]>,
    /// The part being filled, and how many bytes of payload it has.
    part: Option<(HeldBlock, usize)>,
    /// Blocks taken for the summary.
    summary_blocks: Vec<HeldBlock>,
    /// Every block that this checkpoint holds.
    pub held: Vec<PartPlace>,
    waiting: VecDeque<Piece>,
    in_flight: Vec<(u16, Ticket)>,
    /// Appended so far when it began: the tail is counted from there.
    pub begin: Appended,
    pub outcome: CheckpointOutcome,
}

/// What a step has come to.
pub(super) enum Progress {
    /// It goes on.
    Goes(Next),
    /// The root is durable on every device.
    Written,
    /// Given up, and nothing is in flight any more.
    GivenUp,
}

/// Why a block could not be had.
enum Refused {
    NotYet,
    NoRoom,
}

impl Writing {
    /// A checkpoint whose border has just been taken: `summary` has it, and `begin` says how much had been appended.
    pub fn new(id: u64, requests: u64, summary: Summary, begin: Appended) -> Self {
        Writing {
            id,
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
        }
    }

    /// Collects answers, sends what waits, and does what the phase asks for.
    pub fn step(&mut self, core: &Core) -> Progress {
        let progressed = self.collect(core);
        if core.volumes.iter().any(|volume| volume.latch_reason().is_some()) {
            self.give_up(CheckpointOutcome::Failed);
        } else if !core.has_room_beside(core.held_blocks()) && self.phase != Phase::Root {
            self.give_up(CheckpointOutcome::NoRoom);
        }
        self.submit(core);
        let is_written = self.waiting.is_empty() && self.in_flight.is_empty();
        let are_parts_written = is_written || planted::is(Bug::RootBeforeParts);
        let next = match self.phase {
            Phase::Copy(from) if self.waiting.len() < DEPTH => self.copy(core, from),
            Phase::Settle(number)
                if are_parts_written
                    && (core.undurable_from() > number || planted::is(Bug::RootBeforeRecords)) =>
            {
                self.phase = Phase::Summarize;
                Next::Now
            }
            Phase::Summarize => self.summarize(core),
            Phase::Settle(number) => {
                core.volumes.iter().for_each(|volume| volume.hasten(number));
                Next::Within(10)
            }
            Phase::Summary if are_parts_written => {
                self.root(core);
                Next::Now
            }
            Phase::Root if is_written => return Progress::Written,
            Phase::GiveUp if is_written => return Progress::GivenUp,
            Phase::Copy(_) | Phase::Summary | Phase::Root | Phase::GiveUp => Next::Within(10),
        };
        Progress::Goes(if progressed { Next::Now } else { next })
    }

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
        let mut to = from;
        let limit = PARTITION_COUNT.min(from + PARTITION_BATCH);
        let mut entries = Vec::new();
        // What had no room in a part yet comes first.
        let is_free = self.copied.is_empty();
        while is_free && to < limit && self.copied.len() < ENTRY_BATCH {
            let partition = PartitionId::new(to as u16);
            to += 1;
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
