//! Pictures of a namespace that are too large for its `Stats`: every block, how full each partition of the index is, and
//! when records will expire.
//!
//! They are for people who watch. None stops anything: a picture of the blocks reads atomics, one of the partitions takes
//! one lock after another for a moment, and times to live are counted by the sweep in passing.

use super::core::Core;
use super::handle::AsyncNamespace;
use crate::clock::Timestamp;
use crate::format::VOID_TIME_EPOCH_MS;
use crate::index::{PARTITION_COUNT, PartitionId};
use crate::volume::{BlockId, BlockInfo};
use parking_lot::Mutex;
use std::sync::atomic::Ordering;

/// Times to live are counted by whether they are below a minute, ten minutes, an hour, six hours, a day, a week, thirty days,
/// a year; the last count is of those beyond.
pub const TTL_BOUNDS_S: [u64; 8] = [60, 600, 3600, 21_600, 86_400, 604_800, 2_592_000, 31_536_000];

const TTL_BUCKETS: usize = TTL_BOUNDS_S.len() + 1;

/// How many records with a time to live have how much of it left: one count for each of `TTL_BOUNDS_S`, and one for what
/// lies beyond.
pub type TtlHistogram = [u64; TTL_BUCKETS];

/// One block, for who watches.
#[derive(Clone, Copy, Debug)]
pub struct BlockPicture {
    /// What the block table knows of it.
    pub info: BlockInfo,
    /// Whether defrag is emptying it.
    pub is_victim: bool,
}

/// The times to live in one partition.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ttls([u32; TTL_BUCKETS]);

impl Ttls {
    /// Counts a record.
    pub fn note(&mut self, void_time: u32, now: Timestamp) {
        let end_ms = VOID_TIME_EPOCH_MS + u64::from(void_time) * 1000;
        let left_s = end_ms.saturating_sub(now.0) / 1000;
        self.0[TTL_BOUNDS_S.iter().filter(|&&bound| left_s >= bound).count()] += 1;
    }
}

/// The times to live in all partitions, each as the sweep has met it last.
pub(crate) struct TtlBook(Mutex<Box<[Ttls]>>);

impl Default for TtlBook {
    fn default() -> Self {
        TtlBook(Mutex::new(vec![Ttls::default(); PARTITION_COUNT].into()))
    }
}

impl TtlBook {
    /// What the sweep has counted in a partition.
    pub fn note(&self, id: PartitionId, ttls: Ttls) {
        self.0.lock()[usize::from(id.get())] = ttls;
    }

    fn sum(&self) -> TtlHistogram {
        let mut sum = TtlHistogram::default();
        for ttls in self.0.lock().iter() {
            sum.iter_mut().zip(ttls.0).for_each(|(sum, count)| *sum += u64::from(count));
        }
        sum
    }
}

impl Core {
    fn pictures(&self, member: usize) -> Vec<BlockPicture> {
        let Some(volume) = self.volumes.get(member) else { return Vec::new() };
        let victim = volume.victim.load(Ordering::Relaxed);
        let picture = |id| BlockPicture { info: volume.blocks.info(BlockId(id)), is_victim: id == victim };
        (1..volume.blocks.count()).map(picture).collect()
    }
}

impl AsyncNamespace {
    /// All blocks of a device but the header's; none if there is no such device.
    pub fn blocks(&self, device: usize) -> Vec<BlockPicture> {
        self.core.pictures(device)
    }

    /// How many of the slots of each partition of the index are taken, 0.0 to 1.0; 0 where there are none.
    pub fn partition_loads(&self) -> Vec<f32> {
        let load = |id| {
            let partition = self.core.index.lock(id);
            let slots = partition.slot_count();
            if slots == 0 { 0.0 } else { partition.len() as f32 / slots as f32 }
        };
        PartitionId::all().map(load).collect()
    }

    /// How long records will live yet, as the sweep has last met them: up to an `expiry_period` ago.
    pub fn ttl_histogram(&self) -> TtlHistogram {
        self.core.ttls.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{Config, NamespaceConfig};
    use crate::volume::BlockState;
    use crate::{Engine, Key, Ttl, WritePolicy, block_on};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn blocks_partitions_and_times_to_live_are_seen() {
        let clock = Arc::new(ManualClock::at(Timestamp(1_767_225_600_000)));
        let config = Config::of(NamespaceConfig::in_memory("test", 64 << 20));
        let mut engine = Engine::open_by_hand(config, clock.clone(), 1).unwrap();
        let test = engine.namespace("test").unwrap().to_async();
        assert!(test.partition_loads().iter().all(|&load| load == 0.0));
        for i in 0..4000 {
            let ttl = match i % 4 {
                0 => Ttl::Never,
                1 => Ttl::For(Duration::from_secs(300)),
                2 => Ttl::For(Duration::from_secs(3600)),
                _ => Ttl::For(Duration::from_secs(1 << 26)),
            };
            let key = Key::new("set", i).unwrap();
            block_on(test.put(&key, &[("n", i.into())], &WritePolicy::with_ttl(ttl))).unwrap();
        }
        let blocks = test.blocks(0);
        assert_eq!(blocks.len(), 63, "the header's is not among them");
        let open: Vec<_> = blocks.iter().filter(|block| block.info.state == BlockState::Open).collect();
        assert_eq!(
            open.iter().map(|block| u64::from(block.info.used_size)).sum::<u64>(),
            test.stats().used_size
        );
        assert!(!open.is_empty() && blocks.iter().all(|block| !block.is_victim && !block.info.is_damaged));
        assert!(test.blocks(1).is_empty());

        let loads = test.partition_loads();
        assert_eq!(loads.len(), PARTITION_COUNT);
        assert!(loads.iter().all(|load| (0.0..=1.0).contains(load)) && loads.iter().any(|&load| load > 0.0));

        assert_eq!(test.ttl_histogram().iter().sum::<u64>(), 0, "no sweep yet");
        // One sweep: a pass takes a minute.
        for _ in 0..1300 {
            clock.advance(Duration::from_millis(50));
            engine.step();
        }
        assert_eq!(test.ttl_histogram(), [0, 1000, 1000, 0, 0, 0, 0, 0, 1000]);
        engine.close().unwrap();
    }

    #[test]
    fn what_waits_for_the_device_is_as_old_as_its_oldest_record() {
        let clock = Arc::new(ManualClock::at(Timestamp(1_767_225_600_000)));
        let config = Config::of(NamespaceConfig::in_memory("test", 64 << 20));
        let mut engine = Engine::open_by_hand(config, clock.clone(), 1).unwrap();
        let test = engine.namespace("test").unwrap().to_async();
        assert_eq!(test.stats().oldest_unflushed_ms, 0);
        block_on(test.put(&Key::new("set", 1).unwrap(), &[("n", 1.into())], &WritePolicy::default()))
            .unwrap();
        clock.advance(Duration::from_millis(700));
        block_on(test.put(&Key::new("set", 2).unwrap(), &[("n", 1.into())], &WritePolicy::default()))
            .unwrap();
        assert_eq!(test.stats().oldest_unflushed_ms, 700);
        assert_eq!(test.stats().commits.count(), 0);
        // Two streams: the second record's comes later.
        for _ in 0..10 {
            clock.advance(Duration::from_millis(200));
            engine.step();
            engine.step();
        }
        assert_eq!(test.stats().oldest_unflushed_ms, 0);
        assert!(test.stats().commits.count() > 0);
        engine.close().unwrap();
    }
}
