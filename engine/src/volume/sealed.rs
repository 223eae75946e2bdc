//! A block that takes no more records: its bytes in RAM while they are written and a while after.
//!
//! Immutable and shared: the device driver writes from the same memory that readers copy from.

use super::block_table::BlockId;
use crate::device::AlignedBuffer;
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a sealed block.
pub struct SealedBlock {
    /// Which block.
    pub id: BlockId,
    /// The stream that filled it.
    pub stream: u8,
    /// The whole block as it belongs on the device; what lies between data and footer is not written.
    pub bytes: Arc<AlignedBuffer>,
    /// What of the data was not yet committed when the block was sealed.
    pub rest: Range<u32>,
    /// Where the footer lies.
    pub footer: Range<u32>,
}
