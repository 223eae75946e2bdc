//! The total order of all values: what sorts a list, finds a map's key, answers a range.
//!
//! ```text
//! nil < false < true < integers < strings < lists < maps < blobs < floats < GeoJSON < other ext < infinity
//! ```
//!
//! Within a kind: numbers by value (an integer and a float are different kinds and never equal); bytes as
//! memcmp, the shorter first; lists element by element, the shorter first; maps by count, then pair by pair in
//! order of key, each key before its value. An HLL sketch or another language's blob is a blob: those sort by
//! particle type, then bytes. The order flags of a container do not count.
//!
//! A wildcard equals anything, and in a list it also stands for all that follows: [1, *] equals [1, 2, 3].
//! That is a match, not an order: `a = * = b` says nothing of a and b. So sorting goes by [`sort_order`], where
//! a wildcard is a value like others, above infinity.

use std::cmp::Ordering;

use super::read::read_token;
use super::{MsgpackError, Reader, Token};
use crate::record::value::particle;

/// How the values at the start of `a` and `b` compare; a wildcard on either side equals anything.
///
/// Fails if one of them is not MessagePack as far as it had to be read.
///
/// ```
/// use std::cmp::Ordering;
/// use aerolith_engine::record::msgpack::compare;
///
/// assert_eq!(compare(&[0x05], &[0xa2, 0x03, b'a']), Ok(Ordering::Less)); // integer before string
/// assert_eq!(compare(&[0x92, 1, 2], &[0x92, 1, 3]), Ok(Ordering::Less));
/// assert_eq!(compare(&[0x92, 1, 2], &[0xd4, 0xff, 0]), Ok(Ordering::Equal)); // anything equals a wildcard
/// ```
pub fn compare(a: &[u8], b: &[u8]) -> Result<Ordering, MsgpackError> {
    compare_values::<true>(a, b)
}

/// As [`compare`], but a wildcard equals only a wildcard and is greater than all else: a total order, fit to
/// sort by.
pub fn sort_order(a: &[u8], b: &[u8]) -> Result<Ordering, MsgpackError> {
    compare_values::<false>(a, b)
}

fn compare_values<const MATCH: bool>(a: &[u8], b: &[u8]) -> Result<Ordering, MsgpackError> {
    // Most values are scalars, and are decided by their first tokens without the readers' memory.
    match step::<MATCH>(read_token(a, 0)?.0, read_token(b, 0)?.0) {
        Step::Decided(ordering) => Ok(ordering),
        Step::Matched => Ok(Ordering::Equal),
        Step::Lists(..) | Step::Maps(_) => {
            Ok(compare_next::<MATCH>(&mut Reader::new(a), &mut Reader::new(b))?.unwrap_or(Ordering::Equal))
        }
    }
}

/// What the tokens two values start with say of their order.
enum Step {
    /// All there is to know.
    Decided(Ordering),
    /// One of them is a wildcard.
    Matched,
    /// Both are lists, of this many elements.
    Lists(u32, u32),
    /// Both are maps, of this many pairs each.
    Maps(u32),
}

fn step<const MATCH: bool>(a: Token<'_>, b: Token<'_>) -> Step {
    Step::Decided(match (a, b) {
        (Token::Wildcard, _) | (_, Token::Wildcard) if MATCH => return Step::Matched,
        (Token::List { count: a, .. }, Token::List { count: b, .. }) => return Step::Lists(a, b),
        (Token::Map { count: a, .. }, Token::Map { count: b, .. }) if a == b => return Step::Maps(a),
        (Token::Map { count: a, .. }, Token::Map { count: b, .. }) => a.cmp(&b),
        (Token::Bool(a), Token::Bool(b)) => a.cmp(&b),
        (Token::Integer(a), Token::Integer(b)) => a.cmp(&b),
        (Token::String(a), Token::String(b)) | (Token::GeoJson(a), Token::GeoJson(b)) => a.cmp(b),
        (Token::Ext(kind_a, a), Token::Ext(kind_b, b)) => (kind_a, a).cmp(&(kind_b, b)),
        (a, b) => match (blob(a), blob(b), float(a), float(b)) {
            (Some(a), Some(b), ..) => a.cmp(&b),
            (.., Some(a), Some(b)) if a == b => Ordering::Equal,
            (.., Some(a), Some(b)) => a.total_cmp(&b),
            _ => kind(a).cmp(&kind(b)),
        },
    })
}

/// The place of a token's kind among the kinds.
fn kind(token: Token<'_>) -> u8 {
    match token {
        Token::Nil => 0,
        Token::Bool(_) => 1,
        Token::Integer(_) => 2,
        Token::String(_) => 3,
        Token::List { .. } => 4,
        Token::Map { .. } => 5,
        Token::Blob(_) | Token::Hll(_) | Token::Opaque(..) => 6,
        Token::Float32(_) | Token::Float(_) => 7,
        Token::GeoJson(_) => 8,
        Token::Ext(..) => 9,
        Token::Infinity => 10,
        Token::Wildcard => 11,
    }
}

fn blob(token: Token<'_>) -> Option<(u8, &[u8])> {
    match token {
        Token::Blob(bytes) => Some((particle::BYTES, bytes)),
        Token::Hll(bytes) => Some((particle::HLL, bytes)),
        Token::Opaque(particle_type, bytes) => Some((particle_type, bytes)),
        _ => None,
    }
}

fn float(token: Token<'_>) -> Option<f64> {
    match token {
        Token::Float32(number) => Some(number.into()),
        Token::Float(number) => Some(number),
        _ => None,
    }
}

/// Compares the next values of two readers. When they are equal both have been read to their ends; `None`
/// says that one of them is a wildcard. Recursion ends at the readers' depth limit.
fn compare_next<const MATCH: bool>(
    a: &mut Reader<'_>,
    b: &mut Reader<'_>,
) -> Result<Option<Ordering>, MsgpackError> {
    let (depth_a, depth_b) = (a.depth(), b.depth());
    match step::<MATCH>(a.read()?, b.read()?) {
        Step::Decided(ordering) => Ok(Some(ordering)),
        Step::Matched => Ok(None),
        Step::Maps(count) => compare_maps::<MATCH>(a, b, count).map(Some),
        Step::Lists(count_a, count_b) => {
            for _ in 0..count_a.min(count_b) {
                match compare_next::<MATCH>(a, b)? {
                    Some(Ordering::Equal) => {}
                    Some(unequal) => return Ok(Some(unequal)),
                    None => {
                        a.rise_to(depth_a)?;
                        b.rise_to(depth_b)?;
                        return Ok(Some(Ordering::Equal));
                    }
                }
            }
            Ok(Some(count_a.cmp(&count_b)))
        }
    }
}

fn compare_maps<const MATCH: bool>(
    a: &mut Reader<'_>,
    b: &mut Reader<'_>,
    count: u32,
) -> Result<Ordering, MsgpackError> {
    for (a, b) in pairs_by_key(a, count)?.into_iter().zip(pairs_by_key(b, count)?) {
        for (a, b) in [(a.0, b.0), (a.1, b.1)] {
            let ordering = compare_values::<MATCH>(a, b)?;
            if ordering.is_ne() {
                return Ok(ordering);
            }
        }
    }
    Ok(Ordering::Equal)
}

/// A key and its value, as bytes.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// The pairs of a map whose header has been read, sorted by key. Stored maps are sorted already.
fn pairs_by_key<'a>(reader: &mut Reader<'a>, count: u32) -> Result<Vec<Pair<'a>>, MsgpackError> {
    // Grows with the pairs that are really there: the count is only somebody's word.
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((reader.skip()?, reader.skip()?));
    }
    // The keys have been read once, so to compare them cannot fail; if it did, equal is as good as any.
    pairs.sort_by(|(a, _), (b, _)| sort_order(a, b).unwrap_or(Ordering::Equal));
    Ok(pairs)
}
