//! Reads a backup, chunk by chunk, and writes its records to a namespace.
//!
//! A **piece** is a backup's header and some of its chunks, in order, without a trailer: what travels in one request when a
//! backup is restored over a network.

use super::BackupError;
use crate::clock::Timestamp;
use crate::format::{
    BACKUP_HEADER_SIZE, BACKUP_TRAILER_MAGIC, BACKUP_TRAILER_SIZE, BackupHeader, BackupRecord, BackupTrailer,
    CHUNK_HEADER_SIZE, CHUNK_MAGIC, ChunkHeader, FAILURE_HEADER_SIZE, FAILURE_MAGIC, FailureHeader, Fault,
};
use crate::namespace::{Namespace, RestoreMode, Restored, StoredRecord};
use crate::record::{Bins, Digest, Key, UserKey, Value};
use std::io::{ErrorKind, Read};
use std::ops::AddAssign;
use xxhash_rust::xxh3::xxh3_64;

/// A backup that is being read.
pub struct BackupReader<R> {
    input: R,
    offset: u64,
    header: BackupHeader,
    is_piece: bool,
    /// The number of the next chunk; of a piece's first one none is expected.
    next: Option<u64>,
    chunks: u64,
    records: u64,
    size: u64,
    trailer: Option<BackupTrailer>,
}

/// One chunk, proved, as it lies in the backup.
pub struct Chunk {
    /// Its number, from 0.
    pub number: u64,
    /// Where it begins, in bytes from the backup's start.
    pub offset: u64,
    /// How many records it has.
    pub record_count: u32,
    /// Bytes of its records, unpacked.
    pub size: u32,
    /// Header and payload.
    pub bytes: Vec<u8>,
}

/// What became of the records of some chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RestoreCounts {
    /// Were written.
    pub written: u64,
    /// Were there, and the ones there have stayed.
    pub kept: u64,
    /// Had expired.
    pub expired: u64,
}

impl AddAssign for RestoreCounts {
    fn add_assign(&mut self, other: Self) {
        self.written += other.written;
        self.kept += other.kept;
        self.expired += other.expired;
    }
}

impl<R: Read> BackupReader<R> {
    /// A backup from its first byte.
    pub fn new(input: R) -> Result<Self, BackupError> {
        Self::begin(input, false)
    }

    /// A piece of a backup.
    pub fn of_piece(input: R) -> Result<Self, BackupError> {
        Self::begin(input, true)
    }

    fn begin(input: R, is_piece: bool) -> Result<Self, BackupError> {
        let mut reader = BackupReader {
            input,
            offset: 0,
            header: bytemuck::Zeroable::zeroed(),
            is_piece,
            next: (!is_piece).then_some(0),
            chunks: 0,
            records: 0,
            size: 0,
            trailer: None,
        };
        let mut bytes = [0; BACKUP_HEADER_SIZE];
        reader.read(&mut bytes, || "its header".into())?;
        reader.header = BackupHeader::parse(&bytes).map_err(|fault| match fault {
            Fault::Magic => BackupError::NotABackup,
            Fault::Version(version) => BackupError::Version(version),
            fault => BackupError::Damaged { offset: 0, what: "the header".into(), fault },
        })?;
        Ok(reader)
    }

    /// What the backup says of itself.
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// Where the next byte is read, from the backup's start.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How the backup ended, once it has.
    pub fn trailer(&self) -> Option<&BackupTrailer> {
        self.trailer.as_ref()
    }

    fn read(&mut self, bytes: &mut [u8], what: impl Fn() -> String) -> Result<(), BackupError> {
        let offset = self.offset;
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => {
                    return Err(BackupError::CutOff { offset: offset + filled as u64, what: what() });
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(BackupError::Io { offset: offset + filled as u64, source }),
            }
        }
        self.offset += filled as u64;
        Ok(())
    }

    /// Whether another byte is there; which one.
    fn peek(&mut self) -> Result<Option<u8>, BackupError> {
        let mut byte = [0];
        match self.read(&mut byte, String::new) {
            Ok(()) => Ok(Some(byte[0])),
            Err(BackupError::CutOff { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next chunk; `None` at the end, once the trailer has been found right.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, BackupError> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        let (offset, chunks) = (self.offset, self.chunks);
        let name = || format!("the header of chunk {chunks}");
        let mut head = [0; BACKUP_TRAILER_SIZE];
        head[0] = match self.peek()? {
            Some(byte) => byte,
            None if self.is_piece => return Ok(None),
            None => return Err(BackupError::NoTrailer { offset, chunks }),
        };
        self.read(&mut head[1..8], name)?;
        let damaged = |what: String| move |fault| BackupError::Damaged { offset, what, fault };
        if head[..8] == BACKUP_TRAILER_MAGIC && !self.is_piece {
            self.read(&mut head[8..], || "the trailer".into())?;
            let trailer = BackupTrailer::parse(&head, &self.header.id);
            self.check_end(offset, trailer.map_err(damaged("the trailer".into()))?)?;
            return Ok(None);
        }
        if head[..8] == FAILURE_MAGIC {
            self.read(&mut head[8..FAILURE_HEADER_SIZE], name)?;
            let failure = FailureHeader::parse(&head[..FAILURE_HEADER_SIZE], &self.header.id);
            let failure = failure.map_err(damaged(name()))?;
            let mut text = vec![0; failure.size as usize];
            self.read(&mut text, || "the reason why it ends".into())?;
            if xxh3_64(&text) != failure.text_checksum {
                return Err(damaged("the reason why the backup ends".into())(Fault::Checksum));
            }
            let why = String::from_utf8_lossy(&text).into_owned();
            return Err(BackupError::GivenUp { offset, why });
        }
        if head[..8] != CHUNK_MAGIC {
            return Err(damaged(name())(Fault::Magic));
        }
        self.read(&mut head[8..CHUNK_HEADER_SIZE], name)?;
        let header = ChunkHeader::parse(&head[..CHUNK_HEADER_SIZE], &self.header.id);
        let header = header.map_err(damaged(name()))?;
        if let Some(expected) = self.next.filter(|&expected| expected != header.number) {
            return Err(BackupError::Disorder { offset, found: header.number, expected });
        }
        let mut bytes = head[..CHUNK_HEADER_SIZE].to_vec();
        bytes.resize(CHUNK_HEADER_SIZE + header.packed_size as usize, 0);
        self.read(&mut bytes[CHUNK_HEADER_SIZE..], || format!("chunk {}", header.number))?;
        if xxh3_64(&bytes[CHUNK_HEADER_SIZE..]) != header.payload_checksum {
            return Err(damaged(format!("chunk {}", header.number))(Fault::Checksum));
        }
        self.next = Some(header.number + 1);
        self.chunks += 1;
        self.records += u64::from(header.record_count);
        self.size += u64::from(header.size);
        let ChunkHeader { number, record_count, size, .. } = header;
        Ok(Some(Chunk { number, offset, record_count, size, bytes }))
    }

    fn check_end(&mut self, offset: u64, trailer: BackupTrailer) -> Result<(), BackupError> {
        let counts = [
            ("chunks", trailer.chunk_count, self.chunks),
            ("records", trailer.record_count, self.records),
            ("bytes of records", trailer.size, self.size),
            ("bytes before it", trailer.offset, offset),
        ];
        if let Some(&(what, counted, found)) = counts.iter().find(|(_, counted, found)| counted != found) {
            return Err(BackupError::Counts { offset, what, counted, found });
        }
        let end = self.offset;
        if self.peek()?.is_some() {
            return Err(BackupError::Trailing { offset: end });
        }
        self.trailer = Some(trailer);
        Ok(())
    }
}

impl Chunk {
    /// Unpacks the chunk and hands its records to `each`. Returns how many there were.
    pub fn for_each<E: From<BackupError>>(
        &self,
        mut each: impl FnMut(&StoredRecord<'_>) -> Result<(), E>,
    ) -> Result<u32, E> {
        let payload = zstd::bulk::decompress(&self.bytes[CHUNK_HEADER_SIZE..], self.size as usize);
        let payload = payload.map_err(|source| BackupError::Io { offset: self.offset, source })?;
        let mut rest = &payload[..];
        let mut count = 0;
        while !rest.is_empty() {
            let wrong = |why: String| BackupError::Record {
                offset: self.offset,
                chunk: self.number,
                record: count,
                why,
            };
            let (head, [set, key, bins]) =
                BackupRecord::split(&mut rest).map_err(|fault| wrong(fault.to_string()))?;
            let set = std::str::from_utf8(set).map_err(|error| wrong(error.to_string()))?;
            let named =
                Key::from_digest(set, Digest(head.digest)).map_err(|error| wrong(error.to_string()))?;
            let named = if head.key_type == 0 {
                named
            } else {
                let value = Value::decode(head.key_type, key).map_err(|error| wrong(error.to_string()))?;
                let user_key = UserKey::from_value(value)
                    .ok_or_else(|| wrong(format!("type {} is none of a user key", head.key_type)))?;
                named.with_user_key(user_key).map_err(|error| wrong(error.to_string()))?
            };
            each(&StoredRecord {
                key: named,
                generation: head.generation,
                expires_at: Some(head.expires_ms()).filter(|&ms| ms != 0).map(Timestamp),
                last_update: Timestamp(head.last_update_ms()),
                bins: Bins::new(bins),
            })?;
            count += 1;
        }
        if count != self.record_count {
            let (offset, counted, found) = (self.offset, u64::from(self.record_count), u64::from(count));
            return Err(BackupError::Counts { offset, what: "records", counted, found }.into());
        }
        Ok(count)
    }
}

/// Writes the records of a chunk. They are durable when a `flush` after it has ended.
pub fn restore_chunk(
    namespace: &Namespace,
    chunk: &Chunk,
    mode: RestoreMode,
) -> Result<RestoreCounts, BackupError> {
    let mut counts = RestoreCounts::default();
    chunk.for_each(|record| {
        match namespace.restore(record, mode)? {
            Restored::Written => counts.written += 1,
            Restored::Kept => counts.kept += 1,
            Restored::Expired => counts.expired += 1,
        }
        Ok::<_, BackupError>(())
    })?;
    Ok(counts)
}
