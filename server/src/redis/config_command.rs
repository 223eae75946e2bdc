//! CONFIG: the settings that Redis clients ask for, in Redis's names and with answers that are true here.
//!
//! Nothing is accepted without effect: CONFIG SET changes what can change while running (`maxclients` and
//! `timeout`), agrees when the value is what it is already, and refuses everything else.

use super::command::Done;
use super::error::{CommandError, shown};
use super::glob;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use crate::config::Durability;
use crate::shared::Shared;
use std::sync::atomic::Ordering::Relaxed;

pub(super) fn config(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    match args.at(1).to_ascii_lowercase().as_slice() {
        b"get" if args.len() > 2 => get(&session.shared, args, reply),
        b"get" => return Err(CommandError::wrong_arguments("config|get")),
        b"set" if args.len() > 3 && args.len().is_multiple_of(2) => {
            set(&session.shared, args)?;
            reply.ok();
        }
        b"set" => return Err(CommandError::wrong_arguments("config|set")),
        b"resetstat" if args.len() == 2 => {
            session.shared.counters.iter().for_each(|counters| counters.reset());
            reply.ok();
        }
        b"resetstat" => return Err(CommandError::wrong_arguments("config|resetstat")),
        _ => return Err(CommandError::unknown_subcommand("CONFIG", args.at(1))),
    }
    Ok(())
}

/// Redis's names for what is so here, and what Redis has no name for.
fn known(shared: &Shared) -> Vec<(&'static str, String)> {
    let config = &shared.config;
    let fsync = match config.durability {
        Durability::Relaxed if config.flush_max_ms <= 1000 => "everysec",
        // Redis has no word for a longer bound; this one promises nothing.
        Durability::Relaxed => "no",
        Durability::Group => "always",
    };
    vec![
        // The log is the store: what is written is appended, and checkpoints save nothing but time.
        ("save", String::new()),
        ("appendonly", "yes".to_owned()),
        ("appendfsync", fsync.to_owned()),
        ("bind", config.bind.to_string()),
        ("client-query-buffer-limit", config.max_request.0.to_string()),
        ("cluster-enabled", "no".to_owned()),
        ("databases", "1".to_owned()),
        ("dir", config.data_dir.display().to_string()),
        ("io-threads", config.threads.to_string()),
        ("maxclients", shared.max_connections.load(Relaxed).to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", policy(shared).to_owned()),
        ("notify-keyspace-events", String::new()),
        ("port", shared.port.load(Relaxed).to_string()),
        ("proto-max-bulk-len", config.max_record.0.to_string()),
        ("requirepass", String::new()),
        // Not one of Redis's.
        ("scrub-rate", config.scrub_rate.0.to_string()),
        ("tcp-keepalive", "0".to_owned()),
        ("timeout", (shared.idle_timeout_ms.load(Relaxed) / 1000).to_string()),
        ("tls-port", "0".to_owned()),
    ]
}

/// What Redis would call what happens when space runs short.
pub(super) fn policy(shared: &Shared) -> &'static str {
    if shared.config.evict_above > 0 { "volatile-ttl" } else { "noeviction" }
}

fn get(shared: &Shared, args: Args<'_>, reply: &mut Reply) {
    let patterns: Vec<Vec<u8>> = args.from(2).map(<[u8]>::to_ascii_lowercase).collect();
    let mut found = known(shared);
    found.retain(|(name, _)| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes())));
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk_str(name);
        reply.bulk_str(&value);
    }
}

/// Checks all pairs before it changes anything.
fn set(shared: &Shared, args: Args<'_>) -> Done {
    let known = known(shared);
    let mut changes: Vec<(&str, u64)> = Vec::new();
    for at in (2..args.len()).step_by(2) {
        let asked = shown(&args.at(at).to_ascii_lowercase(), 128);
        let value = shown(args.at(at + 1), 4096);
        let refused = |why: &str| {
            let text = "ERR CONFIG SET failed (possibly related to argument";
            CommandError::new(format!("{text} '{asked}') - {why}"))
        };
        let Some((name, now)) = known.iter().find(|(name, _)| *name == asked) else {
            let asked = shown(args.at(at), 128);
            return Err(CommandError::new(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{asked}'"
            )));
        };
        match *name {
            "maxclients" | "timeout" => {
                let number: i64 =
                    value.parse().map_err(|_| refused("argument couldn't be parsed into an integer"))?;
                let (least, most) =
                    if *name == "timeout" { (0, i32::MAX.into()) } else { (1, u32::MAX.into()) };
                if !(least..=most).contains(&number) {
                    return Err(refused(&format!("argument must be between {least} and {most} inclusive")));
                }
                let number = number.unsigned_abs();
                changes.push((name, number));
            }
            _ if *now == value => {}
            _ => return Err(refused("can't set immutable config")),
        }
    }
    for (name, number) in changes {
        match name {
            "timeout" => shared.idle_timeout_ms.store(number * 1000, Relaxed),
            _ => shared.max_connections.store(usize::try_from(number).unwrap_or(usize::MAX), Relaxed),
        }
    }
    Ok(())
}
