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

mod writing;

use super::{Job, Next};
use crate::format::{CHECKPOINT_ENTRY_SIZE, PartHeader, Summary};
use crate::index::PARTITION_COUNT;
use crate::namespace::CheckpointOutcome;
use crate::namespace::core::Core;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use writing::{Progress, Writing};

/// The least that must have been appended before a checkpoint is due by volume, in bytes.
const LEAST_TAIL: u64 = 64 << 20;

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
        let Some(period) = self.core.tunables.checkpoint_period() else { return false };
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
            members: core.volumes.iter().map(|volume| volume.summary()).collect(),
            ..Summary::default()
        };
        let begin = appended(core);
        drop(partitions);
        core.checkpoints.is_writing.store(true, Ordering::Relaxed);
        let id = core.checkpoints.next_id.fetch_add(1, Ordering::Relaxed);
        self.writing = Some(Box::new(Writing::new(id, requests, summary, begin)));
        Next::Now
    }

    /// One step of the checkpoint that is being written.
    fn go_on(&mut self, mut writing: Box<Writing>) -> Next {
        match writing.step(&self.core) {
            Progress::Goes(next) => {
                self.writing = Some(writing);
                next
            }
            Progress::Written => {
                self.complete(&writing);
                Next::Now
            }
            Progress::GivenUp => {
                self.core.drop_parts(&writing.held);
                self.end(&writing);
                Next::Within(1000)
            }
        }
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
        let is_due = self.core.tunables.checkpoint_period().is_some() && appended(&self.core) != self.last;
        if self.is_wound_up || !is_due {
            return true;
        }
        self.is_wound_up = true;
        self.begin();
        false
    }
}
