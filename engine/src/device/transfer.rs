//! A request on its way through the kernel: what is left of it, and what the kernel's last word means.
//!
//! Both kernel drivers do the same dance. They ask for what is left ([`Transfer::rest`]), get one number back,
//! the way io_uring gives it (bytes moved, or a negative errno), and hand it to [`Transfer::settle`], which says
//! whether to ask again or that this is the answer:
//!
//! | result | means |
//! |---|---|
//! | all that was asked | done |
//! | some whole sectors | ask for the rest |
//! | 0, or less than a sector | the device ended (read), or stalled (write) |
//! | EINTR | ask again |
//! | EAGAIN | ask again, but from a kernel thread that may sleep; after 100 in a row, an error |
//! | any other errno | an error |
//!
//! The transfer owns the buffer and a share of the open file until its answer, so neither can go away while the
//! kernel works on them. So every transfer ends: each further ask has fewer sectors left, or is counted, except
//! after EINTR, and each of those took a signal.

use std::ops::Range;
use std::sync::Arc;

use super::handle::Handle;
use super::{Answer, Cause, Request};

/// EAGAIN so often in a row is not a passing shortage.
const PATIENCE: u8 = 100;

/// What the kernel moves at once is below 2 GiB; more than this is asked for in parts.
const MOST_AT_ONCE: usize = 1 << 30;

/// One request and how far it has come.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) handle: Arc<Handle>,
    pub(super) request: Request,
    /// Bytes moved so far: whole sectors.
    done: usize,
    /// How often in a row the kernel said EAGAIN.
    refused: u8,
}

/// What a kernel's result means for a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Again,
    Done,
    Failed(Cause),
}

/// What is left to ask the kernel for.
#[derive(Debug)]
pub(super) enum Rest<'a> {
    Read { offset: u64, bytes: &'a mut [u8] },
    Write { offset: u64, bytes: &'a [u8], durable: bool },
    Flush,
}

impl Transfer {
    /// The request must have passed the geometry's check.
    pub(super) fn new(handle: Arc<Handle>, request: Request) -> Self {
        Self { handle, request, done: 0, refused: 0 }
    }

    pub(super) fn rest(&mut self) -> Rest<'_> {
        let left = self.left();
        match &mut self.request {
            Request::Read { offset, buffer } => {
                Rest::Read { offset: *offset + left.start as u64, bytes: &mut buffer[left] }
            }
            Request::Write { offset, data, range, durable } => {
                let bytes = &data[range.start + left.start..range.start + left.end];
                Rest::Write { offset: *offset + left.start as u64, bytes, durable: *durable }
            }
            Request::Flush => Rest::Flush,
        }
    }

    /// Whether the next ask should go to a kernel thread that may sleep, because the quick way said EAGAIN.
    pub(super) fn wants_patience(&self) -> bool {
        self.refused > 0
    }

    /// Takes the kernel's word on the last ask: bytes moved, or a negative errno.
    pub(super) fn settle(&mut self, result: i32) -> Progress {
        match (-result, self.request.length()) {
            (libc::EINTR, _) => Progress::Again,
            (libc::EAGAIN, _) if self.refused < PATIENCE => {
                self.refused += 1;
                Progress::Again
            }
            (errno @ 1.., _) => Progress::Failed(Cause::Os(errno)),
            (_, 0) => Progress::Done,
            (_, length) => self.advance(result as usize, length),
        }
    }

    /// Counts `moved` bytes. Only whole sectors count: the rest must start where a transfer may start.
    fn advance(&mut self, moved: usize, length: usize) -> Progress {
        let asked = self.left().len();
        assert!(moved <= asked, "the kernel moved {moved} bytes where {asked} were asked for");
        let whole = moved - moved % self.handle.geometry.sector_size as usize;
        self.done += whole;
        self.refused = 0;
        match (&self.request, whole) {
            _ if self.done == length => Progress::Done,
            (Request::Read { .. }, 0) => Progress::Failed(Cause::End((self.done + moved) as u64)),
            (_, 0) => Progress::Failed(Cause::Stalled((self.done + moved) as u64)),
            _ => Progress::Again,
        }
    }

    /// Counts the outcome and makes the answer of it.
    pub(super) fn finish(self, outcome: Result<(), Cause>) -> Answer {
        self.handle.counters.count(&self.request, outcome.is_ok());
        let result = outcome.map_err(|cause| self.handle.geometry.error(&self.request, cause));
        self.request.answer(result)
    }

    fn left(&self) -> Range<usize> {
        let length = self.request.length();
        self.done..length.min(self.done + MOST_AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::super::AlignedBuffer;
    use super::*;

    fn read(len: usize) -> Transfer {
        let handle = Handle::for_test("t", 1 << 20);
        Transfer::new(handle, Request::Read { offset: 4096, buffer: AlignedBuffer::zeroed(len) })
    }

    fn write(len: usize) -> Transfer {
        let data = Arc::new(AlignedBuffer::zeroed(len + 512));
        let handle = Handle::for_test("t", 1 << 20);
        Transfer::new(handle, Request::Write { offset: 4096, data, range: 512..len + 512, durable: true })
    }

    fn next(transfer: &mut Transfer) -> (u64, usize) {
        match transfer.rest() {
            Rest::Read { offset, bytes } => (offset, bytes.len()),
            Rest::Write { offset, bytes, .. } => (offset, bytes.len()),
            Rest::Flush => (0, 0),
        }
    }

    #[test]
    fn a_short_transfer_asks_for_the_rest_at_every_cut() {
        for make in [read, write] {
            for cut in (512..4096).step_by(512) {
                let mut transfer = make(4096);
                assert_eq!(next(&mut transfer), (4096, 4096));
                assert_eq!(transfer.settle(cut), Progress::Again);
                assert_eq!(next(&mut transfer), (4096 + cut as u64, 4096 - cut as usize));
                assert_eq!(transfer.settle(4096 - cut), Progress::Done);
            }
        }
    }

    #[test]
    fn the_end_of_the_device_is_an_error_not_a_short_success() {
        assert_eq!(read(4096).settle(0), Progress::Failed(Cause::End(0)));
        assert_eq!(read(4096).settle(100), Progress::Failed(Cause::End(100)));
        assert_eq!(write(4096).settle(0), Progress::Failed(Cause::Stalled(0)));
        let mut transfer = read(4096);
        assert_eq!(transfer.settle(1030), Progress::Again);
        assert_eq!(transfer.settle(6), Progress::Failed(Cause::End(1030)));
    }

    #[test]
    fn an_errno_keeps_its_sign_and_its_number() {
        for errno in 1..200 {
            let expected = match errno {
                libc::EINTR | libc::EAGAIN => Progress::Again,
                _ => Progress::Failed(Cause::Os(errno)),
            };
            assert_eq!(read(4096).settle(-errno), expected, "errno {errno}");
        }
    }

    #[test]
    fn eagain_ends_in_an_error_and_progress_forgives_it() {
        let mut transfer = read(4096);
        assert!(!transfer.wants_patience());
        for _ in 0..PATIENCE {
            assert_eq!(transfer.settle(-libc::EAGAIN), Progress::Again);
            assert!(transfer.wants_patience());
        }
        assert_eq!(transfer.settle(-libc::EAGAIN), Progress::Failed(Cause::Os(libc::EAGAIN)));

        let mut transfer = read(4096);
        assert_eq!(transfer.settle(-libc::EAGAIN), Progress::Again);
        assert_eq!(transfer.settle(512), Progress::Again);
        assert!(!transfer.wants_patience());
    }

    #[test]
    fn a_flush_is_done_when_it_says_so() {
        let handle = Handle::for_test("t", 1 << 20);
        assert_eq!(Transfer::new(handle.clone(), Request::Flush).settle(0), Progress::Done);
        assert_eq!(
            Transfer::new(handle, Request::Flush).settle(-libc::EIO),
            Progress::Failed(Cause::Os(libc::EIO))
        );
    }
}
