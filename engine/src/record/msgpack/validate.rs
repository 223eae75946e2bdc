//! May these bytes be stored as a list or a map?
//!
//! Yes, if they are exactly one container of the expected kind, and at every depth: no wildcard and no
//! infinity; map keys are integers, strings or blobs, and no key is there twice; what is flagged ordered is in
//! order. Other writings of the same value are fine here; [`canonical`](super::canonical) makes them one.
//!
//! A map in order of key proves in passing that its keys are distinct. Only one that is not costs memory: its
//! keys are read again and sorted, one slice each.

use std::cmp::Ordering;

use super::order::sort_order;
use super::read::check_kind;
use super::{Expect, Flags, MsgpackError, Reader, Token};

/// That `bytes` may be stored as a list or a map; the error says what is wrong, and where.
///
/// ```
/// use aerolith_engine::record::msgpack::{Expect, MsgpackError, validate};
///
/// assert_eq!(validate(&[0x92, 0x01, 0xc0], Expect::List), Ok(()));
/// let same_key_twice = [0x82, 0x01, 0xc0, 0x01, 0xc0];
/// assert_eq!(validate(&same_key_twice, Expect::Map), Err(MsgpackError::DuplicateKey { at: 3 }));
/// ```
pub fn validate(bytes: &[u8], expect: Expect) -> Result<(), MsgpackError> {
    check_kind(bytes, expect)?;
    let mut reader = Reader::new(bytes);
    check_value(&mut reader)?;
    reader.finish()
}

/// Checks the reader's next value. Recursion ends at the reader's depth limit.
fn check_value(reader: &mut Reader<'_>) -> Result<(), MsgpackError> {
    let at = reader.position();
    match reader.read()? {
        Token::List { count, flags } => check_list(reader, count, flags),
        Token::Map { count, flags } => check_map(reader, count, flags),
        // An extension without payload would turn into flags if it came to stand first in a container.
        Token::Wildcard | Token::Infinity | Token::Ext(_, []) => Err(MsgpackError::NotStorable { at }),
        _ => Ok(()),
    }
}

fn check_list(reader: &mut Reader<'_>, count: u32, flags: Flags) -> Result<(), MsgpackError> {
    let mut previous = None;
    for _ in 0..count {
        let at = reader.position();
        check_value(reader)?;
        let element = reader.since(at);
        if let Some(previous) = previous.filter(|_| flags.is_ordered())
            && sort_order(previous, element)?.is_gt()
        {
            return Err(MsgpackError::Unsorted { at });
        }
        previous = Some(element);
    }
    Ok(())
}

fn check_map(reader: &mut Reader<'_>, count: u32, flags: Flags) -> Result<(), MsgpackError> {
    let pairs = reader.clone();
    let mut ascending = true;
    let mut previous = None;
    for _ in 0..count {
        let at = reader.position();
        if !matches!(reader.read()?, Token::Integer(_) | Token::String(_) | Token::Blob(_)) {
            return Err(MsgpackError::KeyType { at });
        }
        let key = reader.since(at);
        match previous.map_or(Ok(Ordering::Less), |previous| sort_order(previous, key))? {
            Ordering::Less => {}
            Ordering::Equal => return Err(MsgpackError::DuplicateKey { at }),
            Ordering::Greater if flags.is_ordered() => return Err(MsgpackError::Unsorted { at }),
            Ordering::Greater => ascending = false,
        }
        previous = Some(key);
        check_value(reader)?;
    }
    if ascending { Ok(()) } else { check_distinct_keys(pairs, count) }
}

fn check_distinct_keys(mut pairs: Reader<'_>, count: u32) -> Result<(), MsgpackError> {
    let mut keys = Vec::new();
    for _ in 0..count {
        let at = pairs.position();
        keys.push((at, pairs.skip()?));
        pairs.skip()?;
    }
    // Keys are scalars that have been read before: to compare them cannot fail.
    let order = |a: &[u8], b: &[u8]| sort_order(a, b).unwrap_or(Ordering::Equal);
    keys.sort_by(|(_, a), (_, b)| order(a, b));
    match keys.windows(2).find(|pair| order(pair[0].1, pair[1].1).is_eq()) {
        Some(pair) => Err(MsgpackError::DuplicateKey { at: pair[1].0 }),
        None => Ok(()),
    }
}
