//! A value as a tree that owns its parts: for tests, tools and embedders who want to look inside.
//!
//! The store itself never builds one. A list or map goes to and from it through MessagePack, and loses on the
//! way what the tree has no word for: a `Float` was perhaps single-precision, and **the order flags of lists
//! and maps are gone**, so writing back what was read turns an ordered list or map into an unordered one.
//! Code that changes part of a collection works on the bytes.

use super::msgpack::{Expect, Flags, MAX_DEPTH, MsgpackError, Reader, Token, Writer, canonical, validate};
use super::value::{Value, ValueError};

/// A value that owns everything, with lists and maps as trees.
///
/// ```
/// use aerolith_engine::record::{Value, ValueBuf};
///
/// let tree = ValueBuf::List(vec![1.into(), "two".into(), ValueBuf::Nil]);
/// let mut scratch = Vec::new();
/// let value = tree.to_value(&mut scratch)?;
/// assert_eq!(value, Value::List(&[0x93, 0x01, 0xa4, 0x03, b't', b'w', b'o', 0xc0]));
/// assert_eq!(ValueBuf::from_value(value)?, tree);
/// # Ok::<(), aerolith_engine::record::ValueError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum ValueBuf {
    /// Nothing. Inside lists and maps only: a bin has no nil.
    Nil,
    /// A signed 64-bit integer.
    Integer(i64),
    /// A double.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    String(String),
    /// A blob.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<ValueBuf>),
    /// A map. Keys are integers, strings or blobs; the order of the pairs does not matter.
    Map(Vec<(ValueBuf, ValueBuf)>),
    /// A GeoJSON text.
    GeoJson(String),
    /// A HyperLogLog sketch.
    Hll(Vec<u8>),
}

impl ValueBuf {
    /// The tree of a bin's value.
    ///
    /// Fails on text that is not UTF-8, on a list or map that could not be stored
    /// ([`validate`]), and on parts a tree has no variant for (extension types,
    /// other languages' blobs).
    pub fn from_value(value: Value<'_>) -> Result<ValueBuf, ValueError> {
        Ok(match value {
            Value::Integer(number) => ValueBuf::Integer(number),
            Value::Float(number) => ValueBuf::Float(number),
            Value::Bool(truth) => ValueBuf::Bool(truth),
            Value::String(bytes) => ValueBuf::String(text(bytes)?),
            Value::Bytes(bytes) => ValueBuf::Bytes(bytes.to_vec()),
            Value::GeoJson(bytes) => ValueBuf::GeoJson(text(bytes)?),
            Value::Hll(bytes) => ValueBuf::Hll(bytes.to_vec()),
            Value::List(bytes) => {
                validate(bytes, Expect::List)?;
                grow(&mut Reader::new(bytes))?
            }
            Value::Map(bytes) => {
                validate(bytes, Expect::Map)?;
                grow(&mut Reader::new(bytes))?
            }
        })
    }

    /// This tree as a bin's value, ready to be stored. A list or map is written to `scratch`, whose old
    /// content is dropped, in its canonical form; everything else is borrowed from the tree.
    ///
    /// Fails on a nil that is not inside a list or map, on nesting deeper than 32, on map keys that are no
    /// integer, string or blob, and on a key that is there twice.
    pub fn to_value<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Value<'a>, ValueError> {
        Ok(match self {
            ValueBuf::Nil => return Err(ValueError::NilBin),
            ValueBuf::Integer(number) => Value::Integer(*number),
            ValueBuf::Float(number) => Value::Float(*number),
            ValueBuf::Bool(truth) => Value::Bool(*truth),
            ValueBuf::String(text) => Value::String(text.as_bytes()),
            ValueBuf::Bytes(bytes) => Value::Bytes(bytes),
            ValueBuf::GeoJson(text) => Value::GeoJson(text.as_bytes()),
            ValueBuf::Hll(bytes) => Value::Hll(bytes),
            ValueBuf::List(_) => {
                *scratch = canonical(&self.to_msgpack()?, Expect::List)?;
                Value::List(scratch)
            }
            ValueBuf::Map(_) => {
                *scratch = canonical(&self.to_msgpack()?, Expect::Map)?;
                Value::Map(scratch)
            }
        })
    }

    /// The tree of one MessagePack value, as in the argument of an operation. Fails as
    /// [`from_value`](Self::from_value) does, but map keys may be anything, and on bytes after the value.
    pub fn from_msgpack(bytes: &[u8]) -> Result<ValueBuf, ValueError> {
        let mut reader = Reader::new(bytes);
        let tree = grow(&mut reader)?;
        reader.finish()?;
        Ok(tree)
    }

    /// This tree as MessagePack, with maps as they are: not sorted, not checked. Fails on nesting deeper
    /// than 32 and on a text or blob of 4 GiB.
    pub fn to_msgpack(&self) -> Result<Vec<u8>, ValueError> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn write(&self, out: &mut Vec<u8>, depth: usize) -> Result<(), MsgpackError> {
        let at = out.len();
        let mut writer = Writer::new(out);
        match self {
            ValueBuf::Nil => _ = writer.nil(),
            ValueBuf::Integer(number) => _ = writer.integer(*number),
            ValueBuf::Float(number) => _ = writer.float(*number),
            ValueBuf::Bool(truth) => _ = writer.bool(*truth),
            ValueBuf::String(text) => _ = writer.string(short(text.as_bytes())?),
            ValueBuf::Bytes(bytes) => _ = writer.blob(short(bytes)?),
            ValueBuf::GeoJson(text) => _ = writer.geojson(short(text.as_bytes())?),
            ValueBuf::Hll(bytes) => _ = writer.hll(short(bytes)?),
            ValueBuf::List(_) | ValueBuf::Map(_) if depth == MAX_DEPTH => {
                return Err(MsgpackError::TooDeep { at });
            }
            ValueBuf::List(elements) => {
                writer.list(count(elements)?, Flags::UNORDERED);
                elements.iter().try_for_each(|element| element.write(out, depth + 1))?;
            }
            ValueBuf::Map(pairs) => {
                writer.map(count(pairs)?, Flags::UNORDERED);
                for (key, value) in pairs {
                    key.write(out, depth + 1)?;
                    value.write(out, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

/// The tree of the reader's next value. Recursion ends at the reader's depth limit.
fn grow(reader: &mut Reader<'_>) -> Result<ValueBuf, ValueError> {
    let at = reader.position();
    Ok(match reader.read()? {
        Token::Nil => ValueBuf::Nil,
        Token::Bool(truth) => ValueBuf::Bool(truth),
        Token::Integer(number) => ValueBuf::Integer(number),
        Token::Float32(number) => ValueBuf::Float(number.into()),
        Token::Float(number) => ValueBuf::Float(number),
        Token::String(bytes) => ValueBuf::String(text(bytes)?),
        Token::Blob(bytes) => ValueBuf::Bytes(bytes.to_vec()),
        Token::GeoJson(bytes) => ValueBuf::GeoJson(text(bytes)?),
        Token::Hll(bytes) => ValueBuf::Hll(bytes.to_vec()),
        Token::Opaque(..) | Token::Ext(..) | Token::Wildcard | Token::Infinity => {
            return Err(MsgpackError::Unrepresentable { at }.into());
        }
        // Neither vector takes room ahead: a count is only somebody's word.
        Token::List { count, .. } => {
            let mut elements = Vec::new();
            for _ in 0..count {
                elements.push(grow(reader)?);
            }
            ValueBuf::List(elements)
        }
        Token::Map { count, .. } => {
            let mut pairs = Vec::new();
            for _ in 0..count {
                pairs.push((grow(reader)?, grow(reader)?));
            }
            ValueBuf::Map(pairs)
        }
    })
}

fn text(bytes: &[u8]) -> Result<String, ValueError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(ValueError::NotUtf8 { valid_size: error.valid_up_to(), size: bytes.len() }),
    }
}

fn short(bytes: &[u8]) -> Result<&[u8], MsgpackError> {
    if bytes.len() < u32::MAX as usize { Ok(bytes) } else { Err(MsgpackError::TooLong { size: bytes.len() }) }
}

fn count<T>(items: &[T]) -> Result<u32, MsgpackError> {
    u32::try_from(items.len()).map_err(|_| MsgpackError::TooLong { size: items.len() })
}

impl From<i64> for ValueBuf {
    fn from(number: i64) -> Self {
        ValueBuf::Integer(number)
    }
}

impl From<i32> for ValueBuf {
    fn from(number: i32) -> Self {
        ValueBuf::Integer(number.into())
    }
}

impl From<u32> for ValueBuf {
    fn from(number: u32) -> Self {
        ValueBuf::Integer(number.into())
    }
}

impl From<f64> for ValueBuf {
    fn from(number: f64) -> Self {
        ValueBuf::Float(number)
    }
}

impl From<bool> for ValueBuf {
    fn from(truth: bool) -> Self {
        ValueBuf::Bool(truth)
    }
}

impl From<&str> for ValueBuf {
    fn from(text: &str) -> Self {
        ValueBuf::String(text.to_owned())
    }
}

impl From<String> for ValueBuf {
    fn from(text: String) -> Self {
        ValueBuf::String(text)
    }
}

impl From<Vec<u8>> for ValueBuf {
    fn from(bytes: Vec<u8>) -> Self {
        ValueBuf::Bytes(bytes)
    }
}

impl From<Vec<ValueBuf>> for ValueBuf {
    fn from(elements: Vec<ValueBuf>) -> Self {
        ValueBuf::List(elements)
    }
}

impl From<Vec<(ValueBuf, ValueBuf)>> for ValueBuf {
    fn from(pairs: Vec<(ValueBuf, ValueBuf)>) -> Self {
        ValueBuf::Map(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through_a_value(tree: &ValueBuf) -> Result<ValueBuf, ValueError> {
        ValueBuf::from_value(tree.to_value(&mut Vec::new())?)
    }

    fn nested(depth: usize) -> ValueBuf {
        (1..depth).fold(ValueBuf::List(vec![1.into()]), |inner, _| ValueBuf::List(vec![inner]))
    }

    #[test]
    fn a_tree_comes_back_from_its_value() {
        let everything = ValueBuf::List(vec![
            ValueBuf::Nil,
            true.into(),
            i64::MIN.into(),
            0.5.into(),
            "text".into(),
            vec![0, 255].into(),
            ValueBuf::GeoJson("{}".into()),
            ValueBuf::Hll(vec![1]),
            ValueBuf::List(vec![]),
            ValueBuf::Map(vec![
                (1.into(), ValueBuf::Nil),
                ("k".into(), 2.into()),
                (vec![3].into(), 4.into()),
            ]),
        ]);
        let ValueBuf::List(parts) = &everything else { unreachable!() };
        assert_eq!(parts[0].to_value(&mut Vec::new()), Err(ValueError::NilBin));
        for tree in parts[1..].iter().chain([&everything]) {
            assert_eq!(through_a_value(tree).as_ref(), Ok(tree));
        }
    }

    #[test]
    fn a_map_is_stored_in_order_of_key() {
        let map = ValueBuf::Map(vec![("b".into(), 1.into()), ("a".into(), 2.into()), (9.into(), 3.into())]);
        let sorted =
            ValueBuf::Map(vec![(9.into(), 3.into()), ("a".into(), 2.into()), ("b".into(), 1.into())]);
        assert_eq!(through_a_value(&map), Ok(sorted));
    }

    #[test]
    fn a_map_that_cannot_be_stored_is_an_error() {
        let twice = ValueBuf::Map(vec![(1.into(), 1.into()), (2.into(), 1.into()), (1.into(), 1.into())]);
        assert_eq!(through_a_value(&twice), Err(MsgpackError::DuplicateKey { at: 5 }.into()));
        let by_float = ValueBuf::Map(vec![(1.5.into(), 1.into())]);
        assert_eq!(through_a_value(&by_float), Err(MsgpackError::KeyType { at: 1 }.into()));
    }

    #[test]
    fn a_tree_is_at_most_32_deep() {
        assert_eq!(through_a_value(&nested(32)), Ok(nested(32)));
        assert_eq!(through_a_value(&nested(33)), Err(MsgpackError::TooDeep { at: 32 }.into()));
    }

    #[test]
    fn text_that_is_not_utf8_is_an_error() {
        let not_utf8 = Err(ValueError::NotUtf8 { valid_size: 1, size: 2 });
        assert_eq!(ValueBuf::from_value(Value::String(b"a\xff")), not_utf8);
        assert_eq!(ValueBuf::from_value(Value::List(b"\x91\xa3\x03a\xff")), not_utf8);
    }
}
