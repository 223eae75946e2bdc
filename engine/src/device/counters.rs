//! What a device has done: counted when a request is answered, read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use super::{Operation, Request};

/// Totals of a device since it was opened. Reads and writes are apart in memory: they come from different cores.
#[derive(Debug, Default)]
pub struct Counters {
    reads: CachePadded<Pair>,
    writes: CachePadded<Pair>,
    rare: CachePadded<Rare>,
}

#[derive(Debug, Default)]
struct Pair {
    count: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Rare {
    durable_writes: AtomicU64,
    flushes: AtomicU64,
    errors: AtomicU64,
}

/// The counters at one moment. Each is exact; together they may be a request apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CountersSnapshot {
    /// Reads done.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes done, durable ones included.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Durable writes done.
    pub durable_writes: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Requests answered with an error, of any kind; they count nowhere else.
    pub errors: u64,
}

impl Counters {
    /// Counts a request by its outcome. Every device calls it once an answer.
    pub fn count(&self, request: &Request, succeeded: bool) {
        if !succeeded {
            self.rare.errors.fetch_add(1, Relaxed);
            return;
        }
        let bytes = request.length() as u64;
        match request.operation() {
            Operation::Read => self.reads.add(bytes),
            Operation::Write => self.writes.add(bytes),
            Operation::DurableWrite => {
                self.writes.add(bytes);
                self.rare.durable_writes.fetch_add(1, Relaxed);
            }
            Operation::Flush => {
                self.rare.flushes.fetch_add(1, Relaxed);
            }
        }
    }

    /// The totals now.
    pub fn snapshot(&self) -> CountersSnapshot {
        CountersSnapshot {
            reads: self.reads.count.load(Relaxed),
            read_bytes: self.reads.bytes.load(Relaxed),
            writes: self.writes.count.load(Relaxed),
            written_bytes: self.writes.bytes.load(Relaxed),
            durable_writes: self.rare.durable_writes.load(Relaxed),
            flushes: self.rare.flushes.load(Relaxed),
            errors: self.rare.errors.load(Relaxed),
        }
    }
}

impl Pair {
    fn add(&self, bytes: u64) {
        self.count.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}
