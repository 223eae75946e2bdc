//! COMMAND: the command table, told to clients that choose and explain commands by it.

use super::command::{Command, Done, Flag, Keys, find};
use super::command_table::COMMANDS;
use super::error::CommandError;
use super::glob;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;

pub(super) fn command(_: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    let Some(subcommand) = args.get(1) else {
        reply.array(COMMANDS.len());
        COMMANDS.iter().for_each(|command| describe(command, reply));
        return Ok(());
    };
    match subcommand.to_ascii_lowercase().as_slice() {
        b"count" if args.len() == 2 => reply.count(COMMANDS.len() as u64),
        b"count" => return Err(CommandError::wrong_arguments("command|count")),
        b"info" if args.len() == 2 => {
            reply.array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| describe(command, reply));
        }
        b"info" => {
            reply.array(args.len() - 2);
            for name in args.from(2) {
                match find(name) {
                    Some(index) => describe(&COMMANDS[index], reply),
                    None => reply.null_array(),
                }
            }
        }
        b"docs" => {
            let named: Vec<&Command> = match args.len() {
                2 => COMMANDS.iter().collect(),
                _ => args.from(2).filter_map(find).map(|index| &COMMANDS[index]).collect(),
            };
            reply.map(named.len());
            named.into_iter().for_each(|command| document(command, reply));
        }
        b"list" => return list(args, reply),
        _ => return Err(CommandError::unknown_subcommand("COMMAND", subcommand)),
    }
    Ok(())
}

/// The ten fields of COMMAND INFO.
fn describe(command: &Command, reply: &mut Reply) {
    let Keys(first, last, step) = command.keys;
    reply.array(10);
    reply.bulk_str(command.name);
    reply.integer(i64::from(command.arity));
    reply.set(command.flags.len());
    for flag in command.flags {
        reply.simple(flag.name());
    }
    reply.count(first as u64);
    reply.integer(i64::from(last));
    reply.count(step as u64);
    let categories = categories(command);
    reply.set(categories.len());
    for category in categories {
        reply.simple(&format!("@{category}"));
    }
    // Tips, key specifications, subcommands: none are needed to find the keys of these commands.
    reply.set(0);
    reply.set(0);
    reply.array(0);
}

fn categories(command: &Command) -> Vec<&'static str> {
    let has = |flag| command.flags.contains(&flag);
    let mut categories = Vec::new();
    match command.group {
        "generic" if has(Flag::Blocking) => categories.push("connection"),
        "generic" => categories.push("keyspace"),
        "string" | "connection" => categories.push(command.group),
        _ => {}
    }
    for (flag, category) in [(Flag::Write, "write"), (Flag::Readonly, "read"), (Flag::Admin, "admin")] {
        if has(flag) {
            categories.push(category);
        }
    }
    if has(Flag::Admin) {
        categories.push("dangerous");
    }
    if has(Flag::Blocking) {
        categories.push("blocking");
    }
    categories.push(if has(Flag::Fast) { "fast" } else { "slow" });
    categories
}

fn document(command: &Command, reply: &mut Reply) {
    reply.bulk_str(command.name);
    let fields = [("summary", command.summary), ("since", command.since), ("group", command.group)];
    reply.map(fields.len());
    for (field, value) in fields {
        reply.bulk_str(field);
        reply.bulk_str(value);
    }
}

/// COMMAND LIST [FILTERBY ACLCAT category | PATTERN pattern | MODULE name]
fn list(args: Args<'_>, reply: &mut Reply) -> Done {
    let chosen: Vec<&Command> = if args.len() == 2 {
        COMMANDS.iter().collect()
    } else if args.len() == 5 && args.is(2, "filterby") {
        let filter = args.at(4).to_ascii_lowercase();
        let keep: fn(&Command, &[u8]) -> bool = if args.is(3, "pattern") {
            |command, pattern| glob::matches(pattern, command.name.as_bytes())
        } else if args.is(3, "aclcat") {
            |command, name| categories(command).iter().any(|category| category.as_bytes() == name)
        } else if args.is(3, "module") {
            |_, _| false
        } else {
            return Err(CommandError::SYNTAX);
        };
        COMMANDS.iter().filter(|command| keep(command, &filter)).collect()
    } else {
        return Err(CommandError::SYNTAX);
    };
    reply.array(chosen.len());
    for command in chosen {
        reply.bulk_str(command.name);
    }
    Ok(())
}
