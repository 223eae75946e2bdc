//! What a namespace should hold: a map, with all that each key ever was.

use crate::World;
use aerolith_engine::{Clock, Error, Key, Ttl, Value, WritePolicy};
use std::collections::HashMap;
use std::time::Duration;

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// What the value is made of; none: deleted.
    pub value: Option<u64>,
    /// When it expires, in milliseconds since the Unix epoch; 0 = never.
    pub expires_ms: u64,
}

/// The history of every key, oldest first, and up to where it is durable.
#[derive(Clone, Default)]
pub struct Model {
    history: HashMap<u32, Vec<Version>>,
    durable: HashMap<u32, usize>,
    /// Versions that were written as one step.
    groups: Vec<Vec<(u32, usize)>>,
}

/// The bytes of a value: they name key and number, so that no other value can be taken for it.
pub fn bytes_of(key: u32, value: u64) -> Vec<u8> {
    let size = 16 + (value % 7) as usize * 90;
    let mut bytes: Vec<u8> = (0..size).map(|i| (value as usize + i) as u8).collect();
    bytes[..4].copy_from_slice(&key.to_le_bytes());
    bytes[4..12].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// The number that a value's bytes name.
pub fn value_of(key: u32, bytes: &[u8]) -> u64 {
    let value = u64::from_le_bytes(bytes[4..12].try_into().expect("12 bytes"));
    assert_eq!(bytes, bytes_of(key, value), "the bytes of key {key} are no version of it");
    value
}

impl Model {
    /// Puts a version into store and model.
    pub fn put(&mut self, world: &mut World, key: u32, value: u64, ttl_ms: Option<u64>) {
        let now_ms = world.clock.now().0;
        let ttl = ttl_ms.map_or(Ttl::Never, |ms| Ttl::For(Duration::from_millis(ms)));
        let bytes = bytes_of(key, value);
        let policy = WritePolicy::with_ttl(ttl);
        let store = world.namespace();
        let (key_of, bins) = (key_of(key), [("v", Value::Bytes(&bytes))]);
        let put = world.run(store.put(&key_of, &bins, &policy)).expect("a put");
        // The put may have waited; the clock moves meanwhile.
        let waited = world.clock.now().0 - now_ms;
        let expires_ms = put.expires_at.map_or(0, |_| now_ms + waited + ttl_ms.unwrap_or(0));
        self.note(key, Version { value: Some(value), expires_ms });
    }

    /// Notes a version that the store has. Returns how many the key has had.
    pub fn note(&mut self, key: u32, version: Version) -> usize {
        let versions = self.history.entry(key).or_default();
        versions.push(version);
        versions.len()
    }

    /// Notes that `keys` got the same value, for good, as one step.
    pub fn note_group(&mut self, keys: &[u32], value: u64) -> Vec<(u32, usize)> {
        let version = Version { value: Some(value), expires_ms: 0 };
        let group: Vec<_> = keys.iter().map(|&key| (key, self.note(key, version))).collect();
        self.groups.push(group.clone());
        group
    }

    /// The first `count` versions of a key are acknowledged as durable: none older may come back.
    pub fn durable(&mut self, key: u32, count: usize) {
        let durable = self.durable.entry(key).or_default();
        *durable = count.max(*durable);
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.history.len()
    }

    /// Deletes from store and model.
    pub fn delete(&mut self, world: &mut World, key: u32) {
        let store = world.namespace();
        let there = world.run(store.delete(&key_of(key), &WritePolicy::default())).expect("a delete");
        if there {
            self.note(key, Version { value: None, expires_ms: 0 });
        }
    }

    /// All keys have lost their records.
    pub fn truncate(&mut self) {
        for versions in self.history.values_mut() {
            versions.push(Version { value: None, expires_ms: 0 });
        }
    }

    /// Everything so far is durable.
    pub fn all_durable(&mut self) {
        for (key, versions) in &self.history {
            self.durable.insert(*key, versions.len());
        }
    }

    /// The value that `key` should have now, by its newest version.
    pub fn current(&self, key: u32, now_ms: u64) -> Option<u64> {
        visible(*self.history.get(&key)?.last()?, now_ms)
    }

    /// Compares every key with the store: exactly the newest version.
    pub fn check(&self, world: &mut World, context: &str) {
        let now_ms = world.clock.now().0;
        let mut there = 0;
        for &key in self.history.keys() {
            let expected = self.current(key, now_ms);
            there += u64::from(expected.is_some());
            assert_eq!(read(world, key), expected, "{context}: key {key}: {:?}", self.history[&key]);
        }
        let counted = world.namespace().count("keys");
        assert!(counted >= there, "{context}: {counted} of {there} are counted");
    }

    /// Compares every key with a store that has been through a crash: no durable version may be lost, and
    /// what is there is one of the later ones. From now on that is what each key is.
    pub fn check_after_crash(&mut self, world: &mut World, context: &str) {
        let now_ms = world.clock.now().0;
        for (&key, versions) in &mut self.history {
            let found = try_read(world, key).unwrap_or_else(|error| panic!("{context}: key {key}: {error}"));
            let durable = self.durable.get(&key).copied().unwrap_or(0);
            let possible = durable.saturating_sub(1)..versions.len();
            let at = possible.rev().find(|&i| visible(versions[i], now_ms) == found);
            let unborn = durable == 0 && found.is_none();
            assert!(
                at.is_some() || unborn,
                "{context}: key {key} has {found:?}, durable are {durable} of {versions:?}"
            );
            versions.truncate(at.map_or(0, |at| at + 1));
        }
        for group in &self.groups {
            let count = |key: &u32| self.history.get(key).map_or(0, Vec::len);
            let is_there = group.iter().any(|(key, at)| count(key) == *at);
            let is_whole = group.iter().all(|(key, at)| count(key) >= *at);
            assert!(!is_there || is_whole, "{context}: the group {group:?} is torn");
        }
        self.groups.clear();
        self.history.retain(|_, versions| !versions.is_empty());
        self.all_durable();
    }
}

fn visible(version: Version, now_ms: u64) -> Option<u64> {
    version.value.filter(|_| version.expires_ms == 0 || version.expires_ms > now_ms)
}

/// The record of a key.
pub fn key_of(key: u32) -> Key<'static> {
    Key::new("keys", key).expect("a number is a key")
}

/// The value that the store has for `key`.
pub fn read(world: &mut World, key: u32) -> Option<u64> {
    try_read(world, key).unwrap_or_else(|error| panic!("key {key}: {error}"))
}

/// The value that the store has for `key`, or why it cannot be read.
pub fn try_read(world: &mut World, key: u32) -> Result<Option<u64>, Error> {
    let store = world.namespace();
    let Some(record) = world.run(store.get(&key_of(key)))? else { return Ok(None) };
    let value = record.bin("v").and_then(|value| value.as_bytes()).expect("the bin is there");
    Ok(Some(value_of(key, value)))
}

/// Whether an error says that there is no space.
pub fn is_full(error: &Error) -> bool {
    matches!(error, Error::NoSpace { .. })
}
