//! Time, handed in: the engine reads no clock of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `after` this one.
    pub fn plus(self, after: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Where the engine gets the time from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock: for expiry and last-update times. May step.
    fn now(&self) -> Timestamp;
    /// Milliseconds that only ever grow: for pacing.
    fn mono_ms(&self) -> u64;
}

/// The machine's clocks. The only place of the engine that reads them.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose `mono_ms` starts at 0.
    pub fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_millis() as u64)
    }

    fn mono_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// A clock that stands still until it is moved: for tests and simulations.
pub struct ManualClock {
    wall_ms: AtomicU64,
    mono_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        ManualClock { wall_ms: AtomicU64::new(now.0), mono_ms: AtomicU64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.wall_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
        self.mono_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// Sets the wall clock, also backwards; the monotonic one stays.
    pub fn set(&self, now: Timestamp) {
        self.wall_ms.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall_ms.load(Ordering::Relaxed))
    }

    fn mono_ms(&self) -> u64 {
        self.mono_ms.load(Ordering::Relaxed)
    }
}
