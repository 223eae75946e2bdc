//! An open file as the drivers see it: shared by the device and by every transfer that is under way on it.
//!
//! The last share closes the file. Rings may hold the file too, in their registered tables, where the kernel
//! would keep it open (and a raw device claimed) as long as the ring lives. So the handle remembers which rings
//! have it, lets go of its lock itself, and tells those rings, which then drop it from their tables.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::unpark::Unpark;
use super::{Counters, Geometry};

/// How many handles have been closed in this process: rings look at it to see whether to look at their tables.
static CLOSED: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub(super) struct Handle {
    pub(super) file: File,
    pub(super) geometry: Geometry,
    pub(super) counters: Counters,
    rings: Mutex<Vec<Weak<Unpark>>>,
}

impl Handle {
    pub(super) fn new(file: File, geometry: Geometry) -> Arc<Self> {
        Arc::new(Self { file, geometry, counters: Counters::default(), rings: Mutex::default() })
    }

    /// Remembers that a ring has this file in its table, to tell it when the file is to be closed.
    pub(super) fn registered_by(&self, ring: &Arc<Unpark>) {
        let mut rings = self.rings.lock();
        rings.retain(|ring| ring.strong_count() > 0);
        rings.push(Arc::downgrade(ring));
    }

    pub(super) fn closed_count() -> u64 {
        CLOSED.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(super) fn for_test(name: &str, size: u64) -> Arc<Self> {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(size).expect("a temporary file may grow");
        let name = name.into();
        Self::new(file, Geometry { name, size, sector_size: 512, physical_size: 4096, direct: false })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A lock lives as long as any reference to the open file, those of rings included: end it here, so that
        // the device can be opened again at once.
        let _ = self.file.unlock();
        CLOSED.fetch_add(1, Ordering::Release);
        // A ring looks at its table when it reaps; this makes an idle one reap.
        self.rings.get_mut().iter().filter_map(Weak::upgrade).for_each(|ring| ring.kick());
    }
}
