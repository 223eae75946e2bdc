//! When keys expire: EXPIRE in its four units with NX, XX, GT and LT, TTL in its four, PERSIST.
//!
//! TTL is answered from the index, which knows the void-time to the second: times are rounded up to seconds on
//! both sides before they are subtracted, so a key set to live 100 seconds has a TTL of 100, then 99. The exact
//! millisecond is in the record: PTTL, EXPIRETIME and PEXPIRETIME read it.

use super::command::Done;
use super::error::{CommandError, shown};
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::strings::integer;
use super::turn::Turn;
use crate::store::{Expiry, Outcome, ProtocolRecord, Record};

/// How a number means a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When {
    in_seconds: bool,
    from_now: bool,
}

impl When {
    pub(super) const IN_SECONDS: When = When { in_seconds: true, from_now: true };
    pub(super) const IN_MS: When = When { in_seconds: false, from_now: true };
    const AT_SECONDS: When = When { in_seconds: true, from_now: false };
    const AT_MS: When = When { in_seconds: false, from_now: false };

    /// The meaning of the option word at this place: EX, PX, EXAT or PXAT.
    pub(super) fn option(args: Args<'_>, at: usize) -> Option<When> {
        let words = [
            ("ex", When::IN_SECONDS),
            ("px", When::IN_MS),
            ("exat", When::AT_SECONDS),
            ("pxat", When::AT_MS),
        ];
        words.into_iter().find(|(word, _)| args.is(at, word)).map(|(_, when)| when)
    }

    /// The time in milliseconds since the Unix epoch; it may lie before that.
    pub(super) fn moment(self, number: i64, now_ms: u64, command: &str) -> Result<i64, CommandError> {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        number
            .checked_mul(if self.in_seconds { 1000 } else { 1 })
            .and_then(|ms| ms.checked_add(if self.from_now { now } else { 0 }))
            .ok_or_else(|| CommandError::invalid_expire(command))
    }
}

/// The condition of EXPIRE, on whether and when the key expires already.
#[derive(Debug, Default, Clone, Copy)]
struct Only {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Only {
    fn parse(args: Args<'_>) -> Result<Only, CommandError> {
        let mut only = Only::default();
        for at in 3..args.len() {
            let flag = match args.at(at).to_ascii_lowercase().as_slice() {
                b"nx" => &mut only.nx,
                b"xx" => &mut only.xx,
                b"gt" => &mut only.gt,
                b"lt" => &mut only.lt,
                _ => {
                    let option = shown(args.at(at), 128);
                    return Err(CommandError::new(format!("ERR Unsupported option {option}")));
                }
            };
            *flag = true;
        }
        if only.nx && (only.xx || only.gt || only.lt) {
            return Err(CommandError::of(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if only.gt && only.lt {
            return Err(CommandError::of("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(only)
    }

    /// No expiry counts as infinitely late.
    fn allows(self, current: Option<u64>, new: i64) -> bool {
        let current = current.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        match current {
            Some(current) => !(self.nx || self.gt && new <= current || self.lt && new >= current),
            None => !self.xx && !self.gt,
        }
    }
}

pub(super) async fn expire<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    change(session, args, reply, When::IN_SECONDS, "expire").await
}

pub(super) async fn pexpire<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    change(session, args, reply, When::IN_MS, "pexpire").await
}

pub(super) async fn expireat<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    change(session, args, reply, When::AT_SECONDS, "expireat").await
}

pub(super) async fn pexpireat<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    change(session, args, reply, When::AT_MS, "pexpireat").await
}

async fn change(
    session: &Session,
    args: Args<'_>,
    reply: &mut Reply,
    when: When,
    command: &'static str,
) -> Done {
    let only = Only::parse(args)?;
    let at = when.moment(integer(args.at(2))?, session.data_ms, command)?;
    let changed = session
        .update(args.at(1), |old| match old {
            Some(old) if only.allows(old.expires_at_ms(), at) => match u64::try_from(at) {
                Ok(at) if at > session.data_ms => (Outcome::Touch(Expiry::At(at)), true),
                // A time that has passed is a delete.
                _ => (Outcome::Delete, true),
            },
            _ => (Outcome::Keep, false),
        })
        .await?;
    reply.boolean(changed);
    Ok(())
}

pub(super) async fn persist<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let changed = session
        .update(args.at(1), |old| match old.and_then(Record::expires_at_ms) {
            Some(_) => (Outcome::Touch(Expiry::Never), true),
            None => (Outcome::Keep, false),
        })
        .await?;
    reply.boolean(changed);
    Ok(())
}

pub(super) fn ttl<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    let metadata = turn.metadata(args.at(1))?;
    turn.count_lookup(metadata.is_some());
    let now_s = turn.now_ms.div_ceil(1000);
    let left = match metadata.map(|metadata| metadata.expires_at_ms) {
        None => -2,
        Some(None) => -1,
        Some(Some(ms)) => signed(ms.div_ceil(1000).saturating_sub(now_s)),
    };
    turn.reply().integer(left);
    Ok(())
}

pub(super) fn pttl<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    let now = signed(turn.now_ms);
    turn.get(args.at(1), |reply, record, [now, _]| time(reply, record, |ms| (ms - now).max(0)), [now, 0]);
    Ok(())
}

pub(super) fn expiretime<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    let tell = |reply: &mut Reply, record: Option<&Record>, _| {
        time(reply, record, |ms| ms.saturating_add(500) / 1000)
    };
    turn.get(args.at(1), tell, [0; 2]);
    Ok(())
}

pub(super) fn pexpiretime<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    turn.get(args.at(1), |reply, record, _| time(reply, record, |ms| ms), [0; 2]);
    Ok(())
}

/// Tells when a record expires: -2 is no record, -1 never.
fn time(reply: &mut Reply, record: Option<&Record>, shown: impl Fn(i64) -> i64) -> Done {
    reply.integer(match record.map(Record::expires_at_ms) {
        None => -2,
        Some(None) => -1,
        Some(Some(ms)) => shown(signed(ms)),
    });
    Ok(())
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
