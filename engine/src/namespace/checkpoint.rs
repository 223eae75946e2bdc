//! What verbs and jobs share of checkpoints: asking for one, which blocks the last one holds, and whether there is room.
//!
//! The copying is `jobs/checkpoint.rs`. Here a partition is copied, which only this room can do, and callers wait.

use super::core::Core;
use crate::error::{Error, Result};
use crate::format::PartPlace;
use crate::index::{Entry, Flags, PartitionId};
use crate::signal::Gate;
use crate::volume::WriteBuffer;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How an attempt to write a checkpoint ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointOutcome {
    Written,
    NoRoom,
    /// A device has failed; which one, the volumes know.
    Failed,
}

/// The checkpoints of a namespace.
pub(crate) struct Checkpoints {
    /// The number of the last one that is valid on the devices; 0: there was never any.
    pub last_id: AtomicU64,
    /// The number that the next one gets: no root on any device has it.
    pub next_id: AtomicU64,
    /// When the last one was written, in milliseconds since the Unix epoch; 0: not in this run.
    pub written_ms: AtomicU64,
    /// How many were written in this run, and how many were given up for want of room.
    pub written: AtomicU64,
    pub skipped: AtomicU64,
    /// Entries of the last one.
    pub entries: AtomicU64,
    /// Whether one is being written now.
    pub is_writing: AtomicBool,
    /// Whether the start replayed a tail behind the checkpoint that it used.
    pub had_tail: bool,
    /// Blocks that hold the last one.
    pub parts: Mutex<Vec<PartPlace>>,
    /// How many were asked for, how many of these have been answered, and the last answer.
    requested: AtomicU64,
    answered: AtomicU64,
    answer: Mutex<Option<CheckpointOutcome>>,
    gate: Gate,
}

impl Checkpoints {
    /// What a start found: the blocks of the checkpoint that it used, if any, and the number for the next one.
    pub fn found(last_id: u64, next_id: u64, entries: u64, had_tail: bool, parts: Vec<PartPlace>) -> Self {
        Checkpoints {
            last_id: AtomicU64::new(last_id),
            next_id: AtomicU64::new(next_id),
            written_ms: AtomicU64::new(0),
            written: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            entries: AtomicU64::new(entries),
            is_writing: AtomicBool::new(false),
            had_tail,
            parts: Mutex::new(parts),
            requested: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            answer: Mutex::new(None),
            gate: Gate::default(),
        }
    }

    /// How many have been asked for.
    pub fn requested(&self) -> u64 {
        self.requested.load(Ordering::Acquire)
    }

    /// Whether somebody waits for one.
    pub fn is_wanted(&self) -> bool {
        self.answered.load(Ordering::Acquire) < self.requested()
    }

    /// Answers all who asked before there were more than `requests`.
    pub fn answer(&self, requests: u64, outcome: CheckpointOutcome) {
        *self.answer.lock() = Some(outcome);
        self.answered.fetch_max(requests, Ordering::AcqRel);
        self.gate.open();
    }

    /// Lets those who wait see that the engine has closed.
    pub fn wake(&self) {
        self.gate.open();
    }
}

impl Core {
    /// Writes a checkpoint now. False if there is no room for one.
    pub async fn checkpoint(self: &Arc<Self>) -> Result<bool> {
        self.check_open()?;
        let number = self.checkpoints.requested.fetch_add(1, Ordering::AcqRel) + 1;
        self.upkeep_work.raise();
        loop {
            let turn = self.checkpoints.gate.turn();
            if self.checkpoints.answered.load(Ordering::Acquire) >= number {
                break;
            }
            self.check_open()?;
            self.checkpoints.gate.wait(turn).await;
        }
        let answer = self.checkpoints.answer.lock().clone();
        match answer {
            Some(CheckpointOutcome::Written) => Ok(true),
            Some(CheckpointOutcome::NoRoom) | None => Ok(false),
            Some(CheckpointOutcome::Failed) => {
                let failed = self.volumes.iter().find(|volume| volume.latch_reason().is_some());
                Err(failed.map_or(Error::Closed, |volume| self.device_failed(volume)))
            }
        }
    }

    /// Copies what a checkpoint keeps of a partition, in tag order: what a truncation or an eviction has taken away is left out, and
    /// what says when it was written (parity) is taken off. With it goes the next sequence number of that moment.
    pub fn copy_partition(&self, id: PartitionId, entries: &mut Vec<Entry>) -> u64 {
        let partition = self.index.lock(id);
        let living = partition.iter_from(None).filter(|entry| !self.sets.is_truncated(entry));
        entries.extend(living.filter_map(|entry| self.evictions.kept(entry)).map(|entry| {
            let kept = entry.flags().without(Flags::PARITY).without(Flags::CANDIDATE);
            entry.with_flags(kept)
        }));
        self.next_sequence.load(Ordering::Acquire)
    }

    /// Whether records leave so much space that checkpoints may hold `blocks` blocks in all.
    ///
    /// Live records are bounded so that defrag always finds a block to gain from; what checkpoints hold comes on top, so they
    /// have to go when records need the space.
    pub fn has_room_beside(&self, blocks: u64) -> bool {
        let (used_size, limit) = self.space();
        let payload = self.volumes.iter().map(|v| WriteBuffer::payload_limit(v.block_size())).max();
        used_size.saturating_add(blocks * u64::from(payload.unwrap_or(0))) <= limit
    }

    /// The checkpoint of which a block holds a part; none if of none that counts.
    pub fn checkpoint_in(&self, member: u8, block: crate::volume::BlockId) -> Option<u64> {
        let parts = self.checkpoints.parts.lock();
        let is_here = |part: &PartPlace| part.member == u16::from(member) && part.block == block.0;
        parts.iter().any(is_here).then(|| self.checkpoints.last_id.load(Ordering::Acquire))
    }

    /// Blocks that checkpoints hold, over all volumes.
    pub fn held_blocks(&self) -> u64 {
        self.volumes.iter().map(|volume| u64::from(volume.blocks.held_count())).sum()
    }

    /// Lets go of blocks that held a checkpoint.
    pub fn drop_parts(&self, parts: &[PartPlace]) {
        for part in parts {
            self.volume(part.member as u8).blocks.drop_held(crate::volume::BlockId(part.block));
        }
        if !parts.is_empty() {
            self.gate.open();
        }
    }
}
