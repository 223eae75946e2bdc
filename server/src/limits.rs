//! Bounds on what one client, or all of them together, may take.
//!
//! Every buffer and queue of the server has its bound here, with the reason for its size. Those an operator may
//! want to move are settings (see `aerolithd.toml`); the others are constants. Sizes in bytes, times in ms.

use crate::config::Config;
use crate::redis::parser::ParserLimits;
use std::time::Duration;

/// A connection's read buffer to begin with, and how far it grows ahead of the bytes that have come.
pub(crate) const READ_STEP: usize = 16 << 10;
/// The most it grows ahead by, when reads fill it; a value larger than that, by a quarter of what has come.
pub(crate) const READ_STEP_MAX: usize = 64 << 10;
/// Commands a connection runs before others get their turn. Redis runs all it has read, 16 KiB or so.
pub(crate) const QUANTUM_COMMANDS: usize = 128;
/// Request bytes after which a batch ends, so that a batch of large values gives way too.
pub(crate) const QUANTUM_SIZE: usize = 1 << 20;
/// A line typed by hand; Redis has the same.
const INLINE_SIZE: usize = 64 << 10;
/// Sockets handed to a worker that it has not yet taken up. Then accepting waits.
pub(crate) const HANDOVER_QUEUE: usize = 256;
/// Slowest pace, in bytes a second, at which a begun request may arrive once its deadline has passed.
const INGEST_MIN_RATE: u64 = 4 << 10;
/// How long a shutdown waits for commands that are running.
pub(crate) const DRAIN_MS: u64 = 10_000;
/// How often a connection that is blocked in a command looks whether its client or the server has gone.
pub(crate) const BLOCKED_GLANCE: Duration = Duration::from_millis(250);
/// After a protocol error, how long and how much is read on, so that the client sees the error and not a reset.
pub(crate) const LINGER_MS: u64 = 500;
/// See [`LINGER_MS`].
pub(crate) const LINGER_SIZE: usize = 1 << 20;

/// The limits that are settings.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) max_connections: usize,
    pub(crate) max_record: usize,
    pub(crate) max_request: usize,
    pub(crate) max_arguments: usize,
    pub(crate) max_keys_reply: usize,
    pub(crate) output_mark: usize,
    pub(crate) reads_in_flight: usize,
    pub(crate) request_timeout_ms: u64,
    pub(crate) write_timeout_ms: u64,
}

impl Limits {
    pub(crate) fn of(config: &Config) -> Limits {
        let size = |size: crate::config::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        Limits {
            max_connections: config.max_connections,
            max_record: size(config.max_record),
            max_request: size(config.max_request),
            max_arguments: config.max_arguments,
            max_keys_reply: size(config.max_keys_reply),
            output_mark: size(config.output_mark),
            reads_in_flight: config.reads_in_flight,
            request_timeout_ms: config.request_timeout_s * 1000,
            write_timeout_ms: config.write_timeout_s * 1000,
        }
    }

    pub(crate) fn parser(&self) -> ParserLimits {
        ParserLimits {
            bulk_size: self.max_record,
            arg_count: self.max_arguments,
            inline_size: INLINE_SIZE,
            request_size: self.max_request,
        }
    }

    /// Whether a request that began so long ago and has brought so many bytes is too slow.
    pub(crate) fn is_too_slow(&self, since_ms: u64, received: u64) -> bool {
        since_ms > self.request_timeout_ms && received < since_ms / 1000 * INGEST_MIN_RATE
    }
}
