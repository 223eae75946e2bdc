//! A stream: the open block that records of one expected lifetime go to, and what of it is on its way to
//! the device.
//!
//! Everything appended is cut into pieces: the tail of the open block when someone asks for it, the rest of
//! a block when it is sealed. Pieces go to the device in order, several in flight; a piece counts as
//! durable when it and all before it are written. Append numbers turn that into one mark:
//! `undurable_from`, the oldest append of this stream that a crash could still lose. A block's footer
//! follows when all its data is durable, never before.
//!
//! The stream's lock is the "write buffer" of the lock order (I8): after a partition, before the block
//! table. It is held for a copy into RAM, never across I/O.

use super::block_table::BlockId;
use super::sealed::SealedBlock;
use super::write_buffer::{NONE, WriteBuffer};
use crate::device::AlignedBuffer;
use crate::planted::{self, Bug};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

/// Sealed data goes to the device in writes of at most this many bytes, so that reads get in between.
const PIECE_SIZE: u32 = 1 << 20;

/// The number of a stream of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(pub u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PieceState {
    Waiting,
    InFlight,
    Written,
}

struct Piece {
    id: u64,
    /// The oldest append number in it; `NONE` where none is.
    first_append: u64,
    /// When the oldest record in it was appended, in milliseconds of the monotonic clock; none in a footer.
    since_ms: Option<u64>,
    block: BlockId,
    data: Arc<AlignedBuffer>,
    /// Which bytes of `data`.
    source: Range<u32>,
    /// Where they go in the block.
    pos: u32,
    state: PieceState,
    /// Set on the last piece of a sealed block: what to write when all its data is durable.
    footer: Option<Arc<SealedBlock>>,
    is_footer: bool,
}

/// One durable write that the flush job should make.
pub struct PendingWrite {
    /// Names the piece in `written`.
    pub id: u64,
    /// Which block.
    pub block: BlockId,
    /// Where in the block, in bytes.
    pub pos: u32,
    /// The bytes.
    pub data: Arc<AlignedBuffer>,
    /// Which of them.
    pub range: Range<usize>,
}

/// What `StreamState::written` led to.
#[derive(Default)]
pub struct Progress {
    /// Blocks that are now on the device whole.
    pub finished: Vec<BlockId>,
    /// Who waited for what is durable now.
    pub wake: Vec<Waker>,
}

/// What the stream's lock guards.
#[derive(Default)]
pub struct StreamState {
    /// The open block.
    pub open: Option<WriteBuffer>,
    pieces: VecDeque<Piece>,
    next_piece: u64,
    waiters: Vec<(u64, Waker)>,
    /// Somebody waits for the tail to become durable.
    pub commit_wanted: bool,
    /// When the oldest record of the tail was appended, in milliseconds of the monotonic clock.
    pub tail_since_ms: Option<u64>,
}

/// One stream of a volume.
pub struct Stream {
    state: Mutex<StreamState>,
    undurable_from: AtomicU64,
}

impl Default for Stream {
    /// A stream with nothing in it: all of it is durable.
    fn default() -> Self {
        Stream { state: Mutex::default(), undurable_from: AtomicU64::new(NONE) }
    }
}

impl Stream {
    /// Takes the lock.
    pub fn lock(&self) -> StreamGuard<'_> {
        StreamGuard { stream: self, state: self.state.lock() }
    }

    /// The oldest append number that is not durable, or `NONE`.
    pub fn undurable_from(&self) -> u64 {
        self.undurable_from.load(Ordering::Acquire)
    }
}

/// The stream's state under its lock; publishes `undurable_from` when it is let go.
pub struct StreamGuard<'a> {
    stream: &'a Stream,
    state: MutexGuard<'a, StreamState>,
}

impl std::ops::Deref for StreamGuard<'_> {
    type Target = StreamState;
    fn deref(&self) -> &StreamState {
        &self.state
    }
}

impl std::ops::DerefMut for StreamGuard<'_> {
    fn deref_mut(&mut self) -> &mut StreamState {
        &mut self.state
    }
}

impl Drop for StreamGuard<'_> {
    fn drop(&mut self) {
        self.stream.undurable_from.store(self.state.oldest_undurable(), Ordering::Release);
    }
}

impl StreamState {
    fn oldest_undurable(&self) -> u64 {
        let tail = self.open.as_ref().map_or(NONE, |open| open.first_unfrozen);
        // Append numbers rise along the queue, so the first piece that holds any has the oldest.
        let queued = self.pieces.iter().map(|piece| piece.first_append).find(|&first| first != NONE);
        queued.unwrap_or(NONE).min(tail)
    }

    /// When the oldest record that is not durable was appended, in milliseconds of the monotonic clock; none if all are.
    pub fn oldest_since_ms(&self) -> Option<u64> {
        self.pieces.iter().find_map(|piece| piece.since_ms).or(self.tail_since_ms)
    }

    fn push_piece(&mut self, piece: Piece) {
        self.next_piece += 1;
        self.pieces.push_back(piece);
    }

    /// Cuts the tail of the open block off as a piece. False if there is none.
    pub fn commit_tail(&mut self) -> bool {
        self.commit_wanted = false;
        let since_ms = self.tail_since_ms.take();
        let Some(open) = self.open.as_mut().filter(|open| open.has_tail()) else { return false };
        let first_append = open.first_unfrozen;
        let block = open.id;
        // What has been answered as durable has left the queue.
        let oldest = self.pieces.iter().find(|piece| piece.block == block);
        let durable_end = oldest.map_or(open.border(), |piece| piece.pos);
        let (range, copy) = open.freeze(durable_end);
        let piece = Piece {
            id: self.next_piece,
            first_append,
            since_ms,
            block,
            source: 0..range.len() as u32,
            data: Arc::new(copy),
            pos: range.start,
            state: PieceState::Waiting,
            footer: None,
            is_footer: false,
        };
        self.push_piece(piece);
        true
    }

    /// Closes the open block and queues what is left of it. Returns it for the block table.
    pub fn seal_open(&mut self, sealed_epoch: u64) -> Option<Arc<SealedBlock>> {
        let open = self.open.take()?;
        self.commit_wanted = false;
        let since_ms = self.tail_since_ms.take();
        let first_append = open.first_unfrozen;
        let sealed = Arc::new(open.seal(sealed_epoch));
        let mut pos = sealed.rest.start;
        loop {
            let end = sealed.rest.end.min(pos.saturating_add(PIECE_SIZE));
            let last = end == sealed.rest.end;
            let piece = Piece {
                id: self.next_piece,
                first_append,
                since_ms,
                block: sealed.id,
                data: sealed.bytes.clone(),
                source: pos..end,
                pos,
                state: if pos == end { PieceState::Written } else { PieceState::Waiting },
                footer: last.then(|| sealed.clone()),
                is_footer: false,
            };
            self.push_piece(piece);
            pos = end;
            if last {
                return Some(sealed);
            }
        }
    }

    /// The next piece that should be on its way, now marked as such.
    pub fn next_write(&mut self) -> Option<PendingWrite> {
        let piece = self.pieces.iter_mut().find(|piece| piece.state == PieceState::Waiting)?;
        piece.state = PieceState::InFlight;
        Some(PendingWrite {
            id: piece.id,
            block: piece.block,
            pos: piece.pos,
            data: piece.data.clone(),
            range: piece.source.start as usize..piece.source.end as usize,
        })
    }

    /// Whether anything waits to be written or is being written.
    pub fn has_pieces(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Whether anything waits to be written.
    pub fn has_waiting(&self) -> bool {
        self.pieces.iter().any(|piece| piece.state == PieceState::Waiting)
    }

    /// The write of piece `id` is durable. Durability advances over the pieces that are written from the
    /// front on.
    pub fn written(&mut self, id: u64) -> Progress {
        if let Some(piece) = self.pieces.iter_mut().find(|piece| piece.id == id) {
            piece.state = PieceState::Written;
        }
        self.advance()
    }

    /// Lets durability advance over what is written.
    pub fn advance(&mut self) -> Progress {
        let mut progress = Progress::default();
        while self.pieces.front().is_some_and(|piece| piece.state == PieceState::Written) {
            let Some(piece) = self.pieces.pop_front() else { break };
            if piece.is_footer {
                progress.finished.push(piece.block);
            }
            if let Some(sealed) = piece.footer {
                let footer = Piece {
                    id: self.next_piece,
                    first_append: NONE,
                    since_ms: None,
                    block: sealed.id,
                    data: sealed.bytes.clone(),
                    source: sealed.footer.clone(),
                    pos: sealed.footer.start,
                    state: PieceState::Waiting,
                    footer: None,
                    is_footer: true,
                };
                self.push_piece(footer);
            }
        }
        let durable = self.oldest_undurable();
        let mut i = 0;
        while i < self.waiters.len() {
            if self.waiters[i].0 < durable {
                progress.wake.push(self.waiters.swap_remove(i).1);
            } else {
                i += 1;
            }
        }
        progress
    }

    /// Whether append `number` of this stream is durable; if not, `waker` is woken when it is.
    pub fn poll_durable(&mut self, number: u64, waker: &Waker) -> bool {
        if number < self.oldest_undurable() || planted::is(Bug::AckBeforeDurable) {
            return true;
        }
        match self.waiters.iter_mut().find(|(n, w)| *n == number && w.will_wake(waker)) {
            Some(_) => {}
            None => self.waiters.push((number, waker.clone())),
        }
        if self.open.as_ref().is_some_and(|open| open.first_unfrozen <= number) {
            self.commit_wanted = true;
        }
        false
    }

    /// Wakes everybody who waits: the device has failed, and they will see that.
    pub fn take_waiters(&mut self) -> Vec<Waker> {
        self.waiters.drain(..).map(|(_, waker)| waker).collect()
    }
}
