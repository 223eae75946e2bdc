//! Time, handed in: the engine reads no clock of its own.

use std::sync::Arc;
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
    /// The same in nanoseconds, as exactly as the clock can: for measuring.
    fn mono_ns(&self) -> u64 {
        self.mono_ms() * 1_000_000
    }
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

    fn mono_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// Another clock that never goes back, for expiry and last-update times.
///
/// Where the wall clock is set back, time goes on from the latest moment that was seen, as fast as the monotonic clock,
/// until the wall clock has caught up. Without this a record that had expired could be there again, and an older
/// version, too, whose successor had been dropped as expired.
pub(crate) struct ForwardClock {
    inner: Arc<dyn Clock>,
    /// The latest moment that was seen, in Unix milliseconds.
    latest_ms: AtomicU64,
    /// While the wall clock is behind: `latest_ms` less the monotonic clock, when that began. Else `LEVEL`.
    behind: AtomicU64,
}

/// The wall clock is not behind.
const LEVEL: u64 = u64::MAX;

impl ForwardClock {
    pub fn new(inner: Arc<dyn Clock>) -> Self {
        ForwardClock { inner, latest_ms: AtomicU64::new(0), behind: AtomicU64::new(LEVEL) }
    }

    /// The time: for expiry and last-update times.
    pub fn now(&self) -> Timestamp {
        let wall_ms = self.inner.now().0;
        let latest_ms = self.latest_ms.load(Ordering::Acquire);
        if wall_ms >= latest_ms {
            if wall_ms > latest_ms {
                self.latest_ms.fetch_max(wall_ms, Ordering::AcqRel);
            }
            if self.behind.load(Ordering::Relaxed) != LEVEL {
                self.behind.store(LEVEL, Ordering::Relaxed);
            }
            return Timestamp(wall_ms);
        }
        let mono_ms = self.inner.mono_ms();
        let began = latest_ms.wrapping_sub(mono_ms);
        let since = self.behind.compare_exchange(LEVEL, began, Ordering::Relaxed, Ordering::Relaxed);
        let moment = since.map_or_else(|behind| behind.wrapping_add(mono_ms), |_| latest_ms);
        // At most as far ahead as time has really passed: another thread may have taken it on already.
        let before = self.latest_ms.fetch_max(moment, Ordering::AcqRel);
        Timestamp(moment.max(before))
    }

    /// Milliseconds that only ever grow: for pacing.
    pub fn mono_ms(&self) -> u64 {
        self.inner.mono_ms()
    }

    /// The same in nanoseconds: for measuring.
    pub fn mono_ns(&self) -> u64 {
        self.inner.mono_ns()
    }

    /// It was this late already. Returns by how much the wall clock is behind that, in milliseconds.
    pub fn not_before(&self, moment: Timestamp) -> u64 {
        self.latest_ms.fetch_max(moment.0, Ordering::AcqRel);
        moment.0.saturating_sub(self.inner.now().0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_the_latest_moment_where_the_wall_clock_was_set_back() {
        let manual = Arc::new(ManualClock::at(Timestamp(10_000)));
        let clock = ForwardClock::new(manual.clone());
        assert_eq!(clock.now(), Timestamp(10_000));
        manual.set(Timestamp(4_000));
        assert_eq!(clock.now(), Timestamp(10_000));
        manual.advance(Duration::from_millis(500));
        assert_eq!(clock.now(), Timestamp(10_500));
        // Set back once more, it goes on as before; set forward and caught up, it is the wall clock.
        manual.set(Timestamp(1_000));
        manual.advance(Duration::from_millis(500));
        assert_eq!(clock.now(), Timestamp(11_000));
        manual.set(Timestamp(20_000));
        assert_eq!(clock.now(), Timestamp(20_000));
        manual.set(Timestamp(19_000));
        manual.advance(Duration::from_millis(10));
        assert_eq!(clock.now(), Timestamp(20_000), "what passed before it was asked is not known");
        manual.advance(Duration::from_millis(10));
        assert_eq!(clock.now(), Timestamp(20_010));
    }

    #[test]
    fn a_moment_that_is_known_from_before_counts() {
        let manual = Arc::new(ManualClock::at(Timestamp(10_000)));
        let clock = ForwardClock::new(manual.clone());
        assert_eq!(clock.not_before(Timestamp(9_000)), 0);
        assert_eq!(clock.now(), Timestamp(10_000));
        assert_eq!(clock.not_before(Timestamp(12_000)), 2_000);
        assert_eq!(clock.now(), Timestamp(12_000));
        manual.advance(Duration::from_millis(1));
        assert_eq!(clock.now(), Timestamp(12_001));
    }
}
