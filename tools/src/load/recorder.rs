//! What a worker saw, second by second: a histogram for each kind of request, and exact counts over the limits.
//!
//! A request belongs to the second in which it was *due*, whenever it was answered: a stall shows in all seconds whose
//! requests had to wait for it. So a second is handed over only when no request of it is left, in order, none left out.
//! Histograms are in nanoseconds with three digits; the limits of 1, 2, 4 ... 64 ms are counted beside them, exactly,
//! because pass or fail hangs on them.

use hdrhistogram::Histogram;
use std::collections::VecDeque;

/// The limits that are counted exactly: over 2^0 to 2^6 milliseconds.
pub const LIMITS: usize = 7;
/// Kinds of requests that one load may have.
pub const MAX_KINDS: usize = 8;

/// One kind of request in one second.
#[derive(Clone)]
pub struct KindSlice {
    /// Latencies from the intended start, in nanoseconds.
    pub latency: Histogram<u64>,
    /// How many took longer than 2^n milliseconds.
    pub over: [u64; LIMITS],
    /// Requests that found no record.
    pub missed: u64,
    /// Requests that were refused or failed.
    pub failed: u64,
    /// Requests without an answer when the run was over; their latency is a lower bound.
    pub unanswered: u64,
}

/// One second.
#[derive(Clone)]
pub struct Slice {
    /// Which, from 0.
    pub second: u64,
    /// By kind; `None`: there were no requests of it.
    pub kinds: Vec<Option<Box<KindSlice>>>,
    /// How much later than intended requests were sent, in nanoseconds; `None`: nothing was sent.
    pub lag: Option<Box<Histogram<u64>>>,
    /// The part of it for which a slot was free: that is the load's own lateness, not the target's.
    pub own_lag: Option<Box<Histogram<u64>>>,
    /// Requests that were due and could not be sent before the run was over, and how many were overdue by more than
    /// 2^n milliseconds then.
    pub unsent: u64,
    /// See `unsent`.
    pub unsent_over: [u64; LIMITS],
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Well,
    /// There was no record.
    Missed,
    /// Refused, failed, or answered with a wrong value.
    Failed,
    /// Not at all.
    Unanswered,
}

/// A histogram of nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Adds a value, however large.
pub fn note(histogram: &mut Histogram<u64>, value: u64) {
    // It grows as needed: recording fails only for want of room for the number itself, beyond 2^62.
    if histogram.record(value).is_err() {
        histogram.saturating_record(value);
    }
}

/// Which limits a latency is over: exactly at a limit is not over it.
pub fn count_over(over: &mut [u64; LIMITS], latency_ns: u64) {
    for (exponent, count) in over.iter_mut().enumerate() {
        *count += u64::from(latency_ns > 1_000_000 << exponent);
    }
}

impl KindSlice {
    /// Nothing yet.
    pub fn empty() -> Self {
        KindSlice { latency: histogram(), over: [0; LIMITS], missed: 0, failed: 0, unanswered: 0 }
    }

    /// Takes the other's requests in.
    pub fn add(&mut self, other: &KindSlice) {
        self.latency.add(&other.latency).expect("histograms of one kind, which resize themselves");
        self.over.iter_mut().zip(other.over).for_each(|(own, other)| *own += other);
        self.missed += other.missed;
        self.failed += other.failed;
        self.unanswered += other.unanswered;
    }
}

impl Slice {
    /// Nothing yet.
    pub fn empty(second: u64, kinds: usize) -> Self {
        Slice {
            second,
            kinds: vec![None; kinds],
            lag: None,
            own_lag: None,
            unsent: 0,
            unsent_over: [0; LIMITS],
        }
    }

    /// Takes another worker's same second in.
    pub fn add(&mut self, other: Slice) {
        for (own, other) in self.kinds.iter_mut().zip(other.kinds) {
            match (own.as_mut(), other) {
                (Some(own), Some(other)) => own.add(&other),
                (None, other) => *own = other,
                (Some(_), None) => {}
            }
        }
        for (own, other) in [(&mut self.lag, other.lag), (&mut self.own_lag, other.own_lag)] {
            match (own.as_mut(), other) {
                (Some(own), Some(other)) => own.add(&*other).expect("histograms of one kind"),
                (None, other) => *own = other,
                (Some(_), None) => {}
            }
        }
        self.unsent += other.unsent;
        self.unsent_over.iter_mut().zip(other.unsent_over).for_each(|(own, other)| *own += other);
    }
}

/// A worker's seconds that are not over yet.
pub struct Recorder {
    kinds: usize,
    open: VecDeque<Slice>,
    /// The first second that has not been handed over.
    next: u64,
}

impl Recorder {
    /// For so many kinds of requests.
    pub fn new(kinds: usize) -> Self {
        assert!(kinds <= MAX_KINDS, "{kinds} kinds of requests");
        Recorder { kinds, open: VecDeque::new(), next: 0 }
    }

    fn slice(&mut self, second: u64) -> &mut Slice {
        assert!(second >= self.next, "second {second} has been handed over");
        while self.next + self.open.len() as u64 <= second {
            self.open.push_back(Slice::empty(self.next + self.open.len() as u64, self.kinds));
        }
        &mut self.open[(second - self.next) as usize]
    }

    /// A request that was due in `second` has ended.
    pub fn record(&mut self, second: u64, kind: usize, latency_ns: u64, ended: Ended) {
        let slice = self.slice(second).kinds[kind].get_or_insert_with(|| Box::new(KindSlice::empty()));
        note(&mut slice.latency, latency_ns);
        count_over(&mut slice.over, latency_ns);
        match ended {
            Ended::Well => {}
            Ended::Missed => slice.missed += 1,
            Ended::Failed => slice.failed += 1,
            Ended::Unanswered => slice.unanswered += 1,
        }
    }

    /// A request that was due in `second` was sent so much later, although a slot was free or because none was.
    pub fn lag(&mut self, second: u64, lag_ns: u64, was_free: bool) {
        let slice = self.slice(second);
        note(slice.lag.get_or_insert_with(|| Box::new(histogram())), lag_ns);
        let own_ns = if was_free { lag_ns } else { 0 };
        note(slice.own_lag.get_or_insert_with(|| Box::new(histogram())), own_ns);
    }

    /// A request that was due in `second` was not sent at all; it was overdue by so much when the run was over.
    pub fn unsent(&mut self, second: u64, overdue_ns: u64) {
        let slice = self.slice(second);
        slice.unsent += 1;
        count_over(&mut slice.unsent_over, overdue_ns);
    }

    /// The first second that is not handed over.
    pub fn first_open(&self) -> u64 {
        self.next
    }

    /// The second after the last one of which anything is known.
    pub fn end(&self) -> u64 {
        self.next + self.open.len() as u64
    }

    /// Hands over all seconds before `second`, in order, empty ones too.
    pub fn close_before(&mut self, second: u64, mut take: impl FnMut(Slice)) {
        while self.next < second {
            let slice = self.open.pop_front().unwrap_or_else(|| Slice::empty(self.next, self.kinds));
            self.next += 1;
            take(slice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_at_a_limit_is_not_over_it() {
        let mut over = [0; LIMITS];
        count_over(&mut over, 1_000_000);
        assert_eq!(over, [0; LIMITS]);
        count_over(&mut over, 1_000_001);
        assert_eq!(over, [1, 0, 0, 0, 0, 0, 0]);
        count_over(&mut over, 64_000_000);
        assert_eq!(over, [2, 1, 1, 1, 1, 1, 0]);
        count_over(&mut over, 64_000_001);
        assert_eq!(over, [3, 2, 2, 2, 2, 2, 1]);
    }

    #[test]
    fn seconds_come_in_order_with_none_left_out() {
        let mut recorder = Recorder::new(2);
        recorder.record(3, 1, 5000, Ended::Missed);
        recorder.record(1, 0, 7000, Ended::Well);
        recorder.lag(1, 10, false);
        let mut seen = Vec::new();
        recorder.close_before(3, |slice| seen.push(slice));
        assert_eq!(seen.iter().map(|slice| slice.second).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(seen[0].kinds.iter().all(Option::is_none) && seen[2].kinds.iter().all(Option::is_none));
        assert_eq!(seen[1].kinds[0].as_ref().unwrap().latency.len(), 1);
        assert_eq!(seen[1].lag.as_ref().unwrap().len(), 1);
        recorder.record(3, 1, 9000, Ended::Failed);
        recorder.close_before(5, |slice| seen.push(slice));
        let third = seen[3].kinds[1].as_ref().unwrap();
        assert_eq!((third.latency.len(), third.missed, third.failed), (2, 1, 1));
        assert_eq!((seen.len(), recorder.first_open()), (5, 5));
    }

    #[test]
    #[should_panic(expected = "has been handed over")]
    fn nothing_is_added_to_a_second_that_is_over() {
        let mut recorder = Recorder::new(1);
        recorder.close_before(2, drop);
        recorder.record(1, 0, 1, Ended::Well);
    }
}
