//! What all workers and connections of one server have in common.

use crate::clients::Clients;
use crate::config::Config;
use crate::counters::{Counter, Counters};
use crate::latency;
use crate::limits::Limits;
use crate::opening::Opening;
use crate::redis::durable::BackgroundSave;
use crate::slowlog::SlowLog;
use crate::spikes::Spikes;
use crate::store::stats::{Latencies, Tunable};
use crate::store::{Store, StoreConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;
use tokio::sync::watch;

/// See the head of this file.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    /// CONFIG SET maxclients changes it.
    pub(crate) max_connections: AtomicUsize,
    /// CONFIG SET timeout changes it; 0 is never.
    pub(crate) idle_timeout_ms: AtomicU64,
    /// The data, or how far it is.
    pub(crate) opening: Opening,
    pub(crate) clients: Clients,
    /// One for each worker.
    pub(crate) counters: Vec<Arc<Counters>>,
    /// Connections turned away at the cap. Touched by the acceptor alone.
    pub(crate) rejected: Counter,
    pub(crate) started: Instant,
    /// The same as a time of day, in milliseconds since the Unix epoch.
    pub(crate) started_ms: u64,
    /// Connections in the middle of a command that may wait for long.
    pub(crate) blocked: AtomicUsize,
    pub(crate) background_save: BackgroundSave,
    pub(crate) slow_log: SlowLog,
    pub(crate) spikes: Spikes,
    /// 40 hexadecimal digits that name this run of the server.
    pub(crate) run_id: String,
    pub(crate) port: std::sync::atomic::AtomicU16,
    /// True when the server is to stop.
    pub(crate) stop: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(config: Config, opening: Opening) -> Shared {
        let limits = Limits::of(&config);
        let workers = config.threads;
        Shared {
            max_connections: AtomicUsize::new(limits.max_connections),
            idle_timeout_ms: AtomicU64::new(config.idle_timeout_s * 1000),
            limits,
            opening,
            clients: Clients::default(),
            counters: (0..workers).map(|_| Arc::new(Counters::new())).collect(),
            rejected: Counter::default(),
            started: Instant::now(),
            started_ms: crate::clock::unix_ms(),
            blocked: AtomicUsize::new(0),
            background_save: BackgroundSave::default(),
            spikes: Spikes::new(config.latency_monitor_threshold),
            slow_log: SlowLog::new(config.slowlog_log_slower_than, config.slowlog_max_len),
            run_id: (0..5).map(|_| format!("{:08x}", rand::random::<u32>())).collect(),
            port: std::sync::atomic::AtomicU16::new(0),
            stop: watch::Sender::new(false),
            config,
        }
    }

    /// Sums one figure over all workers.
    pub(crate) fn sum(&self, figure: impl Fn(&Counters) -> u64) -> u64 {
        self.counters.iter().map(|counters| figure(counters)).sum()
    }

    /// How long commands took so far, one sum for each of [`latency::kinds`].
    pub(crate) fn latencies(&self) -> Vec<Latencies> {
        let sum = |(protocol, class)| {
            let mut sum = Latencies::default();
            self.counters.iter().for_each(|counters| counters.add_latencies(protocol, class, &mut sum));
            sum
        };
        latency::kinds().map(sum).collect()
    }

    /// The settings of the data that can change, as they are now.
    pub(crate) fn tunable(&self) -> Tunable {
        let configured = || StoreConfig::of(&self.config).tunable();
        self.opening.store().map_or_else(configured, Store::tunable)
    }

    /// Asks the server to stop.
    pub(crate) fn request_stop(&self) {
        self.stop.send_replace(true);
    }
}
