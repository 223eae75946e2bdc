//! What a start found, in numbers, and what it made.

use crate::format::PartPlace;
use crate::index::{Entry, Index};
use crate::namespace::Watermark;
use crate::volume::FoundBlock;

/// What a start found. Counts, except where said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of the checkpoint that the index came from; `None`: from all blocks.
    pub checkpoint: Option<u64>,
    /// Entries of that checkpoint.
    pub checkpoint_entries: u64,
    /// Checkpoints that were there and could not be used: torn, damaged, or their blocks used again.
    pub rejected_checkpoints: u64,
    /// Blocks that had been written at some time.
    pub blocks: u64,
    /// Of these, blocks listed by their footer; behind a checkpoint only those of the tail.
    pub listed_blocks: u64,
    /// Blocks without a (good) footer, read whole.
    pub scanned_blocks: u64,
    /// Blocks whose header or bytes could not be read: what they held may be missing.
    pub damaged_blocks: u64,
    /// Versions in the durable part of blocks that were open, which the log names and which do not prove themselves: reads
    /// of their keys give an error, unless there are newer versions.
    pub damaged_versions: u64,
    /// Runs of damaged bytes in the durable part of blocks that were open, of which it is not known what they held: an
    /// older version may be served instead.
    pub damaged_runs: u64,
    /// Versions of records seen, besides the checkpoint's.
    pub versions: u64,
    /// Records that are there.
    pub records: u64,
    /// Deleted keys that are remembered.
    pub tombstones: u64,
    /// Records left out because they have expired.
    pub expired: u64,
    /// Records left out because their set was truncated after them.
    pub truncated: u64,
    /// Records left out because they were evicted.
    pub evicted: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// A namespace's index, back again.
pub(super) struct Restored {
    pub index: Index<Entry>,
    /// For each device, each block's last life.
    pub found: Vec<Vec<FoundBlock>>,
    /// For each device, the live bytes of each block.
    pub used: Vec<Vec<u32>>,
    pub max_sequence: u64,
    pub recovery: Recovery,
    /// What has been evicted.
    pub watermark: Watermark,
    /// The blocks of the checkpoint that was used.
    pub parts: Vec<PartPlace>,
}
