//! Counting what a namespace does.

use super::scrub::ScrubBook;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that many threads add to.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of a namespace.
        #[derive(Default)]
        pub(crate) struct Counters {
            /// Entries that stand for deleted records; goes up and down.
            pub tombstones: AtomicU64,
            /// What the scrub is doing and has found.
            pub scrub: ScrubBook,
            $(pub $name: Counter,)*
        }

        /// What a namespace has done since it was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CountersSnapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Reads that found a record.
    hits,
    /// Reads that found none.
    misses,
    /// Reads answered from a write buffer, the post-write cache or the read cache.
    ram_reads,
    /// Reads that went to the device.
    device_reads,
    /// Records written by users.
    writes,
    /// Records deleted by users.
    deletes,
    /// Records that have expired.
    expired,
    /// Records that were evicted before their time.
    evicted,
    /// Times that a writer had to wait for space.
    waited,
    /// Writes refused because the namespace is full.
    refused,
    /// Records that did not prove themselves.
    corrupt,
    /// Records that defrag moved.
    moved,
    /// Blocks that defrag emptied.
    defragged_blocks,
    /// Scrub passes that have looked at every block.
    scrub_passes,
    /// Blocks that the scrub has looked at.
    scrubbed_blocks,
    /// Bytes that the scrub has read.
    scrubbed_size,
    /// Damage that the scrub has found; what is found again by a later pass counts again.
    scrub_faults,
    /// Tombstones that left the index because no older version is left.
    tombstones_removed,
}

/// A picture of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// What it has done.
    pub counters: CountersSnapshot,
    /// Records; expired ones count until a sweep has met them.
    pub objects: u64,
    /// Records with a time to live.
    pub expiring: u64,
    /// Entries that stand for deleted records.
    pub tombstones: u64,
    /// Bytes of RAM that the index takes, all allocations counted.
    pub index_size: u64,
    /// Bytes of RAM in the read cache.
    pub cache_size: u64,
    /// Bytes of RAM in write buffers, the post-write cache included.
    pub write_buffer_size: u64,
    /// Bytes on the devices that records take.
    pub used_size: u64,
    /// Writes are refused beyond so many.
    pub used_limit: u64,
    /// Bytes of all blocks.
    pub device_size: u64,
    /// Bytes of the blocks that are free.
    pub free_size: u64,
    /// Blocks on all devices.
    pub blocks: u64,
    /// Blocks that are free.
    pub free_blocks: u64,
    /// Sealed blocks that wait for the device.
    pub unwritten_blocks: u64,
    /// Bytes appended for users.
    pub fresh_size: u64,
    /// Bytes appended by defrag.
    pub moved_size: u64,
    /// Records that replaced their older version in RAM.
    pub overwritten_in_place: u64,
    /// Bytes read from the devices.
    pub device_read_size: u64,
    /// Bytes written to the devices.
    pub device_written_size: u64,
    /// Reads that the devices served, those of defrag included.
    pub device_read_count: u64,
    /// Writes that the devices served.
    pub device_write_count: u64,
    /// Devices that have failed and take no more writes.
    pub failed_devices: u64,
    /// The latest void-time before which records have been evicted, in milliseconds since the Unix epoch; 0: none was.
    pub evicted_below_ms: u64,
    /// Of all blocks, those that the scrub pass under way has done; 0 between passes.
    pub scrub_pass_blocks: u64,
    /// The number of the checkpoint that the next start would begin from; 0: it would read all blocks.
    pub checkpoint_id: u64,
    /// Entries in that checkpoint.
    pub checkpoint_entries: u64,
    /// Blocks that checkpoints take.
    pub checkpoint_blocks: u64,
    /// Checkpoints written since the namespace was opened.
    pub checkpoints_written: u64,
    /// Checkpoints not written for want of room.
    pub checkpoints_skipped: u64,
    /// When the last one was written, in milliseconds since the Unix epoch; 0: not since the namespace was opened.
    pub checkpoint_written_ms: u64,
    /// Whether one is being written.
    pub is_writing_checkpoint: bool,
    /// Empty blocks that are not reused because a snapshot may still read them.
    pub snapshot_blocks: u64,
}

impl Stats {
    /// Bytes appended for every byte that users appended: what defrag costs.
    pub fn write_amplification(&self) -> f64 {
        if self.fresh_size == 0 {
            1.0
        } else {
            (self.fresh_size + self.moved_size) as f64 / self.fresh_size as f64
        }
    }
}
