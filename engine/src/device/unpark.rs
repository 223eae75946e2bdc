//! Ends another thread's sleep in its ring.
//!
//! A thread that waits for its ring sleeps in the kernel, where only a completion wakes it. So it keeps a read of
//! an eventfd under way on the ring, and whoever wants it awake writes to the eventfd. That is a system call, so
//! it is made only when the thread really sleeps:
//!
//! ```text
//!              wake                 sleep: proceeds               wake: writes the eventfd
//!   NOTIFIED <------ RUNNING ----------------------> ASLEEP ------------------------------> NOTIFIED
//!      |                ^                              |                                       |
//!      +----------------+------------------------------+---------------------------------------+
//!       sleep: refused               awake                              awake
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::task::Wake;

use super::sys;

const RUNNING: u8 = 0;
const NOTIFIED: u8 = 1;
const ASLEEP: u8 = 2;

#[derive(Debug)]
pub(super) struct Unpark {
    state: AtomicU8,
    eventfd: File,
}

impl Unpark {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { state: AtomicU8::new(RUNNING), eventfd: sys::eventfd()? }))
    }

    pub(super) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Called by the ring's thread before it sleeps. False: it was notified meanwhile and must not.
    pub(super) fn sleep(&self) -> bool {
        let asleep = self.state.compare_exchange(RUNNING, ASLEEP, SeqCst, SeqCst).is_ok();
        if !asleep {
            self.awake();
        }
        asleep
    }

    /// Called by the ring's thread when it runs again: what was notified before has been heard.
    pub(super) fn awake(&self) {
        self.state.store(RUNNING, SeqCst);
    }

    /// Ends the thread's sleep, or lets its next one end at once.
    pub(super) fn notify(&self) {
        if self.state.swap(NOTIFIED, SeqCst) == ASLEEP {
            self.ring();
        }
    }

    /// As `notify`, and makes the ring's own descriptor readable, for a thread that sleeps in an outside loop.
    pub(super) fn kick(&self) {
        self.state.store(NOTIFIED, SeqCst);
        self.ring();
    }

    fn ring(&self) {
        // Fails only when the counter would overflow, and then the thread is being woken anyway.
        let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}
