//! Histograms of durations, cheap enough to stand on the path of every command.
//!
//! ```text
//! one writer ── record ──> Histogram (atomics) <── add_to ── Latencies (plain numbers): quantiles, differences, sums
//! ```
//!
//! Log-linear: each octave of 2^k microseconds is cut into 16 buckets, so that a quantile is right to 6 %, and every power of
//! two of a microsecond is the border of a bucket: the cumulative counts at those borders are exact. From 62.5 ns to 67 s;
//! what takes longer counts as that.
//!
//! What always holds: a histogram has one writer, so that recording is three loads and stores and no locked instruction;
//! readers see each number as it was at some moment, not all of them at the same.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets in an octave.
const PER_OCTAVE: usize = 16;
/// Octaves, the linear one below a microsecond included.
const OCTAVES: usize = 27;
const BUCKETS: usize = PER_OCTAVE * OCTAVES;

/// The bucket of a duration.
#[inline]
fn bucket(nanoseconds: u64) -> usize {
    // In sixteenths of a microsecond.
    let value = nanoseconds.saturating_mul(2) / 125;
    if value < PER_OCTAVE as u64 {
        return value as usize;
    }
    let exponent = value.ilog2();
    let within = (value >> (exponent - 4)) as usize & (PER_OCTAVE - 1);
    ((exponent as usize - 3) * PER_OCTAVE + within).min(BUCKETS - 1)
}

/// Where a bucket ends, in nanoseconds; it holds what is shorter.
fn end_of(bucket: usize) -> u64 {
    let (octave, within) = (bucket / PER_OCTAVE, (bucket % PER_OCTAVE) as u64 + 1);
    let value = if octave == 0 { within } else { (PER_OCTAVE as u64 + within) << (octave - 1) };
    value * 125 / 2
}

/// A histogram with one writer and any number of readers.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
    longest: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            nanoseconds: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sum = Latencies::default();
        self.add_to(&mut sum);
        sum.fmt(f)
    }
}

impl Histogram {
    /// Counts one duration. Only its one writer calls this.
    #[inline]
    pub fn record(&self, nanoseconds: u64) {
        let add = |to: &AtomicU64, by: u64| to.store(to.load(Relaxed).wrapping_add(by), Relaxed);
        add(&self.buckets[bucket(nanoseconds)], 1);
        add(&self.nanoseconds, nanoseconds);
        if nanoseconds > self.longest.load(Relaxed) {
            self.longest.store(nanoseconds, Relaxed);
        }
    }

    /// Adds what has been counted so far to `sum`.
    pub fn add_to(&self, sum: &mut Latencies) {
        for (to, from) in sum.counts.iter_mut().zip(&self.buckets) {
            *to += from.load(Relaxed);
        }
        sum.nanoseconds = sum.nanoseconds.wrapping_add(self.nanoseconds.load(Relaxed));
        sum.longest = sum.longest.max(self.longest.load(Relaxed));
    }

    /// Forgets everything. A duration that is counted at this moment may survive.
    pub fn reset(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
        self.nanoseconds.store(0, Relaxed);
        self.longest.store(0, Relaxed);
    }
}

/// What histograms have counted: to be summed, compared and asked for quantiles.
#[derive(Clone)]
pub struct Latencies {
    counts: Box<[u64; BUCKETS]>,
    nanoseconds: u64,
    longest: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { counts: Box::new([0; BUCKETS]), nanoseconds: 0, longest: 0 }
    }
}

impl std::fmt::Debug for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} durations of {} ns in all", self.count(), self.nanoseconds)
    }
}

impl Latencies {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in nanoseconds.
    pub fn nanoseconds(&self) -> u64 {
        self.nanoseconds
    }

    /// The longest, in nanoseconds; of a difference, to the end of its bucket.
    pub fn longest_ns(&self) -> u64 {
        self.longest
    }

    /// The duration, in nanoseconds, that a share of them does not exceed, to 6 %; 0 if there is none.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map_or(0, |at| end_of(at).min(self.longest))
    }

    /// What has come since `earlier`; a count that has been reset meanwhile is taken whole.
    pub fn since(&self, earlier: &Latencies) -> Latencies {
        let is_later = self.counts.iter().zip(&earlier.counts[..]).all(|(now, before)| now >= before);
        if !is_later {
            return self.clone();
        }
        let mut more = self.clone();
        more.counts.iter_mut().zip(&earlier.counts[..]).for_each(|(now, before)| *now -= before);
        more.nanoseconds = more.nanoseconds.wrapping_sub(earlier.nanoseconds);
        let last = more.counts.iter().rposition(|&count| count > 0);
        more.longest = last.map_or(0, |at| end_of(at).min(self.longest));
        more
    }

    /// Adds others.
    pub fn add(&mut self, others: &Latencies) {
        self.counts.iter_mut().zip(&others.counts[..]).for_each(|(to, from)| *to += from);
        self.nanoseconds = self.nanoseconds.wrapping_add(others.nanoseconds);
        self.longest = self.longest.max(others.longest);
    }

    /// How many were shorter than 1, 2, 4, ... microseconds, up to 16.8 seconds: exact borders, in nanoseconds, and counts.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = 0;
        (0..OCTAVES - 2).map(move |octave| {
            seen += self.counts[octave * PER_OCTAVE..][..PER_OCTAVE].iter().sum::<u64>();
            (1000 << octave, seen)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: impl IntoIterator<Item = u64>) -> Latencies {
        let histogram = Histogram::default();
        durations.into_iter().for_each(|ns| histogram.record(ns));
        let mut sum = Latencies::default();
        histogram.add_to(&mut sum);
        sum
    }

    #[test]
    fn every_duration_is_in_the_bucket_that_ends_behind_it() {
        let mut at = 0;
        for shift in 0..42 {
            for ns in [(1 << shift) - 1, 1 << shift, (1 << shift) + 1, 3 << shift] {
                let found = bucket(ns);
                if found < BUCKETS - 1 {
                    assert!(ns < end_of(found), "{ns} is in {found}");
                }
                // Ends are rounded down to the nanosecond.
                assert!(found == 0 || ns + 1 >= end_of(found - 1), "{ns} is in {found}");
                at = at.max(found);
            }
        }
        assert_eq!(at, BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_to_six_percent() {
        let latencies = of((1..=100_000).map(|i| i * 100));
        for (share, exact) in [(0.5, 5_000_000), (0.99, 9_900_000), (0.999, 9_990_000), (1.0, 10_000_000)] {
            let found = latencies.quantile_ns(share);
            assert!(found >= exact && found * 100 <= exact * 107, "{share}: {found}");
        }
        assert_eq!(latencies.longest_ns(), 10_000_000);
        assert_eq!(latencies.nanoseconds(), 500_005_000_000);
        assert_eq!(of([]).quantile_ns(0.99), 0);
    }

    #[test]
    fn the_cumulative_counts_are_exact_at_their_borders() {
        let borders: Vec<u64> = of([]).cumulative().map(|(end, _)| end).collect();
        assert_eq!((borders[0], borders.len(), borders[24]), (1000, 25, 16_777_216_000));
        for border in borders {
            let latencies = of([border - 63, border, border + 1, 1]);
            assert_eq!(latencies.cumulative().find(|&(end, _)| end == border), Some((border, 2)), "{border}");
        }
    }

    #[test]
    fn a_difference_is_what_came_between() {
        let (before, after) = (of([5_000, 7_000_000]), of([5_000, 7_000_000, 90_000, 90_000]));
        let between = after.since(&before);
        assert_eq!((between.count(), between.nanoseconds()), (2, 180_000));
        assert!((90_000..96_000).contains(&between.longest_ns()));
        // After a reset all that is there is new.
        assert_eq!(of([1]).since(&after).count(), 1);
        let mut sum = before;
        sum.add(&between);
        assert_eq!(sum.count(), 4);
    }
}
