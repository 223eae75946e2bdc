//! What a worker asks of a store, and whether the answers are right.
//!
//! Keys are drawn from the records that are known to be there: an insert counts when it was acknowledged and no
//! earlier one is still on its way. Every value that comes back is verified, and, with a history, held against what
//! this run has written. A miss is counted, and is wrong only where a record must be there.

use super::history::{Floor, History};
use super::keys::{Distribution, Picker, bits};
use super::lane::Outcome;
use super::mix::{Mix, Operation};
use super::recorder::Ended;
use super::size::Sizes;
use super::target::Request;
use super::value::{Maker, verify};
use super::worker::{Verdict, Work};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many messages of each sort a worker keeps.
const KEPT: usize = 5;

/// What all workers of a load have in common.
pub struct Shared {
    /// Operations by share.
    pub mix: Mix,
    /// Which keys.
    pub distribution: Distribution,
    /// How large values are.
    pub sizes: Sizes,
    /// How long records live; `None`: for good.
    pub ttl: Option<(Duration, Duration)>,
    /// Keys of a batch.
    pub batch_size: usize,
    /// The most records of a scan; each asks for 1 to so many.
    pub scan_length: usize,
    /// Makes values.
    pub maker: Maker,
    /// Whether values that come back are verified.
    pub verifies: bool,
    /// What this run has written, if that is watched.
    pub history: Option<History>,
    /// Records, inserted ones included.
    pub inserts: Inserts,
    /// Makes the sequence repeatable.
    pub seed: u64,
    /// Operations of all workers together; `None`: no end but time.
    pub operations: Option<u64>,
}

/// How many records there are while several workers insert.
pub struct Inserts {
    next: AtomicU64,
    /// By worker: its oldest insert that has no answer.
    oldest: Vec<AtomicU64>,
}

impl Inserts {
    /// From `count` records on.
    pub fn new(count: u64, workers: usize) -> Inserts {
        Inserts {
            next: AtomicU64::new(count),
            oldest: (0..workers).map(|_| AtomicU64::new(u64::MAX)).collect(),
        }
    }

    /// All that were begun.
    pub fn begun(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// Records `0..visible` have all been acknowledged.
    fn visible(&self) -> u64 {
        // The oldest ones after the count: an insert that is counted was announced before.
        let next = self.begun();
        self.oldest.iter().fold(next, |visible, oldest| visible.min(oldest.load(Ordering::SeqCst)))
    }

    fn begin(&self, worker: usize, own: &mut Vec<u64>) -> u64 {
        if own.is_empty() {
            // No larger than the number that it will get.
            self.oldest[worker].store(self.begun(), Ordering::SeqCst);
        }
        let key = self.next.fetch_add(1, Ordering::SeqCst);
        own.push(key);
        self.publish(worker, own);
        key
    }

    fn end(&self, worker: usize, own: &mut Vec<u64>, key: u64) {
        own.retain(|&begun| begun != key);
        self.publish(worker, own);
    }

    fn publish(&self, worker: usize, own: &[u64]) {
        let oldest = own.iter().min().copied().unwrap_or(u64::MAX);
        self.oldest[worker].store(oldest, Ordering::SeqCst);
    }
}

/// What a worker has found beyond times.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Values that were verified and right.
    pub verified: u64,
    /// Values that were wrong, and records that were missing or stale against this run's history.
    pub wrong: u64,
    /// Records that scans returned.
    pub scanned: u64,
    /// Messages with how often they came: of wrong values first, then of refusals.
    pub messages: BTreeMap<String, u64>,
}

impl Tally {
    fn say(&mut self, message: String) {
        if self.messages.contains_key(&message) || self.messages.len() < KEPT {
            *self.messages.entry(message).or_default() += 1;
        }
    }

    /// Takes another worker's in.
    pub fn add(&mut self, other: Tally) {
        self.verified += other.verified;
        self.wrong += other.wrong;
        self.scanned += other.scanned;
        for (message, count) in other.messages {
            if self.messages.contains_key(&message) || self.messages.len() < KEPT {
                *self.messages.entry(message).or_default() += count;
            }
        }
    }
}

/// A request on its way.
struct Flying {
    operation: Operation,
    /// The key and what was known of it; a batch has several, a scan none.
    keys: Vec<(u64, Option<Floor>)>,
    /// Of a write on its way.
    version: u32,
    is_writing: bool,
}

/// One worker's part.
pub struct Workload<'a> {
    shared: &'a Shared,
    worker: usize,
    rng: SmallRng,
    picker: Picker,
    slots: Vec<Option<Flying>>,
    inserting: Vec<u64>,
    left: Option<u64>,
    /// What it has found.
    pub tally: Tally,
}

impl<'a> Workload<'a> {
    /// The part of worker `worker` of `workers`, in a run that begins with `count` records.
    pub fn new(shared: &'a Shared, worker: usize, workers: usize, count: u64, slots: usize) -> Workload<'a> {
        let (worker_id, count_all) = (worker as u64, workers as u64);
        let share = |all: u64| all / count_all + u64::from(worker_id < all % count_all);
        Workload {
            shared,
            worker,
            rng: SmallRng::seed_from_u64(shared.seed.wrapping_add((worker as u64) << 32)),
            picker: Picker::new(shared.distribution, count),
            slots: (0..slots).map(|_| None).collect(),
            inserting: Vec::new(),
            left: shared.operations.map(share),
            tally: Tally::default(),
        }
    }

    fn ttl(&mut self) -> Option<Duration> {
        let (low, high) = self.shared.ttl?;
        let (low, high) = (low.as_millis() as u64, high.as_millis() as u64);
        Some(Duration::from_millis(self.rng.random_range(low..=high)))
    }

    fn floor(&self, key: u64) -> (u64, Option<Floor>) {
        (key, self.shared.history.as_ref().map(|history| history.floor(key)))
    }

    /// A write of a key, as the last step of its operation.
    fn put(&mut self, flying: &mut Flying, key: u64) -> Request {
        let shared = self.shared;
        flying.version = shared.history.as_ref().map_or(1, |history| history.begin(key, false));
        flying.is_writing = true;
        let size = shared.sizes.draw(&mut self.rng);
        Request::Put { key, value: shared.maker.make(key, flying.version, size), ttl: self.ttl() }
    }

    /// Whether what was read of a key is right.
    fn is_right(&mut self, key: Option<(u64, Option<Floor>)>, value: Option<&[u8]>) -> bool {
        if !self.shared.verifies {
            return true;
        }
        let stamp = match value.map(|value| verify(value, key.map(|(key, _)| key))).transpose() {
            Ok(stamp) => stamp,
            Err(wrong) => return self.complain(key, &wrong.to_string()),
        };
        if let (Some((key, Some(floor))), Some(history)) = (key, &self.shared.history)
            && let Err(breach) = history.check(key, floor, stamp)
        {
            return self.complain(Some((key, None)), &breach.to_string());
        }
        self.tally.verified += u64::from(stamp.is_some());
        true
    }

    fn complain(&mut self, key: Option<(u64, Option<Floor>)>, what: &str) -> bool {
        self.tally.wrong += 1;
        let whose = key.map_or_else(|| "a record".to_owned(), |(key, _)| format!("record {key}"));
        self.tally.say(format!("WRONG: {whose}: {what}"));
        false
    }

    fn end_write(&mut self, flying: &Flying, is_known: bool) {
        let Some(&(key, _)) = flying.keys.first() else { return };
        if flying.operation == Operation::Insert {
            self.shared.inserts.end(self.worker, &mut self.inserting, key);
        }
        if let (Some(history), true) = (&self.shared.history, flying.is_writing) {
            match is_known {
                true => history.acknowledge(key, flying.version, flying.operation == Operation::Delete),
                false => history.lose_sight(key),
            }
        }
    }
}

impl Work for Workload<'_> {
    type Request = Request;

    fn draw(&mut self, slot: usize) -> Option<(usize, Request)> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let shared = self.shared;
        let operation = shared.mix.draw(&mut self.rng);
        let mut flying = Flying { operation, keys: Vec::new(), version: 0, is_writing: false };
        let visible = shared.inserts.visible();
        let pick = |this: &mut Self| {
            let key = this.picker.pick(&mut this.rng, visible);
            this.floor(key)
        };
        let request = match operation {
            Operation::Read | Operation::ReadModifyWrite => {
                flying.keys.push(pick(self));
                Request::Get(flying.keys[0].0)
            }
            Operation::Update => {
                flying.keys.push(pick(self));
                let key = flying.keys[0].0;
                self.put(&mut flying, key)
            }
            Operation::Insert => {
                let key = shared.inserts.begin(self.worker, &mut self.inserting);
                flying.keys.push((key, None));
                self.put(&mut flying, key)
            }
            Operation::Delete => {
                flying.keys.push(pick(self));
                let key = flying.keys[0].0;
                flying.version = shared.history.as_ref().map_or(1, |history| history.begin(key, true));
                flying.is_writing = true;
                Request::Delete(key)
            }
            Operation::Expire => {
                flying.keys.push(pick(self));
                let ttl = self.ttl().unwrap_or(Duration::from_secs(1));
                Request::Expire { key: flying.keys[0].0, ttl }
            }
            Operation::Batch => {
                flying.keys.extend((0..shared.batch_size).map(|_| pick(self)));
                Request::GetMany(flying.keys.iter().map(|(key, _)| *key).collect())
            }
            Operation::Scan => {
                let limit = self.rng.random_range(1..=shared.scan_length);
                Request::Scan { from: bits(&mut self.rng), limit }
            }
        };
        self.slots[slot] = Some(flying);
        Some((operation as usize, request))
    }

    fn judge(&mut self, slot: usize, outcome: Outcome<'_>) -> Verdict<Request> {
        let mut flying = self.slots[slot].take().expect("an answer belongs to a busy slot");
        let right = |is_right: bool| if is_right { Ended::Well } else { Ended::Failed };
        let ended = match outcome {
            Outcome::Failed(message) => {
                self.tally.say(format!("{}: {message}", flying.operation.name()));
                self.end_write(&flying, false);
                Ended::Failed
            }
            Outcome::Value(value) => {
                let is_right = self.is_right(flying.keys.first().copied(), value);
                match (flying.operation, value, is_right) {
                    (Operation::ReadModifyWrite, Some(_), true) => {
                        let key = flying.keys[0].0;
                        let request = self.put(&mut flying, key);
                        self.slots[slot] = Some(flying);
                        return Verdict::Then(request);
                    }
                    (_, None, true) => Ended::Missed,
                    (_, _, is_right) => right(is_right),
                }
            }
            Outcome::Values(values) => {
                let is_scan = flying.operation == Operation::Scan;
                let mut all_right = is_scan || values.len() == flying.keys.len();
                if !all_right {
                    let count = flying.keys.len();
                    self.complain(None, &format!("{} values came for {count} keys", values.len()));
                }
                for (at, value) in values.iter().enumerate() {
                    all_right &= self.is_right(flying.keys.get(at).copied(), *value);
                }
                if is_scan {
                    self.tally.scanned += values.len() as u64;
                }
                match all_right {
                    true if values.iter().any(Option::is_none) => Ended::Missed,
                    all_right => right(all_right),
                }
            }
            Outcome::Done(was_there) => {
                self.end_write(&flying, true);
                if was_there { Ended::Well } else { Ended::Missed }
            }
        };
        Verdict::Ended(ended)
    }

    fn give_up(&mut self, slot: usize) {
        if let Some(flying) = self.slots[slot].take() {
            self.end_write(&flying, false);
        }
    }
}

/// Passes over the records that were refused, before they are given up.
const PASSES: u32 = 3;
/// So many refusals without anything that was taken, and the rest is not tried.
const MOST_REFUSED: u64 = 1000;

/// Writes every record once; what is refused, because a server is short of buffers for a moment, is tried again after the others.
pub struct Loading<'a> {
    shared: &'a Shared,
    next: &'a AtomicU64,
    done: &'a AtomicU64,
    count: u64,
    rng: SmallRng,
    slots: Vec<(u64, u32)>,
    refused: Vec<u64>,
    /// Those of the pass before.
    again: Vec<u64>,
    pass: u32,
    refused_in_a_row: u64,
    /// What it was refused.
    pub tally: Tally,
}

impl<'a> Loading<'a> {
    /// Keys below `count`; `next` is drawn from and `done` counted up by all workers.
    pub fn new(
        shared: &'a Shared,
        (next, done): (&'a AtomicU64, &'a AtomicU64),
        count: u64,
        worker: usize,
        slots: usize,
    ) -> Loading<'a> {
        let rng = SmallRng::seed_from_u64(shared.seed.wrapping_add(1 + ((worker as u64) << 32)));
        let slots = vec![(0, 0); slots];
        let (refused, again) = (Vec::new(), Vec::new());
        Loading {
            shared,
            next,
            done,
            count,
            rng,
            slots,
            refused,
            again,
            pass: 1,
            refused_in_a_row: 0,
            tally: Tally::default(),
        }
    }

    /// How many records it has not written.
    pub fn refused(&self) -> usize {
        self.refused.len() + self.again.len()
    }

    fn next_key(&mut self) -> Option<u64> {
        if self.refused_in_a_row >= MOST_REFUSED {
            return None;
        }
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        if key < self.count {
            return Some(key);
        }
        if self.again.is_empty() && self.pass < PASSES {
            self.pass += 1;
            std::mem::swap(&mut self.again, &mut self.refused);
        }
        self.again.pop()
    }
}

impl Work for Loading<'_> {
    type Request = Request;

    fn draw(&mut self, slot: usize) -> Option<(usize, Request)> {
        let key = self.next_key()?;
        let shared = self.shared;
        let version = shared.history.as_ref().map_or(1, |history| history.begin(key, false));
        self.slots[slot] = (key, version);
        let size = shared.sizes.draw(&mut self.rng);
        let ttl = shared.ttl.map(|(low, high)| {
            Duration::from_millis(self.rng.random_range(low.as_millis() as u64..=high.as_millis() as u64))
        });
        Some((
            Operation::Insert as usize,
            Request::Put { key, value: shared.maker.make(key, version, size), ttl },
        ))
    }

    fn judge(&mut self, slot: usize, outcome: Outcome<'_>) -> Verdict<Request> {
        let (key, version) = self.slots[slot];
        if let Outcome::Failed(message) = outcome {
            self.tally.say(message.to_owned());
            self.give_up(slot);
            self.refused.push(key);
            self.refused_in_a_row += 1;
            return Verdict::Ended(Ended::Failed);
        }
        self.refused_in_a_row = 0;
        if let Some(history) = &self.shared.history {
            history.acknowledge(key, version, false);
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        Verdict::Ended(Ended::Well)
    }

    fn give_up(&mut self, slot: usize) {
        if let Some(history) = &self.shared.history {
            history.lose_sight(self.slots[slot].0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_visible_when_it_and_all_before_it_are_acknowledged() {
        let inserts = Inserts::new(100, 2);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert_eq!(inserts.visible(), 100);
        assert_eq!(
            [inserts.begin(0, &mut first), inserts.begin(1, &mut second), inserts.begin(0, &mut first)],
            [100, 101, 102]
        );
        assert_eq!((inserts.visible(), inserts.begun()), (100, 103));
        inserts.end(1, &mut second, 101);
        assert_eq!(inserts.visible(), 100);
        inserts.end(0, &mut first, 100);
        assert_eq!(inserts.visible(), 102);
        inserts.end(0, &mut first, 102);
        assert_eq!(inserts.visible(), 103);
    }
}
