//! SLOWLOG: the commands that took longer than `slowlog-log-slower-than`, as Redis tells them.

use super::command::Done;
use super::error::CommandError;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::strings::integer;

const HELP: &[&str] = &[
    "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
    "HELP",
    "    Print this help.",
];

pub(super) fn slowlog(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    let log = &session.shared.slow_log;
    match args.at(1).to_ascii_lowercase().as_slice() {
        b"get" if args.len() <= 3 => {
            let count = match args.get(2).map(integer).transpose()? {
                None => 10,
                Some(-1) => usize::MAX,
                Some(count) => usize::try_from(count)
                    .map_err(|_| CommandError::of("ERR count should be greater than or equal to -1"))?,
            };
            let entries = log.newest(count);
            reply.array(entries.len());
            for entry in entries {
                reply.array(6);
                reply.count(entry.id);
                reply.count(entry.at_ms / 1000);
                reply.count(entry.us);
                reply.array(entry.words.len());
                entry.words.iter().for_each(|word| reply.bulk(word));
                reply.bulk_str(&entry.client);
                reply.bulk_str(&entry.client_name);
            }
        }
        b"len" if args.len() == 2 => reply.count(log.len() as u64),
        b"reset" if args.len() == 2 => {
            log.clear();
            reply.ok();
        }
        b"help" if args.len() == 2 => help(reply, HELP),
        b"get" => return Err(CommandError::wrong_arguments("slowlog|get")),
        b"len" => return Err(CommandError::wrong_arguments("slowlog|len")),
        b"reset" => return Err(CommandError::wrong_arguments("slowlog|reset")),
        b"help" => return Err(CommandError::wrong_arguments("slowlog|help")),
        _ => return Err(CommandError::unknown_subcommand("SLOWLOG", args.at(1))),
    }
    Ok(())
}

/// Tells the lines of a command's help.
pub(super) fn help(reply: &mut Reply, lines: &[&str]) {
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
}
