//! Takes what was appended to the device.
//!
//! Every write is durable by itself (`RWF_DSYNC`), so "written" and "durable" are one event and no flush
//! of a cache can be forgotten. Sealed blocks go as they come, in pieces; the tail of an open block goes when
//! somebody waits for it (group commit: one write for all who wait at that moment, several in flight), when
//! it is older than `flush_max`, or when free blocks are short and only wait for it to settle (I4).
//!
//! A write that fails latches its device: it is never tried again as if nothing had happened, because after
//! a failed flush the kernel may have dropped the data and report success next time.

use super::{Job, Next};
use crate::device::{AlignedBuffer, Request, Ticket};
use crate::namespace::core::Core;
use crate::planted::{self, Bug};
use crate::volume::{BlockId, Progress, StreamId, Volume};
use std::sync::Arc;

/// Writes in flight, over all streams of a namespace.
const DEPTH: usize = 16;
/// Commits of one tail in flight: 4 to 8 are 4-5 times as fast as one (ANCHORS: qd1 8k/s, qd8 32k/s).
const COMMITS: usize = 8;
/// Free blocks kept ready to be taken at once.
const READY_BLOCKS: usize = 8;
/// How often a full file system is asked again, in milliseconds.
const HOST_RETRY_MS: u64 = 1000;

struct InFlight {
    member: u8,
    stream: StreamId,
    piece: u64,
    submitted_ns: u64,
    ticket: Ticket,
}

/// Zeros on their way into a block that has never been written.
struct Zeroing {
    member: u8,
    block: BlockId,
    ticket: Ticket,
}

/// The flush job of a namespace.
pub(crate) struct Flush {
    core: Arc<Core>,
    in_flight: Vec<InFlight>,
    zeroing: Option<Zeroing>,
    zeros: Option<Arc<AlignedBuffer>>,
    host_retry_ms: u64,
}

impl Flush {
    pub fn new(core: Arc<Core>) -> Self {
        Flush { core, in_flight: Vec::new(), zeroing: None, zeros: None, host_retry_ms: 0 }
    }

    /// Whether nothing is on its way or waits.
    pub fn is_idle(&self) -> bool {
        let empty = |volume: &Volume| {
            volume.streams().iter().all(|stream| {
                let state = stream.lock();
                !state.has_pieces() && !state.open.as_ref().is_some_and(|open| open.has_tail())
            })
        };
        self.in_flight.is_empty()
            && self.core.volumes.iter().all(|volume| volume.latch_reason().is_some() || empty(volume))
    }

    /// Collects answers. True if any came.
    ///
    /// Failures come first, and behind one nothing is acknowledged any more: with the flush that failed the device
    /// may have dropped what it had taken for other writes, and their own flush then succeeds over nothing.
    fn collect(&mut self) -> bool {
        let is_taken_for_good = planted::is(Bug::FailedWriteIgnored);
        let mut written = Vec::new();
        let mut any = false;
        let mut i = 0;
        while i < self.in_flight.len() {
            let Some(answer) = self.in_flight[i].ticket.try_take() else {
                i += 1;
                continue;
            };
            any = true;
            let done = self.in_flight.swap_remove(i);
            match answer.result.or_else(|error| if is_taken_for_good { Ok(()) } else { Err(error) }) {
                Ok(()) => written.push(done),
                Err(error) => self.core.fail_device(self.core.volume(done.member), error.to_string()),
            }
        }
        let now_ns = if written.is_empty() { 0 } else { self.core.clock.mono_ns() };
        for done in written {
            self.core.counters.commits.record(now_ns.saturating_sub(done.submitted_ns));
            let volume = self.core.volume(done.member);
            if volume.latch_reason().is_none() {
                self.progressed(volume.written(done.stream, done.piece));
            }
        }
        any
    }

    fn progressed(&self, progress: Progress) {
        progress.wake.into_iter().for_each(std::task::Waker::wake);
        if !progress.finished.is_empty() {
            self.core.gate.open();
            self.core.upkeep_work.raise();
        }
    }

    /// Frees blocks that have settled.
    fn settle(&self) {
        self.core.yield_snapshot(false);
        let mut freed = 0;
        for volume in &self.core.volumes {
            if volume.blocks.settling_count() > 0 {
                freed += volume.blocks.settle(|| self.core.undurable_from());
            }
        }
        if freed > 0 {
            self.core.gate.open();
            self.core.upkeep_work.raise();
        }
    }

    /// Cuts tails that are due, and submits what waits.
    fn submit(&mut self) -> Next {
        let core = self.core.clone();
        let now = core.clock.mono_ms();
        let flush_max = core.tunables.flush_max_ms();
        let is_urgent = core.volumes.iter().any(|volume| {
            volume.blocks.settling_count() > 0 && volume.blocks.free_count() <= core.plan.reserve + 2
        });
        let mut next = Next::Within(flush_max.max(1));
        for volume in core.volumes.iter().filter(|volume| volume.latch_reason().is_none()) {
            for id in (0..core.plan.count).map(StreamId) {
                self.progressed(volume.advance(id));
                let mut state = volume.stream(id).lock();
                let commits = self.in_flight.iter().filter(|f| f.member == volume.member() && f.stream == id);
                let age = state.tail_since_ms.map(|since| now.saturating_sub(since));
                let is_due = age.is_some_and(|age| age >= flush_max) || state.commit_wanted || is_urgent;
                if is_due && commits.count() < COMMITS && !state.has_waiting() {
                    state.commit_tail();
                }
                if let Some(since) = state.tail_since_ms {
                    next = next.min(Next::Within((since + flush_max).saturating_sub(now).max(1)));
                }
                while self.in_flight.len() < DEPTH {
                    let Some(write) = state.next_write() else { break };
                    let offset =
                        u64::from(write.block.0) * u64::from(volume.block_size()) + u64::from(write.pos);
                    let request = Request::Write {
                        offset,
                        data: write.data,
                        range: write.range,
                        durable: !planted::is(Bug::PlainWrites),
                    };
                    let submitted_ns = core.clock.mono_ns();
                    let ticket = volume.device.submit(request);
                    let member = volume.member();
                    self.in_flight.push(InFlight {
                        member,
                        stream: id,
                        piece: write.id,
                        submitted_ns,
                        ticket,
                    });
                }
            }
        }
        next
    }

    /// Makes sure of the space of blocks that have never been written, a few ahead of their use.
    ///
    /// A file's block is allocated, so that a full file system shows before data is accepted. For group
    /// commits it is also filled with zeros: small durable writes into unwritten extents cost a journal
    /// commit each (128 KiB: 4.0k/s against 7.7k/s prewritten).
    fn prepare(&mut self) {
        if let Some(mut zeroing) = self.zeroing.take() {
            match zeroing.ticket.try_take() {
                None => {
                    self.zeroing = Some(zeroing);
                    return;
                }
                Some(answer) => {
                    let volume = self.core.volume(zeroing.member);
                    volume.blocks.return_virgin(zeroing.block, answer.result.is_ok());
                    match answer.result {
                        Ok(()) => self.core.gate.open(),
                        Err(error) => self.core.fail_device(volume, error.to_string()),
                    }
                }
            }
        }
        let core = self.core.clone();
        let now = core.clock.mono_ms();
        for volume in core.volumes.iter().filter(|volume| volume.latch_reason().is_none()) {
            if volume.blocks.is_host_full() && now < self.host_retry_ms {
                continue;
            }
            while let Some(block) = volume.blocks.next_virgin(READY_BLOCKS) {
                let size = u64::from(volume.block_size());
                let offset = u64::from(block.0) * size;
                if let Err(error) = volume.device.reserve(offset, size) {
                    volume.blocks.return_virgin(block, false);
                    self.host_retry_ms = now + HOST_RETRY_MS;
                    if !volume.blocks.set_host_full(true) {
                        let name = &volume.geometry().name;
                        tracing::error!(
                            "device {name}: the file system has no room for another block: {error}; \
                             free some space there, writes go on by themselves then"
                        );
                    }
                    core.gate.open();
                    break;
                }
                if volume.blocks.set_host_full(false) {
                    tracing::info!("device {}: the file system has room again", volume.geometry().name);
                }
                if core.tunables.durability() == crate::config::Durability::Group {
                    let zeros = self
                        .zeros
                        .get_or_insert_with(|| Arc::new(AlignedBuffer::zeroed(size as usize)))
                        .clone();
                    let range = 0..zeros.len();
                    let request = Request::Write { offset, data: zeros, range, durable: true };
                    let ticket = volume.device.submit(request);
                    self.zeroing = Some(Zeroing { member: volume.member(), block, ticket });
                    return;
                }
                volume.blocks.return_virgin(block, true);
                core.gate.open();
            }
        }
    }
}

impl Job for Flush {
    fn step(&mut self) -> Next {
        self.collect();
        self.settle();
        self.prepare();
        let next = self.submit();
        // Devices that answer at once (memory, the blocking driver) have the answers there already.
        if self.collect() { Next::Now } else { next }
    }
}
