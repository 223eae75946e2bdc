//! From bytes to tokens, one header at a time.
//!
//! A token is a scalar with its payload, or the header of a container whose elements are the tokens that
//! follow. The reader counts, for each open container, how many values are still to come: that is all its
//! memory, it is bounded by the depth limit, and it tells where a value ends.
//!
//! A count or size is believed only as far as bytes are there: each element needs at least one, so a header
//! that promises four billion of them in ten bytes fails where it stands.

use super::{Expect, Flags, MAX_DEPTH, MsgpackError};
use crate::record::value::particle;

/// One header of MessagePack, with its payload if it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// Nil.
    Nil,
    /// True or false.
    Bool(bool),
    /// An integer, whatever width it was written in.
    Integer(i64),
    /// A single-precision float; kept as it is.
    Float32(f32),
    /// A double.
    Float(f64),
    /// A string, without its type byte. The typeless string of no bytes also reads as this.
    String(&'a [u8]),
    /// A blob, without its type byte.
    Blob(&'a [u8]),
    /// A GeoJSON text, without its type byte.
    GeoJson(&'a [u8]),
    /// A HyperLogLog sketch, without its type byte.
    Hll(&'a [u8]),
    /// Another particle type: the type and the bytes, for example a blob of another language.
    Opaque(u8, &'a [u8]),
    /// An extension type that has no meaning here.
    Ext(u8, &'a [u8]),
    /// Equals anything. In arguments only.
    Wildcard,
    /// Greater than anything. In arguments only.
    Infinity,
    /// A list; `count` values follow.
    List {
        /// How many elements follow; the one that carries the flags is not among them.
        count: u32,
        /// The order they are in.
        flags: Flags,
    },
    /// A map; `count` pairs of key and value follow.
    Map {
        /// How many pairs follow; the one that carries the flags is not among them.
        count: u32,
        /// The order they are in.
        flags: Flags,
    },
}

impl Token<'_> {
    /// How many values belong to this token and follow it.
    fn children(&self) -> u64 {
        match *self {
            Token::List { count, .. } => count.into(),
            Token::Map { count, .. } => 2 * u64::from(count),
            _ => 0,
        }
    }
}

/// Reads tokens from bytes that may be anything.
///
/// ```
/// use aerolith_engine::record::msgpack::{Flags, Reader, Token};
///
/// let mut reader = Reader::new(&[0x92, 0x01, 0xa2, 0x03, b'x']);
/// assert_eq!(reader.read()?, Token::List { count: 2, flags: Flags::UNORDERED });
/// assert_eq!(reader.read()?, Token::Integer(1));
/// assert_eq!(reader.skip()?, [0xa2, 0x03, b'x']);
/// reader.finish()?;
/// # Ok::<(), aerolith_engine::record::msgpack::MsgpackError>(())
/// ```
#[derive(Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// For each open container, from the outside in: how many of its values have not been started.
    open: [u64; MAX_DEPTH],
    /// How many of `open` are in use. The last of them may have all their values by now.
    depth: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0, open: [0; MAX_DEPTH], depth: 0 }
    }

    /// Where the next token starts, in bytes.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes from `start`, a [`position`](Self::position) of before, up to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.position]
    }

    /// How many containers are open: begun, and with values still to come.
    pub fn depth(&self) -> usize {
        let open = &self.open[..self.depth];
        open.iter().rposition(|&to_come| to_come > 0).map_or(0, |innermost| innermost + 1)
    }

    /// The next token. Several values may follow each other at the top.
    ///
    /// Fails on bytes that are no token, that end too early, or that nest deeper than [`MAX_DEPTH`]; the
    /// reader then stays where it was.
    pub fn read(&mut self) -> Result<Token<'a>, MsgpackError> {
        let (token, end) = read_token(self.bytes, self.position)?;
        let children = token.children();
        let depth = self.depth();
        if children > 0 && depth == MAX_DEPTH {
            return Err(MsgpackError::TooDeep { at: self.position });
        }
        self.position = end;
        self.depth = depth;
        if depth > 0 {
            self.open[depth - 1] -= 1;
        }
        if children > 0 {
            self.open[depth] = children;
            self.depth += 1;
        }
        Ok(token)
    }

    /// Passes over one whole value, with all that is inside, and returns its bytes.
    pub fn skip(&mut self) -> Result<&'a [u8], MsgpackError> {
        let start = self.position;
        let mut pending = 1;
        while pending > 0 {
            pending += self.read()?.children();
            pending -= 1;
        }
        Ok(self.since(start))
    }

    /// That nothing is left: all containers are complete and all bytes are read.
    pub fn finish(&self) -> Result<(), MsgpackError> {
        let size = self.bytes.len() - self.position;
        if self.depth() > 0 {
            return Err(MsgpackError::Truncated { at: self.position, need: 1, have: size });
        }
        match size {
            0 => Ok(()),
            size => Err(MsgpackError::Trailing { at: self.position, size }),
        }
    }

    /// Passes over what is left of the containers opened since [`depth`](Self::depth) was `depth`.
    pub(super) fn rise_to(&mut self, depth: usize) -> Result<(), MsgpackError> {
        while self.depth() > depth {
            self.read()?;
        }
        Ok(())
    }
}

/// That `bytes` start with the header of `expected`.
pub(super) fn check_kind(bytes: &[u8], expected: Expect) -> Result<(), MsgpackError> {
    match (expected, read_token(bytes, 0)?.0) {
        (Expect::List, Token::List { .. }) | (Expect::Map, Token::Map { .. }) => Ok(()),
        _ => Err(MsgpackError::WrongContainer { expected, found: bytes[0] }),
    }
}

/// The token at `at`, and where it ends. For a container that is after the header and its flags.
pub(super) fn read_token(bytes: &[u8], at: usize) -> Result<(Token<'_>, usize), MsgpackError> {
    let mut cursor = Cursor { bytes, start: at, position: at };
    let token = cursor.token()?;
    Ok((token, cursor.position))
}

/// A position within one token: it takes bytes, or says how many are missing.
struct Cursor<'a> {
    bytes: &'a [u8],
    start: usize,
    position: usize,
}

impl<'a> Cursor<'a> {
    fn token(&mut self) -> Result<Token<'a>, MsgpackError> {
        let [first] = self.array()?;
        Ok(match first {
            0x00..=0x7f => Token::Integer(first.into()),
            0x80..=0x8f => self.map(u32::from(first & 0x0f))?,
            0x90..=0x9f => self.list(u32::from(first & 0x0f))?,
            0xa0..=0xbf => self.string(u32::from(first & 0x1f))?,
            0xc0 => Token::Nil,
            0xc1 => return Err(MsgpackError::Reserved { at: self.start }),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 | 0xd9 => {
                let size = self.size8()?;
                self.string(size)?
            }
            0xc5 | 0xda => {
                let size = self.size16()?;
                self.string(size)?
            }
            0xc6 | 0xdb => {
                let size = self.size32()?;
                self.string(size)?
            }
            0xc7 => {
                let size = self.size8()?;
                self.ext(size)?
            }
            0xc8 => {
                let size = self.size16()?;
                self.ext(size)?
            }
            0xc9 => {
                let size = self.size32()?;
                self.ext(size)?
            }
            0xca => Token::Float32(f32::from_be_bytes(self.array()?)),
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Integer(self.size8()?.into()),
            0xcd => Token::Integer(self.size16()?.into()),
            0xce => Token::Integer(self.size32()?.into()),
            0xcf => {
                let value = u64::from_be_bytes(self.array()?);
                let integer = i64::try_from(value);
                Token::Integer(integer.map_err(|_| MsgpackError::IntegerTooLarge { at: self.start, value })?)
            }
            0xd0 => Token::Integer(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Token::Integer(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Token::Integer(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Token::Integer(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.ext(1 << (first - 0xd4))?,
            0xdc => {
                let count = self.size16()?;
                self.list(count)?
            }
            0xdd => {
                let count = self.size32()?;
                self.list(count)?
            }
            0xde => {
                let count = self.size16()?;
                self.map(count)?
            }
            0xdf => {
                let count = self.size32()?;
                self.map(count)?
            }
            0xe0..=0xff => Token::Integer((first as i8).into()),
        })
    }

    fn string(&mut self, size: u32) -> Result<Token<'a>, MsgpackError> {
        Ok(match self.take(size)?.split_first() {
            None => Token::String(&[]),
            Some((&particle::STRING, text)) => Token::String(text),
            Some((&particle::BYTES, bytes)) => Token::Blob(bytes),
            Some((&particle::GEOJSON, text)) => Token::GeoJson(text),
            Some((&particle::HLL, sketch)) => Token::Hll(sketch),
            Some((&particle_type, bytes)) => Token::Opaque(particle_type, bytes),
        })
    }

    fn ext(&mut self, size: u32) -> Result<Token<'a>, MsgpackError> {
        let [kind] = self.array()?;
        Ok(match (kind, self.take(size)?) {
            (0xff, [0]) => Token::Wildcard,
            (0xff, [1]) => Token::Infinity,
            (kind, bytes) => Token::Ext(kind, bytes),
        })
    }

    fn list(&mut self, count: u32) -> Result<Token<'a>, MsgpackError> {
        self.expect_bytes(count.into())?;
        let flags = if count > 0 { self.flags() } else { None };
        Ok(match flags {
            Some(flags) => Token::List { count: count - 1, flags },
            None => Token::List { count, flags: Flags::UNORDERED },
        })
    }

    fn map(&mut self, count: u32) -> Result<Token<'a>, MsgpackError> {
        self.expect_bytes(2 * u64::from(count))?;
        let flags = if count > 0 { self.flags() } else { None };
        let Some(flags) = flags else { return Ok(Token::Map { count, flags: Flags::UNORDERED }) };
        match self.array()? {
            [0xc0] => Ok(Token::Map { count: count - 1, flags }),
            [_] => Err(MsgpackError::MapFlags { at: self.start }),
        }
    }

    /// The flags, if an extension without payload comes next: as the first of a container it means them.
    fn flags(&mut self) -> Option<Flags> {
        match self.bytes[self.position..] {
            [0xc7, 0, flags, ..] => {
                self.position += 3;
                Some(Flags(flags))
            }
            _ => None,
        }
    }

    fn size8(&mut self) -> Result<u32, MsgpackError> {
        Ok(u8::from_be_bytes(self.array()?).into())
    }

    fn size16(&mut self) -> Result<u32, MsgpackError> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn size32(&mut self) -> Result<u32, MsgpackError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MsgpackError> {
        self.expect_bytes(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[self.position..self.position + N]);
        self.position += N;
        Ok(array)
    }

    fn take(&mut self, size: u32) -> Result<&'a [u8], MsgpackError> {
        self.expect_bytes(size.into())?;
        let bytes = &self.bytes[self.position..self.position + size as usize];
        self.position += size as usize;
        Ok(bytes)
    }

    /// That `size` more bytes are there.
    fn expect_bytes(&self, size: u64) -> Result<(), MsgpackError> {
        if size <= (self.bytes.len() - self.position) as u64 {
            return Ok(());
        }
        let taken = (self.position - self.start) as u64;
        Err(MsgpackError::Truncated {
            at: self.start,
            need: taken + size,
            have: self.bytes.len() - self.start,
        })
    }
}
