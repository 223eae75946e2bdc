//! MEMORY: where RAM goes, in Redis's words as far as they make sense for a store whose records are on a device.

use super::command::Done;
use super::error::CommandError;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::slowlog_command::help;
use super::strings::integer;
use crate::process::resident_size;
use crate::shared::Shared;
use crate::store::StoreStats;
use std::fmt::Write;

/// One entry of the index.
const ENTRY_SIZE: u64 = 24;

const HELP: &[&str] = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Return memory problems reports.",
    "STATS",
    "    Return information about the memory usage of the server.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return the bytes that <key> takes: on the device, and in the index.",
    "HELP",
    "    Print this help.",
];

pub(super) fn memory(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    match args.at(1).to_ascii_lowercase().as_slice() {
        b"help" if args.len() == 2 => help(reply, HELP),
        // The others tell of the data.
        _ if session.shared.opening.store().is_none() => return Err(CommandError::LOADING),
        b"usage" if args.len() == 3 || (args.len() == 5 && args.is(3, "samples")) => {
            if args.len() == 5 && integer(args.at(4))? < 0 {
                return Err(CommandError::SYNTAX);
            }
            match session.store().stored_size(args.at(2))? {
                Some(size) => reply.count(u64::from(size) + ENTRY_SIZE),
                None => reply.null(),
            }
        }
        b"usage" if args.len() > 3 => return Err(CommandError::SYNTAX),
        b"stats" if args.len() == 2 => stats(&session.shared, &session.store().stats(), reply),
        b"doctor" if args.len() == 2 => reply.verbatim(&doctor(&session.store().stats())),
        b"usage" => return Err(CommandError::wrong_arguments("memory|usage")),
        b"stats" => return Err(CommandError::wrong_arguments("memory|stats")),
        b"doctor" => return Err(CommandError::wrong_arguments("memory|doctor")),
        b"help" => return Err(CommandError::wrong_arguments("memory|help")),
        _ => return Err(CommandError::unknown_subcommand("MEMORY", args.at(1))),
    }
    Ok(())
}

fn stats(shared: &Shared, stats: &StoreStats, reply: &mut Reply) {
    let (engine, resident) = (&stats.engine, resident_size());
    let dataset = engine.index_size + engine.cache_size + engine.write_buffer_size + engine.post_write_size;
    let rows = [
        ("total.allocated", resident),
        ("keys.count", stats.keys),
        ("keys.bytes-per-key", dataset.checked_div(stats.keys).unwrap_or(0)),
        ("dataset.bytes", dataset),
        ("index.bytes", engine.index_size),
        ("write-buffers.bytes", engine.write_buffer_size),
        ("post-write-cache.bytes", engine.post_write_size),
        ("read-cache.bytes", engine.cache_size),
        ("overhead.total", resident.saturating_sub(dataset)),
        ("clients.count", shared.clients.count() as u64),
        ("device.used-bytes", engine.used_size),
    ];
    reply.map(rows.len());
    for (name, value) in rows {
        reply.bulk_str(name);
        reply.count(value);
    }
}

fn doctor(stats: &StoreStats) -> String {
    let engine = &stats.engine;
    let mut text = String::new();
    // Writing into a String cannot fail.
    let mut say = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{line}");
    };
    let entries = engine.objects + engine.tombstones;
    if entries > 0 {
        let each = engine.index_size as f64 / entries as f64;
        say(format_args!(
            "The index takes {} bytes, {each:.1} for each of {entries} entries.",
            engine.index_size
        ));
    }
    if engine.tombstones > engine.objects {
        say(format_args!(
            "More entries are tombstones ({}) than records ({}): the scrub lets them go in time; a higher scrub-rate \
             is faster.",
            engine.tombstones, engine.objects
        ));
    }
    let counters = &engine.counters;
    let reads = counters.ram_reads() + counters.device_reads;
    if reads > 0 {
        let share = counters.device_reads as f64 * 100.0 / reads as f64;
        say(format_args!(
            "Of {reads} reads {share:.1} % went to the device; a larger cache serves more of them."
        ));
    }
    if text.is_empty() {
        text.push_str("There is no data yet, and no problem.\n");
    }
    text
}
