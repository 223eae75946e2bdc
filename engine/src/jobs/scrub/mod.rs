//! Reads every block in turn, proves what is live, and finds the tombstones that have nothing left to hide.
//!
//! A pass visits all blocks of all devices (`visit.rs`), a piece at a time, no faster than `scrub_rate` (`pace.rs`).
//! Of each block that has live records the header, the footer and every live record must prove themselves. What
//! does not is told, counted and kept in a list; a block whose header or footer is damaged is handed to defrag, which
//! writes its records elsewhere while the index still knows where they are.
//!
//! ```text
//! resting ---> marking ---> visiting ---> removing ---> resting
//!              tombstones   each block    candidates
//!              become       clears those  that are left
//!              candidates   it refutes    are removed
//! ```
//!
//! # When a tombstone may go
//!
//! A tombstone T of a key hides the key's older versions V from a start that finds them. It may leave the index, and
//! its bytes be reused some day, when no start from now on can find a V without finding T as well. A start lists
//! blocks: by footer or by scan (`volume/listing.rs`). So the question is which versions can be listed, now and after
//! any crash to come. The argument, in steps:
//!
//! 1. *No V is added.* T is marked a candidate at the pass's beginning, under its partition's lock. Whatever replaces
//!    its entry afterwards makes an entry without the mark. So if the mark is still there at the end, nothing was
//!    written for this key since; and defrag moves only what the index points at, which is T and no V. All copies of
//!    all V were appended before the mark: they are in blocks on the device, or in RAM on their way there.
//! 2. *Every place is looked at after the mark.* Of each block is listed what the device has, free blocks and blocks
//!    that settle included, because a cold start reads those too; and of a block that is open or being flushed also
//!    what RAM has. RAM is asked first: what leaves it meanwhile is on the device when that is read. A V that is
//!    listed anywhere clears the mark, unless it is the very version that the entry stands for (a mask is one): same
//!    place *and* same life of the block. V at the same place in the block's life before is another version.
//! 3. *What one life hides, a damaged header could show.* While a block's header is whole, its earlier life does not
//!    count. But its earlier footer stays at the end until the block is sealed again, and a start that finds the
//!    header damaged goes by that. So versions that this footer lists clear marks, too.
//! 4. *A life that was seen may not be durable yet.* A block that was reused shows its new header to the scrub as soon
//!    as the device has it, and a crash may still bring back the old one, whose V were not listed then. The new life's
//!    first append came before T is removed. T's bytes are gone only when T's block has been emptied and settled, and it
//!    settles when everything appended before that is durable (I4): the new header is, then. A crash before that finds
//!    V, and T too. (If T itself never became durable, it may be lost as any write may.) Checkpoint blocks are not
//!    appended to: one that is being written while it is visited is visited again, until it is written.
//! 5. *What is not known could be anything.* A block that cannot be read, whose header is damaged, or that has a
//!    damaged footer, makes the pass uncertain: it proves records, and removes no tombstone. In a block that never had
//!    a footer a record that no mark names looks alike whether it is torn or damaged; neither is listed by the scrub, nor
//!    by any later start.
//! 6. *Removal writes nothing.* After a crash a start may find T again; then it is a tombstone again.
//! 7. *A checkpoint* may hold an entry that points at V in life e of block B. It counts only if B still is in life e.
//!    Then the bytes of V are there, and B was listed as what it is. If B shows another life, step 4 holds.
//!
//! A V that has expired, or that a truncation took, would not come back either; it keeps its tombstone until it is
//! overwritten all the same. Versions that are tombstones never do. System records are never candidates.

mod pace;
mod reader;
mod visit;

use super::{Job, Next};
use crate::index::{PARTITION_COUNT, PartitionId};
use crate::namespace::core::Core;
use crate::volume::BlockId;
use pace::Pace;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use visit::{Visit, Visited};

/// Partitions marked or cleaned in one step.
const PARTITIONS: usize = 16;
/// A pass begins when the one before began so long ago, in milliseconds: what has not changed may still rot.
const PERIOD_MS: u64 = 60 * 60 * 1000;
/// Or when this share of the blocks has been written since: then older versions may have gone.
const REWRITTEN_SHARE: u64 = 4;
/// How often a pass looks again at blocks that are being written, before it ends without being certain of them.
const ATTEMPTS: u32 = 100;
/// How long it waits before it does, in milliseconds, times the number of the attempt: eight minutes in all, since a
/// large checkpoint takes its time.
const ATTEMPT_MS: u64 = 100;

enum Phase {
    Resting,
    /// The next partition.
    Marking(usize),
    Visiting,
    /// The next partition.
    Removing(usize),
}

/// The scrub of a namespace.
pub(crate) struct Scrub {
    core: Arc<Core>,
    pace: Pace,
    phase: Phase,
    visit: Option<Visit>,
    /// A block's buffer, between visits.
    bytes: Vec<u8>,
    /// All blocks that are still to be visited: member, and the next block of it.
    next: (usize, u32),
    /// Blocks whose contents were not settled, to be visited once more, but not before `again_ms`.
    again: Vec<(usize, u32)>,
    /// Those that were not settled the last time either.
    later: Vec<(usize, u32)>,
    again_ms: u64,
    pass: Pass,
}

/// One pass.
#[derive(Default)]
struct Pass {
    /// From 1; 0 before the first.
    number: u64,
    began_ms: u64,
    /// Blocks sealed since the engine was opened, when the pass began.
    sealed_count: u64,
    /// Tombstones that became candidates.
    candidates: u64,
    removed: u64,
    /// Blocks whose contents are not known for certain.
    uncertain: u64,
    /// How often blocks have been visited once more.
    attempts: u32,
    visited: u64,
}

impl Scrub {
    pub fn new(core: Arc<Core>) -> Self {
        let pace = Pace::new(core.tunables.scrub_rate(), core.clock.mono_ms());
        Scrub {
            core,
            pace,
            phase: Phase::Resting,
            visit: None,
            bytes: Vec::new(),
            next: (0, 0),
            again: Vec::new(),
            later: Vec::new(),
            again_ms: 0,
            pass: Pass::default(),
        }
    }

    fn sealed_count(&self) -> u64 {
        self.core.volumes.iter().map(|volume| volume.stats.sealed_count.load(Ordering::Relaxed)).sum()
    }

    fn tombstones(&self) -> u64 {
        self.core.counters.tombstones.load(Ordering::Relaxed)
    }

    /// Begins a pass if it is time for one.
    fn rest(&mut self) -> Next {
        let now_ms = self.core.clock.mono_ms();
        let blocks: u64 = self.core.volumes.iter().map(|volume| u64::from(volume.blocks.count())).sum();
        let rewritten = self.sealed_count().saturating_sub(self.pass.sealed_count);
        let is_first = self.pass.number == 0;
        let is_old = now_ms.saturating_sub(self.pass.began_ms) >= PERIOD_MS;
        let may_gain = self.tombstones() > 0 && rewritten * REWRITTEN_SHARE >= blocks;
        if !is_first && !is_old && !may_gain {
            return Next::Within(1000);
        }
        self.pass = Pass {
            number: self.pass.number + 1,
            began_ms: now_ms,
            sealed_count: self.sealed_count(),
            ..Pass::default()
        };
        self.next = (0, 0);
        self.again.clear();
        self.later.clear();
        self.phase = Phase::Marking(0);
        Next::Now
    }

    fn mark(&mut self, next: usize) -> Next {
        let end = PARTITION_COUNT.min(next + PARTITIONS);
        for id in next..end {
            self.pass.candidates += self.core.mark_candidates(PartitionId::new(id as u16));
        }
        self.phase = if end < PARTITION_COUNT { Phase::Marking(end) } else { Phase::Visiting };
        Next::Now
    }

    /// The next block to visit: all in turn, then those that were not settled.
    fn take_next(&mut self) -> Option<(usize, u32)> {
        while let Some(volume) = self.core.volumes.get(self.next.0) {
            if self.next.1 < volume.blocks.count() {
                self.next.1 += 1;
                return Some((self.next.0, self.next.1 - 1));
            }
            self.next = (self.next.0 + 1, 0);
        }
        self.again.pop()
    }

    fn visit(&mut self) -> Next {
        let Some(visit) = &mut self.visit else {
            let now_ms = self.core.clock.mono_ms();
            if now_ms < self.again_ms {
                return Next::Within(self.again_ms - now_ms);
            }
            match self.take_next() {
                Some((member, block)) => self.begin_visit(member, block),
                None if self.later.is_empty() => return self.visited_all(),
                None => {
                    self.again = std::mem::take(&mut self.later);
                    self.pass.attempts += 1;
                    self.again_ms = now_ms + ATTEMPT_MS * u64::from(self.pass.attempts);
                }
            }
            return Next::Now;
        };
        let outcome = match visit.step(&self.core, &mut self.pace) {
            Visited::Again(next) => return next,
            Visited::Done(outcome) => outcome,
        };
        let (member, block) = (usize::from(visit.member), visit.block.0);
        self.visit = None;
        self.bytes = outcome.bytes;
        self.core.counters.scrubbed_size.add(outcome.size);
        if outcome.is_unsettled && self.pass.candidates > 0 && self.pass.attempts < ATTEMPTS {
            self.later.push((member, block));
            return Next::Now;
        }
        self.pass.uncertain += u64::from(!outcome.is_certain || outcome.is_unsettled);
        self.pass.visited += 1;
        self.core.counters.scrubbed_blocks.add(1);
        self.core.counters.scrub.set_pass_blocks(self.pass.visited);
        Next::Now
    }

    fn begin_visit(&mut self, member: usize, block: u32) {
        let volume = &self.core.volumes[member];
        let bytes = std::mem::take(&mut self.bytes);
        let is_hunting = self.pass.candidates > 0;
        self.visit =
            Some(Visit::new(&self.core, volume, BlockId(block), self.pass.number, is_hunting, bytes));
    }

    fn visited_all(&mut self) -> Next {
        // A device that has failed may have taken writes that it will not give back.
        let is_failed = self.core.volumes.iter().any(|volume| volume.latch_reason().is_some());
        self.pass.uncertain += u64::from(is_failed);
        if self.pass.candidates > 0 && self.pass.uncertain == 0 {
            self.phase = Phase::Removing(0);
        } else {
            self.end();
        }
        Next::Now
    }

    fn remove(&mut self, next: usize) -> Next {
        let end = PARTITION_COUNT.min(next + PARTITIONS);
        for id in next..end {
            self.pass.removed += self.core.remove_candidates(PartitionId::new(id as u16));
        }
        self.phase = Phase::Removing(end);
        if end == PARTITION_COUNT {
            self.end();
        }
        Next::Now
    }

    fn end(&mut self) {
        let Pass { number, began_ms, candidates, removed, uncertain, visited, .. } = self.pass;
        let name = &self.core.config.name;
        let elapsed_s = self.core.clock.mono_ms().saturating_sub(began_ms) / 1000;
        self.core.counters.scrub_passes.add(1);
        self.core.counters.scrub.set_pass_blocks(0);
        tracing::debug!(
            "scrub of namespace {name}: pass {number} looked at {visited} blocks in {elapsed_s} s and removed \
             {removed} of {candidates} tombstones"
        );
        if candidates > 0 && uncertain > 0 {
            tracing::warn!(
                "scrub of namespace {name}: what {uncertain} of {visited} blocks hold is not certain, so none of \
                 {candidates} tombstones was removed"
            );
        }
        // The largest buffer of the job is not kept while it rests.
        self.bytes = Vec::new();
        self.phase = Phase::Resting;
    }
}

impl Job for Scrub {
    fn step(&mut self) -> Next {
        let rate = self.core.tunables.scrub_rate();
        if rate == 0 {
            return Next::Within(1000);
        }
        self.pace.set_rate(rate);
        match self.phase {
            Phase::Resting => self.rest(),
            Phase::Marking(next) => self.mark(next),
            Phase::Visiting => self.visit(),
            Phase::Removing(next) => self.remove(next),
        }
    }
}
