//! The verbs: what can be done to records.
//!
//! This room sees both the index and the volumes, and is where they meet: an entry is published under its
//! partition's lock together with the bytes it points at (I1, I2). It never calls a job; it leaves work
//! (a sealed block, a tail that somebody waits for, a device short of free blocks) and raises a signal.

mod cache;
mod checkpoint;
pub(crate) mod core;
mod draft;
mod eviction;
mod group;
mod handle;
mod pictures;
mod policy;
mod read;
mod record;
mod restore;
mod scan;
pub(crate) mod scrub;
mod sets;
mod snapshot;
mod stats;
mod sweep;
mod truncate;
mod tunable;
mod verify;
mod write;

pub(crate) use cache::ReadCache;
pub(crate) use checkpoint::{CheckpointOutcome, Checkpoints};
pub(crate) use eviction::{Evictions, Watermark, mask, watermark_of};
pub(crate) use record::RecordBytes;
pub(crate) use sets::Sets;
pub(crate) use snapshot::Snapshots;
pub(crate) use stats::Counters;
pub(crate) use truncate::{Refused, threshold_of};
pub(crate) use tunable::Tunables;
pub(crate) use write::{is_tombstone, may_outlive};

pub use draft::{Draft, Outcome};
pub use handle::{AsyncNamespace, Bin, Namespace};
pub use pictures::{BlockPicture, TTL_BOUNDS_S, TtlHistogram};
pub use policy::{Exists, Generation, Metadata, Ttl, WritePolicy};
pub use read::Get;
pub use record::Record;
pub use restore::{RestoreMode, Restored, StoredRecord};
pub use scan::{ScanPage, ScanPoint};
pub use scrub::{Damage, ScrubFault};
pub use snapshot::Snapshot;
pub use stats::{CountersSnapshot, DeviceStats, Stats};
pub use tunable::Tunable;
pub use verify::Verified;
pub use write::Updated;
