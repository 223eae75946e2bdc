//! What the bytes on a device mean.
//!
//! A device is a row of blocks of one size. Block 0 holds the device header, twice (A/B). Every other
//! block is a piece of log: a block header, then records and group frames one after another, at the end of
//! each commit a mark of what was durable by then, and, once the block is sealed, a footer at its very end that
//! lists what the block holds.
//!
//! ```text
//! device   | block 0: header A, header B | block 1 | block 2 | ...
//! block    | header 64 | record | record | group [record record] | mark | pad | ...... | footer |
//! ```
//!
//! What always holds:
//! * everything is little-endian, every structure starts at a multiple of 16 bytes, and a stored record
//!   fills whole units of 16 bytes;
//! * nothing is believed before its length and its checksum are (I7). The parsers here are total: any
//!   bytes give a value or a `Fault`, never a panic;
//! * a checksum is salted with where the bytes belong (device set, member, block, epoch, position), so
//!   neither an earlier life of a block nor a misdirected write can parse as a record.
//!
//! `docs/FORMAT.md` mirrors this room field by field, and a test holds the two together.

mod backup;
mod block;
mod checkpoint;
mod checksum;
mod device_header;
mod footer;
mod group;
mod log;
mod mark;
mod record;
mod summary;

pub use backup::{
    BACKUP_HEADER_SIZE, BACKUP_MAGIC, BACKUP_RECORD_SIZE, BACKUP_TRAILER_MAGIC, BACKUP_TRAILER_SIZE,
    BACKUP_VERSION, BackupHeader, BackupRecord, BackupTrailer, CHUNK_HEADER_SIZE, CHUNK_MAGIC, ChunkHeader,
    FAILURE_HEADER_SIZE, FAILURE_MAGIC, FailureHeader, MAX_CHUNK_SIZE,
};
pub use block::{BLOCK_HEADER_SIZE, BLOCK_MAGIC, BlockHeader};
pub use checkpoint::{
    CHECKPOINT_ENTRY_SIZE, CHECKPOINT_STREAM, CheckpointRoot, PART_HEADER_SIZE, PART_MAGIC, PART_PAYLOAD,
    PartHeader, PartPlace, ROOT_MAGIC, ROOT_OFFSET, ROOT_SIZE, ROOT_SLOTS,
};
pub use checksum::{BlockSalt, hash};
pub use device_header::{DEVICE_HEADER_COPIES, DEVICE_HEADER_SIZE, DEVICE_MAGIC, DeviceHeader, HEADER_PAGE};
pub use footer::{
    FOOTER_ENTRY_SIZE, FOOTER_MAGIC, FOOTER_TRAILER_SIZE, Footer, FooterEntry, FooterTrailer, footer_size,
};
pub use group::{GROUP_HEADER_SIZE, GroupHeader, KIND_GROUP, seal_group};
pub use log::{LogItem, scan_log};
pub use mark::{DurableMark, KIND_MARK, MARK_HEADER_SIZE, MarkHeader, mark_size, seal_mark};
pub use record::{
    EncodedRecord, KIND_RECORD, MAX_USER_KEY_SIZE, RECORD_HEADER_SIZE, RECORD_MAGIC, RecordFlags,
    RecordHeader, RecordView, VOID_TIME_EPOCH_MS, unit_round, void_time,
};
pub use summary::{MemberSummary, PartitionSummary, Summary};

/// Records, frames and headers start at multiples of this many bytes.
pub const UNIT: u32 = 16;

/// Durable writes start and end at multiples of this many bytes: the physical sector of the devices we
/// write for. A sector that holds acknowledged data is never written again.
pub const COMMIT_ALIGNMENT: u32 = 4096;

/// The version of everything described here, in each device header.
pub const FORMAT_VERSION: u32 = 1;

#[cfg(target_endian = "big")]
compile_error!("the on-disk structures are little-endian and are read in place");

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Fewer bytes than the structure needs.
    #[error("too few bytes")]
    Short,
    /// Not such a structure at all.
    #[error("no magic number")]
    Magic,
    /// Written by a version of the format that this program does not know.
    #[error("format version {0} is not known")]
    Version(u32),
    /// A length that does not fit its surroundings.
    #[error("impossible length")]
    Length,
    /// The bytes are not those that were written here, now.
    #[error("checksum mismatch")]
    Checksum,
}
