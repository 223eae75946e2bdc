//! One value of one bin, borrowed from wherever its bytes lie.
//!
//! A value on the device is a particle type and bytes:
//!
//! ```text
//! 1  integer   8 bytes, i64 little-endian          17  bool      1 byte, 0 or 1
//! 2  float     8 bytes, f64 bits little-endian     18  HLL       the sketch, opaque here
//! 3  string    the bytes, UTF-8 by custom          19  map       MessagePack (see `msgpack`)
//! 4  blob      the bytes                           20  list      MessagePack (see `msgpack`)
//!                                                  23  GeoJSON   the JSON text
//! ```
//!
//! The numbers are those of Aerospike's wire; the bytes are ours. There integers are big-endian, and GeoJSON
//! starts with a list of cells that is no part of the value: translating is the protocol's work. A list or a
//! map is carried, not looked into: whoever takes one from outside stores its [`canonical`] form.
//!
//! [`canonical`]: super::msgpack::canonical

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::key::UserKey;
use super::msgpack::MsgpackError;

#[cfg(test)]
mod tests;

/// Particle types: what each kind of value is called on Aerospike's wire, and on the device.
pub mod particle {
    /// A signed 64-bit integer.
    pub const INTEGER: u8 = 1;
    /// A double.
    pub const FLOAT: u8 = 2;
    /// A string.
    pub const STRING: u8 = 3;
    /// A blob.
    pub const BYTES: u8 = 4;
    /// True or false.
    pub const BOOL: u8 = 17;
    /// A HyperLogLog sketch.
    pub const HLL: u8 = 18;
    /// A map, in MessagePack.
    pub const MAP: u8 = 19;
    /// A list, in MessagePack.
    pub const LIST: u8 = 20;
    /// A GeoJSON text.
    pub const GEOJSON: u8 = 23;
}

/// Why bytes are not a value, or a value cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    /// No value has this particle type.
    #[error("particle type {particle_type} is not known; types are 1-4, 17-20 and 23")]
    UnknownParticle {
        /// The type that was read.
        particle_type: u8,
    },
    /// A number or a bool has another size than its type.
    #[error("a value of particle type {particle_type} is {need} bytes, not {size}")]
    WrongSize {
        /// The particle type.
        particle_type: u8,
        /// Size its values have, in bytes.
        need: usize,
        /// Size that was found, in bytes.
        size: usize,
    },
    /// A bool is a byte other than 0 and 1.
    #[error("a bool is 0 or 1, not {byte}")]
    NotABool {
        /// The byte that was read.
        byte: u8,
    },
    /// A string or a GeoJSON text asked for as Rust text is not UTF-8.
    #[error("text is not UTF-8 after {valid_size} of {size} bytes; read it as bytes")]
    NotUtf8 {
        /// How many bytes are good text, in bytes.
        valid_size: usize,
        /// Size of the whole, in bytes.
        size: usize,
    },
    /// A bin has no nil: a bin without a value is a bin that is not there.
    #[error("nil cannot be the value of a bin; remove the bin instead")]
    NilBin,
    /// The inside of a list or a map.
    #[error(transparent)]
    Msgpack(#[from] MsgpackError),
}

/// A bin's value. `Copy`: numbers are here, the rest is borrowed.
///
/// ```
/// use aerolith_engine::record::{Value, particle};
///
/// let mut bytes = Vec::new();
/// Value::from(42).encode_into(&mut bytes);
/// assert_eq!(bytes, 42_i64.to_le_bytes());
/// assert_eq!(Value::decode(particle::INTEGER, &bytes)?.as_i64(), Some(42));
/// assert_eq!(Value::from("text").as_str(), Some("text"));
/// # Ok::<(), aerolith_engine::record::ValueError>(())
/// ```
#[derive(Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A double.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A string. UTF-8 by custom; clients may store anything.
    String(&'a [u8]),
    /// A blob.
    Bytes(&'a [u8]),
    /// A list, in MessagePack of Aerospike's dialect.
    List(&'a [u8]),
    /// A map, in MessagePack of Aerospike's dialect.
    Map(&'a [u8]),
    /// A GeoJSON text, without the cells Aerospike's wire puts before it.
    GeoJson(&'a [u8]),
    /// A HyperLogLog sketch, opaque to this room.
    Hll(&'a [u8]),
}

impl<'a> Value<'a> {
    /// What this kind of value is called on the wire and on the device; see [`particle`].
    pub fn particle_type(&self) -> u8 {
        match self {
            Value::Integer(_) => particle::INTEGER,
            Value::Float(_) => particle::FLOAT,
            Value::Bool(_) => particle::BOOL,
            Value::String(_) => particle::STRING,
            Value::Bytes(_) => particle::BYTES,
            Value::List(_) => particle::LIST,
            Value::Map(_) => particle::MAP,
            Value::GeoJson(_) => particle::GEOJSON,
            Value::Hll(_) => particle::HLL,
        }
    }

    /// How many bytes [`encode_into`](Self::encode_into) appends.
    pub fn encoded_size(&self) -> usize {
        match self {
            Value::Integer(_) | Value::Float(_) => 8,
            Value::Bool(_) => 1,
            Value::String(bytes)
            | Value::Bytes(bytes)
            | Value::List(bytes)
            | Value::Map(bytes)
            | Value::GeoJson(bytes)
            | Value::Hll(bytes) => bytes.len(),
        }
    }

    /// Appends the value's bytes as they lie on the device; its type and size are the caller's to keep.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match *self {
            Value::Integer(number) => out.extend_from_slice(&number.to_le_bytes()),
            Value::Float(number) => out.extend_from_slice(&number.to_bits().to_le_bytes()),
            Value::Bool(truth) => out.push(u8::from(truth)),
            Value::String(bytes)
            | Value::Bytes(bytes)
            | Value::List(bytes)
            | Value::Map(bytes)
            | Value::GeoJson(bytes)
            | Value::Hll(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// The value that [`encode_into`](Self::encode_into) made `bytes` of.
    ///
    /// Fails on a type that is not known, a number or bool of the wrong size, a bool that is neither 0 nor 1.
    /// The inside of a list or map is not looked at.
    pub fn decode(particle_type: u8, bytes: &'a [u8]) -> Result<Value<'a>, ValueError> {
        Ok(match particle_type {
            particle::INTEGER => Value::Integer(i64::from_le_bytes(exactly(particle_type, bytes)?)),
            particle::FLOAT => Value::Float(f64::from_le_bytes(exactly(particle_type, bytes)?)),
            particle::BOOL => match exactly(particle_type, bytes)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [byte] => return Err(ValueError::NotABool { byte }),
            },
            particle::STRING => Value::String(bytes),
            particle::BYTES => Value::Bytes(bytes),
            particle::LIST => Value::List(bytes),
            particle::MAP => Value::Map(bytes),
            particle::GEOJSON => Value::GeoJson(bytes),
            particle::HLL => Value::Hll(bytes),
            _ => return Err(ValueError::UnknownParticle { particle_type }),
        })
    }

    /// The integer, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }

    /// The double, if it is one. An integer is not converted.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::Float(number) => Some(number),
            _ => None,
        }
    }

    /// The truth, if it is a bool.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// The text, if it is a string or GeoJSON and is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Value::String(bytes) | Value::GeoJson(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The bytes of anything that is not a number or a bool: text, blob, MessagePack or sketch.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match *self {
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) => None,
            Value::String(bytes)
            | Value::Bytes(bytes)
            | Value::List(bytes)
            | Value::Map(bytes)
            | Value::GeoJson(bytes)
            | Value::Hll(bytes) => Some(bytes),
        }
    }
}

fn exactly<const N: usize>(particle_type: u8, bytes: &[u8]) -> Result<[u8; N], ValueError> {
    bytes.try_into().map_err(|_| ValueError::WrongSize { particle_type, need: N, size: bytes.len() })
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Integer(number)
    }
}

impl From<i32> for Value<'_> {
    fn from(number: i32) -> Self {
        Value::Integer(number.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Value::Integer(number.into())
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Value::Float(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::String(text.as_bytes())
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Value::String(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Value::Bytes(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Value::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Value::Bytes(bytes)
    }
}

impl<'a> From<UserKey<'a>> for Value<'a> {
    fn from(key: UserKey<'a>) -> Self {
        match key {
            UserKey::Integer(number) => Value::Integer(number),
            UserKey::Float(number) => Value::Float(number),
            UserKey::String(bytes) => Value::String(bytes),
            UserKey::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

/// How many bytes of a long value are shown.
const SHOWN_SIZE: usize = 48;

/// The value for people: `42`, `"text"`, `0x00ff`, `list 0x9101`; what is long is cut and its size named.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Integer(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number:?}"),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::String(bytes) => show_text(f, bytes),
            Value::Bytes(bytes) => show_hex(f, "", bytes),
            Value::List(bytes) => show_hex(f, "list ", bytes),
            Value::Map(bytes) => show_hex(f, "map ", bytes),
            Value::GeoJson(bytes) => {
                f.write_str("geojson ")?;
                show_text(f, bytes)
            }
            Value::Hll(bytes) => show_hex(f, "hll ", bytes),
        }
    }
}

/// As [`Display`](fmt::Display), so that a log line with a record in it stays a line.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn show_text(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let mut end = bytes.len().min(SHOWN_SIZE);
    // Do not cut a character in half: step back over the bytes that continue one, at most three of them.
    while end < bytes.len() && end > SHOWN_SIZE - 3 && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    let text: Cow<'_, str> = String::from_utf8_lossy(&bytes[..end]);
    write!(f, "{text:?}")?;
    show_rest(f, end, bytes.len())
}

fn show_hex(f: &mut fmt::Formatter<'_>, kind: &str, bytes: &[u8]) -> fmt::Result {
    let end = bytes.len().min(SHOWN_SIZE);
    write!(f, "{kind}0x")?;
    bytes[..end].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
    show_rest(f, end, bytes.len())
}

fn show_rest(f: &mut fmt::Formatter<'_>, shown: usize, size: usize) -> fmt::Result {
    if shown < size { write!(f, "... ({size} bytes)") } else { Ok(()) }
}
