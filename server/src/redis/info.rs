//! INFO: figures for people, dashboards and clients that wait until the server is ready.
//!
//! Sections and names are Redis's, as far as the thing exists here; what only Aerolith has is in its own section.

use super::command::Done;
use super::command_table::COMMANDS;
use super::connection_commands::REDIS_VERSION;
use super::durable::last_save_s;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use crate::counters::Counters;
use crate::process::{cpu_seconds, resident_size};
use crate::shared::Shared;
use crate::store::{Store, StoreStats};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

type Section = fn(&Shared, &mut String);

/// Name, whether plain INFO shows it, and what writes it.
const SECTIONS: &[(&str, bool, Section)] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Commandstats", false, commandstats),
    ("Cluster", true, |_, out| line(out, "cluster_enabled", 0)),
    ("Keyspace", true, keyspace),
    ("Aerolith", true, aerolith),
];

pub(super) fn info(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    let wanted: Vec<String> =
        args.from(1).map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    let asks = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let mut text = String::new();
    for (name, by_default, write) in SECTIONS {
        let shown = asks(&name.to_ascii_lowercase())
            || asks("all")
            || asks("everything")
            || *by_default && (wanted.is_empty() || asks("default"));
        if shown {
            let gap = if text.is_empty() { "" } else { "\r\n" };
            let _ = write!(text, "{gap}# {name}\r\n");
            write(&session.shared, &mut text);
        }
    }
    reply.verbatim(&text);
    Ok(())
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing into a String cannot fail.
    let _ = write!(out, "{name}:{value}\r\n");
}

/// The figures of the data; nothing but zeros until it is there.
fn stats_of(shared: &Shared) -> StoreStats {
    shared.opening.store().map(Store::stats).unwrap_or_default()
}

fn server(shared: &Shared, out: &mut String) {
    let uptime = shared.started.elapsed().as_secs();
    line(out, "redis_version", REDIS_VERSION);
    line(out, "aerolith_version", env!("CARGO_PKG_VERSION"));
    line(out, "redis_mode", "standalone");
    line(out, "os", std::env::consts::OS);
    line(out, "arch_bits", usize::BITS);
    line(out, "multiplexing_api", "epoll");
    line(out, "process_id", std::process::id());
    line(out, "run_id", &shared.run_id);
    line(out, "tcp_port", shared.port.load(Relaxed));
    line(out, "server_time_usec", crate::clock::unix_us());
    line(out, "uptime_in_seconds", uptime);
    line(out, "uptime_in_days", uptime / 86_400);
    line(out, "io_threads_active", u8::from(shared.config.threads > 1));
}

fn clients(shared: &Shared, out: &mut String) {
    line(out, "connected_clients", shared.clients.count());
    line(out, "cluster_connections", 0);
    line(out, "maxclients", shared.max_connections.load(Relaxed));
    line(out, "blocked_clients", shared.blocked.load(Relaxed));
    line(out, "tracking_clients", 0);
    line(out, "pubsub_clients", 0);
    line(out, "watching_clients", 0);
}

fn memory(shared: &Shared, out: &mut String) {
    let resident = resident_size();
    // What the process holds: index, caches, buffers and connections alike.
    line(out, "used_memory", resident);
    line(out, "used_memory_human", format_args!("{:.2}M", resident as f64 / (1 << 20) as f64));
    line(out, "used_memory_rss", resident);
    let engine = stats_of(shared).engine;
    let dataset = engine.index_size + engine.cache_size + engine.write_buffer_size + engine.post_write_size;
    line(out, "used_memory_dataset", dataset);
    line(out, "maxmemory", 0);
    line(out, "maxmemory_policy", crate::redis::config_command::policy(shared));
    line(out, "mem_fragmentation_ratio", "1.00");
}

fn persistence(shared: &Shared, out: &mut String) {
    let far = shared.opening.store().is_none().then(|| shared.opening.how_far());
    line(out, "loading", u8::from(far.is_some()));
    line(out, "async_loading", 0);
    if let Some(far) = far {
        line(out, "loading_start_time", far.started_ms / 1000);
        line(out, "loading_total_bytes", far.total);
        line(out, "loading_loaded_bytes", far.done);
        line(out, "loading_loaded_perc", format_args!("{:.2}", far.percent()));
        line(out, "loading_eta_seconds", far.eta_s.map_or(-1, u64::cast_signed));
        line(out, "aerolith_loading_phase", far.phase.name());
        line(out, "aerolith_loading_versions", far.versions);
    }
    let store = stats_of(shared).engine;
    let status = |is_well| if is_well { "ok" } else { "err" };
    let save = &shared.background_save;
    let is_saving = save.is_running.load(Relaxed) || store.is_writing_checkpoint;
    line(out, "rdb_bgsave_in_progress", u8::from(is_saving));
    line(out, "rdb_last_save_time", last_save_s(shared, store.checkpoint_written_ms));
    line(out, "rdb_last_bgsave_status", status(!save.has_failed.load(Relaxed)));
    line(out, "aof_enabled", 1);
    line(out, "aof_rewrite_in_progress", 0);
    line(out, "aof_last_write_status", status(store.failed_devices == 0));
    line(out, "aerolith_checkpoint_id", store.checkpoint_id);
    line(out, "aerolith_checkpoint_entries", store.checkpoint_entries);
    line(out, "aerolith_durability", format_args!("{:?}", shared.tunable().durability));
}

fn stats(shared: &Shared, out: &mut String) {
    let store = stats_of(shared);
    let calls = |counters: &Counters| counters.commands.iter().map(|command| command.calls.get()).sum();
    let failed = |counters: &Counters| counters.commands.iter().map(|command| command.failed.get()).sum();
    line(out, "total_connections_received", shared.sum(|c| c.connections.get()));
    line(out, "total_commands_processed", shared.sum(calls));
    line(out, "total_net_input_bytes", shared.sum(|c| c.received.get()));
    line(out, "total_net_output_bytes", shared.sum(|c| c.sent.get()));
    line(out, "rejected_connections", shared.rejected.get());
    line(out, "expired_keys", store.engine.counters.expired);
    line(out, "evicted_keys", store.engine.counters.evicted);
    line(out, "keyspace_hits", shared.sum(|c| c.keyspace_hits.get()));
    line(out, "keyspace_misses", shared.sum(|c| c.keyspace_misses.get()));
    line(out, "pubsub_channels", 0);
    line(out, "pubsub_patterns", 0);
    line(out, "total_error_replies", shared.sum(failed));
    line(out, "protocol_errors", shared.sum(|c| c.protocol_errors.get()));
    line(out, "slow_connections_closed", shared.sum(|c| c.closed_slow.get()));
    line(out, "panics", shared.sum(|c| c.panics.get()));
}

fn replication(shared: &Shared, out: &mut String) {
    line(out, "role", "master");
    line(out, "connected_slaves", 0);
    line(out, "master_replid", &shared.run_id);
    line(out, "master_repl_offset", 0);
}

fn cpu(_: &Shared, out: &mut String) {
    let (user, system) = cpu_seconds();
    line(out, "used_cpu_sys", format_args!("{system:.6}"));
    line(out, "used_cpu_user", format_args!("{user:.6}"));
}

fn commandstats(shared: &Shared, out: &mut String) {
    for (index, command) in COMMANDS.iter().enumerate() {
        let calls = shared.sum(|c| c.commands[index].calls.get());
        if calls == 0 {
            continue;
        }
        let us = shared.sum(|c| c.commands[index].nanoseconds.get()) / 1000;
        let failed = shared.sum(|c| c.commands[index].failed.get());
        let each = us as f64 / calls as f64;
        let name = format!("cmdstat_{}", command.name);
        let text =
            format!("calls={calls},usec={us},usec_per_call={each:.2},rejected_calls=0,failed_calls={failed}");
        line(out, &name, text);
    }
}

fn keyspace(shared: &Shared, out: &mut String) {
    let store = stats_of(shared);
    if store.keys > 0 {
        line(out, "db0", format_args!("keys={},expires={},avg_ttl=0", store.keys, store.expires));
    }
}

fn aerolith(shared: &Shared, out: &mut String) {
    line(out, "workers", shared.config.threads);
    let stats = stats_of(shared).engine;
    let counters = &stats.counters;
    for (name, value) in [
        ("objects", stats.objects),
        ("tombstones", stats.tombstones),
        ("index_bytes", stats.index_size),
        ("read_cache_bytes", stats.cache_size),
        ("write_buffer_bytes", stats.write_buffer_size),
        ("post_write_bytes", stats.post_write_size),
        ("used_bytes", stats.used_size),
        ("used_limit_bytes", stats.used_limit),
        ("device_bytes", stats.device_size),
        ("free_bytes", stats.free_size),
        ("blocks", stats.blocks),
        ("free_blocks", stats.free_blocks),
        ("settling_blocks", stats.settling_blocks),
        ("unwritten_blocks", stats.unwritten_blocks),
        ("defrag_shortage_blocks", stats.defrag_shortage_blocks),
        ("oldest_unflushed_ms", stats.oldest_unflushed_ms),
        ("failed_devices", stats.failed_devices),
        ("device_errors", stats.device_errors),
        ("checkpoint_id", stats.checkpoint_id),
        ("checkpoint_entries", stats.checkpoint_entries),
        ("checkpoint_blocks", stats.checkpoint_blocks),
        ("checkpoints_written", stats.checkpoints_written),
        ("checkpoints_skipped", stats.checkpoints_skipped),
        ("checkpoint_written_ms", stats.checkpoint_written_ms),
        ("is_writing_checkpoint", u64::from(stats.is_writing_checkpoint)),
        ("scrub_passes", counters.scrub_passes),
        ("scrub_pass_blocks", stats.scrub_pass_blocks),
        ("scrubbed_blocks", counters.scrubbed_blocks),
        ("scrubbed_bytes", counters.scrubbed_size),
        ("scrub_faults", counters.scrub_faults),
        ("tombstones_removed", counters.tombstones_removed),
        ("ram_reads", counters.ram_reads()),
        ("write_buffer_reads", counters.write_buffer_reads),
        ("post_write_reads", counters.post_write_reads),
        ("read_cache_reads", counters.cache_reads),
        ("device_reads", counters.device_reads),
        ("device_read_bytes", stats.device_read_size),
        ("device_write_ops", stats.device_write_count),
        ("device_written_bytes", stats.device_written_size),
        ("fresh_bytes", stats.fresh_size),
        ("moved_bytes", stats.moved_size),
        ("footer_bytes", stats.footer_size),
    ] {
        line(out, name, value);
    }
    line(out, "write_amplification", format_args!("{:.3}", stats.write_amplification()));
    line(out, "space_amplification", format_args!("{:.3}", stats.space_amplification()));
    for (name, value) in [
        ("overwritten_in_place", stats.overwritten_in_place),
        ("defragged_blocks", counters.defragged_blocks),
        ("writer_waits", counters.waited),
        ("writes_refused", counters.refused),
        ("corrupt_records", counters.corrupt),
    ] {
        line(out, name, value);
    }
}
