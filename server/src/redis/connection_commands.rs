//! The talk of a connection about itself: PING, ECHO, HELLO, AUTH, SELECT, QUIT, RESET.

use super::command::Done;
use super::error::{CommandError, shown};
use super::number::canonical_integer;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::strings::integer;
use std::sync::atomic::Ordering::Relaxed;

/// The Redis whose commands these are. Clients choose what they send by it.
pub(crate) const REDIS_VERSION: &str = "7.2.4";

pub(super) fn ping(_: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    match args.len() {
        1 => reply.simple("PONG"),
        2 => reply.bulk(args.at(1)),
        _ => return Err(CommandError::wrong_arguments("ping")),
    }
    Ok(())
}

pub(super) fn echo(_: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    reply.bulk(args.at(1));
    Ok(())
}

pub(super) fn hello(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    let mut resp3 = session.resp3;
    if let Some(version) = args.get(1) {
        resp3 = match canonical_integer(version) {
            Some(2) => false,
            Some(3) => true,
            Some(_) => return Err(CommandError::of("NOPROTO unsupported protocol version")),
            None => {
                return Err(CommandError::of("ERR Protocol version is not an integer or out of range"));
            }
        };
    }
    let mut name = None;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "auth") && at + 2 < args.len() {
            return Err(no_password());
        } else if args.is(at, "setname") && at + 1 < args.len() {
            name = Some(valid_name(args.at(at + 1))?);
            at += 2;
        } else {
            let option = shown(args.at(at), 128);
            return Err(CommandError::new(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if let Some(name) = name {
        session.client.names().name = name;
    }
    set_protocol(session, reply, resp3);
    reply.map(7);
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk_str(field);
        reply.bulk_str(value);
    }
    reply.bulk_str("proto");
    reply.integer(if resp3 { 3 } else { 2 });
    reply.bulk_str("id");
    reply.count(session.client.id);
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk_str(field);
        reply.bulk_str(value);
    }
    reply.bulk_str("modules");
    reply.array(0);
    Ok(())
}

fn set_protocol(session: &mut Session, reply: &mut Reply, resp3: bool) {
    session.resp3 = resp3;
    session.client.resp3.store(resp3, Relaxed);
    reply.resp3 = resp3;
}

/// A name as CLIENT SETNAME takes it.
pub(super) fn valid_name(name: &[u8]) -> Result<String, CommandError> {
    valid_word(name)
        .ok_or(CommandError::of("ERR Client names cannot contain spaces, newlines or special characters."))
}

/// A word of printable characters without blanks, not too long to keep.
pub(super) fn valid_word(word: &[u8]) -> Option<String> {
    let fits = word.len() <= 1024 && word.iter().all(|byte| (b'!'..=b'~').contains(byte));
    fits.then(|| shown(word, 1024))
}

pub(super) fn auth(_: &mut Session, args: Args<'_>, _: &mut Reply) -> Done {
    Err(if args.len() > 3 { CommandError::SYNTAX } else { no_password() })
}

fn no_password() -> CommandError {
    CommandError::of(
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
         configuration is correct?",
    )
}

pub(super) fn select(_: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    if integer(args.at(1))? != 0 {
        return Err(CommandError::of("ERR DB index is out of range"));
    }
    reply.ok();
    Ok(())
}

pub(super) fn quit(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Done {
    session.closing = true;
    reply.ok();
    Ok(())
}

pub(super) fn reset(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Done {
    set_protocol(session, reply, false);
    session.client.names().name.clear();
    session.client.no_evict.store(false, Relaxed);
    session.client.no_touch.store(false, Relaxed);
    reply.simple("RESET");
    Ok(())
}
