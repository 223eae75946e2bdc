//! Operations under way, and what the oracle learns of each: when it was applied, as what, and what it answered.
//!
//! One thread polls. So an operation that changes something changes it inside one poll, and the engine's own counters
//! tell in which: that poll is the moment in which its versions enter the chains.

use super::host::Host;
use super::oracle::{Oracle, Violation};
use super::version::{Content, Kind, Seen, Version, key_of, set_of};
use super::workload::{Answer, Choice, Doing, Op, Verb};
use aerolith_engine::{Durability, Error, Exists, Generation, Ttl};
use std::task::{Context, Poll, Waker};

/// An operation under way.
pub struct Client {
    /// What it is.
    pub op: Op,
    doing: Doing,
    /// The versions that it made, once it has.
    pub applied: Option<Vec<(u32, u64)>>,
    started_id: u64,
    /// The wall clock while it was under way: the least and the most that it has shown.
    least_ms: u64,
    most_ms: u64,
    /// Of a flush: what it covers.
    covers: Vec<(u32, u64)>,
}

/// What a poll led to.
pub enum Turn {
    /// It waits.
    Waits,
    /// It has been answered.
    Done {
        /// With word of damage.
        is_told: bool,
    },
}

/// What an operation may be told in this life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// Reads may fail.
    pub reads_fail: bool,
    /// Devices may take no more writes.
    pub writes_fail: bool,
    /// Media damage what they hold.
    pub is_damaged: bool,
}

fn writes(host: &Host) -> u64 {
    let counters = host.store().stats().counters;
    counters.writes + counters.deletes
}

fn stored(set: &str, host: &Host) -> u64 {
    host.store().count(set)
}

impl Client {
    /// An operation that has not begun.
    pub fn new(op: Op, doing: Doing, oracle: &Oracle, host: &Host) -> Self {
        let covers = if op.verb == Verb::Flush { oracle.everything() } else { Vec::new() };
        let (started_id, now_ms) = (oracle.last_id(), host.now_ms());
        Client { op, doing, applied: None, started_id, least_ms: now_ms, most_ms: now_ms, covers }
    }

    /// The wall clock shows this while it is under way.
    pub fn see_time(&mut self, now_ms: u64) {
        self.least_ms = self.least_ms.min(now_ms);
        self.most_ms = self.most_ms.max(now_ms);
    }

    /// Polls it once.
    pub fn poll(
        &mut self,
        oracle: &mut Oracle,
        host: &Host,
        excuses: Excuses,
        default: Durability,
    ) -> Result<Turn, Violation> {
        self.see_time(host.now_ms());
        let set = set_of(self.op.keys[0]);
        let before = (writes(host), stored(set, host));
        let polled = self.doing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let is_applied = match self.op.verb {
            Verb::Truncate => before.1 > 0 && stored(set, host) == 0,
            _ => writes(host) != before.0,
        };
        if is_applied && self.applied.is_none() {
            self.applied = Some(
                self.note(oracle, host)
                    .map_err(|violation| violation.within(&format!("{:?} applied", self.op.verb)))?,
            );
        }
        let Poll::Ready(result) = polled else { return Ok(Turn::Waits) };
        let is_told = matches!(result, Err(Error::Corrupt { .. }));
        let judged = match result {
            Ok(answer) => self.answered(&answer, oracle, host, default),
            Err(error) => self.refused(&error, oracle, host, excuses),
        };
        judged.map_err(|violation| violation.within(&format!("answer to {:?}", self.op.verb)))?;
        Ok(Turn::Done { is_told })
    }

    /// Puts what was applied into the chains.
    fn note(&self, oracle: &mut Oracle, host: &Host) -> Result<Vec<(u32, u64)>, Violation> {
        let mono_ms = host.mono_ms();
        let op = &self.op;
        let decisions = op.decisions.lock().expect("one thread").clone();
        let mut made = Vec::new();
        match op.verb {
            Verb::Truncate => return Ok(oracle.truncate(Some(set_of(op.keys[0])), mono_ms)),
            Verb::Delete => made.push((op.keys[0], oracle.accept(op.keys[0], Kind::Delete, &[], mono_ms))),
            Verb::Put | Verb::PutMany => {
                for &key in &op.keys {
                    let contents = self.contents(&oracle.current(key), key, Some((op.number, 0)), host)?;
                    made.push((key, oracle.accept(key, Kind::Put, &contents, mono_ms)));
                }
            }
            Verb::Touch => {
                let key = op.keys[0];
                let old = oracle.current(key);
                if old.iter().all(|version| version.content.is_none()) {
                    let story = format!("key {key}: a touch found a record where there is none");
                    return Err(Violation::new(3, "ZOMBIE", story));
                }
                let contents = self.contents(&old, key, None, host)?;
                made.push((key, oracle.accept(key, Kind::Touch, &contents, mono_ms)));
            }
            Verb::Update | Verb::UpdateMany => {
                let now_ms = host.now_ms();
                for (&key, decision) in op.keys.iter().zip(&decisions) {
                    oracle.check_live(key, &decision.found, oracle.last_id(), now_ms, now_ms)?;
                    let was_there = matches!(decision.found, Seen::Present(_));
                    match decision.choice {
                        Choice::Put(count) => {
                            let of = Some((op.number, count));
                            let contents = self.contents(&oracle.current(key), key, of, host)?;
                            made.push((key, oracle.accept(key, Kind::Put, &contents, mono_ms)));
                        }
                        Choice::Delete if was_there => {
                            made.push((key, oracle.accept(key, Kind::Delete, &[], mono_ms)));
                        }
                        Choice::Delete | Choice::Keep => {}
                    }
                }
            }
            Verb::Get | Verb::Exists | Verb::Scan | Verb::Flush | Verb::Checkpoint => {
                return Err(Violation::new(2, "WRITES", format!("{:?} has written", op.verb)));
            }
        }
        if made.len() > 1 {
            oracle.group(&made);
        }
        Ok(made)
    }

    /// What the engine made of a put of `key` just now, which follows from the version before, and the index confirms.
    /// `value`: number and counter that were written, or those of the version before.
    fn contents(
        &self,
        olds: &[Version],
        key: u32,
        value: Option<(u64, i64)>,
        host: &Host,
    ) -> Result<Vec<Content>, Violation> {
        let now_ms = host.now_ms();
        let known = host.store().peek(&key_of(key));
        let mut expected = Vec::new();
        for old in olds {
            for of in old.contents().map(Some).chain(old.content.is_none().then_some(None)) {
                let is_gone = of.is_none_or(|of| !of.is_alive(now_ms)) || old.has_lapsed;
                self.follow(of, is_gone, value, host, &mut expected);
            }
        }
        let matches = |content: &Content| match known {
            None => !content.is_alive(now_ms),
            Some(known) => {
                let (end, ends) = (content.expires_ms, known.expires_at.map_or(0, |at| at.0));
                // The index rounds up to the second.
                let rounds = (end == 0) == (ends == 0) && ends >= end && ends < end + 1000;
                known.generation == content.generation && rounds
            }
        };
        let mut found: Vec<Content> = expected.iter().filter(|content| matches(content)).copied().collect();
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            let story = format!(
                "key {key} at {now_ms}: after {:?} the index says {known:?}; expected one of {expected:?}; it was {olds:?}",
                self.op.verb
            );
            return Err(Violation::new(6, "GENERATION", story));
        }
        Ok(found)
    }

    /// What may follow a version that held this.
    fn follow(
        &self,
        of: Option<&Content>,
        is_gone: bool,
        value: Option<(u64, i64)>,
        host: &Host,
        into: &mut Vec<Content>,
    ) {
        let now_ms = host.now_ms();
        let Some((number, count)) = value.or(of.map(|of| (of.number, of.count))) else { return };
        let next = |of: &Content| if of.generation == u16::MAX { 1 } else { of.generation + 1 };
        // By the index a record ends with its second, by itself to the millisecond: both know it in between.
        let was_there = of.filter(|c| c.expires_ms == 0 || c.expires_ms.next_multiple_of(1000) > now_ms);
        let generations = was_there.map(next).into_iter().chain(is_gone.then_some(1));
        let default_ms = match host.world.config.default_ttl {
            Some(ttl) => now_ms + ttl.as_millis() as u64,
            None => 0,
        };
        let ends = match self.op.policy.ttl {
            Ttl::Never => vec![0],
            Ttl::Default => vec![default_ms],
            Ttl::For(ttl) => vec![now_ms + ttl.as_millis() as u64],
            Ttl::At(at) => vec![at.0],
            Ttl::Keep => {
                let kept = of.filter(|of| of.is_alive(now_ms)).map(|of| of.expires_ms);
                kept.into_iter().chain(is_gone.then_some(default_ms)).collect()
            }
        };
        for generation in generations {
            let content =
                |&expires_ms: &u64| Content { number, count, generation, updated_ms: now_ms, expires_ms };
            into.extend(ends.iter().map(content));
        }
    }

    fn answered(
        &self,
        answer: &Answer,
        oracle: &mut Oracle,
        host: &Host,
        default: Durability,
    ) -> Result<(), Violation> {
        let (key, now_ms) = (self.op.keys[0], host.now_ms());
        let live = |key: u32, seen: &Seen| {
            oracle.check_live(key, seen, self.started_id, self.least_ms, self.most_ms)
        };
        match answer {
            Answer::Read(seen) => live(key, seen)?,
            Answer::Known(known) => {
                let of = oracle.current(key);
                let is_there = known.is_some();
                let is_right = |of: &Version| match known {
                    Some(known) => of.contents().any(|c| c.generation == known.generation),
                    None => of.may_be_gone(self.most_ms),
                };
                // One that waited for the device may tell of any version since.
                if !of.iter().any(is_right) && of.iter().all(|of| of.id <= self.started_id) {
                    let story = format!("key {key} at {now_ms}: exists says {is_there}, it is {of:?}");
                    return Err(Violation::new(1, "EXISTS", story));
                }
            }
            Answer::Walked(found) => {
                for (key, seen) in found {
                    let Some(key) = key else { continue };
                    live(*key, seen)?;
                }
            }
            Answer::Was(was) => {
                let is_changed = self.applied.as_ref().is_some_and(|made| !made.is_empty());
                if *was != is_changed {
                    let story =
                        format!("key {key}: {:?} says {was}, and has written {is_changed}", self.op.verb);
                    return Err(Violation::new(1, "ANSWER", story));
                }
                let of = oracle.current(key);
                if !was && !of.iter().any(|of| of.may_be_gone(self.most_ms)) {
                    let story = format!("key {key}: {:?} found nothing, it is {of:?}", self.op.verb);
                    return Err(Violation::new(1, "LOST", story));
                }
            }
            Answer::Done => {}
        }
        if self.op.verb == Verb::Flush {
            oracle.promise(&self.covers);
        }
        let asked = if self.op.verb == Verb::Truncate { None } else { self.op.policy.durability };
        if let Some(made) = self.applied.as_ref().filter(|_| asked.unwrap_or(default) == Durability::Group) {
            oracle.promise(made);
        }
        Ok(())
    }

    fn refused(
        &self,
        error: &Error,
        oracle: &Oracle,
        host: &Host,
        excuses: Excuses,
    ) -> Result<(), Violation> {
        let (key, now_ms) = (self.op.keys[0], host.now_ms());
        let old = oracle.current(key);
        let may_be_gone = old.iter().any(|old| old.may_be_gone(now_ms));
        let is_right = match error {
            Error::NoSpace { .. } | Error::TooLarge { .. } => self.applied.is_none(),
            Error::Exists => {
                self.op.policy.exists == Exists::CreateOnly && old.iter().any(|old| old.content.is_some())
            }
            Error::NotFound => self.op.policy.exists == Exists::UpdateOnly && may_be_gone,
            Error::Generation { found } => {
                let is_of_it = old.iter().flat_map(Version::contents).any(|of| of.generation == *found);
                self.op.policy.generation != Generation::Any && (is_of_it || (*found == 0 && may_be_gone))
            }
            Error::DeviceFailed { .. } => excuses.writes_fail,
            Error::Device(_) => excuses.reads_fail,
            Error::Corrupt { .. } => excuses.is_damaged,
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        let story = format!("key {key} at {now_ms}: {:?} is refused: {error}; it is {old:?}", self.op.verb);
        Err(Violation::new(2, "REFUSED", story))
    }
}
