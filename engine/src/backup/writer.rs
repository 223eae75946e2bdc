//! Writes a snapshot as a backup, chunk by chunk.

use super::BackupError;
use crate::error::Error;
use crate::format::{
    BACKUP_RECORD_SIZE, BackupHeader, BackupRecord, BackupTrailer, CHUNK_HEADER_SIZE, ChunkHeader,
    FailureHeader,
};
use crate::namespace::{Record, Snapshot};
use bytemuck::Zeroable;
use std::io::Write;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// How a backup is written.
#[derive(Clone, Copy, Debug)]
pub struct BackupOptions {
    /// How hard zstd tries, 1 to 19: 3 is its own choice.
    pub level: i32,
    /// Bytes of records in a chunk, about.
    pub chunk_size: usize,
    /// Whether to leave out records that cannot be read, and count them in the trailer, instead of giving up.
    pub skip_damaged: bool,
}

impl Default for BackupOptions {
    fn default() -> Self {
        BackupOptions { level: 3, chunk_size: 1 << 20, skip_damaged: false }
    }
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    /// Records so far.
    pub records: u64,
    /// Records in all, about.
    pub estimated_records: u64,
    /// Chunks so far.
    pub chunks: u64,
    /// Bytes of records so far, unpacked.
    pub size: u64,
    /// Bytes of the backup so far.
    pub written: u64,
    /// Records left out because they could not be read.
    pub damaged: u64,
}

/// Writes a backup of a snapshot. `tell` hears of every chunk; it may take its time.
///
/// ```
/// use aerolith_engine::backup::{BackupOptions, BackupReader, RestoreCounts, restore_chunk, write_backup};
/// use aerolith_engine::{Config, Engine, Key, NamespaceConfig, RestoreMode, WritePolicy};
///
/// let engine = Engine::open(Config::of(NamespaceConfig::in_memory("test", 64 << 20)))?;
/// let test = engine.namespace("test")?;
/// test.put(&Key::new("users", "ada")?, &[("born", 1815.into())], &WritePolicy::default())?;
/// let mut bytes = Vec::new();
/// write_backup(test.snapshot()?, &mut bytes, BackupOptions::default(), |_| {})?;
///
/// let other = Engine::open(Config::of(NamespaceConfig::in_memory("test", 64 << 20)))?;
/// let other = other.namespace("test")?;
/// let mut backup = BackupReader::new(&bytes[..])?;
/// let mut counts = RestoreCounts::default();
/// while let Some(chunk) = backup.next_chunk()? {
///     counts += restore_chunk(&other, &chunk, RestoreMode::Replace)?;
/// }
/// other.flush()?;
/// assert_eq!(counts.written, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_backup(
    snapshot: Snapshot,
    out: &mut impl Write,
    options: BackupOptions,
    mut tell: impl FnMut(&BackupProgress),
) -> Result<BackupProgress, BackupError> {
    let header = header_of(&snapshot);
    let progress =
        BackupProgress { estimated_records: header.estimated_records, ..BackupProgress::default() };
    let mut writer = Writer { out, id: header.id, options, progress, payload: Vec::new(), record_count: 0 };
    writer.write(&header.encode())?;
    tell(&writer.progress);
    let written = write_records(snapshot, &mut writer, &mut tell);
    if let Err(error @ (BackupError::Engine(_) | BackupError::Unreadable(_))) = &written {
        // For whoever reads the other end; that this is no backup shows without it.
        let told = writer.write(&FailureHeader::frame(&error.to_string(), &header.id));
        let _ = told.and_then(|()| writer.flush());
    }
    written
}

fn write_records<W: Write>(
    snapshot: Snapshot,
    writer: &mut Writer<'_, W>,
    tell: &mut impl FnMut(&BackupProgress),
) -> Result<BackupProgress, BackupError> {
    let options = writer.options;
    for found in snapshot {
        match found {
            Ok(record) => writer.add(&record),
            Err(error @ (Error::Corrupt { .. } | Error::Device(_))) if options.skip_damaged => {
                tracing::error!("the backup goes on without a record: {error}");
                writer.progress.damaged += 1;
            }
            Err(error @ (Error::Corrupt { .. } | Error::Device(_))) => {
                return Err(BackupError::Unreadable(error));
            }
            Err(error) => return Err(error.into()),
        }
        if writer.payload.len() >= options.chunk_size {
            writer.end_chunk()?;
            tell(&writer.progress);
        }
    }
    if writer.record_count > 0 {
        writer.end_chunk()?;
    }
    writer.end()?;
    tell(&writer.progress);
    Ok(writer.progress)
}

fn header_of(snapshot: &Snapshot) -> BackupHeader {
    let (set_uuid, incarnation) = snapshot.device_set();
    let (sequence, taken_ms) = (snapshot.sequence(), snapshot.taken_at().0);
    // No other cut has all four.
    let mut name = set_uuid.to_vec();
    [incarnation, sequence, taken_ms].iter().for_each(|part| name.extend_from_slice(&part.to_le_bytes()));
    let mut namespace = [0; 32];
    let text = snapshot.namespace().as_bytes();
    namespace[..text.len()].copy_from_slice(text);
    BackupHeader {
        id: xxh3_128(&name).to_le_bytes(),
        set_uuid,
        sequence,
        taken_ms,
        estimated_records: snapshot.estimated_records(),
        namespace,
        ..BackupHeader::zeroed()
    }
}

struct Writer<'w, W: Write> {
    out: &'w mut W,
    id: [u8; 16],
    options: BackupOptions,
    progress: BackupProgress,
    /// The chunk to be, and how many records it has.
    payload: Vec<u8>,
    record_count: u32,
}

impl<W: Write> Writer<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let offset = self.progress.written;
        self.out.write_all(bytes).map_err(|source| BackupError::Io { offset, source })?;
        self.progress.written += bytes.len() as u64;
        Ok(())
    }

    fn add(&mut self, record: &Record) {
        let header = record.header();
        let (key, bins) = record.content();
        let set = record.set().as_bytes();
        let length = BACKUP_RECORD_SIZE + set.len() + key.len() + bins.len();
        let head = BackupRecord {
            length: length as u32,
            digest: header.digest,
            generation: header.generation,
            set_size: header.set_size,
            key_type: header.key_type,
            key_size: header.key_size,
            bin_count: header.bin_count,
            ..BackupRecord::zeroed()
        };
        let head = head.with_times(header.expires_ms(), header.last_update_ms());
        self.payload.extend_from_slice(bytemuck::bytes_of(&head));
        [set, key, bins].iter().for_each(|part| self.payload.extend_from_slice(part));
        self.record_count += 1;
        self.progress.records += 1;
    }

    fn end_chunk(&mut self) -> Result<(), BackupError> {
        let offset = self.progress.written;
        let packed = zstd::bulk::compress(&self.payload, self.options.level);
        let packed = packed.map_err(|source| BackupError::Io { offset, source })?;
        let header = ChunkHeader {
            number: self.progress.chunks,
            packed_size: packed.len() as u32,
            size: self.payload.len() as u32,
            record_count: self.record_count,
            payload_checksum: xxh3_64(&packed),
            ..ChunkHeader::zeroed()
        };
        let header: [u8; CHUNK_HEADER_SIZE] = header.encode(&self.id);
        self.write(&header)?;
        self.write(&packed)?;
        self.progress.chunks += 1;
        self.progress.size += self.payload.len() as u64;
        self.payload.clear();
        self.record_count = 0;
        Ok(())
    }

    fn end(&mut self) -> Result<(), BackupError> {
        let trailer = BackupTrailer {
            chunk_count: self.progress.chunks,
            record_count: self.progress.records,
            size: self.progress.size,
            offset: self.progress.written,
            damaged_count: self.progress.damaged,
            ..BackupTrailer::zeroed()
        };
        let trailer = trailer.encode(&self.id);
        self.write(&trailer)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), BackupError> {
        let offset = self.progress.written;
        self.out.flush().map_err(|source| BackupError::Io { offset, source })
    }
}
