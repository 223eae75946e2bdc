//! Counting what a namespace does, and the picture of it that everybody is shown: `Stats`.

use super::core::Core;
use super::scrub::ScrubBook;
use crate::latency::{Histogram, Latencies};
use crate::volume::Volume;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where in RAM a read found its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RamSource {
    #[default]
    WriteBuffer,
    PostWriteCache,
    ReadCache,
}

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
            /// How long durable writes of the log took. The flush job writes it.
            pub commits: Histogram,
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
    /// Reads answered from a write buffer: what is not on the device whole yet.
    write_buffer_reads,
    /// Reads answered from the post-write cache.
    post_write_reads,
    /// Reads answered from the read cache.
    cache_reads,
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

impl Counters {
    /// Counts a read by where its record was.
    pub fn read_from(&self, source: RamSource) {
        match source {
            RamSource::WriteBuffer => self.write_buffer_reads.add(1),
            RamSource::PostWriteCache => self.post_write_reads.add(1),
            RamSource::ReadCache => self.cache_reads.add(1),
        }
    }
}

impl CountersSnapshot {
    /// Reads answered from RAM.
    pub fn ram_reads(&self) -> u64 {
        self.write_buffer_reads + self.post_write_reads + self.cache_reads
    }
}

/// A picture of one device of a namespace. Sizes in bytes.
#[derive(Clone, Debug, Default)]
pub struct DeviceStats {
    /// Its path, or what stands for it.
    pub name: String,
    /// All blocks, the header's included.
    pub size: u64,
    /// One block.
    pub block_size: u64,
    /// How many blocks there are.
    pub blocks: u64,
    /// Blocks that are free.
    pub free_blocks: u64,
    /// Blocks that will be free when what was appended is durable.
    pub settling_blocks: u64,
    /// Blocks with parts of checkpoints.
    pub held_blocks: u64,
    /// Sealed blocks that wait for the device.
    pub unwritten_blocks: u64,
    /// Blocks that defrag should free.
    pub defrag_shortage_blocks: u64,
    /// Live records.
    pub used_size: u64,
    /// Appended for users.
    pub fresh_size: u64,
    /// Appended by defrag.
    pub moved_size: u64,
    /// Footers of blocks.
    pub footer_size: u64,
    /// Read from it.
    pub read_size: u64,
    /// Written to it.
    pub written_size: u64,
    /// Reads that it served.
    pub reads: u64,
    /// Writes that it served.
    pub writes: u64,
    /// Requests that it answered with an error.
    pub errors: u64,
    /// Why it takes no more writes, if so.
    pub latched: Option<String>,
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
    /// Bytes of RAM in blocks that are open or being written.
    pub write_buffer_size: u64,
    /// Bytes of RAM in the post-write cache: blocks that were written lately.
    pub post_write_size: u64,
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
    /// Empty blocks that wait until what was appended is durable.
    pub settling_blocks: u64,
    /// Blocks that defrag should free: 0, and it rests.
    pub defrag_shortage_blocks: u64,
    /// How long the oldest record that is not durable has been waiting, in milliseconds; 0: all are.
    pub oldest_unflushed_ms: u64,
    /// How long durable writes of the log took, from submit until the flush job had the answer.
    pub commits: Latencies,
    /// Bytes appended for users.
    pub fresh_size: u64,
    /// Bytes appended by defrag.
    pub moved_size: u64,
    /// Bytes of the footers of blocks.
    pub footer_size: u64,
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
    /// Requests that devices answered with an error.
    pub device_errors: u64,
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
    /// Each device.
    pub devices: Vec<DeviceStats>,
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

    /// Bytes of blocks in use for every byte of a live record: what garbage, free room in blocks and checkpoints cost.
    pub fn space_amplification(&self) -> f64 {
        if self.used_size == 0 {
            1.0
        } else {
            (self.device_size - self.free_size) as f64 / self.used_size as f64
        }
    }
}

impl Core {
    /// A picture of the namespace.
    pub fn stats(&self) -> Stats {
        let (used_size, used_limit) = self.space();
        let sets = self.sets.all();
        let oldest_ms = self.volumes.iter().filter_map(Volume::oldest_since_ms).min();
        let mut stats = Stats {
            counters: self.counters.snapshot(),
            objects: sets.iter().map(|set| set.objects()).sum(),
            expiring: sets.iter().map(|set| set.expiring()).sum(),
            tombstones: self.counters.tombstones.load(Ordering::Relaxed),
            index_size: self.index.memory_size(),
            cache_size: self.cache.size(),
            used_size,
            used_limit,
            oldest_unflushed_ms: oldest_ms.map_or(0, |since| self.clock.mono_ms().saturating_sub(since)),
            evicted_below_ms: self.evictions.watermark().latest_ms(),
            scrub_pass_blocks: self.counters.scrub.pass_blocks(),
            checkpoint_id: self.checkpoints.last_id.load(Ordering::Relaxed),
            checkpoint_entries: self.checkpoints.entries.load(Ordering::Relaxed),
            checkpoint_blocks: self.held_blocks(),
            checkpoints_written: self.checkpoints.written.load(Ordering::Relaxed),
            checkpoints_skipped: self.checkpoints.skipped.load(Ordering::Relaxed),
            checkpoint_written_ms: self.checkpoints.written_ms.load(Ordering::Relaxed),
            is_writing_checkpoint: self.checkpoints.is_writing.load(Ordering::Relaxed),
            snapshot_blocks: self.kept_blocks(),
            ..Stats::default()
        };
        self.counters.commits.add_to(&mut stats.commits);
        for volume in &self.volumes {
            let device = self.device_stats(volume);
            stats.write_buffer_size += volume.buffer_size();
            stats.post_write_size += volume.post_write_size();
            stats.overwritten_in_place += volume.stats.overwritten_count.load(Ordering::Relaxed);
            stats.device_size += device.size;
            stats.free_size += device.free_blocks * device.block_size;
            stats.blocks += device.blocks;
            stats.free_blocks += device.free_blocks;
            stats.settling_blocks += device.settling_blocks;
            stats.defrag_shortage_blocks += device.defrag_shortage_blocks;
            stats.unwritten_blocks += device.unwritten_blocks;
            stats.fresh_size += device.fresh_size;
            stats.moved_size += device.moved_size;
            stats.footer_size += device.footer_size;
            stats.failed_devices += u64::from(device.latched.is_some());
            stats.device_read_size += device.read_size;
            stats.device_written_size += device.written_size;
            stats.device_read_count += device.reads;
            stats.device_write_count += device.writes;
            stats.device_errors += device.errors;
            stats.devices.push(device);
        }
        stats
    }

    fn device_stats(&self, volume: &Volume) -> DeviceStats {
        let device = volume.device.counters().snapshot();
        let (blocks, block_size) = (u64::from(volume.blocks.count()), u64::from(volume.block_size()));
        DeviceStats {
            name: volume.geometry().name.to_string(),
            size: blocks * block_size,
            block_size,
            blocks,
            free_blocks: volume.blocks.free_count().into(),
            settling_blocks: volume.blocks.settling_count().into(),
            held_blocks: volume.blocks.held_count().into(),
            unwritten_blocks: volume.unwritten_count().into(),
            defrag_shortage_blocks: self.defrag_shortage(volume).into(),
            used_size: volume.blocks.used_size(),
            fresh_size: volume.stats.fresh_size.load(Ordering::Relaxed),
            moved_size: volume.stats.moved_size.load(Ordering::Relaxed),
            footer_size: volume.stats.footer_size.load(Ordering::Relaxed),
            read_size: device.read_bytes,
            written_size: device.written_bytes,
            reads: device.reads,
            writes: device.writes,
            errors: device.errors,
            latched: volume.latch_reason(),
        }
    }
}
