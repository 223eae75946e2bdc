//! The few engine calls the protocols need, in their words: text keys, text values, milliseconds.
//!
//! A protocol key is a string key of one configured set; its value is the bin with the empty name. Text that
//! reads as a canonical 64-bit integer is stored as an integer, so that counters are numbers for every
//! protocol; other valid UTF-8 is stored as a string, anything else as bytes. A read gives back the same text.
//!
//! Whatever the index can tell ([`Store::metadata`]) is told at once. A read of the value
//! ([`Store::begin_get`]) is either ready or has its device read *already in flight* when the call returns:
//! callers start many before they await one. A modification is a function from the old record to an
//! [`Outcome`], run exactly once, under the engine's lock: it must not wait for anything.
//!
//! What always holds: no method blocks the thread, and an expired record is never handed out.

use crate::redis::number::{Decimal, canonical_integer};
use crate::store_mock::Mock;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// What can go wrong in the engine, as far as a protocol has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// The word a Redis client matches on: `ERR`, `OOM` (no space for writes) or `BUSY` (try again).
    pub code: &'static str,
    /// What happened and what to do about it.
    pub message: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

impl std::error::Error for StoreError {}

/// How the data behind a store is laid out and kept; sizes in bytes.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Where the data file lies.
    pub data_dir: PathBuf,
    /// Size of the data file.
    pub size: u64,
    /// Budget of the read cache.
    pub cache: u64,
    /// Budget of the write buffers and the post-write cache.
    pub write_cache: u64,
    /// Whether an acknowledgement waits for the device (`group`) or not (`relaxed`).
    pub durability: crate::config::Durability,
    /// The set that protocol keys live in.
    pub set: String,
}

/// A value as the protocols see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A 64-bit integer.
    Integer(i64),
    /// A string or bytes.
    Text(&'a [u8]),
    /// Something that is not a Redis string, by the name that TYPE gives it.
    Other(&'static str),
}

/// The text of a string value, borrowed from the record or formatted from an integer.
#[derive(Debug)]
pub enum Text<'a> {
    /// Bytes that lie in the record.
    Borrowed(&'a [u8]),
    /// An integer's digits.
    Digits(Decimal),
}

impl Text<'_> {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Borrowed(bytes) => bytes,
            Text::Digits(digits) => digits.as_bytes(),
        }
    }
}

/// One record, owning its bytes.
#[derive(Debug, Clone)]
pub struct Record(pub(crate) Arc<crate::store_mock::Stored>);

impl Record {
    /// The value of the bin with the empty name.
    pub fn value(&self) -> Value<'_> {
        self.0.value()
    }

    /// The value as text, or `None` when it is not a Redis string.
    pub fn text(&self) -> Option<Text<'_>> {
        match self.value() {
            Value::Integer(number) => Some(Text::Digits(Decimal::new(number))),
            Value::Text(bytes) => Some(Text::Borrowed(bytes)),
            Value::Other(_) => None,
        }
    }

    /// When it expires, in milliseconds since the Unix epoch, exactly; `None` is never.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.0.expires_at_ms()
    }
}

/// What the index knows of a record without a device read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// When it expires, in milliseconds since the Unix epoch, rounded up to a second; `None` is never.
    pub expires_at_ms: Option<u64>,
}

/// A value to be stored.
#[derive(Debug)]
pub enum NewValue<'a> {
    /// A number.
    Integer(i64),
    /// Text of any kind; stored as an integer when it reads as one.
    Text(Cow<'a, [u8]>),
}

/// The three shapes in which text is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Encoded<'a> {
    /// A canonical 64-bit integer.
    Integer(i64),
    /// Valid UTF-8.
    String(&'a str),
    /// Anything else.
    Bytes(&'a [u8]),
}

impl NewValue<'_> {
    /// How this value is stored.
    pub fn encoded(&self) -> Encoded<'_> {
        match self {
            NewValue::Integer(number) => Encoded::Integer(*number),
            NewValue::Text(text) => match (canonical_integer(text), std::str::from_utf8(text)) {
                (Some(number), _) => Encoded::Integer(number),
                (None, Ok(string)) => Encoded::String(string),
                (None, Err(_)) => Encoded::Bytes(text),
            },
        }
    }
}

impl<'a> From<&'a [u8]> for NewValue<'a> {
    fn from(text: &'a [u8]) -> Self {
        NewValue::Text(Cow::Borrowed(text))
    }
}

impl From<Vec<u8>> for NewValue<'static> {
    fn from(text: Vec<u8>) -> Self {
        NewValue::Text(Cow::Owned(text))
    }
}

/// When a stored value expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// When the old version would have; never if there was none.
    Keep,
    /// At this time, in milliseconds since the Unix epoch.
    At(u64),
}

/// Whether a blind write applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Any,
    /// Only if the key is not there.
    IfAbsent,
    /// Only if the key is there.
    IfPresent,
}

/// What a modification makes of a record.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Store this value.
    Put(NewValue<'a>, Expiry),
    /// Keep the value and change only when it expires.
    Touch(Expiry),
    /// Remove the record.
    Delete,
    /// Leave everything as it was.
    Keep,
}

/// A read that has been started.
pub enum Get {
    /// The record was in RAM, or the index knows that there is none.
    Ready(Result<Option<Record>, StoreError>),
    /// The device read is in flight.
    Pending(Pin<Box<dyn Future<Output = Result<Option<Record>, StoreError>>>>),
}

impl Get {
    /// Waits for the answer.
    pub async fn wait(self) -> Result<Option<Record>, StoreError> {
        match self {
            Get::Ready(answer) => answer,
            Get::Pending(read) => read.await,
        }
    }
}

/// A device read started ahead of the modification that will need it; forgotten when dropped.
#[derive(Debug)]
pub struct Prefetch;

/// One step of a walk over all keys.
#[derive(Debug)]
pub struct ScanPage {
    /// Keys with the name that TYPE gives their values.
    pub keys: Vec<(Vec<u8>, &'static str)>,
    /// Where to go on; 0 when the walk is over.
    pub next: u64,
}

/// Figures for INFO; sizes in bytes.
#[derive(Debug, Clone, Default)]
pub struct StoreStats {
    /// Records in the set of the protocol keys.
    pub keys: u64,
    /// Of these, how many have an expiry.
    pub expires: u64,
    /// Records that have expired since the start.
    pub expired: u64,
    /// Records evicted since the start.
    pub evicted: u64,
    /// RAM in use by index, caches and buffers.
    pub memory: u64,
    /// Further lines for INFO's Aerolith section, name and value.
    pub details: Vec<(&'static str, String)>,
}

/// A cheap handle on the engine, one for each connection.
#[derive(Debug, Clone)]
pub struct Store {
    mock: Arc<Mock>,
}

impl Store {
    /// Opens the data; errors say which file and what to do.
    pub fn open(config: &StoreConfig) -> Result<Store, StoreError> {
        Ok(Store { mock: Arc::new(Mock::new(config)) })
    }

    /// Starts reading a record.
    pub fn begin_get(&self, key: &[u8]) -> Get {
        self.mock.begin_get(key)
    }

    /// What the index knows: no device read.
    pub fn metadata(&self, key: &[u8]) -> Result<Option<Metadata>, StoreError> {
        let found = self.mock.get(key);
        Ok(found.map(|r| Metadata { expires_at_ms: r.expires_at_ms().map(|ms| ms.div_ceil(1000) * 1000) }))
    }

    /// Starts the device read that an `update` of this key will need, if it will need one.
    pub fn prefetch(&self, _key: &[u8]) -> Prefetch {
        Prefetch
    }

    /// Replaces a record whole, without reading it. Says whether the condition held.
    pub async fn put(
        &self,
        key: &[u8],
        value: NewValue<'_>,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<bool, StoreError> {
        Ok(self.mock.put(key, value, expiry, condition))
    }

    /// Stores all pairs, all or none of them also on a crash. The keys differ from each other.
    pub async fn put_many(&self, pairs: Vec<(&[u8], NewValue<'_>)>) -> Result<(), StoreError> {
        for (key, value) in pairs {
            self.mock.put(key, value, Expiry::Never, Condition::Any);
        }
        Ok(())
    }

    /// Removes a record, without reading it. Says whether it was there.
    pub async fn delete(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.mock.delete(key))
    }

    /// Reads a record and replaces it by what `change` makes of it, atomically.
    pub async fn update<'a, T>(
        &self,
        key: &[u8],
        change: impl FnOnce(Option<&Record>) -> (Outcome<'a>, T),
    ) -> Result<T, StoreError> {
        Ok(self.mock.update(key, change))
    }

    /// The same for several keys that differ from each other: all outcomes or none, also on a crash.
    pub async fn update_many<'a, T>(
        &self,
        keys: &[&[u8]],
        change: impl FnOnce(&[Option<Record>]) -> (Vec<Outcome<'a>>, T),
    ) -> Result<T, StoreError> {
        Ok(self.mock.update_many(keys, change))
    }

    /// About `limit` keys from `cursor` on (0 is the start; any other number is a place in the walk too).
    ///
    /// A key that is there during the whole walk is told at least once.
    pub async fn scan(&self, cursor: u64, limit: usize) -> Result<ScanPage, StoreError> {
        Ok(self.mock.scan(cursor, limit))
    }

    /// How many keys there are, without a walk.
    pub fn count(&self) -> u64 {
        self.mock.count()
    }

    /// Removes all keys of the set.
    pub async fn truncate(&self) -> Result<(), StoreError> {
        self.mock.truncate();
        Ok(())
    }

    /// Returns when everything acknowledged so far is on the device.
    pub async fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Figures for INFO.
    pub fn stats(&self) -> StoreStats {
        self.mock.stats()
    }

    /// Puts a value that is not a Redis string, for tests of WRONGTYPE.
    #[doc(hidden)]
    pub fn put_other(&self, key: &[u8], kind: &'static str) {
        self.mock.put_other(key, kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_stored_by_what_it_reads_as() {
        let encoded = |text: &'static [u8]| match NewValue::from(text).encoded() {
            Encoded::Integer(number) => format!("integer {number}"),
            Encoded::String(string) => format!("string {string}"),
            Encoded::Bytes(bytes) => format!("bytes {bytes:?}"),
        };
        assert_eq!(encoded(b"12"), "integer 12");
        assert_eq!(encoded(b"-9223372036854775808"), "integer -9223372036854775808");
        assert_eq!(encoded(b"9223372036854775808"), "string 9223372036854775808");
        for text in [&b"012"[..], b"+12", b"-0", b" 12", b"12 ", b"", b"-", b"1.0"] {
            assert_eq!(encoded(text), format!("string {}", String::from_utf8_lossy(text)));
        }
        assert_eq!(encoded(b"\xff"), "bytes [255]");
    }
}
