//! Versions of a key: what each was, how its bytes name themselves, and whether something seen is one of them.
//!
//! A value says whose it is: key, number, seed, length, bytes that follow from these, and a hash of its own. So
//! bytes that were mixed, cut or misplaced are seen here even if the engine's own checksum were wrong.

use super::device::mix;
use aerolith_engine::{Key, Record, Value};

/// What made a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The key had never been written.
    Unborn,
    /// A value was put.
    Put,
    /// Only generation and time to live are new.
    Touch,
    /// It was deleted.
    Delete,
    /// Its set was truncated.
    Truncate,
}

/// What a key has at one moment, as far as a reader can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// A record.
    Present(Content),
    /// The engine said that it is damaged or cannot be read.
    Refused(String),
    /// Bytes that are no version of this key.
    Garbage(String),
}

/// What a record holds and says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// The number that its bytes name.
    pub number: u64,
    /// The counter beside it.
    pub count: i64,
    /// Its generation.
    pub generation: u16,
    /// When it was last written, in Unix milliseconds.
    pub updated_ms: u64,
    /// When it expires, in Unix milliseconds; 0: never.
    pub expires_ms: u64,
}

impl Content {
    /// Whether its end is still to come.
    pub fn is_alive(&self, now_ms: u64) -> bool {
        self.expires_ms == 0 || self.expires_ms > now_ms
    }
}

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Versions of all keys are numbered in the order in which the engine applied them.
    pub id: u64,
    /// What made it.
    pub kind: Kind,
    /// What it holds; none: nothing is there.
    pub content: Option<Content>,
    /// What it holds instead, if it is not that: where it had already expired when it was written nobody can ask.
    pub others: [Option<Content>; 2],
    /// When it was accepted, in milliseconds of the monotonic clock.
    pub accepted_ms: u64,
    /// The wall clock has been past its end and was set back.
    pub has_lapsed: bool,
}

impl Version {
    /// What it may hold.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        self.content.iter().chain(self.others.iter().flatten())
    }

    /// Whether a reader at `now_ms` may find `seen` while this is the key's version.
    pub fn allows(&self, seen: &Seen, now_ms: u64) -> bool {
        match seen {
            Seen::Absent => {
                self.content.is_none()
                    || self.has_lapsed
                    || self.contents().any(|content| !content.is_alive(now_ms))
            }
            Seen::Present(found) => self.contents().any(|of| of == found && of.is_alive(now_ms)),
            Seen::Refused(_) | Seen::Garbage(_) => false,
        }
    }

    /// Whether a record is certain to be there at `now_ms`, unless the wall clock was set back below its end.
    pub fn is_alive(&self, now_ms: u64) -> bool {
        self.content.is_some() && self.contents().all(|content| content.is_alive(now_ms))
    }

    /// Whether it may be gone at `now_ms`, by the clock that only knows seconds too.
    pub fn may_be_gone(&self, now_ms: u64) -> bool {
        self.allows(&Seen::Absent, now_ms)
    }
}

/// Keys below this number are of the set "a", the others of "b".
pub const SET_BORDER: u32 = 1_000;

/// The set that a key belongs to.
pub fn set_of(key: u32) -> &'static str {
    if key < SET_BORDER { "a" } else { "b" }
}

/// The key with this number.
pub fn key_of(key: u32) -> Key<'static> {
    Key::new(set_of(key), key).expect("a number is a key")
}

/// The number of a record's key.
pub fn number_of(record: &Record) -> Option<u32> {
    match record.user_key() {
        Some(aerolith_engine::UserKey::Integer(number)) => u32::try_from(number).ok(),
        _ => None,
    }
}

/// The bytes of a value. Its length follows from its number.
pub fn bytes_of(seed: u64, key: u32, number: u64) -> Vec<u8> {
    let pick = mix(seed, &number.to_le_bytes());
    let length = match pick % 40 {
        0 => 4_000 + (pick >> 8) % 3_400,
        1..=6 => 1_000 + (pick >> 8) % 1_500,
        _ => 40 + (pick >> 8) % 500,
    } as usize;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&key.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&seed.to_le_bytes());
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    let mut word = mix(pick, &key.to_le_bytes());
    while bytes.len() < length - 8 {
        word = word.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(1);
        bytes.extend_from_slice(&word.to_be_bytes()[..8.min(length - 8 - bytes.len())]);
    }
    let hash = mix(0, &bytes);
    bytes.extend_from_slice(&hash.to_le_bytes());
    bytes
}

/// What a record of `key` is, or why it is no version of it.
pub fn seen_of(seed: u64, key: u32, record: &Record) -> Seen {
    let Some(bytes) = record.bin("v").and_then(|value| value.as_bytes().map(<[u8]>::to_vec)) else {
        return Seen::Garbage("it has no bin with a value".into());
    };
    let Some(number) = bytes.get(4..12).map(|number| u64::from_le_bytes(number.try_into().expect("8 bytes")))
    else {
        return Seen::Garbage(format!("its value has {} bytes", bytes.len()));
    };
    if bytes != bytes_of(seed, key, number) {
        let named = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
        return Seen::Garbage(format!("its value names key {named} and number {number}, and is not theirs"));
    }
    Seen::Present(Content {
        number,
        count: record.bin("n").and_then(|value: Value<'_>| value.as_i64()).unwrap_or(0),
        generation: record.generation(),
        updated_ms: record.last_update().0,
        expires_ms: record.expires_at().map_or(0, |at| at.0),
    })
}
