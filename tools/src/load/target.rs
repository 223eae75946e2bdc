//! A store that can be put under load: what it is asked, and how a worker gets to it.

use super::LoadError;
use super::lane::Lane;
use super::mix::Operation;
use std::time::Duration;

/// A request to a store. Records are numbered; the target makes keys of the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// One record's value.
    Get(u64),
    /// Write a record whole.
    Put {
        /// Whose.
        key: u64,
        /// What.
        value: Vec<u8>,
        /// How long it lives.
        ttl: Option<Duration>,
    },
    /// Delete a record.
    Delete(u64),
    /// Give a record a time to live.
    Expire {
        /// Which.
        key: u64,
        /// How long it lives from now.
        ttl: Duration,
    },
    /// Several records' values.
    GetMany(Vec<u64>),
    /// So many records from a place that the number stands for.
    Scan {
        /// Any number.
        from: u64,
        /// The most records.
        limit: usize,
    },
}

/// The number under which the count of records is kept in the store, so that runs go on from each other.
pub const COUNT_KEY: u64 = u64::MAX;
/// Digits of a key's number.
const DIGITS: usize = 12;
/// Records are numbered below this.
pub const KEY_LIMIT: u64 = 10_u64.pow(DIGITS as u32);

/// How much a worker keeps in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSize {
    /// Connections of this worker; the engine has none.
    pub connections: usize,
    /// Requests in flight on each.
    pub depth: usize,
}

/// A lane to a store.
pub type StoreLane = Box<dyn Lane<Request>>;

/// A store.
pub trait Target: Send + Sync {
    /// What it is, for outputs.
    fn name(&self) -> String;

    /// A way to it, made on the thread that drives it.
    fn lane(&self, size: LaneSize) -> Result<StoreLane, LoadError>;

    /// How many requests a connection should have in flight while records are loaded.
    fn load_depth(&self) -> usize;

    /// What stands for an operation here, where that is not what its name says; an error if nothing can.
    fn stands_for(&self, operation: Operation) -> Result<Option<&'static str>, LoadError>;

    /// The largest value that it takes, in bytes, where that is known.
    fn largest_value(&self) -> Option<u64>;

    /// Has everything written that was acknowledged, as far as it can be asked to.
    fn settle(&self) -> Result<(), LoadError>;

    /// Lets go of it.
    fn close(self: Box<Self>) -> Result<(), LoadError>;
}

/// Appends the key of a record: the prefix and twelve digits, so that all keys have one length.
pub fn write_key(out: &mut Vec<u8>, prefix: &str, key: u64) {
    out.extend_from_slice(prefix.as_bytes());
    if key == COUNT_KEY {
        out.extend_from_slice(b"count");
        return;
    }
    let (mut digits, mut rest) = ([b'0'; DIGITS], key);
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_length_and_name_their_record() {
        let key = |key| {
            let mut out = Vec::new();
            write_key(&mut out, "key:", key);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(key(0), "key:000000000000");
        assert_eq!(key(120_034), "key:000000120034");
        assert_eq!(key(KEY_LIMIT - 1), "key:999999999999");
        assert_eq!(key(COUNT_KEY), "key:count");
    }
}
