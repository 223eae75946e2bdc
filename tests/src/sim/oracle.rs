//! What the engine may answer: for each key a chain of versions, and the newest of them that may not be lost.
//!
//! Versions enter a chain in the order in which the engine applied them. The *floor* is the newest version that was
//! promised: acknowledged as durable, covered by a `flush()` that returned, older than `flush_max` on devices that keep
//! up, or read after a recovery (what somebody has seen is a promise too). After a crash a key may be at its floor or
//! at any later version; which one is then seen becomes the floor, and what was later is excluded for good. A write
//! whose outcome nobody knows simply stays in the chain: it is possible until something newer is seen or promised.
//!
//! | rule | broken by |
//! |---|---|
//! | R1 durability | an older version than the floor, or nothing where the floor is alive |
//! | R2 authenticity | bytes that are no version of the key, or an error where nothing was damaged |
//! | R3 no zombie | an older version where the floor was deleted |
//! | R4 no ghost | a version that an earlier reading excluded; a group in part |
//! | R5 expiry | a record past its end, or an older one where the floor has expired |
//! | R6 generation | another generation or last-update time than the version had; a step other than one |
//! | R7 truncation | a record that a truncation removed |
//! | R8 accounts | scan, counts and reads that differ; books that are wrong |

use super::version::{Content, Kind, Seen, Version, set_of};
use std::collections::BTreeMap;

/// What the oracle objects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// R1 to R12.
    pub rule: u8,
    /// What kind of loss: `LOST`, `STALE`, `ZOMBIE` and so on.
    pub name: &'static str,
    /// All that is known.
    pub story: String,
}

impl Violation {
    /// A violation of a rule.
    pub fn new(rule: u8, name: &'static str, story: impl Into<String>) -> Self {
        Violation { rule, name, story: story.into() }
    }
}

impl Violation {
    /// The same, and where it was met.
    pub fn within(mut self, what: &str) -> Self {
        self.story = format!("{what}: {}", self.story);
        self
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "R{} {}: {}", self.rule, self.name, self.story)
    }
}

/// How many versions below the floor, and excluded ones, are remembered for explanations.
const REMEMBERED: usize = 24;

/// What is known of one key.
#[derive(Clone, Debug)]
pub struct Chain {
    versions: Vec<Version>,
    /// Which of `versions` may not be lost.
    floor: usize,
    /// Which of them the last crash may have left, if that could not be seen: first and last.
    doubt: (usize, usize),
    excluded: Vec<Version>,
}

impl Default for Chain {
    fn default() -> Self {
        let unborn = Version {
            id: 0,
            kind: Kind::Unborn,
            content: None,
            others: [None; 2],
            accepted_ms: 0,
            has_lapsed: false,
        };
        Chain { versions: vec![unborn], floor: 0, doubt: (0, 0), excluded: Vec::new() }
    }
}

impl Chain {
    /// The last version.
    pub fn newest(&self) -> &Version {
        &self.versions[self.versions.len() - 1]
    }

    /// What the key is now, as long as the engine lives: the last version, or one of those that the crash left in doubt.
    pub fn current(&self) -> &[Version] {
        &self.versions[self.undoubted(self.versions.len() - 1)..]
    }

    /// The first version that could be there where `at` is said to be.
    fn undoubted(&self, at: usize) -> usize {
        let (first, last) = self.doubt;
        if (first..=last).contains(&at) { first } else { at }
    }

    /// Versions that a crash may leave.
    pub fn possible(&self) -> &[Version] {
        &self.versions[self.floor..]
    }

    fn at(&self, id: u64) -> Option<usize> {
        self.versions.binary_search_by_key(&id, |version| version.id).ok()
    }

    /// No version older than `id` may come back.
    fn promise(&mut self, id: u64) {
        if let Some(at) = self.at(id) {
            self.floor = self.floor.max(self.undoubted(at));
        }
        if self.floor > REMEMBERED {
            let spare = self.floor - REMEMBERED / 2;
            self.versions.drain(..spare);
            self.floor -= spare;
            self.doubt = (self.doubt.0.saturating_sub(spare), self.doubt.1.saturating_sub(spare));
        }
    }

    fn story(&self, key: u32, seen: &Seen, now_ms: u64) -> String {
        let versions: Vec<String> = self.versions.iter().map(tell).collect();
        let excluded: Vec<String> = self.excluded.iter().rev().take(6).map(tell).collect();
        format!(
            "key {key} at {now_ms}: saw {seen:?}; floor is {}; chain: {}; excluded: {}",
            tell(&self.versions[self.floor]),
            versions.join(" -> "),
            excluded.join(", ")
        )
    }

    /// Why `seen` is not allowed.
    fn objection(&self, key: u32, seen: &Seen, now_ms: u64) -> Violation {
        let floor = self.versions[self.floor];
        let same = |version: &&Version, content: &Content| {
            version.contents().any(|of| of.number == content.number && of.generation == content.generation)
        };
        let (rule, name) = match seen {
            Seen::Garbage(_) => (2, "GARBAGE"),
            Seen::Refused(_) => (2, "REFUSED"),
            Seen::Absent => (1, "LOST"),
            Seen::Present(content) if content.expires_ms != 0 && content.expires_ms <= now_ms => {
                (5, "EXPIRED")
            }
            Seen::Present(content) => {
                let older = self.versions[..self.floor].iter().any(|version| same(&version, content));
                let excluded = self.excluded.iter().any(|version| same(&version, content));
                match floor.kind {
                    _ if excluded && !older => (4, "GHOST"),
                    _ if !older => (6, "GENERATION"),
                    Kind::Delete => (3, "ZOMBIE"),
                    Kind::Truncate => (7, "TRUNCATED"),
                    Kind::Unborn | Kind::Put | Kind::Touch if floor.is_alive(now_ms) => (1, "STALE"),
                    Kind::Unborn | Kind::Put | Kind::Touch => (5, "UNMASKED"),
                }
            }
        };
        Violation::new(rule, name, self.story(key, seen, now_ms))
    }
}

fn tell(version: &Version) -> String {
    let lapsed = if version.has_lapsed { " lapsed" } else { "" };
    match version.content {
        Some(c) => format!(
            "[{} {:?} #{} gen {} updated {} expires {}{lapsed}]",
            version.id, version.kind, c.number, c.generation, c.updated_ms, c.expires_ms
        ),
        None => format!("[{} {:?}]", version.id, version.kind),
    }
}

/// The oracle of one life.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    chains: BTreeMap<u32, Chain>,
    /// Versions that were written as one step, by id.
    groups: Vec<Vec<(u32, u64)>>,
    next_id: u64,
    /// Versions that were promised, over the whole life.
    pub promised: u64,
    /// Versions accepted.
    pub accepted: u64,
}

impl Oracle {
    /// The chain of a key.
    pub fn chain(&mut self, key: u32) -> &mut Chain {
        self.chains.entry(key).or_default()
    }

    /// Every key that was ever written.
    pub fn keys(&self) -> impl Iterator<Item = u32> + '_ {
        self.chains.keys().copied()
    }

    /// What `key` is now: one of these.
    pub fn current(&self, key: u32) -> Vec<Version> {
        self.chains.get(&key).map_or_else(|| Chain::default().versions, |chain| chain.current().to_vec())
    }

    /// The engine has applied a version, and it holds one of these contents. Returns its id.
    pub fn accept(&mut self, key: u32, kind: Kind, contents: &[Content], mono_ms: u64) -> u64 {
        self.next_id += 1;
        self.accepted += 1;
        let id = self.next_id;
        let at = |i: usize| contents.get(i).copied();
        let (content, others) = (at(0), [at(1), at(2)]);
        let version = Version { id, kind, content, others, accepted_ms: mono_ms, has_lapsed: false };
        self.chain(key).versions.push(version);
        id
    }

    /// The engine has applied these as one step.
    pub fn group(&mut self, members: &[(u32, u64)]) {
        self.groups.push(members.to_vec());
    }

    /// A set, or all, is empty from now on. Returns the versions that say so.
    pub fn truncate(&mut self, set: Option<&str>, mono_ms: u64) -> Vec<(u32, u64)> {
        let keys: Vec<u32> = self.keys().filter(|&key| set.is_none_or(|set| set_of(key) == set)).collect();
        let members: Vec<_> =
            keys.into_iter().map(|key| (key, self.accept(key, Kind::Truncate, &[], mono_ms))).collect();
        self.groups.push(members.clone());
        members
    }

    /// A durable acknowledgement reached the client.
    pub fn promise(&mut self, members: &[(u32, u64)]) {
        for &(key, id) in members {
            self.promised += 1;
            self.chain(key).promise(id);
        }
    }

    /// The last version of each key: for a later `promise`.
    pub fn everything(&self) -> Vec<(u32, u64)> {
        self.chains.iter().map(|(&key, chain)| (key, chain.newest().id)).collect()
    }

    /// Everything accepted until `mono_ms` is promised: devices keep up, and this long ago was long enough.
    pub fn promise_until(&mut self, mono_ms: u64) {
        for chain in self.chains.values_mut() {
            let old = chain.versions.iter().rev().find(|version| version.accepted_ms <= mono_ms);
            if let Some(id) = old.map(|version| version.id) {
                chain.promise(id);
            }
        }
    }

    /// The wall clock is about to be set back from `now_ms`: what has expired by now may come back or not.
    pub fn lapse(&mut self, now_ms: u64) {
        for version in self.chains.values_mut().flat_map(|chain| &mut chain.versions) {
            let is_over = version.contents().any(|content| !content.is_alive(now_ms));
            version.has_lapsed |= is_over;
        }
    }

    /// All that is known of a key.
    pub fn tell(&self, key: u32, seen: &Seen, now_ms: u64) -> String {
        self.chains.get(&key).map_or_else(String::new, |chain| chain.story(key, seen, now_ms))
    }

    /// Whether `key` may be there or not, because the wall clock was set back below an end that had passed.
    pub fn has_lapsed(&self, key: u32) -> bool {
        self.chains.get(&key).is_some_and(|chain| chain.versions.iter().any(|version| version.has_lapsed))
    }

    /// The id of the version that was accepted last.
    pub fn last_id(&self) -> u64 {
        self.next_id
    }

    /// Checks a reading while the engine lives. It began at `then_ms`, when `started` was the last version of all.
    pub fn check_live(
        &self,
        key: u32,
        seen: &Seen,
        started: u64,
        then_ms: u64,
        now_ms: u64,
    ) -> Result<(), Violation> {
        let unborn = Chain::default();
        let chain = self.chains.get(&key).unwrap_or(&unborn);
        let first = chain.versions.iter().rposition(|version| version.id <= started).unwrap_or(0);
        let first = chain.undoubted(first);
        // The clock may have passed a void-time while the reading was under way.
        let fits = |version: &Version| version.allows(seen, then_ms) || version.allows(seen, now_ms);
        if chain.versions[first..].iter().any(fits) {
            Ok(())
        } else {
            Err(chain.objection(key, seen, now_ms))
        }
    }

    /// Checks what was read of every key after a recovery, and takes it as the truth from then on.
    pub fn recover(&mut self, found: &BTreeMap<u32, Seen>, now_ms: u64) -> Result<(), Violation> {
        let mut candidates: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut matched = Vec::with_capacity(self.chains.len());
        for (&key, chain) in &self.chains {
            let seen = found.get(&key).unwrap_or(&Seen::Absent);
            let fit = |version: &&Version| version.allows(seen, now_ms);
            let ids = chain.possible().iter().filter(fit).map(|version| version.id);
            let (Some(first), Some(last)) = (ids.clone().next(), ids.clone().next_back()) else {
                return Err(chain.objection(key, seen, now_ms));
            };
            candidates.insert(key, (first, last));
            // Nothing there may mean that an expired version is the newest, and a wall clock set back shows it again.
            let expired =
                chain.possible().iter().find(|v| *seen == Seen::Absent && v.content.is_some() && fit(v));
            matched.push((key, expired.map(|version| version.id), last));
        }
        for group in &self.groups {
            let of = |key: &u32| candidates.get(key).copied().unwrap_or((0, u64::MAX));
            let is_there = group.iter().find(|(key, id)| of(key) == (*id, *id));
            let is_missing = group.iter().find(|(key, id)| of(key).1 < *id);
            if let (Some((there, _)), Some((missing, _))) = (is_there, is_missing) {
                let tell =
                    |key: &u32| self.chains[key].story(*key, found.get(key).unwrap_or(&Seen::Absent), now_ms);
                let story = format!("group {group:?}: {}; but {}", tell(there), tell(missing));
                return Err(Violation::new(4, "TORN GROUP", story));
            }
        }
        for (key, expired, last) in matched {
            let chain = self.chain(key);
            let id = expired.unwrap_or(last);
            let at = chain.at(id).unwrap_or(0);
            let (kept, gone): (Vec<_>, Vec<_>) =
                chain.versions.split_off(at + 1).into_iter().partition(|version| {
                    expired.is_some() && version.content.is_some() && version.allows(&Seen::Absent, now_ms)
                });
            chain.versions.extend(kept);
            chain.doubt = (at, chain.versions.len() - 1);
            chain.excluded.extend(gone.into_iter().filter(|version| version.content.is_some()));
            let spare = chain.excluded.len().saturating_sub(REMEMBERED);
            chain.excluded.drain(..spare);
            chain.promise(id);
        }
        self.groups.clear();
        Ok(())
    }

    /// Groups whose members are all promised cannot be torn any more.
    pub fn forget_settled_groups(&mut self) {
        let chains = &self.chains;
        self.groups.retain(|group| {
            group.iter().any(|(key, id)| chains.get(key).is_some_and(|chain| chain.possible()[0].id < *id))
        });
    }
}
