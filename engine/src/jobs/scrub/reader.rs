//! Reading a block in pieces, at the scrub's pace, without ever waiting.
//!
//! What cannot be read is narrowed down to its pages, and those are remembered: a bad sector costs the records on
//! it, and not the whole block.

use super::pace::Pace;
use crate::device::{DeviceError, Ticket};
use crate::volume::{BlockId, Volume};
use std::collections::VecDeque;
use std::ops::Range;

/// The most bytes of one read.
const PIECE: u32 = 1 << 20;
/// The smallest read.
pub(super) const PAGE: u32 = 4096;

/// A block on its way into RAM.
pub(super) struct Reader {
    /// The bytes; only what was asked for, and could be read, counts.
    pub bytes: Vec<u8>,
    wanted: VecDeque<Range<u32>>,
    reading: Option<(Range<u32>, Ticket)>,
    /// Pages that the device does not give.
    pub unreadable: Vec<(Range<u32>, DeviceError)>,
    /// Bytes asked for so far.
    pub asked_size: u64,
}

/// How reading goes on.
pub(super) enum Reading {
    /// All that was wanted is there, or known to be unreadable.
    Done,
    /// A read has been answered or begun.
    Going,
    /// Nothing to do for so many milliseconds, or until the device answers.
    Waits(u64),
}

impl Reader {
    /// A reader of blocks of `block_size` bytes into `bytes`, whose contents do not matter.
    pub fn new(mut bytes: Vec<u8>, block_size: u32) -> Self {
        bytes.clear();
        bytes.resize(block_size as usize, 0);
        Reader { bytes, wanted: VecDeque::new(), reading: None, unreadable: Vec::new(), asked_size: 0 }
    }

    /// Asks for a range of the block; it is widened to whole pages.
    pub fn want(&mut self, range: Range<u32>) {
        let end = range.end.next_multiple_of(PAGE).min(self.bytes.len() as u32);
        let mut start = range.start / PAGE * PAGE;
        while start < end {
            let piece = start..end.min(start + PIECE);
            start = piece.end;
            self.wanted.push_back(piece);
        }
    }

    /// Goes on, with at most one read in flight.
    pub fn step(&mut self, volume: &Volume, block: BlockId, pace: &mut Pace, now_ms: u64) -> Reading {
        if let Some((range, mut ticket)) = self.reading.take() {
            let Some(answer) = ticket.try_take() else {
                self.reading = Some((range, ticket));
                return Reading::Waits(100);
            };
            match answer.into_buffer() {
                Ok(buffer) => self.bytes[range.start as usize..range.end as usize].copy_from_slice(&buffer),
                Err(error) => self.failed(range, error),
            }
            return Reading::Going;
        }
        let Some(range) = self.wanted.front().cloned() else { return Reading::Done };
        let wait_ms = pace.wait_ms(now_ms);
        if wait_ms > 0 {
            return Reading::Waits(wait_ms);
        }
        self.wanted.pop_front();
        let size = range.end - range.start;
        pace.spend(size);
        self.asked_size += u64::from(size);
        self.reading = Some((range.clone(), volume.read_block(block, range.start, size)));
        Reading::Going
    }

    fn failed(&mut self, range: Range<u32>, error: DeviceError) {
        if range.end - range.start > PAGE {
            let pages = range.step_by(PAGE as usize).map(|start| start..start + PAGE);
            pages.rev().for_each(|page| self.wanted.push_front(page));
            return;
        }
        self.bytes[range.start as usize..range.end as usize].fill(0);
        if !self.unreadable.iter().any(|(known, _)| *known == range) {
            self.unreadable.push((range, error));
        }
    }

    /// Why a part of the block could not be read, if it could not.
    pub fn error_in(&self, range: Range<u32>) -> Option<&DeviceError> {
        let meets = |other: &Range<u32>| range.start < other.end && other.start < range.end;
        self.unreadable.iter().find(|(other, _)| meets(other)).map(|(_, error)| error)
    }
}
