//! The loop of one worker: sends what is due, never skips, and counts latency from the intended start.
//!
//! Open loop: a schedule says when each request is due. One that is due while all slots are busy waits, and its waiting is
//! part of its latency; a worker that is late sends at once all that is overdue. So a target that stands still for 200 ms
//! shows 200 ms in every request that was due meanwhile (no coordinated omission). Closed loop: a request is due when a
//! slot is free, and latency is the time from sending to the answer.
//!
//! When the time is over nothing new becomes due. What is in flight or overdue gets so long to end; what has not ended
//! then is recorded with its age so far, as a lower bound.

use super::LoadError;
use super::clock::{Clock, SECOND};
use super::lane::{Answer, Lane, Outcome};
use super::recorder::{Ended, Recorder, Slice};
use super::schedule::Schedule;
use std::sync::atomic::{AtomicBool, Ordering};

/// The longest that a worker waits before it looks whether the load has been called off, in nanoseconds.
const LOOK_UP: u64 = SECOND / 10;

/// What is to be done: draws requests and judges answers.
pub trait Work {
    /// What the lane takes.
    type Request;

    /// The kind and the request of the next one, for this slot; `None`: there is no more.
    fn draw(&mut self, slot: usize) -> Option<(usize, Self::Request)>;

    /// What the answer to this slot's request means.
    fn judge(&mut self, slot: usize, outcome: Outcome<'_>) -> Verdict<Self::Request>;

    /// The slot's request will not be answered any more.
    fn give_up(&mut self, slot: usize);
}

/// What an answer means.
#[derive(Debug)]
pub enum Verdict<R> {
    /// The request has ended.
    Ended(Ended),
    /// It needs a second step, in the same slot and as part of the same latency.
    Then(R),
}

/// When a load begins and ends, in nanoseconds of its clock.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// The first intended start.
    pub start_ns: u64,
    /// What is due from here on is recorded.
    pub record_ns: u64,
    /// Nothing is due from here on.
    pub end_ns: u64,
    /// How long what is left may take then.
    pub drain_ns: u64,
}

#[derive(Clone, Copy)]
struct Busy {
    kind: usize,
    due_ns: u64,
}

/// One worker.
pub struct Worker<'a, W: Work, L> {
    /// The time.
    pub clock: &'a dyn Clock,
    /// What is to be done.
    pub work: W,
    /// Where it is done.
    pub lane: L,
    /// When it is due; `None`: closed loop.
    pub schedule: Option<Schedule>,
    /// From when to when.
    pub course: Course,
    /// Calls the load off.
    pub stop: &'a AtomicBool,
}

impl<W: Work, L: Lane<W::Request>> Worker<'_, W, L> {
    /// Runs to the end. Seconds go to `take` as they are over. Returns the work with all that it has found.
    pub fn run(mut self, kinds: usize, take: &mut dyn FnMut(Slice)) -> Result<W, LoadError> {
        let Course { start_ns, record_ns, end_ns, drain_ns } = self.course;
        let mut recorder = Recorder::new(kinds);
        let mut slots: Vec<Option<Busy>> = vec![None; self.lane.capacity()];
        let mut free: Vec<usize> = (0..slots.len()).rev().collect();
        let mut second_steps = Vec::new();
        let mut has_more = true;
        // Whether a slot was free when it last had nothing to send.
        let mut was_free = true;
        let second_of = |due_ns: u64| (due_ns >= record_ns).then(|| (due_ns - record_ns) / SECOND);
        loop {
            let mut now = self.clock.now_ns();
            while has_more && !free.is_empty() && now < end_ns.saturating_add(drain_ns) {
                let due_ns = match &self.schedule {
                    Some(schedule) => start_ns.saturating_add(schedule.next_ns()),
                    None => now.max(start_ns),
                };
                if due_ns >= end_ns {
                    has_more = false;
                    break;
                }
                if due_ns > now {
                    break;
                }
                let slot = *free.last().expect("it is not empty");
                let Some((kind, request)) = self.work.draw(slot) else {
                    has_more = false;
                    break;
                };
                free.pop();
                slots[slot] = Some(Busy { kind, due_ns });
                if let Some(schedule) = &mut self.schedule {
                    schedule.advance();
                    if let Some(second) = second_of(due_ns) {
                        recorder.lag(second, now - due_ns, was_free);
                    }
                }
                self.lane.submit(slot, request)?;
                now = self.clock.now_ns();
            }
            was_free = !free.is_empty();
            let is_idle = free.len() == slots.len();
            let is_over = now >= end_ns.saturating_add(drain_ns);
            if is_over || (is_idle && !has_more) {
                break;
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(LoadError("called off".into()));
            }
            // The next request that is not due yet and has a slot waiting for it.
            let next_due = match &self.schedule {
                Some(schedule) if has_more && !free.is_empty() => start_ns.saturating_add(schedule.next_ns()),
                None if has_more && !free.is_empty() => start_ns,
                _ => u64::MAX,
            };
            let until_ns = next_due.min(now + LOOK_UP).min(end_ns.saturating_add(drain_ns));
            let (work, slots_now) = (&mut self.work, &mut slots);
            self.lane.poll(until_ns, &mut |answer: Answer<'_>| {
                let busy = slots_now[answer.slot].expect("an answer belongs to a busy slot");
                match work.judge(answer.slot, answer.outcome) {
                    Verdict::Ended(ended) => {
                        slots_now[answer.slot] = None;
                        free.push(answer.slot);
                        if let Some(second) = second_of(busy.due_ns) {
                            let latency_ns = answer.at_ns.saturating_sub(busy.due_ns);
                            recorder.record(second, busy.kind, latency_ns, ended);
                        }
                    }
                    Verdict::Then(request) => second_steps.push((answer.slot, request)),
                }
            })?;
            for (slot, request) in second_steps.drain(..) {
                self.lane.submit(slot, request)?;
            }
            // A second is over when nothing of it is in flight or still to come.
            if let Some(now_second) = second_of(self.clock.now_ns())
                && recorder.first_open() < now_second
            {
                let in_flight = slots.iter().flatten().map(|busy| busy.due_ns).min().unwrap_or(u64::MAX);
                let coming = match &self.schedule {
                    Some(schedule) if has_more => start_ns.saturating_add(schedule.next_ns()),
                    _ => u64::MAX,
                };
                let oldest = in_flight.min(coming).max(record_ns);
                recorder.close_before(now_second.min((oldest - record_ns) / SECOND), &mut *take);
            }
        }
        let now = self.clock.now_ns();
        for (slot, busy) in slots.iter().enumerate().filter_map(|(slot, busy)| Some((slot, (*busy)?))) {
            self.work.give_up(slot);
            if let Some(second) = second_of(busy.due_ns) {
                recorder.record(second, busy.kind, now.saturating_sub(busy.due_ns), Ended::Unanswered);
            }
        }
        if let (Some(schedule), true) = (&mut self.schedule, has_more) {
            while start_ns.saturating_add(schedule.next_ns()) < end_ns {
                let due_ns = start_ns + schedule.next_ns();
                if let Some(second) = second_of(due_ns) {
                    recorder.unsent(second, now.saturating_sub(due_ns));
                }
                schedule.advance();
            }
        }
        let all = (end_ns.min(now).max(record_ns) - record_ns).div_ceil(SECOND);
        let last = recorder.end().max(all);
        recorder.close_before(last, take);
        Ok(self.work)
    }
}
