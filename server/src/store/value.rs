//! Values as the protocols see them, and how they are stored.
//!
//! Text that reads as a canonical 64-bit integer is stored as an integer, so that counters are numbers for
//! every protocol; other valid UTF-8 is stored as a string, anything else as bytes. Either way a read gives
//! back the same text.

use super::BIN;
use crate::redis::number::{Decimal, canonical_integer};
use aerolith_engine::{self as engine, Record};
use std::borrow::Cow;

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

/// A record as the protocols see it.
pub trait ProtocolRecord {
    /// The value of the bin with the empty name.
    fn value(&self) -> Value<'_>;
    /// The value as text, or `None` when it is not a Redis string.
    fn text(&self) -> Option<Text<'_>>;
    /// When it expires, in milliseconds since the Unix epoch, exactly; `None` is never.
    fn expires_at_ms(&self) -> Option<u64>;
}

impl ProtocolRecord for Record {
    fn value(&self) -> Value<'_> {
        match self.bin(BIN) {
            Some(engine::Value::Integer(number)) => Value::Integer(number),
            Some(engine::Value::String(text) | engine::Value::Bytes(text)) => Value::Text(text),
            Some(engine::Value::List(_)) => Value::Other("list"),
            Some(engine::Value::Map(_)) => Value::Other("hash"),
            Some(_) | None => Value::Other("record"),
        }
    }

    fn text(&self) -> Option<Text<'_>> {
        match self.value() {
            Value::Integer(number) => Some(Text::Digits(Decimal::new(number))),
            Value::Text(bytes) => Some(Text::Borrowed(bytes)),
            Value::Other(_) => None,
        }
    }

    fn expires_at_ms(&self) -> Option<u64> {
        self.expires_at().map(|at| at.0)
    }
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

impl NewValue<'_> {
    /// The value for the engine, borrowed from this one.
    pub(super) fn as_value(&self) -> engine::Value<'_> {
        match self.encoded() {
            Encoded::Integer(number) => engine::Value::Integer(number),
            Encoded::String(text) => engine::Value::String(text.as_bytes()),
            Encoded::Bytes(bytes) => engine::Value::Bytes(bytes),
        }
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
