//! Counters: INCR and DECR by one, by any integer, by a decimal number.

use super::command::Done;
use super::error::CommandError;
use super::number::{Float, canonical_integer};
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::strings::integer;
use crate::store::{Expiry, NewValue, Outcome, ProtocolRecord, Record, Value};

pub(super) async fn incr<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    add(session, args.at(1), 1, reply).await
}

pub(super) async fn decr<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    add(session, args.at(1), -1, reply).await
}

pub(super) async fn incrby<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    add(session, args.at(1), integer(args.at(2))?, reply).await
}

pub(super) async fn decrby<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let by = integer(args.at(2))?.checked_neg();
    add(session, args.at(1), by.ok_or(CommandError::of("ERR decrement would overflow"))?, reply).await
}

async fn add(session: &Session, key: &[u8], by: i64, reply: &mut Reply) -> Done {
    let change = |old: Option<&Record>| {
        let sum = number(old).and_then(|old| old.checked_add(by).ok_or(CommandError::OVERFLOW));
        match sum {
            Ok(sum) => (Outcome::Put(NewValue::Integer(sum), Expiry::Keep), Ok(sum)),
            Err(error) => (Outcome::Keep, Err(error)),
        }
    };
    let sum = session.update(key, change).await??;
    reply.integer(sum);
    Ok(())
}

/// The number that a record holds; none is 0.
fn number(record: Option<&Record>) -> Result<i64, CommandError> {
    match record.map(Record::value) {
        None => Ok(0),
        Some(Value::Integer(number)) => Ok(number),
        Some(Value::Text(text)) => canonical_integer(text).ok_or(CommandError::NOT_AN_INTEGER),
        Some(Value::Other(_)) => Err(CommandError::WRONG_TYPE),
    }
}

pub(super) async fn incrbyfloat<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let by = Float::parse(args.at(2)).ok_or(CommandError::NOT_A_FLOAT)?;
    let change = |old: Option<&Record>| {
        let old = match old {
            None => Ok(Float::Exact(0)),
            Some(old) => old
                .text()
                .ok_or(CommandError::WRONG_TYPE)
                .and_then(|text| Float::parse(text.as_bytes()).ok_or(CommandError::NOT_A_FLOAT)),
        };
        let sum = old.and_then(|old| {
            old.plus(by).ok_or(CommandError::of("ERR increment would produce NaN or Infinity"))
        });
        match sum.map(Float::to_text) {
            Ok(sum) => (Outcome::Put(sum.clone().into_bytes().into(), Expiry::Keep), Ok(sum)),
            Err(error) => (Outcome::Keep, Err(error)),
        }
    };
    let sum = session.update(args.at(1), change).await??;
    reply.bulk_str(&sum);
    Ok(())
}
