//! Walks the index, a few partitions a step, and takes out what has expired or was truncated.
//!
//! A whole pass takes `expiry_period`; after a truncation it goes as fast as it can.

use super::{Job, Next};
use crate::index::{PARTITION_COUNT, PartitionId};
use crate::namespace::core::Core;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Partitions a step.
const BATCH: usize = 16;

/// The sweep of a namespace.
pub(crate) struct Sweep {
    core: Arc<Core>,
    next: usize,
    pass_start_ms: u64,
    /// How many truncations there were when the pass began.
    truncations: u64,
}

impl Sweep {
    pub fn new(core: Arc<Core>) -> Self {
        let pass_start_ms = core.clock.mono_ms();
        Sweep { core, next: 0, pass_start_ms, truncations: 0 }
    }

    fn batch(&mut self) {
        if self.next == 0 {
            self.truncations = self.core.truncations.load(Ordering::Acquire);
        }
        for _ in 0..BATCH.min(PARTITION_COUNT - self.next) {
            self.core.sweep_partition(PartitionId::new(self.next as u16));
            self.next += 1;
        }
        if self.next == PARTITION_COUNT {
            self.core.swept(self.truncations);
            self.next = 0;
            self.pass_start_ms = self.core.clock.mono_ms();
        }
    }
}

impl Job for Sweep {
    fn step(&mut self) -> Next {
        if self.core.needs_sweep() {
            self.batch();
            return Next::Now;
        }
        let Some(period) = self.core.config.expiry_period else { return Next::Within(1000) };
        let period_ms = (period.as_millis() as u64).max(1);
        let elapsed = self.core.clock.mono_ms().saturating_sub(self.pass_start_ms);
        let due = (elapsed * PARTITION_COUNT as u64 / period_ms).min(PARTITION_COUNT as u64) as usize;
        if self.next < due {
            self.batch();
            return if self.next < due && self.next != 0 { Next::Now } else { Next::Within(50) };
        }
        Next::Within(50)
    }
}
