//! LATENCY: how long commands take, as histograms, and spikes above `latency-monitor-threshold`.

use super::command::{Done, find};
use super::command_table::COMMANDS;
use super::error::{CommandError, shown};
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::slowlog_command::help;
use crate::shared::Shared;
use crate::store::stats::Latencies;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

const HELP: &[&str] = &[
    "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Return a human readable report of how long commands and durable writes take.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes.",
    "    (default: reset all data for all event classes)",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
    "    If no commands are specified then all histograms are replied.",
    "HELP",
    "    Print this help.",
];

pub(super) fn latency(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    let shared = &session.shared;
    match args.at(1).to_ascii_lowercase().as_slice() {
        b"histogram" => histogram(shared, args, reply),
        b"latest" if args.len() == 2 => {
            let events = shared.spikes.all();
            reply.array(events.len());
            for (name, event) in events {
                let (at_s, ms) = event.history.back().copied().unwrap_or_default();
                reply.array(4);
                reply.bulk_str(name);
                reply.count(at_s);
                reply.count(ms);
                reply.count(event.longest_ms);
            }
        }
        b"history" if args.len() == 3 => {
            let event = shared.spikes.all().remove(&*shown(args.at(2), 64)).unwrap_or_default();
            reply.array(event.history.len());
            for (at_s, ms) in event.history {
                reply.array(2);
                reply.count(at_s);
                reply.count(ms);
            }
        }
        b"reset" => {
            let is_wanted = |name: &str| args.len() == 2 || (2..args.len()).any(|at| args.is(at, name));
            reply.count(shared.spikes.forget(is_wanted) as u64);
        }
        b"doctor" if args.len() == 2 => reply.verbatim(&doctor(shared)),
        b"help" if args.len() == 2 => help(reply, HELP),
        b"latest" => return Err(CommandError::wrong_arguments("latency|latest")),
        b"history" => return Err(CommandError::wrong_arguments("latency|history")),
        b"doctor" => return Err(CommandError::wrong_arguments("latency|doctor")),
        b"help" => return Err(CommandError::wrong_arguments("latency|help")),
        _ => return Err(CommandError::unknown_subcommand("LATENCY", args.at(1))),
    }
    Ok(())
}

/// How long a command took, over all workers.
fn of_command(shared: &Shared, index: usize) -> Latencies {
    let mut sum = Latencies::default();
    shared.counters.iter().for_each(|counters| counters.commands[index].latency.add_to(&mut sum));
    sum
}

/// LATENCY HISTOGRAM: for each command its calls, and how many took at most 1, 2, 4, ... microseconds.
fn histogram(shared: &Shared, args: Args<'_>, reply: &mut Reply) {
    let wanted: Vec<usize> = match args.len() {
        2 => (0..COMMANDS.len()).collect(),
        _ => args.from(2).filter_map(find).collect(),
    };
    let mut found: Vec<(usize, Latencies)> =
        wanted.into_iter().map(|index| (index, of_command(shared, index))).collect();
    found.retain(|(_, latencies)| latencies.count() > 0);
    reply.map(found.len());
    for (index, latencies) in found {
        // Like Redis: only borders at which the count grows.
        let mut before = 0;
        let steps: Vec<(u64, u64)> = latencies
            .cumulative()
            .filter(|&(_, count)| count > std::mem::replace(&mut before, count))
            .collect();
        reply.bulk_str(COMMANDS[index].name);
        reply.map(2);
        reply.bulk_str("calls");
        reply.count(latencies.count());
        reply.bulk_str("histogram_usec");
        reply.map(steps.len());
        for (end_ns, count) in steps {
            reply.count(end_ns / 1000);
            reply.count(count);
        }
    }
}

/// LATENCY DOCTOR: what stands out, in words.
fn doctor(shared: &Shared) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let mut say = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{line}");
    };
    let mut slowest: Vec<(usize, Latencies)> =
        (0..COMMANDS.len()).map(|index| (index, of_command(shared, index))).collect();
    slowest.retain(|(_, latencies)| latencies.count() > 0);
    slowest.sort_by_key(|(_, latencies)| std::cmp::Reverse(latencies.quantile_ns(0.99)));
    let us = |ns: u64| ns as f64 / 1000.0;
    say(format_args!("Slowest commands since the start or CONFIG RESETSTAT, by their 99th percentile:"));
    for (index, latencies) in slowest.iter().take(5) {
        say(format_args!(
            "* {}: {} calls, p50 {:.1} us, p99 {:.1} us, longest {:.1} us",
            COMMANDS[*index].name,
            latencies.count(),
            us(latencies.quantile_ns(0.5)),
            us(latencies.quantile_ns(0.99)),
            us(latencies.longest_ns())
        ));
    }
    let stats = shared.opening.store().map(|store| store.stats().engine).unwrap_or_default();
    let commits = &stats.commits;
    if commits.count() > 0 {
        say(format_args!(
            "Durable writes of the log: {}, p50 {:.1} us, p99 {:.1} us, longest {:.1} us.",
            commits.count(),
            us(commits.quantile_ns(0.5)),
            us(commits.quantile_ns(0.99)),
            us(commits.longest_ns())
        ));
    }
    if stats.counters.waited > 0 {
        say(format_args!(
            "Writers had to wait for space {} times: the device is slower than they are, or free blocks are short \
             ({} of {} are free).",
            stats.counters.waited, stats.free_blocks, stats.blocks
        ));
    }
    if shared.spikes.threshold_ms.load(Relaxed) == 0 {
        say(format_args!(
            "The latency monitor is off: CONFIG SET latency-monitor-threshold <milliseconds> switches it on."
        ));
    }
    for (name, event) in shared.spikes.all() {
        let count = event.history.len();
        say(format_args!("Spikes of {name}: in {count} seconds, {} ms at most.", event.longest_ms));
    }
    text
}
