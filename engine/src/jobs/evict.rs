//! Evicts records with a time to live when live records take more than `evict_above`, those that end soonest first.
//!
//! ```text
//! watching ---> surveying ---> setting ---> waiting ---> dropping ---> watching
//!               void-times     watermark    until it     what lies
//!               are counted    is appended  is durable   below it
//! ```
//!
//! The survey is a histogram over void-times, by bytes, narrowed to the bucket in which enough is reached until that holds little or
//! is one second wide: at most three walks over the index. What may be evicted and why it stays gone: `namespace/eviction.rs`.

use super::{Job, Next};
use crate::index::{PARTITION_COUNT, PartitionId};
use crate::namespace::Refused;
use crate::namespace::core::Core;
use crate::volume::Receipt;
use std::ops::Range;
use std::sync::Arc;

/// Partitions a step.
const BATCH: usize = 16;
/// Buckets of the histogram.
const BUCKETS: u64 = 2048;
/// The last bucket may hold so small a share of what is to go that it need not be looked into.
const SLACK: u64 = 16;
/// How often the space is looked at, in milliseconds.
const PERIOD_MS: u64 = 100;
/// When eviction had nothing to take, or a device has failed: how soon it looks again.
const PAUSE_MS: u64 = 1000;

/// How the bytes that can go are spread over void-times.
struct Survey {
    /// The next partition.
    next: usize,
    /// Bytes that should go.
    excess: u64,
    /// The void-times looked at, and the bytes before them.
    range: Range<u64>,
    before: u64,
    buckets: Vec<u64>,
}

/// What a survey leads to.
enum Surveyed {
    Nothing,
    /// The void-time before which enough expires, or all.
    Below(u32),
    Narrower(Survey),
}

impl Survey {
    fn of(excess: u64, range: Range<u64>, before: u64) -> Self {
        Survey { next: 0, excess, range, before, buckets: vec![0; BUCKETS as usize] }
    }

    fn width(&self) -> u64 {
        (self.range.end - self.range.start).div_ceil(BUCKETS).max(1)
    }

    fn note(&mut self, void_time: u32, size: u32) {
        let void_time = u64::from(void_time);
        if self.range.contains(&void_time) {
            let bucket = (void_time - self.range.start) / self.width();
            self.buckets[bucket as usize] += u64::from(size);
        }
    }

    fn end_of(&self, bucket: usize) -> u64 {
        (self.range.start + (bucket as u64 + 1) * self.width()).min(self.range.end)
    }

    fn decide(self) -> Surveyed {
        let below = |end: u64| Surveyed::Below(u32::try_from(end).unwrap_or(u32::MAX));
        let mut sum = self.before;
        for (bucket, &size) in self.buckets.iter().enumerate() {
            if sum + size >= self.excess && size > 0 {
                if self.width() == 1 || size <= self.excess / SLACK {
                    return below(self.end_of(bucket));
                }
                let start = self.range.start + bucket as u64 * self.width();
                return Surveyed::Narrower(Survey::of(self.excess, start..self.end_of(bucket), sum));
            }
            sum += size;
        }
        match self.buckets.iter().rposition(|&size| size > 0) {
            Some(last) => below(self.end_of(last)),
            None if self.before > 0 => below(self.range.start),
            None => Surveyed::Nothing,
        }
    }
}

enum Phase {
    Watching,
    Surveying(Survey),
    Setting(u32),
    Waiting(Receipt),
    /// The next partition.
    Dropping(usize),
}

/// The eviction of a namespace.
pub(crate) struct Evict {
    core: Arc<Core>,
    phase: Phase,
    /// Whether it has been told that there is nothing to evict.
    is_told: bool,
}

impl Evict {
    pub fn new(core: Arc<Core>) -> Self {
        Evict { core, phase: Phase::Watching, is_told: false }
    }

    /// There is too much, and nothing of it has a time to live.
    fn tell(&mut self) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(
                "namespace {}: live records take more than {} % of the space, and none of them has a time to live: \
                 nothing can be evicted",
                self.core.config.name,
                self.core.tunables.evict_above()
            );
        }
    }

    fn surveyed(&mut self, survey: Survey) -> (Phase, Next) {
        match survey.decide() {
            Surveyed::Nothing => {
                self.tell();
                (Phase::Watching, Next::Within(PAUSE_MS))
            }
            Surveyed::Below(void_time) => (Phase::Setting(void_time), Next::Now),
            Surveyed::Narrower(survey) => (Phase::Surveying(survey), Next::Now),
        }
    }
}

impl Job for Evict {
    fn step(&mut self) -> Next {
        let core = self.core.clone();
        let batch =
            |from: usize| (from..PARTITION_COUNT.min(from + BATCH)).map(|id| PartitionId::new(id as u16));
        let (phase, next) = match std::mem::replace(&mut self.phase, Phase::Watching) {
            Phase::Watching => match core.evictable_excess() {
                None => {
                    self.is_told = false;
                    (Phase::Watching, Next::Within(PERIOD_MS))
                }
                Some(excess) => (Phase::Surveying(Survey::of(excess, 1..1 << 32, 0)), Next::Now),
            },
            Phase::Surveying(mut survey) => {
                batch(survey.next)
                    .for_each(|id| core.survey_partition(id, |time, size| survey.note(time, size)));
                survey.next += BATCH;
                if survey.next < PARTITION_COUNT {
                    (Phase::Surveying(survey), Next::Now)
                } else {
                    self.surveyed(survey)
                }
            }
            Phase::Setting(void_time) => match core.try_evict_below(void_time) {
                Ok(receipt) => (Phase::Waiting(receipt), Next::Now),
                Err(Refused::NoBlock) => {
                    core.flush_work.raise();
                    (Phase::Setting(void_time), Next::Within(20))
                }
                Err(Refused::By(_)) => (Phase::Setting(void_time), Next::Within(PAUSE_MS)),
            },
            Phase::Waiting(receipt) => match core.is_durable(receipt) {
                Some(true) => (Phase::Dropping(0), Next::Now),
                Some(false) => (Phase::Waiting(receipt), Next::Within(10)),
                None => (Phase::Waiting(receipt), Next::Within(PAUSE_MS)),
            },
            Phase::Dropping(from) => {
                batch(from).for_each(|id| core.evict_partition(id));
                if from + BATCH < PARTITION_COUNT {
                    (Phase::Dropping(from + BATCH), Next::Now)
                } else {
                    core.evictions.applied();
                    core.flush_work.raise();
                    (Phase::Watching, Next::Now)
                }
            }
        };
        self.phase = phase;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(records: &[(u32, u32)], excess: u64) -> Option<u32> {
        let mut survey = Survey::of(excess, 1..1 << 32, 0);
        for _ in 0..4 {
            records.iter().for_each(|&(void_time, size)| survey.note(void_time, size));
            match survey.decide() {
                Surveyed::Nothing => return None,
                Surveyed::Below(void_time) => return Some(void_time),
                Surveyed::Narrower(narrower) => survey = narrower,
            }
        }
        panic!("three walks are enough");
    }

    #[test]
    fn the_void_time_is_the_first_before_which_enough_expires() {
        let records: Vec<_> = (0..1000).map(|i| (500_000_000 + i * 7, 100)).collect();
        assert_eq!(below(&records, 1), Some(500_000_001));
        assert_eq!(below(&records, 10_000), Some(500_000_000 + 99 * 7 + 1));
        // A bucket that holds next to nothing is not looked into: its end will do.
        let last = below(&records, 100_000).expect("something");
        assert!((500_000_000 + 999 * 7 + 1..500_000_000 + 999 * 7 + 2048).contains(&last), "{last}");
        // More than there is: all.
        let all = below(&records, 1 << 40).expect("something");
        assert!(all > 500_000_000 + 999 * 7);
        assert_eq!(below(&[], 5), None);
        // The end of time, which no void-time is before.
        assert_eq!(below(&[(u32::MAX, 100)], 5), Some(u32::MAX));
        assert_eq!(below(&[(1, 100)], 5), Some(2));
    }
}
