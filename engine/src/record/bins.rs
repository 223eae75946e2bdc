//! The bins of a record as they lie in it: one after the other, in the order they were written.
//!
//! ```text
//! per bin   0         1          2            6       6 + n
//!           particle  name size  value size   name    value
//!           u8        u8, n<=15  u32 LE       n bytes
//! ```
//!
//! There is no count and no end mark: the list ends where its bytes do, and the record around it knows how
//! many those are and has checked them. Cut at a bin's edge it is a shorter list; cut anywhere else it is an
//! error.
//!
//! What [`BinsWriter`] wrote has at most [`MAX_BIN_COUNT`] bins with names of their own. A name may be empty:
//! Redis and memcached keep their value there.

use std::collections::HashSet;

use thiserror::Error;

use super::value::{Value, ValueError};

#[cfg(test)]
mod tests;

/// The longest name of a bin, in bytes.
pub const MAX_BIN_NAME_SIZE: usize = 15;

/// The most bins a record has.
pub const MAX_BIN_COUNT: usize = 32_767;

/// What stands before each bin's name, in bytes.
pub const BIN_HEAD_SIZE: usize = 6;

/// Why bytes are no list of bins, or a bin cannot be added to one. `at` counts bytes from the list's start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BinError {
    /// The list ends inside of a bin.
    #[error("bins: the bin at byte {at} has {need} bytes, only {have} are there")]
    Truncated {
        /// Where the bin starts.
        at: usize,
        /// The bytes it needs, as far as that can be told.
        need: u64,
        /// The bytes there are.
        have: usize,
    },
    /// A stored name is longer than a name can be.
    #[error(
        "bins: the bin at byte {at} has a name of {size} bytes, at most {MAX_BIN_NAME_SIZE} are possible"
    )]
    NameSize {
        /// Where the bin starts.
        at: usize,
        /// The name's size, in bytes.
        size: usize,
    },
    /// A stored name is not UTF-8.
    #[error("bins: the bin at byte {at} has a name that is not UTF-8")]
    NameNotUtf8 {
        /// Where the bin starts.
        at: usize,
    },
    /// A stored value is none.
    #[error("bins: the bin at byte {at}: {source}")]
    Value {
        /// Where the bin starts.
        at: usize,
        /// What is wrong with it.
        source: ValueError,
    },
    /// A name to be written is too long.
    #[error("bin name {name:?} is {} bytes, at most {MAX_BIN_NAME_SIZE} are allowed; shorten it", name.len())]
    NameTooLong {
        /// The name that was given.
        name: String,
    },
    /// A name to be written is there already.
    #[error("bin {name:?} is given twice; give each bin once")]
    DuplicateName {
        /// The name that was given.
        name: String,
    },
    /// More bins than a record has.
    #[error("a record has at most {MAX_BIN_COUNT} bins; put values that belong together in a map")]
    TooMany,
    /// A value whose size does not fit 32 bits.
    #[error(
        "the value of bin {name:?} is {size} bytes, which no record can hold; split it over several records"
    )]
    ValueTooLong {
        /// The bin's name.
        name: String,
        /// Size of the value, in bytes.
        size: usize,
    },
}

/// The bins in some bytes, which may be any bytes.
///
/// ```
/// use aerolith_engine::record::{Bins, BinsWriter, Value};
///
/// let mut writer = BinsWriter::new();
/// writer.bin("name", "Ada".into())?.bin("born", 1815.into())?;
/// let bytes = writer.into_bytes();
/// let bins = Bins::new(&bytes);
/// assert_eq!(bins.find("born")?, Some(Value::Integer(1815)));
/// for bin in bins {
///     let (name, value) = bin?;
///     println!("{name} = {value}");
/// }
/// # Ok::<(), aerolith_engine::record::BinError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bins<'a> {
    bytes: &'a [u8],
}

impl<'a> Bins<'a> {
    /// The bins in `bytes`. Nothing is looked at yet.
    pub fn new(bytes: &'a [u8]) -> Bins<'a> {
        Bins { bytes }
    }

    /// The bytes that they lie in.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All bins in the order they lie in.
    pub fn iter(&self) -> BinsReader<'a> {
        BinsReader { bytes: self.bytes, position: 0 }
    }

    /// The value of the bin called `name`, if there is one. Bins before it are stepped over, not decoded;
    /// those after it are not looked at.
    ///
    /// Fails if the bytes on the way are no bins, or the value is none.
    pub fn find(&self, name: &str) -> Result<Option<Value<'a>>, BinError> {
        let mut reader = self.iter();
        while let Some(bin) = reader.raw()? {
            if bin.name == name.as_bytes() {
                return bin.value().map(Some);
            }
        }
        Ok(None)
    }
}

impl<'a> IntoIterator for Bins<'a> {
    type Item = Result<(&'a str, Value<'a>), BinError>;
    type IntoIter = BinsReader<'a>;

    fn into_iter(self) -> BinsReader<'a> {
        self.iter()
    }
}

/// Reads bins one by one; after an error there are no more.
#[derive(Clone, Debug)]
pub struct BinsReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// A bin whose extent is checked, and nothing else.
struct RawBin<'a> {
    at: usize,
    particle_type: u8,
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> RawBin<'a> {
    fn name(&self) -> Result<&'a str, BinError> {
        std::str::from_utf8(self.name).map_err(|_| BinError::NameNotUtf8 { at: self.at })
    }

    fn value(&self) -> Result<Value<'a>, BinError> {
        Value::decode(self.particle_type, self.value)
            .map_err(|source| BinError::Value { at: self.at, source })
    }
}

impl<'a> BinsReader<'a> {
    fn raw(&mut self) -> Result<Option<RawBin<'a>>, BinError> {
        let at = self.position;
        let rest = &self.bytes[at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let truncated = |need| BinError::Truncated { at, need, have: rest.len() };
        let Some((head, body)) = rest.split_first_chunk::<BIN_HEAD_SIZE>() else {
            return Err(truncated(BIN_HEAD_SIZE as u64));
        };
        let [particle_type, name_size, value_size @ ..] = *head;
        let (name_size, value_size) = (usize::from(name_size), u32::from_le_bytes(value_size));
        if name_size > MAX_BIN_NAME_SIZE {
            return Err(BinError::NameSize { at, size: name_size });
        }
        let body_size = name_size as u64 + u64::from(value_size);
        if body_size > body.len() as u64 {
            return Err(truncated(BIN_HEAD_SIZE as u64 + body_size));
        }
        let (name, value) = body[..body_size as usize].split_at(name_size);
        self.position = at + BIN_HEAD_SIZE + body_size as usize;
        Ok(Some(RawBin { at, particle_type, name, value }))
    }
}

impl<'a> Iterator for BinsReader<'a> {
    type Item = Result<(&'a str, Value<'a>), BinError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bin = self.raw().and_then(|bin| bin.map(|bin| Ok((bin.name()?, bin.value()?))).transpose());
        if bin.is_err() {
            self.position = self.bytes.len();
        }
        bin.transpose()
    }
}

impl std::iter::FusedIterator for BinsReader<'_> {}

/// Up to this many bins a new name is compared with those written; beyond, names are kept in a set.
const COMPARED_COUNT: usize = 32;

/// Builds a list of bins, each name once.
///
/// A list's or map's MessagePack is taken as it is: whoever got it from outside has validated it.
#[derive(Clone, Debug, Default)]
pub struct BinsWriter {
    bytes: Vec<u8>,
    /// Where the bins start in `bytes`.
    start: usize,
    count: usize,
    /// The names written, each padded with its size behind; empty until there are many.
    names: HashSet<[u8; MAX_BIN_NAME_SIZE + 1]>,
}

impl BinsWriter {
    /// An empty list.
    pub fn new() -> BinsWriter {
        BinsWriter::default()
    }

    /// An empty list whose bins will be appended to `bytes`, after what is there: a record's header.
    pub fn after(bytes: Vec<u8>) -> BinsWriter {
        BinsWriter { start: bytes.len(), bytes, ..BinsWriter::default() }
    }

    /// Appends a bin.
    ///
    /// Fails on a name over 15 bytes, a name that was written before, a bin over 32767, and a value of 4 GiB;
    /// the list is then as it was.
    pub fn bin(&mut self, name: &str, value: Value<'_>) -> Result<&mut Self, BinError> {
        let Some(padded) = padded(name) else { return Err(BinError::NameTooLong { name: name.to_owned() }) };
        if self.count == MAX_BIN_COUNT {
            return Err(BinError::TooMany);
        }
        let size = value.encoded_size();
        let value_size =
            u32::try_from(size).map_err(|_| BinError::ValueTooLong { name: name.to_owned(), size })?;
        if self.is_taken(name, padded) {
            return Err(BinError::DuplicateName { name: name.to_owned() });
        }
        self.bytes.reserve(BIN_HEAD_SIZE + name.len() + size);
        self.bytes.extend_from_slice(&[value.particle_type(), name.len() as u8]);
        self.bytes.extend_from_slice(&value_size.to_le_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        value.encode_into(&mut self.bytes);
        self.count += 1;
        Ok(self)
    }

    /// How many bins there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The list so far, without what was before it.
    pub fn bins(&self) -> Bins<'_> {
        Bins::new(&self.bytes[self.start..])
    }

    /// The bytes, with what was before the list.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Is there a bin of this name? If not, there will be: it is noted, once names are kept.
    fn is_taken(&mut self, name: &str, padded: [u8; MAX_BIN_NAME_SIZE + 1]) -> bool {
        if self.count < COMPARED_COUNT {
            return self.written_names().any(|other| other == name);
        }
        if self.names.is_empty() {
            self.names = self.written_names().filter_map(self::padded).collect();
        }
        !self.names.insert(padded)
    }

    fn written_names(&self) -> impl Iterator<Item = &str> {
        self.bins().into_iter().map(|bin| bin.expect("bins: the writer wrote what the reader refuses").0)
    }
}

fn padded(name: &str) -> Option<[u8; MAX_BIN_NAME_SIZE + 1]> {
    let mut padded = [0; MAX_BIN_NAME_SIZE + 1];
    padded[..MAX_BIN_NAME_SIZE].get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    padded[MAX_BIN_NAME_SIZE] = name.len() as u8;
    Some(padded)
}
