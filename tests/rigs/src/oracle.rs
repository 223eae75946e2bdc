//! Says what may be there after a power cut, from nothing but what the child told before it.
//!
//! Each key has a base, the state that was last seen or is durable beyond doubt, and the versions that were begun
//! since. A version that was acknowledged durably, and everything that an answered `flush` covers, raises the floor:
//! nothing older may be found. What was begun above the floor may be there or not. What is found becomes the base:
//! an answer from a recovered engine is a promise too, and what it excluded may never come back.
//!
//! | found | is |
//! |---|---|
//! | no bytes of this key and run | wrong bytes |
//! | absent, or an older version, though a put is the floor | lost |
//! | a version, though a delete or an expiry is the floor | zombie |
//! | a version that an earlier look excluded | ghost |
//! | a version whose time was over when it was read | expired |
//! | some members of a group at its version, others older | torn group |
//! | an error | unreadable |
//!
//! A relaxed write that is lost counts in the loss window: how long before the cut it was acknowledged.

use crate::load::{LANE_KEYS, LANES};
use crate::wire::{Message, Tag};
use std::collections::HashMap;

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// An acknowledged version is gone.
    Lost,
    /// Something deleted or expired is back.
    Zombie,
    /// Something excluded earlier is back.
    Ghost,
    /// Bytes that are no version of the key.
    WrongBytes,
    /// A record whose time was over.
    Expired,
    /// A group that is there in part.
    TornGroup,
    /// A key that cannot be read.
    Unreadable,
    /// A live read gave something else than the newest version.
    WrongRead,
    /// The engine's own accounts do not agree.
    Miscounted,
    /// The engine could not be opened on what survived.
    Refused,
    /// A relaxed write was lost that was older than it may be.
    Window,
    /// After a fault the engine did not do what it must: latch, or go on.
    Conduct,
}

/// What a key can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Put { expires_ms: u64 },
}

#[derive(Debug, Clone, Copy)]
struct Version {
    number: u64,
    state: State,
    /// When it was acknowledged (monotonic, ns).
    acknowledged_ns: Option<u64>,
    /// When the first cut after it came (monotonic, ns): a later one cannot have lost what that one left.
    cut_ns: Option<u64>,
}

#[derive(Debug, Clone)]
struct History {
    base: Version,
    /// Begun since, oldest first.
    versions: Vec<Version>,
    /// What was found in this life; none if it was not looked at.
    found: Option<u64>,
}

/// What was counted.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Writes begun.
    pub begun: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Acknowledged durable versions that a recovery was held to: a look at each after a cut.
    pub checked: u64,
    /// Of these, deletes.
    pub checked_deletes: u64,
    /// Keys looked at after a cut.
    pub keys_read: u64,
    /// Live reads that were right.
    pub reads_right: u64,
    /// Live reads that failed.
    pub reads_failed: u64,
    /// Writes that failed.
    pub failed: u64,
    /// Versions above the floor that were not there.
    pub unacknowledged_gone: u64,
    /// The longest time in ns between a relaxed acknowledgement that was lost and its cut.
    pub loss_window_ns: u64,
    /// Relaxed writes lost that had been acknowledged longer before the cut than is aimed at.
    pub long_windows: u64,
}

/// The oracle of one chain.
pub struct Oracle {
    keys: Vec<History>,
    groups: Vec<(u64, Vec<u32>)>,
    /// Keys of the versions under way, by lane and number.
    begun: HashMap<(u16, u64), Vec<u32>>,
    relaxed: bool,
    /// Everything acknowledged before is durable (monotonic, ns).
    flushed_ns: u64,
    /// What was counted, over all chains.
    pub counts: Counts,
    /// What was broken, in words.
    pub broken: Vec<(Broken, String)>,
}

const UNBORN: Version = Version { number: 0, state: State::Absent, acknowledged_ns: Some(0), cut_ns: None };

impl Oracle {
    /// Of a run whose acknowledgements are durable, or `relaxed`.
    pub fn new(relaxed: bool) -> Self {
        let key = History { base: UNBORN, versions: Vec::new(), found: None };
        Oracle {
            keys: vec![key; LANES as usize * LANE_KEYS as usize],
            groups: Vec::new(),
            begun: HashMap::new(),
            relaxed,
            flushed_ns: 0,
            counts: Counts::default(),
            broken: Vec::new(),
        }
    }

    /// A chain begins on an empty disk.
    pub fn restart(&mut self) {
        let fresh = Self::new(self.relaxed);
        let (counts, broken) = (self.counts, std::mem::take(&mut self.broken));
        *self = Oracle { counts, broken, ..fresh };
    }

    /// The power was cut then (monotonic, ns), or the process killed.
    pub fn cut(&mut self, at_ns: u64) {
        self.begun.clear();
        for key in &mut self.keys {
            key.found = None;
            key.versions.iter_mut().for_each(|version| version.cut_ns = version.cut_ns.or(Some(at_ns)));
        }
    }

    fn break_promise(&mut self, broken: Broken, key: u32, what: &str) {
        let history = &self.keys[key as usize];
        let newest: Vec<String> =
            history.versions.iter().rev().take(6).map(|version| format!("{version:?}")).collect();
        let text = format!("key {key}: {what}; base {:?}, newest {}", history.base, newest.join(", "));
        self.broken.push((broken, text));
    }

    /// Takes what the child told.
    pub fn hear(&mut self, message: &Message) {
        let Message { tag, lane, key, a, b, c } = *message;
        if key as usize >= self.keys.len() {
            return;
        }
        match tag {
            Tag::Begin => {
                self.begin(lane, key, a, if c == 1 { State::Absent } else { State::Put { expires_ms: b } })
            }
            Tag::Acknowledged => self.acknowledge(lane, a, b),
            Tag::Failed => {
                self.counts.failed += 1;
                let members = self.begun.remove(&(lane, a)).unwrap_or_default();
                self.groups.extend((members.len() > 1).then_some((a, members)));
            }
            Tag::Flushed => self.flushed_ns = self.flushed_ns.max(a),
            Tag::Found => self.look(key, a, b, c),
            Tag::FoundWrong => self.break_promise(Broken::WrongBytes, key, "the bytes are no version of it"),
            Tag::FoundError => self.break_promise(Broken::Unreadable, key, "cannot be read"),
            Tag::Verified => self.verified(),
            Tag::ReadRight => self.counts.reads_right += 1,
            Tag::ReadFailed => self.counts.reads_failed += 1,
            Tag::ReadWrong if a == u64::MAX => {
                self.break_promise(Broken::WrongBytes, key, "a live read gave bytes that are no version");
            }
            Tag::ReadWrong => {
                self.break_promise(Broken::WrongRead, key, &format!("a live read gave {a} instead of {b}"));
            }
            Tag::Miscounted => self.broken.push((Broken::Miscounted, "the accounts do not agree".into())),
            Tag::Opened | Tag::Latched | Tag::Refused | Tag::Closed => {}
        }
    }

    fn begin(&mut self, lane: u16, key: u32, number: u64, state: State) {
        let members = self.begun.entry((lane, number)).or_default();
        if members.is_empty() {
            self.counts.begun += 1;
        }
        members.push(key);
        self.keys[key as usize].versions.push(Version { number, state, acknowledged_ns: None, cut_ns: None });
    }

    fn acknowledge(&mut self, lane: u16, number: u64, at_ns: u64) {
        self.counts.acknowledged += 1;
        let members = self.begun.remove(&(lane, number)).unwrap_or_default();
        for &key in &members {
            if let Some(version) = self.keys[key as usize].versions.last_mut() {
                version.acknowledged_ns = Some(at_ns);
            }
        }
        if members.len() > 1 {
            self.groups.push((number, members));
        }
    }

    fn is_durable(&self, version: &Version) -> bool {
        version.acknowledged_ns.is_some_and(|at_ns| !self.relaxed || at_ns <= self.flushed_ns)
    }

    /// A recovered engine says that `key` is at version `number`, 0 for absent.
    fn look(&mut self, key: u32, number: u64, before_ms: u64, after_ms: u64) {
        self.counts.keys_read += 1;
        let history = self.keys[key as usize].clone();
        let chain: Vec<Version> = std::iter::once(history.base).chain(history.versions).collect();
        let floor = chain.iter().rposition(|version| self.is_durable(version)).unwrap_or(0);
        if floor > 0 {
            self.counts.checked += 1;
            self.counts.checked_deletes += u64::from(chain[floor].state == State::Absent);
        }
        let is_over = |version: &Version, at_ms: u64| match version.state {
            State::Absent => true,
            State::Put { expires_ms } => expires_ms != 0 && expires_ms <= at_ms,
        };
        let at = match number {
            0 => chain[floor..].iter().rposition(|version| is_over(version, after_ms)),
            _ => chain[floor..].iter().rposition(|version| version.number == number),
        };
        let Some(at) = at.map(|at| at + floor) else {
            let was_known = chain[..floor].iter().any(|version| version.number == number);
            let floor = &chain[floor];
            let (broken, what) = match number {
                0 => (Broken::Lost, format!("is absent, the floor is {floor:?}")),
                _ if !was_known => (Broken::Ghost, format!("is at {number}, which was excluded: {floor:?}")),
                _ if is_over(floor, before_ms) => {
                    (Broken::Zombie, format!("is at {number}, above it {floor:?}"))
                }
                _ => (Broken::Lost, format!("is at {number}, the floor is {floor:?}")),
            };
            self.break_promise(broken, key, &what);
            self.settle(key, number, State::Put { expires_ms: 0 });
            return;
        };
        if number != 0 && is_over(&chain[at], before_ms) {
            self.break_promise(Broken::Expired, key, &format!("is at {number}, whose time was over"));
        }
        let mut late = Vec::new();
        for version in &chain[at + 1..] {
            match (version.acknowledged_ns, version.cut_ns) {
                (Some(at_ns), Some(cut_ns)) => {
                    let window = cut_ns.saturating_sub(at_ns);
                    self.counts.loss_window_ns = self.counts.loss_window_ns.max(window);
                    let aimed_ns = crate::power_cut::AIMED_WINDOW.as_nanos() as u64;
                    self.counts.long_windows += u64::from(window > aimed_ns);
                    if window > crate::power_cut::WINDOW.as_nanos() as u64 {
                        let what = format!("{version:?} was lost {} ms after", window / 1_000_000);
                        late.push(what);
                    }
                }
                _ => self.counts.unacknowledged_gone += 1,
            }
        }
        late.iter().for_each(|what| self.break_promise(Broken::Window, key, what));
        // Of a key that is absent the number says how far its history is known to have come.
        let state = if number == 0 { State::Absent } else { chain[at].state };
        self.settle(key, chain[at].number, state);
    }

    fn settle(&mut self, key: u32, number: u64, state: State) {
        let history = &mut self.keys[key as usize];
        history.base = Version { number, state, acknowledged_ns: Some(0), cut_ns: None };
        history.versions.clear();
        history.found = Some(number);
    }

    /// All keys have been looked at.
    fn verified(&mut self) {
        for (number, members) in std::mem::take(&mut self.groups) {
            let found = |key: &u32| self.keys[*key as usize].found;
            let is_there = members.iter().any(|key| found(key) == Some(number));
            let older = members.iter().find(|key| found(key).is_some_and(|found| found < number));
            if let (true, Some(&key)) = (is_there, older) {
                let what = format!("is older than version {number} of its group {members:?}, which is there");
                self.break_promise(Broken::TornGroup, key, &what);
            }
        }
    }

    /// Groups that were begun and never acknowledged must be whole or absent too: called at the cut.
    pub fn note_open_groups(&mut self) {
        let open = std::mem::take(&mut self.begun);
        self.groups.extend(
            open.into_iter()
                .filter(|(_, members)| members.len() > 1)
                .map(|((_, number), members)| (number, members)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: Tag, key: u32, a: u64, b: u64, c: u64) -> Message {
        Message { tag, lane: 0, key, a, b, c }
    }

    struct Run(Oracle);

    impl Run {
        fn new(relaxed: bool) -> Self {
            Run(Oracle::new(relaxed))
        }
        fn begin(&mut self, key: u32, version: u64, expires_ms: u64) -> &mut Self {
            self.0.hear(&message(Tag::Begin, key, version, expires_ms, 0));
            self
        }
        fn delete(&mut self, key: u32, version: u64) -> &mut Self {
            self.0.hear(&message(Tag::Begin, key, version, 0, 1));
            self
        }
        fn ack(&mut self, version: u64, at_ns: u64) -> &mut Self {
            self.0.hear(&message(Tag::Acknowledged, 0, version, at_ns, 0));
            self
        }
        fn cut(&mut self, at_ns: u64) -> &mut Self {
            self.0.note_open_groups();
            self.0.cut(at_ns);
            self
        }
        /// Looks at wall clock 1000.
        fn found(&mut self, key: u32, version: u64) -> Vec<Broken> {
            self.0.hear(&message(Tag::Found, key, version, 1000, 1000));
            std::mem::take(&mut self.0.broken).into_iter().map(|(broken, _)| broken).collect()
        }
        fn verified(&mut self) -> Vec<Broken> {
            self.0.hear(&message(Tag::Verified, 0, 0, 0, 0));
            std::mem::take(&mut self.0.broken).into_iter().map(|(broken, _)| broken).collect()
        }
    }

    #[test]
    fn an_acknowledged_put_must_be_there_and_a_begun_one_may_be() {
        for (found, broken) in [(0, vec![Broken::Lost]), (1, vec![Broken::Lost]), (2, vec![]), (3, vec![])] {
            let mut run = Run::new(false);
            run.begin(5, 1, 0).ack(1, 10).begin(5, 2, 0).ack(2, 20).begin(5, 3, 0).cut(30);
            assert_eq!(run.found(5, found), broken, "{found}");
            assert_eq!(run.0.counts.checked, 1);
        }
    }

    #[test]
    fn what_was_deleted_or_has_expired_does_not_return() {
        let mut run = Run::new(false);
        run.begin(5, 1, 0).ack(1, 10).delete(5, 2).ack(2, 20).cut(30);
        assert_eq!(run.found(5, 1), [Broken::Zombie]);
        let mut run = Run::new(false);
        run.begin(5, 1, 0).ack(1, 10).begin(5, 2, 900).ack(2, 20).cut(30);
        assert_eq!(run.found(5, 1), [Broken::Zombie]);
        let mut run = Run::new(false);
        run.begin(5, 1, 900).ack(1, 10).cut(30);
        assert_eq!(run.found(5, 1), [Broken::Expired]);
        let mut run = Run::new(false);
        run.begin(5, 1, 900).ack(1, 10).begin(5, 2, 1001).ack(2, 20).cut(30);
        assert_eq!(run.found(5, 0), [Broken::Lost], "its time is not over yet");
    }

    #[test]
    fn a_delete_that_was_only_begun_may_be_there_or_not() {
        for found in [0, 1] {
            let mut run = Run::new(false);
            run.begin(5, 1, 0).ack(1, 10).delete(5, 2).cut(30);
            assert_eq!(run.found(5, found), []);
        }
    }

    #[test]
    fn what_a_look_excluded_never_comes_back() {
        let mut run = Run::new(false);
        run.begin(5, 1, 0).ack(1, 10).begin(5, 2, 0).cut(30);
        assert_eq!(run.found(5, 1), []);
        run.cut(40);
        assert_eq!(run.found(5, 2), [Broken::Ghost]);
        let mut run = Run::new(false);
        run.begin(5, 1, 0).ack(1, 10).begin(5, 2, 0).cut(30);
        assert_eq!(run.found(5, 2), []);
        run.cut(40);
        assert_eq!(run.found(5, 0), [Broken::Lost], "what was seen is a promise");
    }

    #[test]
    fn a_cut_during_the_look_keeps_what_was_not_looked_at() {
        let mut run = Run::new(false);
        run.begin(5, 1, 0).ack(1, 10).cut(30).cut(40);
        assert_eq!(run.found(5, 0), [Broken::Lost]);
    }

    #[test]
    fn relaxed_writes_count_in_the_window_and_a_flush_holds() {
        let mut run = Run::new(true);
        run.begin(5, 1, 0).ack(1, 10).begin(5, 2, 0).ack(2, 70).cut(100);
        assert_eq!(run.found(5, 1), []);
        assert_eq!(run.0.counts.loss_window_ns, 30);
        let mut run = Run::new(true);
        run.begin(5, 1, 0).ack(1, 10).begin(5, 2, 0).ack(2, 70);
        run.0.hear(&message(Tag::Flushed, 0, 50, 0, 0));
        run.cut(100);
        assert_eq!(run.found(5, 0), [Broken::Lost]);
    }

    #[test]
    fn a_group_is_whole_or_not_there() {
        for (first, second, broken) in
            [(1, 2, vec![]), (3, 3, vec![]), (3, 2, vec![Broken::TornGroup]), (1, 3, vec![Broken::TornGroup])]
        {
            let mut run = Run::new(false);
            run.begin(5, 1, 0).ack(1, 10).begin(6, 2, 0).ack(2, 20);
            run.begin(5, 3, 0).begin(6, 3, 0).cut(30);
            assert_eq!(run.found(5, first), []);
            assert_eq!(run.found(6, second), []);
            assert_eq!(run.verified(), broken, "{first} {second}");
        }
    }

    #[test]
    fn a_second_cut_before_the_look_does_not_lengthen_the_window() {
        // Acknowledged 30 ns before the cut that lost it; the power fails again 1 s later, while the file
        // system is being mounted, before anybody has looked.
        let mut run = Run::new(true);
        run.begin(5, 1, 0).ack(1, 70).cut(100).cut(1_000_000_100);
        assert_eq!(run.found(5, 0), []);
        assert_eq!(run.0.counts.loss_window_ns, 30);
    }
}
