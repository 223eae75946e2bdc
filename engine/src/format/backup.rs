//! A backup: records of one moment in one stream of bytes.
//!
//! ```text
//! | header 128 | chunk header 48, payload | chunk header 48, payload | ... | trailer 64 |
//! payload, unpacked: | record header 48, set name, user key, bins | record header 48, ... |
//! ```
//!
//! Everything is covered by a checksum: the header by its own; each chunk's header and the trailer by one that is salted with the
//! backup's id and with where in the stream they belong; each payload by one in its header, which is looked at before anything is
//! unpacked. So a cut, a flipped bit, a chunk that is missing, comes twice or is of another backup is seen, and where.
//! A stream without its trailer is a backup that was cut off. Where the writer gave up, it may say why in a failure's frame instead.
//!
//! Here are the structures; reading and writing is `backup`.

use super::Fault;
use super::checksum::hash;
use super::record::{from_u48, u48};
use bytemuck::{Pod, Zeroable};
use std::mem::{offset_of, size_of};
use xxhash_rust::xxh3::xxh3_64;

/// Opens a backup.
pub const BACKUP_MAGIC: [u8; 8] = *b"AEROBKUP";
/// The version of what is described here.
pub const BACKUP_VERSION: u32 = 1;
/// Bytes of a backup's header.
pub const BACKUP_HEADER_SIZE: usize = 128;
/// Opens a chunk.
pub const CHUNK_MAGIC: [u8; 8] = *b"AEROCHNK";
/// Bytes of a chunk's header.
pub const CHUNK_HEADER_SIZE: usize = 48;
/// Opens the trailer.
pub const BACKUP_TRAILER_MAGIC: [u8; 8] = *b"AEROBEND";
/// Bytes of the trailer.
pub const BACKUP_TRAILER_SIZE: usize = 64;
/// Opens what a writer says that gives up.
pub const FAILURE_MAGIC: [u8; 8] = *b"AEROFAIL";
/// Bytes of the header of that.
pub const FAILURE_HEADER_SIZE: usize = 32;
/// Bytes of a record's header in a chunk.
pub const BACKUP_RECORD_SIZE: usize = 48;
/// The most bytes of a chunk, packed and unpacked: a record of the largest class, and one chunk of others before it.
pub const MAX_CHUNK_SIZE: u32 = 64 << 20;

/// Opens the stream, and says what is in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BackupHeader {
    /// `AEROBKUP`.
    pub magic: [u8; 8],
    /// The format's version.
    pub version: u32,
    /// Zero.
    pub reserved: u32,
    /// Names this backup: no other one has it.
    pub id: [u8; 16],
    /// The device set that it was taken from.
    pub set_uuid: [u8; 16],
    /// No version with a higher sequence number is in it.
    pub sequence: u64,
    /// The moment of the cut, in milliseconds since the Unix epoch.
    pub taken_ms: u64,
    /// How many records it has, about; the trailer knows exactly.
    pub estimated_records: u64,
    /// The namespace's name, filled up with zeros.
    pub namespace: [u8; 32],
    /// Zero.
    pub reserved_b: [u8; 16],
    /// xxh3 of the bytes before it.
    pub checksum: u64,
}

/// Opens a chunk.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ChunkHeader {
    /// `AEROCHNK`.
    pub magic: [u8; 8],
    /// The chunk's number, from 0.
    pub number: u64,
    /// Bytes of the payload that follows, one zstd frame.
    pub packed_size: u32,
    /// Bytes of the payload when it is unpacked.
    pub size: u32,
    /// How many records it has.
    pub record_count: u32,
    /// Zero.
    pub reserved: u32,
    /// xxh3 of the payload as it lies there.
    pub payload_checksum: u64,
    /// Hash of the bytes before it, salted with the backup's id.
    pub checksum: u64,
}

/// Ends the stream.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BackupTrailer {
    /// `AEROBEND`.
    pub magic: [u8; 8],
    /// How many chunks came before it.
    pub chunk_count: u64,
    /// How many records they have.
    pub record_count: u64,
    /// Bytes of all payloads, unpacked.
    pub size: u64,
    /// Where in the stream the trailer begins, in bytes.
    pub offset: u64,
    /// How many records could not be read when the backup was taken, and are not in it.
    pub damaged_count: u64,
    /// Zero.
    pub reserved: u64,
    /// Hash of the bytes before it, salted with the backup's id.
    pub checksum: u64,
}

/// Says that the writer gave up: there is no more, and this is no backup. The reason follows, as text.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FailureHeader {
    /// `AEROFAIL`.
    pub magic: [u8; 8],
    /// Bytes of the text.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// xxh3 of the text.
    pub text_checksum: u64,
    /// Hash of the bytes before it, salted with the backup's id.
    pub checksum: u64,
}

/// One record in a chunk; set name, user key and bins follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BackupRecord {
    /// Bytes of this header and what follows it.
    pub length: u32,
    /// As in the record.
    pub digest: [u8; 20],
    /// As in the record.
    pub generation: u16,
    /// Bytes of the set's name.
    pub set_size: u8,
    /// The user key's particle type; 0 = no user key.
    pub key_type: u8,
    /// When the record expires, in milliseconds since the Unix epoch; 0 = never.
    pub expires_ms: [u8; 6],
    /// When it was last written, in milliseconds since the Unix epoch.
    pub last_update_ms: [u8; 6],
    /// Bytes of the user key.
    pub key_size: u16,
    /// How many bins there are.
    pub bin_count: u16,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<BackupHeader>() == BACKUP_HEADER_SIZE);
const _: () = assert!(size_of::<ChunkHeader>() == CHUNK_HEADER_SIZE);
const _: () = assert!(size_of::<BackupTrailer>() == BACKUP_TRAILER_SIZE);
const _: () = assert!(size_of::<FailureHeader>() == FAILURE_HEADER_SIZE);
const _: () = assert!(size_of::<BackupRecord>() == BACKUP_RECORD_SIZE);
const _: () = assert!(offset_of!(BackupHeader, checksum) == BACKUP_HEADER_SIZE - 8);
const _: () = assert!(offset_of!(ChunkHeader, checksum) == CHUNK_HEADER_SIZE - 8);
const _: () = assert!(offset_of!(BackupTrailer, checksum) == BACKUP_TRAILER_SIZE - 8);

/// The hash of a structure's bytes without its last field, salted with the backup's id.
fn salted(id: &[u8; 16], bytes: &[u8]) -> u64 {
    hash(xxh3_64(id), &bytes[..bytes.len() - 8])
}

impl BackupHeader {
    /// The header as bytes, with magic, version and checksum.
    pub fn encode(mut self) -> [u8; BACKUP_HEADER_SIZE] {
        (self.magic, self.version) = (BACKUP_MAGIC, BACKUP_VERSION);
        self.checksum = xxh3_64(&bytemuck::bytes_of(&self)[..BACKUP_HEADER_SIZE - 8]);
        bytemuck::cast(self)
    }

    /// Reads a header from the start of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let bytes = bytes.get(..BACKUP_HEADER_SIZE).ok_or(Fault::Short)?;
        let header: BackupHeader = bytemuck::pod_read_unaligned(bytes);
        if header.magic != BACKUP_MAGIC {
            return Err(Fault::Magic);
        }
        if xxh3_64(&bytes[..BACKUP_HEADER_SIZE - 8]) != header.checksum {
            return Err(Fault::Checksum);
        }
        if header.version != BACKUP_VERSION {
            return Err(Fault::Version(header.version));
        }
        Ok(header)
    }

    /// The namespace's name.
    pub fn namespace(&self) -> &str {
        let size = self.namespace.iter().position(|&byte| byte == 0).unwrap_or(self.namespace.len());
        std::str::from_utf8(&self.namespace[..size]).unwrap_or("?")
    }
}

impl ChunkHeader {
    /// The header as bytes, with magic and checksum.
    pub fn encode(mut self, id: &[u8; 16]) -> [u8; CHUNK_HEADER_SIZE] {
        self.magic = CHUNK_MAGIC;
        self.checksum = salted(id, bytemuck::bytes_of(&self));
        bytemuck::cast(self)
    }

    /// Reads a header of the backup `id` from the start of `bytes`.
    pub fn parse(bytes: &[u8], id: &[u8; 16]) -> Result<Self, Fault> {
        let bytes = bytes.get(..CHUNK_HEADER_SIZE).ok_or(Fault::Short)?;
        let header: ChunkHeader = bytemuck::pod_read_unaligned(bytes);
        if header.magic != CHUNK_MAGIC {
            return Err(Fault::Magic);
        }
        if salted(id, bytes) != header.checksum {
            return Err(Fault::Checksum);
        }
        if header.packed_size > MAX_CHUNK_SIZE || header.size > MAX_CHUNK_SIZE {
            return Err(Fault::Length);
        }
        Ok(header)
    }
}

impl FailureHeader {
    /// A failure's frame: header and text.
    pub fn frame(why: &str, id: &[u8; 16]) -> Vec<u8> {
        let text = why.as_bytes();
        let mut header = FailureHeader {
            magic: FAILURE_MAGIC,
            size: text.len() as u32,
            text_checksum: xxh3_64(text),
            ..Zeroable::zeroed()
        };
        header.checksum = salted(id, bytemuck::bytes_of(&header));
        [bytemuck::bytes_of(&header), text].concat()
    }

    /// Reads a failure's header of the backup `id` from the start of `bytes`.
    pub fn parse(bytes: &[u8], id: &[u8; 16]) -> Result<Self, Fault> {
        let bytes = bytes.get(..FAILURE_HEADER_SIZE).ok_or(Fault::Short)?;
        let header: FailureHeader = bytemuck::pod_read_unaligned(bytes);
        if header.magic != FAILURE_MAGIC {
            return Err(Fault::Magic);
        }
        if salted(id, bytes) != header.checksum {
            return Err(Fault::Checksum);
        }
        if header.size > MAX_CHUNK_SIZE { Err(Fault::Length) } else { Ok(header) }
    }
}

impl BackupTrailer {
    /// The trailer as bytes, with magic and checksum.
    pub fn encode(mut self, id: &[u8; 16]) -> [u8; BACKUP_TRAILER_SIZE] {
        self.magic = BACKUP_TRAILER_MAGIC;
        self.checksum = salted(id, bytemuck::bytes_of(&self));
        bytemuck::cast(self)
    }

    /// Reads the trailer of the backup `id` from the start of `bytes`.
    pub fn parse(bytes: &[u8], id: &[u8; 16]) -> Result<Self, Fault> {
        let bytes = bytes.get(..BACKUP_TRAILER_SIZE).ok_or(Fault::Short)?;
        let trailer: BackupTrailer = bytemuck::pod_read_unaligned(bytes);
        if trailer.magic != BACKUP_TRAILER_MAGIC {
            return Err(Fault::Magic);
        }
        if salted(id, bytes) != trailer.checksum {
            return Err(Fault::Checksum);
        }
        Ok(trailer)
    }
}

impl BackupRecord {
    /// Sets the two times, in milliseconds since the Unix epoch.
    pub fn with_times(mut self, expires_ms: u64, last_update_ms: u64) -> Self {
        (self.expires_ms, self.last_update_ms) = (u48(expires_ms), u48(last_update_ms));
        self
    }

    /// When the record expires, in milliseconds since the Unix epoch; 0 = never.
    pub fn expires_ms(&self) -> u64 {
        from_u48(self.expires_ms)
    }

    /// When it was last written, in milliseconds since the Unix epoch.
    pub fn last_update_ms(&self) -> u64 {
        from_u48(self.last_update_ms)
    }

    /// Takes the first record off `bytes`: its header, then set name, user key and bins.
    pub fn split<'a>(bytes: &mut &'a [u8]) -> Result<(Self, [&'a [u8]; 3]), Fault> {
        let head = bytes.get(..BACKUP_RECORD_SIZE).ok_or(Fault::Short)?;
        let header: BackupRecord = bytemuck::pod_read_unaligned(head);
        let body = bytes.get(BACKUP_RECORD_SIZE..header.length as usize).ok_or(Fault::Length)?;
        let (set, rest) = body.split_at_checked(usize::from(header.set_size)).ok_or(Fault::Length)?;
        let (key, bins) = rest.split_at_checked(usize::from(header.key_size)).ok_or(Fault::Length)?;
        *bytes = &bytes[header.length as usize..];
        Ok((header, [set, key, bins]))
    }
}
