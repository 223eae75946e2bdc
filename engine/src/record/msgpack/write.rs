//! From values to bytes, in the shortest form there is.
//!
//! The writer appends and keeps no state: that a list of three is followed by three values is the caller's
//! promise. What it writes, a `Reader` reads back as the same tokens.

use super::{Flags, Token};
use crate::record::value::particle;

/// Appends MessagePack to a vector.
///
/// ```
/// use aerolith_engine::record::msgpack::{Flags, Writer};
///
/// let mut bytes = Vec::new();
/// Writer::new(&mut bytes).map(1, Flags::ORDERED).string(b"a").integer(1);
/// assert_eq!(bytes, [0x82, 0xc7, 0x00, 0x01, 0xc0, 0xa2, 0x03, b'a', 0x01]);
/// ```
pub struct Writer<'v> {
    out: &'v mut Vec<u8>,
}

impl<'v> Writer<'v> {
    /// A writer that appends to `out`.
    pub fn new(out: &'v mut Vec<u8>) -> Writer<'v> {
        Writer { out }
    }

    /// Nil.
    pub fn nil(&mut self) -> &mut Self {
        self.raw(&[0xc0])
    }

    /// True or false.
    pub fn bool(&mut self, truth: bool) -> &mut Self {
        self.raw(&[0xc2 + u8::from(truth)])
    }

    /// An integer, in as few bytes as hold it.
    pub fn integer(&mut self, number: i64) -> &mut Self {
        match number {
            0..=0x7f => self.raw(&[number as u8]),
            0x80..=0xff => self.raw(&[0xcc, number as u8]),
            0x100..=0xffff => self.head(0xcd, &(number as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.head(0xce, &(number as u32).to_be_bytes()),
            0x1_0000_0000.. => self.head(0xcf, &number.to_be_bytes()),
            -0x20..=-1 => self.raw(&[number as u8]),
            -0x80..=-0x21 => self.raw(&[0xd0, number as u8]),
            -0x8000..=-0x81 => self.head(0xd1, &(number as i16).to_be_bytes()),
            -0x8000_0000..=-0x8001 => self.head(0xd2, &(number as i32).to_be_bytes()),
            ..=-0x8000_0001 => self.head(0xd3, &number.to_be_bytes()),
        }
    }

    /// A single-precision float.
    pub fn float32(&mut self, number: f32) -> &mut Self {
        self.head(0xca, &number.to_be_bytes())
    }

    /// A double.
    pub fn float(&mut self, number: f64) -> &mut Self {
        self.head(0xcb, &number.to_be_bytes())
    }

    /// A string. Panics, as the next four do, on more than 2^32 - 2 bytes: no record holds a part of that.
    pub fn string(&mut self, text: &[u8]) -> &mut Self {
        self.typed(particle::STRING, text)
    }

    /// A blob.
    pub fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        self.typed(particle::BYTES, bytes)
    }

    /// A GeoJSON text.
    pub fn geojson(&mut self, text: &[u8]) -> &mut Self {
        self.typed(particle::GEOJSON, text)
    }

    /// A HyperLogLog sketch.
    pub fn hll(&mut self, sketch: &[u8]) -> &mut Self {
        self.typed(particle::HLL, sketch)
    }

    /// Bytes of any particle type.
    pub fn typed(&mut self, particle_type: u8, bytes: &[u8]) -> &mut Self {
        let size = u32::try_from(bytes.len()).ok().and_then(|size| size.checked_add(1));
        let size = size.unwrap_or_else(|| panic!("{} bytes do not fit a msgpack string", bytes.len()));
        match size {
            0..=0x1f => self.raw(&[0xa0 | size as u8]),
            0x20..=0xff => self.raw(&[0xd9, size as u8]),
            0x100..=0xffff => self.head(0xda, &(size as u16).to_be_bytes()),
            0x1_0000.. => self.head(0xdb, &size.to_be_bytes()),
        };
        self.raw(&[particle_type]).raw(bytes)
    }

    /// The header of a list of `count` elements, at most 2^32 - 2. They are to be written next.
    pub fn list(&mut self, count: u32, flags: Flags) -> &mut Self {
        if flags == Flags::UNORDERED {
            return self.count(0x90, 0xdc, count);
        }
        self.count(0x90, 0xdc, count + 1).raw(&[0xc7, 0, flags.0])
    }

    /// The header of a map of `count` pairs, at most 2^32 - 2. They are to be written next, each key before
    /// its value.
    pub fn map(&mut self, count: u32, flags: Flags) -> &mut Self {
        if flags == Flags::UNORDERED {
            return self.count(0x80, 0xde, count);
        }
        self.count(0x80, 0xde, count + 1).raw(&[0xc7, 0, flags.0, 0xc0])
    }

    /// What equals anything.
    pub fn wildcard(&mut self) -> &mut Self {
        self.raw(&[0xd4, 0xff, 0])
    }

    /// What is greater than anything.
    pub fn infinity(&mut self) -> &mut Self {
        self.raw(&[0xd4, 0xff, 1])
    }

    /// An extension type, payload of at most 2^32 - 1 bytes. Without payload it must not be the first of a
    /// container: there it means flags.
    pub fn ext(&mut self, kind: u8, bytes: &[u8]) -> &mut Self {
        let size = u32::try_from(bytes.len());
        let size = size.unwrap_or_else(|_| panic!("{} bytes do not fit a msgpack extension", bytes.len()));
        match size {
            1 | 2 | 4 | 8 | 16 => self.raw(&[0xd4 + size.trailing_zeros() as u8]),
            0..=0xff => self.raw(&[0xc7, size as u8]),
            0x100..=0xffff => self.head(0xc8, &(size as u16).to_be_bytes()),
            0x1_0000.. => self.head(0xc9, &size.to_be_bytes()),
        };
        self.raw(&[kind]).raw(bytes)
    }

    /// Any token, as a `Reader` gave it.
    pub fn token(&mut self, token: Token<'_>) -> &mut Self {
        match token {
            Token::Nil => self.nil(),
            Token::Bool(truth) => self.bool(truth),
            Token::Integer(number) => self.integer(number),
            Token::Float32(number) => self.float32(number),
            Token::Float(number) => self.float(number),
            Token::String(text) => self.string(text),
            Token::Blob(bytes) => self.blob(bytes),
            Token::GeoJson(text) => self.geojson(text),
            Token::Hll(sketch) => self.hll(sketch),
            Token::Opaque(particle_type, bytes) => self.typed(particle_type, bytes),
            Token::Ext(kind, bytes) => self.ext(kind, bytes),
            Token::Wildcard => self.wildcard(),
            Token::Infinity => self.infinity(),
            Token::List { count, flags } => self.list(count, flags),
            Token::Map { count, flags } => self.map(count, flags),
        }
    }

    /// Bytes that are MessagePack already, for example a value a `Reader` skipped.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    fn head(&mut self, first: u8, number: &[u8]) -> &mut Self {
        self.raw(&[first]).raw(number)
    }

    fn count(&mut self, short: u8, long: u8, count: u32) -> &mut Self {
        match count {
            0..=0x0f => self.raw(&[short | count as u8]),
            0x10..=0xffff => self.head(long, &(count as u16).to_be_bytes()),
            0x1_0000.. => self.head(long + 1, &count.to_be_bytes()),
        }
    }
}
