//! The worker under a clock that is stepped: nothing sleeps, and every latency is known beforehand.

use super::LoadError;
use super::clock::{Clock, SECOND};
use super::lane::{Answer, Lane, Outcome};
use super::recorder::{Ended, Slice};
use super::schedule::{Arrivals, Rate, Schedule};
use super::worker::{Course, Verdict, Work, Worker};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const MS: u64 = SECOND / 1000;

#[derive(Default)]
struct Stepped(AtomicU64);

impl Clock for Stepped {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A target that takes `service_ns` for each request, as many at once as there are slots, and stands still from
/// `stall.0` until `stall.1`. Waiting moves the clock.
struct Fake {
    clock: Arc<Stepped>,
    slots: usize,
    service_ns: u64,
    stall: (u64, u64),
    answers_never: bool,
    /// A wait ends so much later than it should.
    oversleep_ns: u64,
    flying: VecDeque<(usize, u64)>,
    sent: Arc<AtomicU64>,
}

impl Lane<usize> for Fake {
    fn capacity(&self) -> usize {
        self.slots
    }

    fn submit(&mut self, slot: usize, _: usize) -> Result<(), LoadError> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let mut at = self.clock.now_ns() + self.service_ns;
        if (self.stall.0..self.stall.1).contains(&at) {
            at = self.stall.1;
        }
        self.flying.push_back((slot, at));
        Ok(())
    }

    fn poll(&mut self, until_ns: u64, answers: &mut dyn FnMut(Answer<'_>)) -> Result<(), LoadError> {
        let first = self.flying.iter().map(|(_, at)| *at).min().filter(|_| !self.answers_never);
        let awake = first.unwrap_or(u64::MAX).min(until_ns);
        let now = self.clock.now_ns();
        let now = if awake > now { awake + self.oversleep_ns } else { now };
        self.clock.0.store(now, Ordering::Relaxed);
        let never = self.answers_never;
        self.flying.retain(|&(slot, at)| {
            if at > now || never {
                return true;
            }
            answers(Answer { slot, at_ns: at, outcome: Outcome::Done(true) });
            false
        });
        Ok(())
    }
}

/// Counts, and does `steps` requests for each drawn.
struct Counting {
    left: u64,
    steps: usize,
    done: Vec<usize>,
    given_up: u64,
}

impl Counting {
    fn new(left: u64) -> Counting {
        Counting { left, steps: 1, done: vec![0; 64], given_up: 0 }
    }
}

impl Work for Counting {
    type Request = usize;

    fn draw(&mut self, slot: usize) -> Option<(usize, usize)> {
        self.left = self.left.checked_sub(1)?;
        self.done[slot] = 0;
        Some((0, slot))
    }

    fn judge(&mut self, slot: usize, outcome: Outcome<'_>) -> Verdict<usize> {
        assert!(matches!(outcome, Outcome::Done(true)));
        self.done[slot] += 1;
        if self.done[slot] < self.steps { Verdict::Then(slot) } else { Verdict::Ended(Ended::Well) }
    }

    fn give_up(&mut self, _: usize) {
        self.given_up += 1;
    }
}

struct Ran {
    slices: Vec<Slice>,
    sent: u64,
    work: Counting,
}

impl Ran {
    fn count(&self) -> u64 {
        self.slices.iter().flat_map(|slice| slice.kinds[0].iter()).map(|kind| kind.latency.len()).sum()
    }

    /// How many latencies lie from `low` to `high` nanoseconds, give or take the histogram's thousandth.
    fn between(&self, low: u64, high: u64) -> u64 {
        let kinds = self.slices.iter().flat_map(|slice| slice.kinds[0].iter());
        kinds.map(|kind| kind.latency.count_between(low, high)).sum()
    }
}

fn run(rate: Option<f64>, work: Counting, change: impl FnOnce(&mut Fake), course: Course) -> Ran {
    let clock = Arc::new(Stepped::default());
    let sent = Arc::new(AtomicU64::new(0));
    let mut lane = Fake {
        clock: clock.clone(),
        slots: 4,
        service_ns: MS / 10,
        stall: (0, 0),
        answers_never: false,
        oversleep_ns: 0,
        flying: VecDeque::new(),
        sent: sent.clone(),
    };
    change(&mut lane);
    let schedule =
        rate.map(|rate| Schedule::new(Rate::per_second(rate).unwrap(), Arrivals::Uniform, 0, 1, 1));
    let stop = AtomicBool::new(false);
    let worker = Worker { clock: &*clock, work, lane, schedule, course, stop: &stop };
    let mut slices = Vec::new();
    let work = worker.run(1, &mut |slice| slices.push(slice)).unwrap();
    assert!(slices.iter().zip(0..).all(|(slice, second)| slice.second == second), "in order, none left out");
    Ran { slices, sent: sent.load(Ordering::Relaxed), work }
}

fn course(seconds: u64) -> Course {
    Course { start_ns: 0, record_ns: 0, end_ns: seconds * SECOND, drain_ns: SECOND }
}

#[test]
fn an_open_loop_sends_exactly_what_is_due_when_it_is_due() {
    let ran = run(Some(1000.0), Counting::new(u64::MAX), |_| {}, course(3));
    assert_eq!((ran.sent, ran.count(), ran.slices.len()), (3000, 3000, 3));
    for slice in &ran.slices {
        let kind = slice.kinds[0].as_ref().unwrap();
        assert_eq!(kind.latency.len(), 1000);
        assert_eq!(kind.latency.max(), kind.latency.highest_equivalent(MS / 10));
        let lag = slice.lag.as_ref().unwrap();
        assert_eq!((lag.len(), lag.max()), (1000, 0), "the clock stands at each intended start");
    }
}

#[test]
fn a_stall_shows_in_every_request_that_was_due_meanwhile() {
    // One request a millisecond; nothing ends from 1000 ms until 1200 ms.
    let stall = |lane: &mut Fake| lane.stall = (SECOND, SECOND + 200 * MS);
    let ran = run(Some(1000.0), Counting::new(u64::MAX), stall, course(3));
    assert_eq!((ran.sent, ran.count()), (3000, 3000), "nothing is skipped");
    // Due at 1000 + i ms, done at 1200 or soon after: 200 requests with 200, 199, 198 ... ms.
    let over_100 = ran.between(100 * MS, u64::MAX / 4);
    assert!((98..=104).contains(&over_100), "{over_100}");
    let over_10 = ran.between(10 * MS, u64::MAX / 4);
    assert!((188..=196).contains(&over_10), "{over_10}");
    let second = ran.slices[1].kinds[0].as_ref().unwrap();
    assert!(second.latency.max() >= 199 * MS);
    assert_eq!(ran.slices[0].kinds[0].as_ref().unwrap().over, [0; 7]);
    // Of those only the four that had a slot were sent before it was over: the rest lagged.
    assert!(ran.slices[1].lag.as_ref().unwrap().max() >= 190 * MS);
    assert_eq!(ran.slices[1].own_lag.as_ref().unwrap().max(), 0, "and that is the target's doing");
    assert_eq!(ran.slices[2].kinds[0].as_ref().unwrap().over, [0; 7], "it has caught up");
}

#[test]
fn a_worker_that_wakes_too_late_sends_all_that_is_overdue_and_owns_up_to_it() {
    // Every wait takes until 5 ms after it should have ended: 5 or 6 requests are overdue each time.
    let ran = run(
        Some(1000.0),
        Counting::new(u64::MAX),
        |lane| (lane.slots, lane.oversleep_ns) = (64, 5 * MS),
        course(2),
    );
    assert_eq!((ran.sent, ran.count()), (2000, 2000), "nothing is skipped");
    let own = ran.slices[1].own_lag.as_ref().unwrap();
    assert_eq!(own.len(), 1000);
    assert!(own.max() >= 4 * MS, "{}", own.max());
    let latency = &ran.slices[1].kinds[0].as_ref().unwrap().latency;
    assert!(latency.value_at_quantile(0.5) >= 2 * MS, "latency is from the intended start");
}

#[test]
fn a_closed_loop_hides_the_same_stall() {
    let stall = |lane: &mut Fake| lane.stall = (SECOND, SECOND + 200 * MS);
    let ran = run(None, Counting::new(u64::MAX), stall, course(3));
    assert_eq!(ran.between(10 * MS, u64::MAX / 4), 4, "only what was in flight");
    assert!(ran.slices.iter().all(|slice| slice.lag.is_none()));
}

#[test]
fn a_second_step_is_part_of_the_same_latency() {
    let work = Counting { steps: 2, ..Counting::new(100) };
    let ran = run(None, work, |_| {}, course(3));
    assert_eq!((ran.sent, ran.count()), (200, 100));
    assert_eq!(ran.between(2 * MS / 10, 3 * MS / 10), 100);
}

#[test]
fn what_is_due_in_the_warm_up_is_sent_and_not_recorded() {
    let course = Course { start_ns: 0, record_ns: SECOND, end_ns: 3 * SECOND, drain_ns: SECOND };
    let ran = run(Some(500.0), Counting::new(u64::MAX), |_| {}, course);
    assert_eq!((ran.sent, ran.count(), ran.slices.len()), (1500, 1000, 2));
}

#[test]
fn what_has_no_answer_and_what_was_never_sent_is_told_with_its_age() {
    let ran = run(Some(1000.0), Counting::new(u64::MAX), |lane| lane.answers_never = true, course(2));
    assert_eq!((ran.sent, ran.work.given_up), (4, 4));
    let unanswered: u64 = ran.slices.iter().flat_map(|s| s.kinds[0].iter()).map(|k| k.unanswered).sum();
    let unsent: u64 = ran.slices.iter().map(|slice| slice.unsent).sum();
    assert_eq!((unanswered, unsent), (4, 1996));
    assert!(ran.between(2990 * MS, 3003 * MS) == 4, "from their starts until a second after the end");
    assert!(ran.slices.iter().all(|slice| slice.unsent == slice.unsent_over[6]), "all of them by over 64 ms");
}

#[test]
fn a_target_slower_than_the_rate_falls_behind_visibly() {
    // Four at once, 10 ms each: 400 a second at the most, asked for 500.
    let ran = run(Some(500.0), Counting::new(u64::MAX), |lane| lane.service_ns = 10 * MS, course(4));
    assert_eq!(ran.count() + ran.slices.iter().map(|slice| slice.unsent).sum::<u64>(), 2000);
    let medians: Vec<u64> =
        ran.slices.iter().map(|s| s.kinds[0].as_ref().unwrap().latency.value_at_quantile(0.5)).collect();
    assert!(medians.windows(2).all(|pair| pair[1] > pair[0] + 200 * MS), "{medians:?}");
}

#[test]
fn a_load_of_so_many_requests_ends_with_them() {
    let ran = run(Some(1000.0), Counting::new(1500), |_| {}, course(60));
    assert_eq!((ran.sent, ran.count(), ran.slices.len()), (1500, 1500, 2));
    let unsent: u64 = ran.slices.iter().map(|slice| slice.unsent).sum();
    assert_eq!(unsent, 0);
}
