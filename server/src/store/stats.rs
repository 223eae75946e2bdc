//! What the data tells of itself: figures, blocks, partitions of the index, times to live.

use super::Store;
use aerolith_engine as engine;

pub(crate) use engine::Tunable;
pub(crate) use engine::latency::{Histogram, Latencies};
pub(crate) use engine::volume::BlockState;
pub(crate) use engine::{BlockPicture, DeviceStats, TTL_BOUNDS_S};

/// Figures of the data.
#[derive(Debug, Clone, Default)]
pub struct StoreStats {
    /// Records in the set of the protocol keys.
    pub keys: u64,
    /// Of these, how many have an expiry.
    pub expires: u64,
    /// What the engine counts, over all sets.
    pub engine: engine::Stats,
}

impl Store {
    /// Figures of the data.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            keys: self.count(),
            expires: self.namespace.count_expiring(&self.set),
            engine: self.namespace.stats(),
        }
    }

    /// The settings that can change while running, as they are now.
    pub(crate) fn tunable(&self) -> Tunable {
        self.namespace.tunable()
    }

    /// Changes settings, until the server ends.
    pub(crate) fn tune(&self, tunable: Tunable) -> Result<(), super::StoreError> {
        Ok(self.namespace.tune(tunable)?)
    }

    /// Bytes that a key's record takes on the device; none if there is none.
    pub(crate) fn stored_size(&self, key: &[u8]) -> Result<Option<u32>, super::StoreError> {
        Ok(self.namespace.peek(&self.key(key)?).map(|found| found.stored_size))
    }

    /// All blocks of a device but the header's.
    pub(crate) fn blocks(&self, device: usize) -> Vec<BlockPicture> {
        self.namespace.blocks(device)
    }

    /// How full each partition of the index is, 0.0 to 1.0.
    pub(crate) fn partition_loads(&self) -> Vec<f32> {
        self.namespace.partition_loads()
    }

    /// How many records have how much of their time to live left; see [`TTL_BOUNDS_S`].
    pub(crate) fn ttl_histogram(&self) -> engine::TtlHistogram {
        self.namespace.ttl_histogram()
    }
}
