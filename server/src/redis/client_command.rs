//! CLIENT: what connections say about themselves and learn about each other.

use super::command::Done;
use super::connection_commands::{valid_name, valid_word};
use super::error::{CommandError, shown};
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::strings::integer;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub(super) fn client(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    let subcommand = args.at(1).to_ascii_lowercase();
    let takes = |count: usize| {
        let name = || format!("client|{}", shown(&subcommand, 32));
        if args.len() == count { Ok(()) } else { Err(CommandError::wrong_arguments(&name())) }
    };
    match subcommand.as_slice() {
        b"id" => {
            takes(2)?;
            reply.count(session.client.id);
        }
        b"getname" => {
            takes(2)?;
            match session.client.names().name.as_str() {
                "" => reply.null(),
                name => reply.bulk_str(name),
            }
        }
        b"setname" => {
            takes(3)?;
            session.client.names().name = valid_name(args.at(2))?;
            reply.ok();
        }
        b"setinfo" => {
            takes(4)?;
            set_info(session, args)?;
            reply.ok();
        }
        b"info" => {
            takes(2)?;
            reply.verbatim(&session.client.line(session.now_ms));
        }
        b"list" => list(session, args, reply)?,
        b"no-evict" => {
            takes(3)?;
            set_flag(&session.client.no_evict, args)?;
            reply.ok();
        }
        b"no-touch" => {
            takes(3)?;
            set_flag(&session.client.no_touch, args)?;
            reply.ok();
        }
        _ => return Err(CommandError::unknown_subcommand("CLIENT", args.at(1))),
    }
    Ok(())
}

fn set_info(session: &Session, args: Args<'_>) -> Done {
    let option = args.at(2).to_ascii_lowercase();
    let name = shown(&option, 64);
    let mut names = session.client.names();
    let place = match option.as_slice() {
        b"lib-name" => &mut names.lib_name,
        b"lib-ver" => &mut names.lib_ver,
        _ => return Err(CommandError::new(format!("ERR Unrecognized option '{}'", shown(args.at(2), 64)))),
    };
    *place = valid_word(args.at(3)).ok_or_else(|| {
        CommandError::new(format!("ERR {name} cannot contain spaces, newlines or special characters."))
    })?;
    Ok(())
}

fn set_flag(flag: &AtomicBool, args: Args<'_>) -> Done {
    let on = args.is(2, "on");
    if !on && !args.is(2, "off") {
        return Err(CommandError::SYNTAX);
    }
    flag.store(on, Relaxed);
    Ok(())
}

/// CLIENT LIST, by TYPE or by ID.
fn list(session: &Session, args: Args<'_>, reply: &mut Reply) -> Done {
    let mut clients = session.shared.clients.list();
    if args.len() == 4 && args.is(2, "type") {
        if !["normal", "master", "replica", "slave", "pubsub"].iter().any(|kind| args.is(3, kind)) {
            let kind = shown(args.at(3), 128);
            return Err(CommandError::new(format!("ERR Unknown client type '{kind}'")));
        }
        if !args.is(3, "normal") {
            clients.clear();
        }
    } else if args.len() >= 4 && args.is(2, "id") {
        let mut wanted = Vec::new();
        for id in args.from(3) {
            let id = integer(id).map_err(|_| CommandError::of("ERR Invalid client ID"))?;
            wanted.extend(u64::try_from(id));
        }
        clients.retain(|client| wanted.contains(&client.id));
    } else if args.len() != 2 {
        return Err(CommandError::SYNTAX);
    }
    let lines: String = clients.iter().map(|client| client.line(session.now_ms)).collect();
    reply.verbatim(&lines);
    Ok(())
}
