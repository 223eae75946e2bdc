//! Eviction: when space runs short, records with a time to live go before their time, those that end soonest first.
//!
//! What goes is said by a **watermark**, a durable fact like a truncation's threshold: versions that would expire before
//! `void_time` and have a sequence number below `below` are gone, as if they had expired at that moment. A start
//! applies it to the newest version of each key, so an evicted record stays gone, and the older versions that it hid
//! stay hidden: those that would have expired no later are under the watermark too, and for the others the entry stays as a
//! mask, as it does at expiry (`sweep.rs`). Records without a time to live are never evicted.
//!
//! One watermark is not enough: a later one with an earlier void-time would let back in what the one before took. So
//! it is a staircase, `below` rising and `void_time` falling, without the steps that later ones cover or time has passed.
//!
//! The moment is drawn with all partitions locked (`try_evict_below`). Nothing leaves the index before the record of
//! the watermark is durable; until then, and until the walk over the index has met it, an evicted record is served.
//! Records that are written meanwhile, above the watermark, are told apart by the flag `YOUNG`. What a checkpoint copies
//! meanwhile it copies as evicted: its root is written only when all that was appended before is durable.

use super::core::{Core, Wanted};
use super::truncate::Refused;
use super::write::is_tombstone;
use crate::clock::Timestamp;
use crate::format::{EncodedRecord, RecordFlags, VOID_TIME_EPOCH_MS};
use crate::index::{Entry, Flags, PartitionId};
use crate::planted::{self, Bug};
use crate::record::{Digest, Value, particle};
use crate::volume::Receipt;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// The bin that holds the staircase.
const STEPS: &str = "steps";
/// No digest of a user's key is made of a set with this name.
const SYSTEM_SET: &str = "\u{1}evict";
/// Steps of the staircase. Beyond, the lowest is raised to the one before it, and more is evicted than was asked for.
const LIMIT: usize = 64;
/// A step is kept for so many seconds after its void-time has passed, for a clock that is set back.
const KEPT_SECONDS: u32 = 86_400;
/// Marks an entry that was written above the watermark which is being applied. A record's entry has no other use for
/// this bit, which means something else in a tombstone's.
const YOUNG: Flags = Flags::CANDIDATE;

/// Versions below this sequence number that would expire before this void-time are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    void_time: u32,
    below: u64,
}

/// What has been evicted: a staircase, the newest step last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermark(Vec<Step>);

impl Watermark {
    /// Whether the version with this number, which expires at `void_time`, has been evicted.
    pub fn covers(&self, void_time: u32, sequence: u64) -> bool {
        let is_below = |step: &Step| void_time < step.void_time && sequence < step.below;
        void_time != 0 && self.0.iter().any(is_below)
    }

    /// The staircase with one more step, and the void-time that this step really has.
    fn with(&self, void_time: u32, below: u64, now: u32) -> (Watermark, u32) {
        let is_over = |step: &Step| step.void_time.saturating_add(KEPT_SECONDS) <= now;
        let mut steps: Vec<Step> =
            self.0.iter().filter(|step| step.void_time > void_time && !is_over(step)).copied().collect();
        let raised = (steps.len() == LIMIT).then(|| steps.pop()).flatten();
        let void_time = raised.map_or(void_time, |step| step.void_time);
        steps.push(Step { void_time, below });
        (Watermark(steps), void_time)
    }

    fn encode(&self) -> Vec<u8> {
        let pair = |step: &Step| [u64::from(step.void_time).to_le_bytes(), step.below.to_le_bytes()].concat();
        self.0.iter().flat_map(pair).collect()
    }

    /// The latest void-time below which something has been evicted, in milliseconds since the Unix epoch; 0: nothing yet.
    pub fn latest_ms(&self) -> u64 {
        let latest = self.0.iter().map(|step| step.void_time).max();
        latest.map_or(0, |void_time| VOID_TIME_EPOCH_MS + u64::from(void_time) * 1000)
    }

    fn decode(bytes: &[u8]) -> Option<Watermark> {
        let word = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        let step = |pair: &[u8]| {
            let void_time = u32::try_from(word(&pair[..8])?).ok()?;
            Some(Step { void_time, below: word(&pair[8..])? })
        };
        let is_whole = bytes.len().is_multiple_of(16);
        is_whole.then(|| bytes.chunks_exact(16).map(step).collect::<Option<_>>()).flatten().map(Watermark)
    }
}

/// Seconds since void-times begin.
fn seconds(now: Timestamp) -> u32 {
    u32::try_from(now.0.saturating_sub(VOID_TIME_EPOCH_MS) / 1000).unwrap_or(u32::MAX)
}

fn digest() -> Digest {
    Digest::of(SYSTEM_SET.as_bytes(), particle::INTEGER, b"namespace")
}

/// The watermark that a system record holds, if it is that record.
pub(crate) fn watermark_of(record: &super::record::Record) -> Option<Watermark> {
    match record.bin(STEPS)? {
        Value::Bytes(bytes) => Watermark::decode(bytes),
        _ => None,
    }
}

/// The evictions of a namespace.
#[derive(Default)]
pub(crate) struct Evictions {
    watermark: Mutex<Watermark>,
    /// The void-time of the watermark that is being applied; 0: of none. Changes with all partitions locked, or when
    /// nothing below it is left.
    applying: AtomicU32,
}

impl Evictions {
    /// What a start found.
    pub fn found(watermark: Watermark) -> Self {
        Evictions { watermark: Mutex::new(watermark), applying: AtomicU32::new(0) }
    }

    /// What has been evicted so far.
    pub fn watermark(&self) -> Watermark {
        self.watermark.lock().clone()
    }

    /// The flag for a record that is written now. Under its partition's lock.
    pub fn flag(&self, void_time: u32) -> Flags {
        let is_applying = void_time != 0 && self.applying.load(Ordering::Acquire) != 0;
        if is_applying { YOUNG } else { Flags::NONE }
    }

    /// Whether the watermark that is being applied takes this entry's record away. Under its partition's lock.
    fn dooms(&self, entry: &Entry) -> bool {
        let void_time = entry.void_time();
        let unfit = Flags::SYSTEM.with(Flags::TOMBSTONE);
        void_time != 0
            && void_time < self.applying.load(Ordering::Acquire)
            && entry.flags().bits() & unfit.with(YOUNG).bits() == 0
    }

    /// What a checkpoint keeps of an entry: none if it is evicted, a mask if an older version would outlive it.
    pub fn kept(&self, entry: Entry) -> Option<Entry> {
        if self.dooms(&entry) { mask(entry) } else { Some(entry) }
    }

    /// Nothing below the watermark is left in the index.
    pub fn applied(&self) {
        self.applying.store(0, Ordering::Release);
    }
}

/// What is left of the entry of a record that has gone before or at its time.
pub(crate) fn mask(entry: Entry) -> Option<Entry> {
    let hides = entry.flags().contains(Flags::OLDER_MAY_OUTLIVE) && !planted::is(Bug::ExpiredHidesNothing);
    // A tombstone's candidacy is the scrub's to give.
    hides.then(|| entry.with_flags(entry.flags().with(Flags::TOMBSTONE).without(Flags::CANDIDATE)))
}

impl Core {
    /// Whether live records take more than `evict_above`; if so, how many bytes should go.
    pub fn evictable_excess(&self) -> Option<u64> {
        let (used, capacity) = self.occupancy();
        let evict_above = self.tunables.evict_above();
        let mark = capacity / 100 * u64::from(evict_above);
        // A little more than needed, so that it is not needed again at once.
        (evict_above > 0 && used > mark).then(|| used - (mark - mark / 64))
    }

    /// Tells `visit` void-time and bytes of each record of a partition that can be evicted, and forgets who was young.
    /// Only while no watermark is being applied.
    pub fn survey_partition(&self, id: PartitionId, mut visit: impl FnMut(u32, u32)) {
        let mut partition = self.index.lock(id);
        let mut young = Vec::new();
        for entry in partition.iter_from(None) {
            if entry.void_time() == 0 || is_tombstone(&entry) || self.sets.is_truncated(&entry) {
                continue;
            }
            visit(entry.void_time(), entry.size_class().bytes());
            if entry.flags().contains(YOUNG) {
                young.push(entry.tag());
            }
        }
        for tag in young {
            partition.update(tag, |entry| *entry = entry.with_flags(entry.flags().without(YOUNG)));
        }
    }

    /// Draws a watermark: what is there now and expires before `void_time` is to go, once the receipt is durable.
    pub fn try_evict_below(&self, void_time: u32) -> Result<Receipt, Refused> {
        let wanted = Wanted::of(digest());
        let now = self.now();
        let mut partitions = self.index.lock_all();
        self.check_open().map_err(Refused::By)?;
        let below = self.next_sequence();
        let (watermark, void_time) = self.evictions.watermark().with(void_time, below, seconds(now));
        let steps = watermark.encode();
        let mut bins = crate::record::BinsWriter::new();
        let bin = bins.bin(STEPS, Value::Bytes(&steps));
        assert!(bin.is_ok(), "one bin of a kilobyte is always right");
        let mut record =
            EncodedRecord::begin(wanted.name().as_bytes(), b"", particle::INTEGER, b"", steps.len());
        record.body().extend_from_slice(&bins.into_bytes());
        record.complete(self.next_sequence(), 1, 0, now.0, RecordFlags(RecordFlags::SYSTEM), 1);
        let receipt = self.publish_fact(&mut partitions, &wanted, &record, now)?;
        *self.evictions.watermark.lock() = watermark;
        self.evictions.applying.store(void_time, Ordering::Release);
        Ok(receipt)
    }

    /// Whether what `receipt` names is on the device; if not, it will be soon. None if its device has failed.
    pub fn is_durable(&self, receipt: Receipt) -> Option<bool> {
        let volume = self.volume(receipt.member);
        let waker = std::task::Waker::noop();
        if volume.stream(receipt.stream).lock().poll_durable(receipt.number, waker) {
            return Some(true);
        }
        self.flush_work.raise();
        volume.latch_reason().is_none().then_some(false)
    }

    /// Takes what the watermark has evicted out of a partition.
    pub fn evict_partition(&self, id: PartitionId) {
        let mut partition = self.index.lock(id);
        let is_one = |entry: &Entry| self.evictions.dooms(entry) && !self.sets.is_truncated(entry);
        let doomed: Vec<Entry> = partition.iter_from(None).filter(is_one).collect();
        for entry in &doomed {
            self.before_change(&partition, entry);
            if let Some(set) = self.sets.get(entry.set_id()) {
                self.uncount(&set, entry);
            }
            match mask(*entry) {
                Some(mask) => {
                    self.counters.tombstones.fetch_add(1, Ordering::Relaxed);
                    partition.insert(mask);
                }
                None => {
                    partition.remove(entry.tag());
                    self.volume(entry.location().device).release(entry.location(), entry.size_class());
                }
            }
        }
        self.counters.evicted.add(doomed.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_and_lower_step_does_not_let_back_in_what_an_earlier_one_took() {
        let (first, _) = Watermark::default().with(1000, 50, 10);
        let (both, void_time) = first.with(600, 90, 10);
        assert_eq!(void_time, 600);
        assert!(both.covers(900, 49) && both.covers(599, 89) && !both.covers(900, 60) && !both.covers(0, 1));
        assert_eq!(Watermark::decode(&both.encode()), Some(both.clone()));
        // A higher one covers both.
        assert_eq!(both.with(1000, 95, 10).0, Watermark(vec![Step { void_time: 1000, below: 95 }]));
        // What time has passed is forgotten, a day later.
        assert_eq!(both.with(500, 95, 1000 + KEPT_SECONDS).0.0.len(), 1);
        assert_eq!(both.with(500, 95, 999 + KEPT_SECONDS).0.0.len(), 2);
    }

    #[test]
    fn the_staircase_has_an_end_and_loses_nothing_there() {
        let mut watermark = Watermark::default();
        let mut taken = Vec::new();
        for i in 0..200u32 {
            let (next, void_time) = watermark.with(10_000 - i, u64::from(i) + 1, 1);
            assert!(void_time >= 10_000 - i);
            taken.push((10_000 - i - 1, u64::from(i)));
            watermark = next;
            assert!(watermark.0.len() <= LIMIT);
            assert!(watermark.0.is_sorted_by(|a, b| a.void_time > b.void_time && a.below < b.below));
            assert!(taken.iter().all(|&(void_time, sequence)| watermark.covers(void_time, sequence)));
        }
    }

    #[test]
    fn other_bytes_are_no_staircase() {
        assert_eq!(Watermark::decode(&[0; 15]), None);
        assert_eq!(Watermark::decode(&[0xFF; 16]), None);
        assert_eq!(Watermark::decode(&[]), Some(Watermark::default()));
    }
}
