//! Faults of a disk that stays up: errors, short transfers, stalls, a lack of space.
//!
//! One fault is armed at a time. It counts the requests of its kind from then on, and strikes at the n-th, once:
//! everything before and after it works. That is how the worst faults come, an EIO from a flush followed by an
//! OK (ext4 does that; the data is gone all the same).

use std::time::Duration;

/// What can go wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A durable write, or on stacks whose writes are not durable by themselves any write, fails with EIO.
    WriteError(Applied),
    /// As `WriteError`, with ENOSPC.
    WriteFull,
    /// A flush fails with EIO; the next one succeeds. With `true` what the cache held is dropped.
    FlushError(bool),
    /// A read fails with EIO.
    ReadError,
    /// Only the first half of a write is done, in whole sectors, and that many bytes are reported.
    ShortWrite,
    /// Only the first half of a read is answered.
    ShortRead,
    /// A write is answered so much later.
    SlowWrite(Duration),
    /// A read is answered so much later.
    SlowRead(Duration),
    /// An allocation of space fails with ENOSPC.
    AllocationFull,
}

/// What a failed write has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Nothing.
    Nothing,
    /// Its first half.
    Half,
    /// All of it.
    Whole,
}

/// What kind of request a fault can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A flush.
    Flush,
    /// An allocation of space.
    Allocate,
}

impl Fault {
    /// What it strikes.
    pub fn strikes(self) -> Step {
        match self {
            Fault::WriteError(_) | Fault::WriteFull | Fault::ShortWrite | Fault::SlowWrite(_) => Step::Write,
            Fault::FlushError(_) => Step::Flush,
            Fault::ReadError | Fault::ShortRead | Fault::SlowRead(_) => Step::Read,
            Fault::AllocationFull => Step::Allocate,
        }
    }
}

/// The fault that is armed, and how many have struck.
#[derive(Debug, Default)]
pub struct Faults {
    armed: Option<(Fault, u32)>,
    /// How many have struck since the disk was made.
    pub struck: u32,
}

impl Faults {
    /// Arms a fault for the `nth` request of its kind from now on, the first being 1.
    pub fn arm(&mut self, fault: Fault, nth: u32) {
        self.armed = Some((fault, nth.max(1)));
    }

    /// Takes back what is armed.
    pub fn disarm(&mut self) {
        self.armed = None;
    }

    /// Whether one is armed that has not struck.
    pub fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// A request of this kind comes: the fault that strikes it, if one does. `fits` tells whether this very request
    /// can be struck by it.
    pub fn meet(&mut self, step: Step, fits: impl Fn(Fault) -> bool) -> Option<Fault> {
        let (fault, left) = self.armed.as_mut()?;
        if fault.strikes() != step || !fits(*fault) {
            return None;
        }
        *left -= 1;
        if *left > 0 {
            return None;
        }
        self.struck += 1;
        self.armed.take().map(|(fault, _)| fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_the_nth_request_of_its_kind_once() {
        let mut faults = Faults::default();
        faults.arm(Fault::FlushError(false), 2);
        assert_eq!(faults.meet(Step::Write, |_| true), None);
        assert_eq!(faults.meet(Step::Flush, |_| true), None);
        assert_eq!(faults.meet(Step::Flush, |_| false), None, "a request that does not fit is not counted");
        assert_eq!(faults.meet(Step::Flush, |_| true), Some(Fault::FlushError(false)));
        assert_eq!(faults.meet(Step::Flush, |_| true), None);
        assert_eq!((faults.struck, faults.is_armed()), (1, false));
    }
}
