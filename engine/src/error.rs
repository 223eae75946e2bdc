//! What can go wrong, and what the caller can do about it.

use crate::device::DeviceError;
use crate::format::Fault;
use crate::record::{BinError, Digest, KeyError};
use crate::volume::HeaderError;

/// The result of a verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb did not do what was asked. Nothing was changed, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// The policy asked for an existing record.
    #[error("there is no such record")]
    NotFound,
    /// The policy asked for a new record.
    #[error("the record exists already")]
    Exists,
    /// The policy asked for another generation. Read again and decide anew.
    #[error("the record has generation {found}, which the policy does not accept")]
    Generation { found: u16 },
    /// The record does not fit into a block. Split the value.
    #[error("the record takes {size} bytes, the limit is {limit}: split the value over several records")]
    TooLarge { size: u64, limit: u32 },
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A bin cannot be used.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The set table is full.
    #[error("namespace {namespace} has {limit} sets already, set '{set}' would be one more: use fewer sets")]
    TooManySets { namespace: String, set: String, limit: usize },
    /// The record is damaged on the device. Only this record is affected; write it again, or delete it.
    #[error(
        "record {digest} is damaged: device {device}, block {block}, offset {offset}: {fault}. \
         Other records are not affected; write this one again or delete it"
    )]
    Corrupt { digest: Digest, device: String, block: u32, offset: u64, fault: Fault },
    /// No room for more. Reads and deletes go on; delete something or add devices.
    #[error(
        "namespace {namespace} is full: {used_size} bytes of records, the limit is {limit} bytes{detail}. \
         Delete records or give it more space"
    )]
    NoSpace { namespace: String, used_size: u64, limit: u64, detail: &'static str },
    /// A device failed a write and takes no more. Reads go on. What was acknowledged as `relaxed` within
    /// the last `flush_max_ms` may be lost at the next start.
    #[error("device {device} has failed and takes no more writes: {reason}")]
    DeviceFailed { device: String, reason: String },
    /// A device could not be read.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The devices do not hold what they should.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The digest is that of a record of the system's own.
    #[error(
        "the digest is that of a record of the system's own, which cannot be written: no user key has it"
    )]
    Reserved,
    /// A namespace has one snapshot at a time.
    #[error("a snapshot of namespace {namespace} is being read already: wait until that backup has ended")]
    SnapshotRunning { namespace: String },
    /// Writers needed the space that a snapshot kept. Nothing is wrong with the records.
    #[error(
        "the snapshot of namespace {namespace} was given up after {records} records: writers needed the blocks \
         that it kept. Take it again when less is written, or give the namespace more free space"
    )]
    SnapshotGivenUp { namespace: String, records: u64 },
    /// The configuration cannot work.
    #[error("configuration: {0}")]
    Config(String),
    /// There is no namespace of that name.
    #[error("there is no namespace '{0}'")]
    NoNamespace(String),
    /// The open was called off, by `OpenProgress::cancel`. Nothing was written to devices that held data.
    #[error("the open was called off before it was through")]
    Cancelled,
    /// The engine has been closed.
    #[error("the engine is closed")]
    Closed,
}
