//! Setting whole strings: SET with its options, its older spellings, GETSET, GETDEL, GETEX, MSET and MSETNX.
//!
//! A plain SET, also with NX, XX, an expiry or KEEPTTL, replaces without reading. Only when the old value is
//! told (GET), or when the new one is expired already, is the old record looked at.

use super::command::Done;
use super::error::CommandError;
use super::expire::When;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::strings::integer;
use crate::store::{Condition, Expiry, NewValue, Outcome, ProtocolRecord, Record};
use std::collections::HashMap;

/// The options of SET.
struct Options {
    condition: Condition,
    expiry: Expiry,
    tells_old: bool,
}

/// Reads the options behind the value. Words contradict each other as in Redis; the same one twice is no
/// contradiction, and its last value counts.
fn options(session: &Session, args: Args<'_>) -> Result<Options, CommandError> {
    let (mut condition, mut until, mut keeps, mut tells_old) = (None, None, false, false);
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "nx") && condition != Some(Condition::IfPresent) {
            condition = Some(Condition::IfAbsent);
        } else if args.is(at, "xx") && condition != Some(Condition::IfAbsent) {
            condition = Some(Condition::IfPresent);
        } else if args.is(at, "get") {
            tells_old = true;
        } else if args.is(at, "keepttl") && until.is_none() {
            keeps = true;
        } else if let Some(when) = When::option(args, at)
            && let Some(number) = args.get(at + 1)
            && until.is_none_or(|(before, _)| before == when)
            && !keeps
        {
            until = Some((when, number));
            at += 1;
        } else {
            return Err(CommandError::SYNTAX);
        }
        at += 1;
    }
    let expiry = match until {
        Some((when, number)) => Expiry::At(when.positive(number, session.data_ms, "set")?),
        None if keeps => Expiry::Keep,
        None => Expiry::Never,
    };
    Ok(Options { condition: condition.unwrap_or(Condition::Any), expiry, tells_old })
}

pub(super) async fn set<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let options = match args.len() {
        3 => Options { condition: Condition::Any, expiry: Expiry::Never, tells_old: false },
        _ => options(session, args)?,
    };
    let set = put(session, args.at(1), args.at(2), &options, reply).await?;
    match (options.tells_old, set) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Ok(())
}

/// Sets a key if the condition holds, and says whether it did. Tells the old value if asked to.
async fn put(
    session: &Session,
    key: &[u8],
    value: &[u8],
    options: &Options,
    reply: &mut Reply,
) -> Result<bool, CommandError> {
    let is_past = matches!(options.expiry, Expiry::At(ms) if ms <= session.data_ms);
    if !options.tells_old && !is_past {
        return Ok(session.store().put(key, value.into(), options.expiry, options.condition).await?);
    }
    let told = reply.bytes.len();
    let change = |old: Option<&Record>| {
        // It may run again: only the last run's reply stays.
        reply.bytes.truncate(told);
        if options.tells_old
            && let Err(error) = reply.record(old)
        {
            return (Outcome::Keep, Err(error));
        }
        let holds = match options.condition {
            Condition::Any => true,
            Condition::IfAbsent => old.is_none(),
            Condition::IfPresent => old.is_some(),
        };
        let outcome = match (holds, is_past) {
            (false, _) => Outcome::Keep,
            (true, true) => Outcome::Delete,
            (true, false) => Outcome::Put(value.into(), options.expiry),
        };
        (outcome, Ok(holds))
    };
    session.update(key, change).await?
}

pub(super) async fn setnx<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let value = NewValue::from(args.at(2));
    let set = session.store().put(args.at(1), value, Expiry::Never, Condition::IfAbsent).await?;
    reply.boolean(set);
    Ok(())
}

pub(super) async fn setex<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    expiring(session, args, reply, When::IN_SECONDS, "setex").await
}

pub(super) async fn psetex<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    expiring(session, args, reply, When::IN_MS, "psetex").await
}

async fn expiring(
    session: &Session,
    args: Args<'_>,
    reply: &mut Reply,
    when: When,
    command: &'static str,
) -> Done {
    let until = when.positive(args.at(2), session.data_ms, command)?;
    session.store().put(args.at(1), args.at(3).into(), Expiry::At(until), Condition::Any).await?;
    reply.ok();
    Ok(())
}

pub(super) async fn getset<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let options = Options { condition: Condition::Any, expiry: Expiry::Never, tells_old: true };
    put(session, args.at(1), args.at(2), &options, reply).await?;
    Ok(())
}

pub(super) async fn getdel<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let told = reply.bytes.len();
    let change = |old: Option<&Record>| {
        reply.bytes.truncate(told);
        match reply.record(old) {
            Ok(()) => (Outcome::Delete, Ok(())),
            Err(error) => (Outcome::Keep, Err(error)),
        }
    };
    session.update(args.at(1), change).await?
}

pub(super) async fn getex<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let expiry = match args.len() {
        2 => None,
        3 if args.is(2, "persist") => Some(Ok(Expiry::Never)),
        4 => {
            let when = When::option(args, 2).ok_or(CommandError::SYNTAX)?;
            // Told only if the key is there, as in Redis.
            Some(when.positive(args.at(3), session.data_ms, "getex").map(Expiry::At))
        }
        _ => return Err(CommandError::SYNTAX),
    };
    let told = reply.bytes.len();
    let change = |old: Option<&Record>| {
        reply.bytes.truncate(told);
        match (reply.record(old), old, expiry.clone()) {
            (Err(error), ..) | (_, Some(_), Some(Err(error))) => (Outcome::Keep, Err(error)),
            (Ok(()), None, _) | (Ok(()), _, None) => (Outcome::Keep, Ok(())),
            (Ok(()), Some(_), Some(Ok(Expiry::At(ms)))) if ms <= session.data_ms => (Outcome::Delete, Ok(())),
            (Ok(()), Some(old), Some(Ok(Expiry::Never))) if old.expires_at_ms().is_none() => {
                (Outcome::Keep, Ok(()))
            }
            (Ok(()), Some(_), Some(Ok(expiry))) => (Outcome::Touch(expiry), Ok(())),
        }
    };
    session.update(args.at(1), change).await?
}

type Words<'a> = Vec<&'a [u8]>;

/// The pairs of MSET; of a key named twice the last value counts, at the place of the first.
fn pairs<'a>(args: Args<'a>, command: &str) -> Result<(Words<'a>, Words<'a>), CommandError> {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arguments(command));
    }
    let (mut keys, mut values) = (Vec::<&[u8]>::new(), Vec::new());
    let mut places = HashMap::new();
    for at in (1..args.len()).step_by(2) {
        let place = *places.entry(args.at(at)).or_insert(keys.len());
        if place == keys.len() {
            keys.push(args.at(at));
            values.push(args.at(at + 1));
        } else {
            values[place] = args.at(at + 1);
        }
    }
    Ok((keys, values))
}

pub(super) async fn mset<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let (keys, values) = pairs(args, "mset")?;
    let pairs = keys.into_iter().zip(values.into_iter().map(NewValue::from)).collect();
    session.store().put_many(pairs).await?;
    reply.ok();
    Ok(())
}

pub(super) async fn msetnx<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let (keys, values) = pairs(args, "msetnx")?;
    // Mostly some key is there: the index says so without a read.
    for key in &keys {
        if session.store().metadata(key)?.is_some() {
            reply.boolean(false);
            return Ok(());
        }
    }
    let change = |old: &[Option<Record>]| {
        let free = old.iter().all(Option::is_none);
        let outcome = |value: &'a [u8]| match free {
            true => Outcome::Put(value.into(), Expiry::Never),
            false => Outcome::Keep,
        };
        (values.iter().map(|value| outcome(value)).collect(), free)
    };
    let set = session.store().update_many(&keys, change).await?;
    reply.boolean(set);
    Ok(())
}

impl When {
    /// A time as SET and its like accept it, in milliseconds since the Unix epoch: zero and below are refused.
    fn positive(self, text: &[u8], now_ms: u64, command: &str) -> Result<u64, CommandError> {
        let number = integer(text)?;
        if number <= 0 {
            return Err(CommandError::invalid_expire(command));
        }
        let at = self.moment(number, now_ms, command)?;
        Ok(at.max(0).unsigned_abs())
    }
}
