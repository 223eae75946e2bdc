//! What of the device room hands over: tickets, and the sleep of a thread in its ring.
//!
//! `ticket.rs` and `unpark.rs` are the engine's. An eventfd is a file here that grows by each write, and the kernel that
//! sleeps on it a loop that looks at its size ([`RingThread::wait`], in the order of `ring.rs`).

use aerolith_engine::device::{AlignedBuffer, Cause, DeviceError, Operation};
use std::sync::Arc;
use std::task::Waker;

#[path = "../../../engine/src/device/ticket.rs"]
pub mod ticket;
#[allow(dead_code)]
#[path = "../../../engine/src/device/unpark.rs"]
mod unpark;

mod context {
    pub fn block_on<F: Future>(future: F) -> F::Output {
        shuttle::future::block_on(future)
    }
}

mod sys {
    pub fn eventfd() -> std::io::Result<std::fs::File> {
        tempfile::tempfile()
    }
}

/// A thread with a ring.
pub struct RingThread(Arc<unpark::Unpark>);

/// Whether a thread that was told not to sleep obeys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Obeys {
    /// As `ring.rs` does.
    Yes,
    /// A mistake.
    No,
}

impl RingThread {
    /// Nobody has woken it.
    pub fn new() -> Self {
        RingThread(unpark::Unpark::new().expect("a file"))
    }

    /// What wakes it.
    pub fn waker(&self) -> Waker {
        Waker::from(self.0.clone())
    }

    /// Sleeps until it is woken, or not at all if it was woken since it slept last.
    pub fn wait(&self, obeys: Obeys) {
        let before = self.count();
        if self.0.sleep() || obeys == Obeys::No {
            while self.count() == before {
                shuttle::thread::yield_now();
            }
        }
        self.0.awake();
    }

    /// How often the eventfd was written.
    fn count(&self) -> u64 {
        let path = format!("/proc/self/fd/{}", self.0.eventfd());
        std::fs::metadata(path).expect("the file is open").len()
    }
}

impl Default for RingThread {
    fn default() -> Self {
        Self::new()
    }
}
