//! Backups: a snapshot as a stream of bytes, and back.
//!
//! ```text
//! namespace.snapshot() --> write_backup --> file, pipe, socket --> BackupReader --> restore_chunk --> namespace
//! ```
//!
//! The bytes are told in `format/backup.rs`. Chunks of about a mebibyte of records are packed by zstd one by one, so a
//! restore can go on behind any of them, and what is on its way can be held up at any of them. Nothing here knows where the
//! bytes come from or go to, waits by a clock, or starts a thread: whoever writes to a network paces in `tell`.
//!
//! What always holds: a reader believes nothing before its checksum is right (I7), tells every fault with its offset, and gives
//! no end without a trailer whose counts are those of what it has read. So a backup that was cut off is never taken for a
//! whole one.

mod reader;
mod writer;

pub use reader::{BackupReader, Chunk, RestoreCounts, restore_chunk};
pub use writer::{BackupOptions, BackupProgress, write_backup};

use crate::error::Error;
use crate::format::Fault;

/// Why a backup was not written, read or restored.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BackupError {
    #[error("this is no backup: it does not begin like one")]
    NotABackup,
    #[error("the backup is of format version {0}, this program knows version 1: use a newer one")]
    Version(u32),
    #[error("offset {offset}: the backup ends in the middle of {what}: it was cut off, get it whole")]
    CutOff { offset: u64, what: String },
    #[error(
        "offset {offset}: the backup ends behind chunk {chunks} of unknown many: it was cut off, get it whole"
    )]
    NoTrailer { offset: u64, chunks: u64 },
    #[error("offset {offset}: the backup ends here, because whoever wrote it gave up: {why}")]
    GivenUp { offset: u64, why: String },
    #[error("offset {offset}: {what} is damaged: {fault}. Get the backup again from where it was copied")]
    Damaged { offset: u64, what: String, fault: Fault },
    #[error(
        "offset {offset}: chunk {found} lies where chunk {expected} belongs: a part is missing or comes twice"
    )]
    Disorder { offset: u64, found: u64, expected: u64 },
    #[error("offset {offset}: the trailer counts {counted} {what}, there are {found}")]
    Counts { offset: u64, what: &'static str, counted: u64, found: u64 },
    #[error("offset {offset}: bytes follow the end of the backup")]
    Trailing { offset: u64 },
    #[error("offset {offset}: record {record} of chunk {chunk} is none: {why}")]
    Record { offset: u64, chunk: u64, record: u32, why: String },
    #[error("offset {offset}: {source}")]
    Io { offset: u64, source: std::io::Error },
    #[error("{0} (to take the backup without the records that are damaged: --skip-damaged)")]
    Unreadable(Error),
    #[error(transparent)]
    Engine(#[from] Error),
}
