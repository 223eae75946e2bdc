//! A map in RAM that stands in for the engine until it is connected; then this file goes.

use crate::store::*;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

const SHARDS: usize = 1024;

#[derive(Debug)]
enum Owned {
    Integer(i64),
    Text(Box<[u8]>),
    Other(&'static str),
}

/// A stored value.
#[derive(Debug)]
pub struct Stored {
    value: Arc<Owned>,
    expires_at_ms: Option<u64>,
}

impl Stored {
    pub(crate) fn value(&self) -> Value<'_> {
        match &*self.value {
            Owned::Integer(number) => Value::Integer(*number),
            Owned::Text(bytes) => Value::Text(bytes),
            Owned::Other(kind) => Value::Other(kind),
        }
    }

    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        self.expires_at_ms
    }
}

type Shard = HashMap<Box<[u8]>, Arc<Stored>>;

#[derive(Debug)]
pub(crate) struct Mock {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    expired: AtomicU64,
    data_file: String,
}

fn now_ms() -> u64 {
    crate::clock::unix_ms()
}

impl Mock {
    pub(crate) fn new(config: &StoreConfig) -> Mock {
        Mock {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            expired: AtomicU64::new(0),
            data_file: config.data_dir.display().to_string(),
        }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        let mut shard = self.shards[at].lock().unwrap();
        if shard.get(key).is_some_and(|r| r.expires_at_ms.is_some_and(|ms| ms <= now_ms())) {
            shard.remove(key);
            self.expired.fetch_add(1, Relaxed);
        }
        shard
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Record> {
        self.shard(key).get(key).cloned().map(Record)
    }

    /// Keys that begin with `slow:` answer after as many turns of the loop as the next byte says.
    pub(crate) fn begin_get(&self, key: &[u8]) -> Get {
        let found = self.get(key);
        match key.strip_prefix(b"slow:") {
            None => Get::Ready(Ok(found)),
            Some(rest) => {
                let turns = rest.first().map_or(1, |byte| byte % 8);
                Get::Pending(Box::pin(async move {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                    Ok(found)
                }))
            }
        }
    }

    pub(crate) fn put(&self, key: &[u8], value: NewValue<'_>, expiry: Expiry, condition: Condition) -> bool {
        let mut shard = self.shard(key);
        let holds = match condition {
            Condition::Any => true,
            Condition::IfAbsent => !shard.contains_key(key),
            Condition::IfPresent => shard.contains_key(key),
        };
        if holds {
            apply(&mut shard, key, Outcome::Put(value, expiry));
        }
        holds
    }

    pub(crate) fn delete(&self, key: &[u8]) -> bool {
        self.shard(key).remove(key).is_some()
    }

    pub(crate) fn update<'a, T>(
        &self,
        key: &[u8],
        change: impl FnOnce(Option<&Record>) -> (Outcome<'a>, T),
    ) -> T {
        let mut shard = self.shard(key);
        let old = shard.get(key).cloned().map(Record);
        let (outcome, told) = change(old.as_ref());
        apply(&mut shard, key, outcome);
        told
    }

    pub(crate) fn update_many<'a, T>(
        &self,
        keys: &[&[u8]],
        change: impl FnOnce(&[Option<Record>]) -> (Vec<Outcome<'a>>, T),
    ) -> T {
        let old: Vec<_> = keys.iter().map(|key| self.get(key)).collect();
        let (outcomes, told) = change(&old);
        for (key, outcome) in keys.iter().zip(outcomes) {
            apply(&mut self.shard(key), key, outcome);
        }
        told
    }

    pub(crate) fn scan(&self, cursor: u64, limit: usize) -> ScanPage {
        let mut at = cursor as usize % SHARDS;
        let mut keys = Vec::new();
        while at < SHARDS && keys.len() < limit.max(1) {
            for (key, stored) in self.shards[at].lock().unwrap().iter() {
                if stored.expires_at_ms.is_none_or(|ms| ms > now_ms()) {
                    let kind = match *stored.value {
                        Owned::Other(kind) => kind,
                        _ => "string",
                    };
                    keys.push((key.to_vec(), kind));
                }
            }
            at += 1;
        }
        ScanPage { keys, next: if at == SHARDS { 0 } else { at as u64 } }
    }

    pub(crate) fn count(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().unwrap().len() as u64).sum()
    }

    pub(crate) fn truncate(&self) {
        for shard in &self.shards {
            shard.lock().unwrap().clear();
        }
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let expires = |shard: &Mutex<Shard>| {
            shard.lock().unwrap().values().filter(|r| r.expires_at_ms.is_some()).count() as u64
        };
        StoreStats {
            keys: self.count(),
            expires: self.shards.iter().map(expires).sum(),
            expired: self.expired.load(Relaxed),
            evicted: 0,
            memory: 0,
            details: vec![("data_file", self.data_file.clone())],
        }
    }

    pub(crate) fn put_other(&self, key: &[u8], kind: &'static str) {
        let stored = Stored { value: Arc::new(Owned::Other(kind)), expires_at_ms: None };
        self.shard(key).insert(key.into(), Arc::new(stored));
    }
}

fn apply(shard: &mut Shard, key: &[u8], outcome: Outcome<'_>) {
    let old = shard.get(key);
    let until = |expiry| match expiry {
        Expiry::Never => None,
        Expiry::Keep => old.and_then(|r| r.expires_at_ms),
        Expiry::At(ms) => Some(ms),
    };
    let stored = match outcome {
        Outcome::Keep => return,
        Outcome::Delete => {
            shard.remove(key);
            return;
        }
        Outcome::Touch(expiry) => match old {
            None => return,
            Some(old) => Stored { value: old.value.clone(), expires_at_ms: until(expiry) },
        },
        Outcome::Put(value, expiry) => {
            let owned = match value.encoded() {
                Encoded::Integer(number) => Owned::Integer(number),
                Encoded::String(string) => Owned::Text(string.as_bytes().into()),
                Encoded::Bytes(bytes) => Owned::Text(bytes.into()),
            };
            Stored { value: Arc::new(owned), expires_at_ms: until(expiry) }
        }
    };
    match shard.get_mut(key) {
        Some(place) => *place = Arc::new(stored),
        None => {
            shard.insert(key.into(), Arc::new(stored));
        }
    }
}
