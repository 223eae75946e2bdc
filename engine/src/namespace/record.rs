//! A record as a verb gives it back: it owns its bytes and lends what they hold.

use super::core::Found;
use crate::clock::Timestamp;
use crate::device::AlignedBuffer;
use crate::format::{Fault, RECORD_HEADER_SIZE, RecordHeader, RecordView};
use crate::record::{BinError, Bins, Digest, UserKey, Value};
use std::sync::Arc;

/// Where a record's bytes are.
pub(crate) enum RecordBytes {
    /// Copied out of a write buffer.
    Owned(Vec<u8>),
    /// In the read cache.
    Shared(Arc<[u8]>),
    /// In the buffer that the device filled, from this offset on.
    Device(AlignedBuffer, usize),
}

impl RecordBytes {
    fn get(&self) -> &[u8] {
        match self {
            RecordBytes::Owned(bytes) => bytes,
            RecordBytes::Shared(bytes) => bytes,
            RecordBytes::Device(buffer, skip) => &buffer[*skip..],
        }
    }
}

/// A record: its metadata, its key if it was stored, its bins.
///
/// ```
/// use aerolith_engine::{Config, Engine, Key, NamespaceConfig, Value, WritePolicy};
///
/// let engine = Engine::open(Config::of(NamespaceConfig::in_memory("test", 64 << 20)))?;
/// let test = engine.namespace("test")?;
/// let key = Key::new("users", "ada")?;
/// test.put(&key, &[("name", "Ada".into()), ("born", 1815.into())], &WritePolicy::default())?;
///
/// let record = test.get(&key)?.expect("it was just written");
/// assert_eq!(record.bin("born"), Some(Value::Integer(1815)));
/// assert_eq!(record.generation(), 1);
/// # Ok::<(), aerolith_engine::Error>(())
/// ```
pub struct Record {
    bytes: RecordBytes,
    header: RecordHeader,
    /// Where the bytes lie on the device, if that is where they come from: there they cannot change.
    place: Option<Found>,
}

impl Record {
    /// A record whose bytes have proved themselves, or come from our own memory.
    pub(crate) fn new(bytes: RecordBytes) -> Result<Self, Fault> {
        let header = *RecordView::parse_trusted(bytes.get())?.header();
        Ok(Record { bytes, header, place: None })
    }

    /// The same record, which came from this place of a device.
    pub(crate) fn at(mut self, place: Found) -> Self {
        self.place = Some(place);
        self
    }

    /// Where the bytes lie on the device, if they came from there.
    pub(crate) fn place(&self) -> Option<Found> {
        self.place
    }

    pub(crate) fn header(&self) -> &RecordHeader {
        &self.header
    }

    /// Header and content, without padding.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes.get()[..self.header.length as usize]
    }

    /// Whether the record is gone at `now`.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        let expires_ms = self.header.expires_ms();
        expires_ms != 0 && expires_ms <= now.0
    }

    /// Counts the updates of the key, from 1; after 65535 comes 1.
    pub fn generation(&self) -> u16 {
        self.header.generation
    }

    /// When it expires, to the millisecond; `None`: never.
    pub fn expires_at(&self) -> Option<Timestamp> {
        Some(self.header.expires_ms()).filter(|&ms| ms != 0).map(Timestamp)
    }

    /// When it was last written.
    pub fn last_update(&self) -> Timestamp {
        Timestamp(self.header.last_update_ms())
    }

    /// The digest that names it.
    pub fn digest(&self) -> Digest {
        Digest(self.header.digest)
    }

    /// Bytes of header, key and bins.
    pub fn size(&self) -> u32 {
        self.header.length
    }

    /// The set's name; empty for the null set.
    pub fn set(&self) -> &str {
        let start = RECORD_HEADER_SIZE as usize;
        std::str::from_utf8(&self.bytes()[start..start + usize::from(self.header.set_size)]).unwrap_or("")
    }

    /// The user key's bytes, and the bins.
    pub(crate) fn content(&self) -> (&[u8], &[u8]) {
        let start = RECORD_HEADER_SIZE as usize + usize::from(self.header.set_size);
        self.bytes()[start..].split_at(usize::from(self.header.key_size))
    }

    /// The user key, if it was stored.
    pub fn user_key(&self) -> Option<UserKey<'_>> {
        if self.header.key_type == 0 {
            return None;
        }
        Value::decode(self.header.key_type, self.content().0).ok().and_then(UserKey::from_value)
    }

    /// How many bins it has.
    pub fn bin_count(&self) -> u16 {
        self.header.bin_count
    }

    /// The value of the bin called `name`.
    pub fn bin(&self, name: &str) -> Option<Value<'_>> {
        self.try_bins().find(name).ok().flatten()
    }

    /// Name and value of each bin, in the order they were written.
    pub fn bins(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.try_bins().into_iter().filter_map(Result::ok)
    }

    /// The bins, with an error where their bytes are not what this program would have written.
    pub fn try_bins(&self) -> Bins<'_> {
        Bins::new(self.content().1)
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bins: Result<Vec<_>, BinError> = self.try_bins().into_iter().collect();
        f.debug_struct("Record")
            .field("digest", &self.digest())
            .field("generation", &self.generation())
            .field("expires_at", &self.expires_at())
            .field("bins", &bins)
            .finish()
    }
}
