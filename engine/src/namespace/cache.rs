//! The read cache: records that came from the device, by place.
//!
//! Keyed by location and the block's epoch, it needs no invalidation: the bytes of a place never change
//! during one life of its block, and the next life has another epoch. An entry that nothing points at any
//! more simply ages out.

use crate::index::Location;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Weighter};
use std::sync::Arc;

/// What the cache's own bookkeeping takes beside the bytes: key, slot, hash table, `Arc` header, allocator.
const OVERHEAD: u64 = 128;

/// Records larger than this share of the budget are not kept.
const LARGEST_SHARE: u64 = 16;

#[derive(Clone)]
struct BySize;

impl Weighter<(u64, u64), Arc<[u8]>> for BySize {
    fn weight(&self, _key: &(u64, u64), bytes: &Arc<[u8]>) -> u64 {
        bytes.len() as u64 + OVERHEAD
    }
}

/// Record bytes by location and epoch.
type ByPlace = Cache<(u64, u64), Arc<[u8]>, BySize, DefaultHashBuilder>;

/// The read cache of a namespace.
pub(crate) struct ReadCache {
    cache: Option<ByPlace>,
    budget: u64,
}

fn key(location: Location, epoch: u64) -> (u64, u64) {
    (u64::from(location.device) << 41 | location.unit, epoch)
}

impl ReadCache {
    /// A cache of `budget` bytes, bookkeeping included; 0 = none.
    pub fn new(budget: u64) -> Self {
        let items = (budget / 1024).clamp(64, 1 << 24) as usize;
        let cache = (budget > 0).then(|| Cache::with_weighter(items, budget, BySize));
        ReadCache { cache, budget }
    }

    /// The bytes of a place in one life of its block.
    pub fn get(&self, location: Location, epoch: u64) -> Option<Arc<[u8]>> {
        self.cache.as_ref()?.get(&key(location, epoch))
    }

    /// Keeps a record that has proved itself.
    pub fn insert(&self, location: Location, epoch: u64, bytes: &[u8]) {
        if let Some(cache) = &self.cache
            && bytes.len() as u64 <= self.budget / LARGEST_SHARE
        {
            cache.insert(key(location, epoch), bytes.into());
        }
    }

    /// Bytes in use, bookkeeping included.
    pub fn size(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.weight())
    }
}
