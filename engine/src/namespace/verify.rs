//! Asking a namespace whether its books are right.
//!
//! What is counted as records come and go (live bytes of each block, records of each set, tombstones) is counted
//! afresh from the index and compared. All partitions are locked for as long as that takes.

use super::core::Core;
use super::write::is_tombstone;
use crate::index::Flags;
use crate::volume::{BlockId, BlockState};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// What `verify` counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records; expired ones count until a sweep has met them.
    pub objects: u64,
    /// Records with a time to live.
    pub expiring: u64,
    /// Entries that stand for deleted records, masks among them.
    pub tombstones: u64,
    /// Bytes of the devices that entries point at.
    pub used_size: u64,
    /// Expired records that stay as tombstones because an older version might outlive them, and their bytes.
    pub masks: u64,
    /// See `masks`.
    pub masks_size: u64,
}

impl Verified {
    /// The same accounts without masks: what every way of starting agrees on. A checkpoint has the masks that the engine
    /// kept; a sweep makes one only where it still finds an older version.
    pub fn without_masks(self) -> Self {
        Verified {
            tombstones: self.tombstones - self.masks,
            used_size: self.used_size - self.masks_size,
            masks: 0,
            masks_size: 0,
            ..self
        }
    }
}

impl Core {
    /// Counts everything afresh; or says what differs from what was kept.
    pub fn verify(&self) -> Result<Verified, String> {
        let mut found = Verified::default();
        let mut blocks: HashMap<(u8, u32), u64> = HashMap::new();
        let mut sets: HashMap<u16, (u64, u64)> = HashMap::new();
        let partitions = self.index.lock_all();
        for entry in partitions.as_slice().iter().flat_map(|partition| partition.iter_from(None)) {
            let location = entry.location();
            let size = u64::from(entry.size_class().bytes());
            let (block, _) = self.volume(location.device).place(location);
            *blocks.entry((location.device, block.0)).or_default() += size;
            found.used_size += size;
            if is_tombstone(&entry) {
                found.tombstones += 1;
                // A record that was deleted has no end of its own.
                if entry.void_time() != 0 {
                    found.masks += 1;
                    found.masks_size += size;
                }
            } else if !entry.flags().contains(Flags::SYSTEM) && !self.sets.is_truncated(&entry) {
                let expires = u64::from(entry.void_time() != 0);
                found.objects += 1;
                found.expiring += expires;
                let set = sets.entry(entry.set_id()).or_default();
                *set = (set.0 + 1, set.1 + expires);
            }
        }
        for volume in &self.volumes {
            for id in (1..volume.blocks.count()).map(BlockId) {
                let info = volume.blocks.info(id);
                let live = blocks.get(&(volume.member(), id.0)).copied().unwrap_or(0);
                let name = &volume.geometry().name;
                if u64::from(info.used_size) != live {
                    let kept = info.used_size;
                    return Err(format!(
                        "I3: device {name}: block {} has {live} live bytes, {kept} are kept",
                        id.0
                    ));
                }
                if live > 0
                    && matches!(info.state, BlockState::Free | BlockState::Settling | BlockState::Held)
                {
                    return Err(format!(
                        "I4: device {name}: block {} is {:?} with {live} live bytes",
                        id.0, info.state
                    ));
                }
            }
        }
        for set in self.sets.all() {
            let counted = sets.get(&set.id).copied().unwrap_or_default();
            let kept = (set.objects(), set.expiring());
            if counted != kept {
                return Err(format!(
                    "set '{}': {counted:?} records and expiring ones, {kept:?} are kept",
                    set.name
                ));
            }
        }
        let kept = self.counters.tombstones.load(Ordering::Relaxed);
        if kept != found.tombstones {
            return Err(format!("{} tombstones, {kept} are kept", found.tombstones));
        }
        Ok(found)
    }
}
