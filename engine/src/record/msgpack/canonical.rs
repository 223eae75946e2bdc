//! The one writing of a list or map that is stored.
//!
//! Clients may write the same value in many ways; readers are to see one, so that equal values are equal
//! bytes. Integers and headers take their shortest form, bin headers become str headers, flags keep only the
//! order (no persisted index, no preserved order), and every map is sorted by key, whether flagged or not: so
//! does Aerospike's server.

use std::cmp::Ordering;
use std::ops::Range;

use super::order::sort_order;
use super::{Expect, MsgpackError, Reader, Token, Writer, validate};

/// The bytes to store for the list or map in `bytes`, which is [`validate`]d first.
///
/// ```
/// use aerolith_engine::record::msgpack::{Expect, canonical};
///
/// // {2: 1, 1: nil} with an integer wider than needed.
/// let stored = canonical(&[0x82, 0xcc, 2, 1, 1, 0xc0], Expect::Map)?;
/// assert_eq!(stored, [0x82, 1, 0xc0, 2, 1]);
/// # Ok::<(), aerolith_engine::record::msgpack::MsgpackError>(())
/// ```
pub fn canonical(bytes: &[u8], expect: Expect) -> Result<Vec<u8>, MsgpackError> {
    validate(bytes, expect)?;
    let mut out = Vec::with_capacity(bytes.len());
    rewrite(&mut Reader::new(bytes), &mut out)?;
    Ok(out)
}

/// Rewrites the reader's next value. Recursion ends at the reader's depth limit.
fn rewrite(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), MsgpackError> {
    match reader.read()? {
        Token::List { count, flags } => {
            Writer::new(out).list(count, flags.stored_list());
            (0..count).try_for_each(|_| rewrite(reader, out))
        }
        Token::Map { count, flags } => {
            Writer::new(out).map(count, flags.stored_map());
            let mut pairs = Vec::new();
            for _ in 0..count {
                let start = out.len();
                rewrite(reader, out)?;
                rewrite(reader, out)?;
                pairs.push(start..out.len());
            }
            sort_pairs(pairs, out);
            Ok(())
        }
        token => {
            Writer::new(out).token(token);
            Ok(())
        }
    }
}

/// Sorts the pairs at the end of `out` by key. A pair starts with its key, which is all a comparison reads.
fn sort_pairs(mut pairs: Vec<Range<usize>>, out: &mut Vec<u8>) {
    // What this file wrote, it can read: to compare cannot fail.
    let by_key = |a: &Range<usize>, b: &Range<usize>| {
        sort_order(&out[a.clone()], &out[b.clone()]).unwrap_or(Ordering::Equal)
    };
    if pairs.is_sorted_by(|a, b| by_key(a, b).is_le()) {
        return;
    }
    let start = pairs[0].start;
    pairs.sort_by(by_key);
    let sorted: Vec<u8> = pairs.into_iter().flat_map(|pair| &out[pair]).copied().collect();
    out.truncate(start);
    out.extend_from_slice(&sorted);
}
