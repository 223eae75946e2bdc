//! The files a ring has registered with the kernel, which spares a look-up and two atomic counts per operation.
//!
//! The table is registered empty, once; a file goes into it on its first use on the ring, and out when its handle
//! has died. While it is in, the kernel keeps the file open, so leaving matters: see `handle.rs`. Where the kernel
//! refuses the table, or it is full, operations name plain descriptors.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Weak};

use io_uring::Submitter;

use super::handle::Handle;
use super::unpark::Unpark;

/// An engine has at most 64 devices.
const FILES: u32 = 64;

pub(super) struct Table {
    /// A weak share keeps the address from being used again, so comparing addresses is safe.
    files: Vec<Option<Weak<Handle>>>,
    closed_seen: u64,
}

/// How an operation names its file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Fixed(u32),
    Plain(RawFd),
}

impl Table {
    pub(super) fn new(submitter: &Submitter<'_>) -> Self {
        let size = match submitter.register_files_sparse(FILES) {
            Ok(()) => FILES,
            Err(_) => 0,
        };
        Self { files: vec![None; size as usize], closed_seen: Handle::closed_count() }
    }

    /// How to name this file, and whether it has just been put into the table.
    pub(super) fn target(
        &mut self,
        handle: &Arc<Handle>,
        submitter: &Submitter<'_>,
        ring: &Arc<Unpark>,
    ) -> (Target, bool) {
        let known = |file: &Option<Weak<Handle>>| {
            file.as_ref().is_some_and(|file| file.as_ptr() == Arc::as_ptr(handle))
        };
        if let Some(index) = self.files.iter().position(known) {
            return (Target::Fixed(index as u32), false);
        }
        let fd = handle.file.as_raw_fd();
        let Some(index) = self.files.iter().position(Option::is_none) else {
            return (Target::Plain(fd), false);
        };
        match submitter.register_files_update(index as u32, &[fd]) {
            Ok(_) => {
                handle.registered_by(ring);
                self.files[index] = Some(Arc::downgrade(handle));
                (Target::Fixed(index as u32), true)
            }
            Err(_) => (Target::Plain(fd), false),
        }
    }

    /// Lets go of files whose handles have died. Costs one load when none has.
    pub(super) fn sweep(&mut self, submitter: &Submitter<'_>) {
        let closed = Handle::closed_count();
        if closed == self.closed_seen {
            return;
        }
        self.closed_seen = closed;
        for (index, file) in self.files.iter_mut().enumerate() {
            if file.as_ref().is_some_and(|file| file.strong_count() == 0) {
                // A refusal leaves the file open until the ring goes: no harm but a claimed raw device.
                let _ = submitter.register_files_update(index as u32, &[-1]);
                *file = None;
            }
        }
    }
}
