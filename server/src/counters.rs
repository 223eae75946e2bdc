//! Figures for INFO, counted by each worker for itself and summed when asked for.
//!
//! Only the worker that owns a shard stores into it, so counting is a load and a store on a line that no other
//! core writes: no locked instruction, nothing shared on the path of a command.

use crate::latency::{Class, Protocol, nanoseconds};
use crate::redis::command_table::COMMANDS;
use crate::store::stats::{Histogram, Latencies};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number with one writer and any reader.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// One command's figures.
#[derive(Debug, Default)]
pub(crate) struct CommandCounter {
    pub(crate) calls: Counter,
    pub(crate) nanoseconds: Counter,
    pub(crate) failed: Counter,
    /// From when it was parsed until its reply was queued: see [`latency`](crate::latency).
    pub(crate) latency: Histogram,
}

/// One worker's figures. Sizes in bytes.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) connections: Counter,
    pub(crate) keyspace_hits: Counter,
    pub(crate) keyspace_misses: Counter,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) protocol_errors: Counter,
    pub(crate) closed_slow: Counter,
    pub(crate) panics: Counter,
    pub(crate) commands: Vec<CommandCounter>,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters {
            connections: Counter::default(),
            keyspace_hits: Counter::default(),
            keyspace_misses: Counter::default(),
            received: Counter::default(),
            sent: Counter::default(),
            protocol_errors: Counter::default(),
            closed_slow: Counter::default(),
            panics: Counter::default(),
            commands: COMMANDS.iter().map(|_| CommandCounter::default()).collect(),
        }
    }

    /// Counts one call of a command. The time of a read ends where it has been started.
    pub(crate) fn count(&self, command: usize, time: Duration, failed: bool) {
        let counter = &self.commands[command];
        counter.calls.add(1);
        counter.nanoseconds.add(nanoseconds(time));
        if failed {
            counter.failed.add(1);
        }
    }

    /// Adds how long the commands of a kind took to `sum`.
    pub(crate) fn add_latencies(&self, protocol: Protocol, class: Class, sum: &mut Latencies) {
        match protocol {
            Protocol::Redis => {
                let commands =
                    self.commands.iter().zip(COMMANDS).filter(|(_, command)| command.class == class);
                commands.for_each(|(counter, _)| counter.latency.add_to(sum));
            }
        }
    }

    /// Sets everything to zero: CONFIG RESETSTAT. A count made at this very moment may survive.
    pub(crate) fn reset(&self) {
        for counter in [
            &self.connections,
            &self.keyspace_hits,
            &self.keyspace_misses,
            &self.received,
            &self.sent,
            &self.protocol_errors,
            &self.closed_slow,
            &self.panics,
        ] {
            counter.reset();
        }
        for command in &self.commands {
            command.calls.reset();
            command.nanoseconds.reset();
            command.failed.reset();
            command.latency.reset();
        }
    }
}
