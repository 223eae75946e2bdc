//! The time as the load sees it: nanoseconds that only grow. The only place of the load that reads a clock.

use std::time::{Duration, Instant};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Where the time comes from; tests hand in one that they step.
pub trait Clock: Send + Sync {
    /// Nanoseconds since some moment.
    fn now_ns(&self) -> u64;
}

/// The machine's monotonic clock.
pub struct MonoClock(Instant);

impl MonoClock {
    /// A clock that starts at 0.
    pub fn start() -> Self {
        MonoClock(Instant::now())
    }
}

impl Clock for MonoClock {
    fn now_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// How long it is from `now` until `until`, both in nanoseconds.
pub fn gap(now: u64, until: u64) -> Duration {
    Duration::from_nanos(until.saturating_sub(now))
}

/// Whole nanoseconds of a duration.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
