//! MessagePack in Aerospike's dialect: what lists and maps are made of, in bins and in arguments.
//!
//! Plain MessagePack, with these habits:
//!
//! ```text
//! string, blob, GeoJSON, HLL   a str header (a0-bf, d9, da, db); the first payload byte is the particle
//!                              type: "x" = a2 03 78, blob 7a = a2 04 7a. The bin headers c4-c6 mean the same
//! ordered list                 declared count + 1, first element c7 00 01
//! ordered map                  declared count + 1, first pair c7 00 <flags>, c0
//! wildcard, infinity           d4 ff 00, d4 ff 01: in arguments of operations only, never stored
//! ```
//!
//! [`Reader`] turns bytes into [`Token`]s without recursion and without memory of its own; [`Writer`] is its
//! inverse and always writes the shortest form. [`compare`] is the total order of all values. [`validate`] says
//! whether bytes may be stored as a list or map, and [`canonical`] rewrites them as they are stored.
//!
//! What always holds: no bytes cause a panic; nothing is deeper than [`MAX_DEPTH`]; a declared size or count is
//! compared with the bytes that are there before anything is done with it.

mod canonical;
mod order;
mod read;
mod validate;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;

use thiserror::Error;

pub use canonical::canonical;
pub use order::{compare, sort_order};
pub use read::{Reader, Token};
pub use validate::validate;
pub use write::Writer;

/// How many lists and maps may be open inside each other. A flat list has depth 1.
pub const MAX_DEPTH: usize = 32;

/// What the pair or element in front of an ordered container says: the order it is kept in.
///
/// Bits that are not known are carried and ignored.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No order: no flags are written.
    pub const UNORDERED: Flags = Flags(0);
    /// A list in order of value, or a map in order of key.
    pub const ORDERED: Flags = Flags(1);
    /// A map that also has an order of values. Its bytes are in order of key.
    pub const VALUE_ORDERED: Flags = Flags(3);
    /// A map in a reply whose pairs come in the order of the request. Means nothing in a stored map.
    pub const PRESERVE_ORDER: Flags = Flags(8);

    /// Are the elements, or the keys, in ascending order?
    pub fn is_ordered(self) -> bool {
        self.0 & 1 != 0
    }

    /// The flags a stored list keeps.
    fn stored_list(self) -> Flags {
        Flags(self.0 & 1)
    }

    /// The flags a stored map keeps: 0, 1 or 3.
    fn stored_map(self) -> Flags {
        if self.is_ordered() { Flags(self.0 & 3) } else { Flags::UNORDERED }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#04x})", self.0)
    }
}

/// Which container bytes must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A list.
    List,
    /// A map.
    Map,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Expect::List => "list",
            Expect::Map => "map",
        })
    }
}

/// Why bytes are not MessagePack, or not what may be stored. `at` counts bytes from the start of the input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MsgpackError {
    /// The bytes end before the value does, or a header promises more than there is.
    #[error("msgpack: byte {at} starts something of at least {need} bytes, only {have} are there")]
    Truncated {
        /// Where the value that does not fit starts.
        at: usize,
        /// The fewest bytes it could have.
        need: u64,
        /// The bytes there are.
        have: usize,
    },
    /// More containers are open than [`MAX_DEPTH`].
    #[error(
        "msgpack: containers nest deeper than {MAX_DEPTH} at byte {at}; store the inner ones in other bins"
    )]
    TooDeep {
        /// Where the container that is one too many starts.
        at: usize,
    },
    /// The byte c1, which starts nothing.
    #[error("msgpack: byte {at} is c1, which starts no value")]
    Reserved {
        /// Where it is.
        at: usize,
    },
    /// An unsigned integer that is no i64.
    #[error("msgpack: integer {value} at byte {at} is over {}, the largest there is", i64::MAX)]
    IntegerTooLarge {
        /// Where it starts.
        at: usize,
        /// The number.
        value: u64,
    },
    /// The pair in front of an ordered map has a value other than nil.
    #[error("msgpack: the flags of the map at byte {at} are not followed by nil")]
    MapFlags {
        /// Where the map starts.
        at: usize,
    },
    /// Bytes after the value.
    #[error("msgpack: {size} bytes follow the value, which ends at byte {at}")]
    Trailing {
        /// Where the value ends.
        at: usize,
        /// How many bytes follow.
        size: usize,
    },
    /// Another kind of value than the one asked for.
    #[error("msgpack: expected a {expected}, found a value that starts with {found:02x}")]
    WrongContainer {
        /// What was asked for.
        expected: Expect,
        /// The first byte of what is there.
        found: u8,
    },
    /// A wildcard, an infinity or an extension without payload in a value to be stored.
    #[error(
        "msgpack: wildcard, infinity or empty extension at byte {at}; these are for arguments, not to be stored"
    )]
    NotStorable {
        /// Where it is.
        at: usize,
    },
    /// A map key that is not an integer, a string or a blob.
    #[error("msgpack: the map key at byte {at} is not an integer, a string or a blob")]
    KeyType {
        /// Where the key starts.
        at: usize,
    },
    /// The same key twice in a map.
    #[error("msgpack: the map key at byte {at} is there twice")]
    DuplicateKey {
        /// Where one of the two starts.
        at: usize,
    },
    /// A container that is flagged ordered and is not.
    #[error("msgpack: the element at byte {at} is out of order in a container flagged ordered")]
    Unsorted {
        /// Where the first element starts that should have come earlier.
        at: usize,
    },
    /// A value this program's own tree cannot hold, such as an extension type.
    #[error("msgpack: the value at byte {at} has no counterpart here; read it as bytes")]
    Unrepresentable {
        /// Where it starts.
        at: usize,
    },
    /// A string or blob that no header can announce.
    #[error("msgpack: a string of {size} bytes is too long, at most {} are possible", u32::MAX - 1)]
    TooLong {
        /// Its size, in bytes.
        size: usize,
    },
}
