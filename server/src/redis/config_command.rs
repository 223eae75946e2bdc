//! CONFIG: the settings that Redis clients ask for, in Redis's names and with answers that are true here, and those of
//! Aerolith's own that can change while it runs, in its own.
//!
//! Nothing is accepted without effect: CONFIG SET changes what can change, agrees when the value is what it is
//! already, and refuses everything else. All pairs of one call are checked before any of them holds.

use super::command::Done;
use super::error::{CommandError, shown};
use super::glob;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::slowlog_command::help;
use crate::config::{ByteSize, Durability};
use crate::shared::Shared;
use crate::store::stats::Tunable;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>, until the server ends.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "HELP",
    "    Print this help.",
];

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
        // Its settings are the operator's; what CONFIG SET changes ends with the server.
        b"rewrite" if args.len() == 2 => {
            return Err(CommandError::of("ERR The server is running without a config file"));
        }
        b"help" if args.len() == 2 => help(reply, HELP),
        _ => return Err(CommandError::unknown_subcommand("CONFIG", args.at(1))),
    }
    Ok(())
}

/// The settings that can change, as they are or shall be.
#[derive(Clone, PartialEq)]
struct Changing {
    max_clients: u64,
    timeout_s: u64,
    slower_than_us: i64,
    slow_log_len: u64,
    monitor_ms: u64,
    data: Tunable,
}

/// What clients ask for that can change: Redis's names first, then Aerolith's own.
const CHANGING: &[&str] = &[
    "maxclients",
    "timeout",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "latency-monitor-threshold",
    "appendfsync",
    "durability",
    "flush-max-ms",
    "scrub-rate",
    "evict-above",
    "checkpoint-period-ms",
];

impl Changing {
    fn now(shared: &Shared) -> Changing {
        Changing {
            max_clients: shared.max_connections.load(Relaxed) as u64,
            timeout_s: shared.idle_timeout_ms.load(Relaxed) / 1000,
            slower_than_us: shared.slow_log.threshold_us.load(Relaxed),
            slow_log_len: shared.slow_log.max_len(),
            monitor_ms: shared.spikes.threshold_ms.load(Relaxed),
            data: shared.tunable(),
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        let is_group = self.data.durability == Durability::Group.into();
        let milliseconds = |period: Duration| period.as_millis().to_string();
        Some(match name {
            "maxclients" => self.max_clients.to_string(),
            "timeout" => self.timeout_s.to_string(),
            "slowlog-log-slower-than" => self.slower_than_us.to_string(),
            "slowlog-max-len" => self.slow_log_len.to_string(),
            "latency-monitor-threshold" => self.monitor_ms.to_string(),
            "appendfsync" if is_group => "always".to_owned(),
            "appendfsync" if self.data.flush_max <= Duration::from_secs(1) => "everysec".to_owned(),
            // Redis has no word for a longer bound; this one promises nothing.
            "appendfsync" => "no".to_owned(),
            "durability" => if is_group { "group" } else { "relaxed" }.to_owned(),
            "flush-max-ms" => milliseconds(self.data.flush_max),
            "scrub-rate" => self.data.scrub_rate.to_string(),
            "evict-above" => self.data.evict_above.to_string(),
            "checkpoint-period-ms" => self.data.checkpoint_period.map_or("0".to_owned(), milliseconds),
            _ => return None,
        })
    }

    /// Takes a value in, or says why not.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "maxclients" => self.max_clients = number(value, 1, u32::MAX.into())?.unsigned_abs(),
            "timeout" => self.timeout_s = number(value, 0, i32::MAX.into())?.unsigned_abs(),
            "slowlog-log-slower-than" => self.slower_than_us = number(value, -1, i64::MAX)?,
            "slowlog-max-len" => self.slow_log_len = number(value, 0, 1_000_000)?.unsigned_abs(),
            "latency-monitor-threshold" => self.monitor_ms = number(value, 0, i64::MAX)?.unsigned_abs(),
            "appendfsync" => match value.to_ascii_lowercase().as_str() {
                "always" => self.data.durability = Durability::Group.into(),
                "everysec" => {
                    self.data.durability = Durability::Relaxed.into();
                    self.data.flush_max = self.data.flush_max.min(Duration::from_secs(1));
                }
                _ => return Err("argument must be one of the following: everysec, always".to_owned()),
            },
            "durability" => {
                self.data.durability = match value.to_ascii_lowercase().as_str() {
                    "relaxed" => Durability::Relaxed.into(),
                    "group" => Durability::Group.into(),
                    _ => return Err("argument must be one of the following: relaxed, group".to_owned()),
                };
            }
            "flush-max-ms" => {
                self.data.flush_max = Duration::from_millis(number(value, 1, 60_000)?.unsigned_abs());
            }
            "scrub-rate" => {
                self.data.scrub_rate =
                    value.parse::<ByteSize>().map_err(|_| "argument must be a memory value".to_owned())?.0;
            }
            "evict-above" => self.data.evict_above = number(value, 0, 89)?.unsigned_abs() as u8,
            "checkpoint-period-ms" => {
                let ms = number(value, 0, 86_400_000)?.unsigned_abs();
                self.data.checkpoint_period = (ms > 0).then(|| Duration::from_millis(ms));
            }
            _ => return Err("can't set immutable config".to_owned()),
        }
        Ok(())
    }

    /// Makes all of them hold.
    fn apply(&self, shared: &Shared) -> Result<(), String> {
        if self.data != shared.tunable() {
            let store = shared.opening.store().ok_or("the data is still being opened")?;
            store.tune(self.data).map_err(|error| error.message)?;
        }
        shared.max_connections.store(usize::try_from(self.max_clients).unwrap_or(usize::MAX), Relaxed);
        shared.idle_timeout_ms.store(self.timeout_s * 1000, Relaxed);
        shared.slow_log.threshold_us.store(self.slower_than_us, Relaxed);
        shared.slow_log.set_max_len(self.slow_log_len);
        shared.spikes.threshold_ms.store(self.monitor_ms, Relaxed);
        tracing::info!("CONFIG SET: the settings have changed until the server ends");
        Ok(())
    }
}

fn number(value: &str, least: i64, most: i64) -> Result<i64, String> {
    let number: i64 = value.parse().map_err(|_| "argument couldn't be parsed into an integer".to_owned())?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("argument must be between {least} and {most} inclusive"))
    }
}

/// What there is, in Redis's names and in Aerolith's, sorted.
fn known(shared: &Shared) -> Vec<(&'static str, String)> {
    let (config, changing) = (&shared.config, Changing::now(shared));
    let mut known = vec![
        // The log is the store: what is written is appended, and checkpoints save nothing but time.
        ("save", String::new()),
        ("appendonly", "yes".to_owned()),
        ("bind", config.bind.to_string()),
        ("client-query-buffer-limit", config.max_request.0.to_string()),
        ("cluster-enabled", "no".to_owned()),
        ("databases", "1".to_owned()),
        ("dir", config.data_dir.display().to_string()),
        ("io-threads", config.threads.to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", policy(shared).to_owned()),
        ("notify-keyspace-events", String::new()),
        ("port", shared.port.load(Relaxed).to_string()),
        ("proto-max-bulk-len", config.max_record.0.to_string()),
        ("requirepass", String::new()),
        ("tcp-keepalive", "0".to_owned()),
        ("tls-port", "0".to_owned()),
        // Not one of Redis's.
        ("admin-port", config.admin_port.to_string()),
    ];
    known.extend(CHANGING.iter().filter_map(|&name| Some((name, changing.get(name)?))));
    known.sort_unstable();
    known
}

/// What Redis would call what happens when space runs short.
pub(super) fn policy(shared: &Shared) -> &'static str {
    if shared.tunable().evict_above > 0 { "volatile-ttl" } else { "noeviction" }
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

fn set(shared: &Shared, args: Args<'_>) -> Done {
    let (known, before) = (known(shared), Changing::now(shared));
    let mut after = before.clone();
    let mut last = "";
    for at in (2..args.len()).step_by(2) {
        let asked = shown(&args.at(at).to_ascii_lowercase(), 128);
        let value = shown(args.at(at + 1), 4096);
        let Some((name, now)) = known.iter().find(|(name, _)| *name == asked) else {
            let asked = shown(args.at(at), 128);
            return Err(CommandError::new(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{asked}'"
            )));
        };
        last = name;
        if *now != value || CHANGING.contains(name) {
            after.set(name, &value).map_err(|why| refused(name, &why))?;
        }
    }
    if after != before {
        after.apply(shared).map_err(|why| refused(last, &why))?;
    }
    Ok(())
}

fn refused(name: &str, why: &str) -> CommandError {
    CommandError::new(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}
