//! Reading strings and parts of them, and writing into them: GET, MGET, STRLEN, GETRANGE, APPEND, SETRANGE.

use super::command::Done;
use super::error::CommandError;
use super::number::canonical_integer;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::turn::Turn;
use crate::store::{Expiry, Outcome, ProtocolRecord, Record};

pub(super) fn get<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    turn.get(args.at(1), |reply, record, _| reply.record(record), [0; 2]);
    Ok(())
}

/// A key of another type is null here, not an error.
pub(super) fn mget<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    turn.reply().array(args.len() - 1);
    for key in args.from(1) {
        turn.get(
            key,
            |reply, record, _| {
                match record.and_then(Record::text) {
                    Some(text) => reply.bulk(text.as_bytes()),
                    None => reply.null(),
                }
                Ok(())
            },
            [0; 2],
        );
    }
    Ok(())
}

pub(super) fn strlen<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    let tell = |reply: &mut Reply, record: Option<&Record>, _| {
        reply.count(text_of(record)?.len() as u64);
        Ok(())
    };
    turn.get(args.at(1), tell, [0; 2]);
    Ok(())
}

pub(super) fn getrange<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    let bounds = [integer(args.at(2))?, integer(args.at(3))?];
    let tell = |reply: &mut Reply, record: Option<&Record>, [start, end]: [i64; 2]| {
        match record {
            None => reply.bulk(b""),
            Some(record) => {
                let text = record.text().ok_or(CommandError::WRONG_TYPE)?;
                reply.bulk(range(text.as_bytes(), start, end));
            }
        }
        Ok(())
    };
    turn.get(args.at(1), tell, bounds);
    Ok(())
}

/// The bytes from `start` to `end`, both included, negative ones counted from the end.
fn range(text: &[u8], start: i64, end: i64) -> &[u8] {
    let len = text.len() as i64;
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let from_end = |at: i64| if at < 0 { len.saturating_add(at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    // Both lie within the text here, or the range is empty.
    if start > end { b"" } else { &text[start as usize..=end as usize] }
}

pub(super) async fn append<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let max = session.shared.limits.max_record;
    let size = session
        .update(args.at(1), |old| {
            let changed = text_of(old).and_then(|mut text| {
                text.extend_from_slice(args.at(2));
                if text.len() > max { Err(CommandError::TOO_LONG) } else { Ok(text) }
            });
            changed.map_or_else(
                |error| (Outcome::Keep, Err(error)),
                |text| {
                    let size = text.len();
                    (Outcome::Put(text.into(), Expiry::Keep), Ok(size))
                },
            )
        })
        .await??;
    reply.count(size as u64);
    Ok(())
}

pub(super) async fn setrange<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let offset =
        usize::try_from(integer(args.at(2))?).map_err(|_| CommandError::of("ERR offset is out of range"))?;
    let part = args.at(3);
    let end = offset.saturating_add(part.len());
    let max = session.shared.limits.max_record;
    let size = session
        .update(args.at(1), |old| match text_of(old) {
            Err(error) => (Outcome::Keep, Err(error)),
            Ok(text) if part.is_empty() => (Outcome::Keep, Ok(text.len())),
            Ok(_) if end > max => (Outcome::Keep, Err(CommandError::TOO_LONG)),
            Ok(mut text) => {
                text.resize(text.len().max(end), 0);
                text[offset..end].copy_from_slice(part);
                let size = text.len();
                (Outcome::Put(text.into(), Expiry::Keep), Ok(size))
            }
        })
        .await??;
    reply.count(size as u64);
    Ok(())
}

/// A copy of the text; none is empty.
fn text_of(record: Option<&Record>) -> Result<Vec<u8>, CommandError> {
    match record {
        None => Ok(Vec::new()),
        Some(record) => Ok(record.text().ok_or(CommandError::WRONG_TYPE)?.as_bytes().to_vec()),
    }
}

/// An integer argument.
pub(super) fn integer(text: &[u8]) -> Result<i64, CommandError> {
    canonical_integer(text).ok_or(CommandError::NOT_AN_INTEGER)
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_are_clamped_as_in_redis() {
        for (start, end, expected) in [
            (0, 3, "This"),
            (0, -1, "This is a string"),
            (-3, -1, "ing"),
            (10, 100, "string"),
            (-100, 3, "This"),
            (5, 2, ""),
            (-1, -5, ""),
            (-1, -100, ""),
            (16, 20, ""),
            (i64::MIN, i64::MAX, "This is a string"),
            (i64::MAX, i64::MIN, ""),
        ] {
            let text = b"This is a string";
            assert_eq!(range(text, start, end), expected.as_bytes(), "{start} {end}");
            assert_eq!(range(b"", start, end), b"");
        }
    }
}
