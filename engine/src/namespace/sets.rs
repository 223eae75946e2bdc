//! The sets of a namespace: names, small numbers for the index, counts, and what a truncation left.
//!
//! A set's number exists only while the engine runs: each record carries the set's name, so nothing has to
//! be recovered before records can be. Number 0 is the null set.
//!
//! A truncation is a threshold by sequence number, kept as a system record. While the engine runs, one bit
//! stands for it: each set has a parity, each entry carries the parity that its set had when it was written,
//! and truncation flips the set's. An entry with the other parity is gone, though a sweep takes it
//! out of the index only later. The next truncation of a set waits for that sweep, since a second flip
//! would bring them back.

use crate::error::{Error, Result};
use crate::index::{Entry, Flags};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Sets per namespace, the null set included: 12 bits in the index.
const LIMIT: usize = 4096;

/// One set.
pub struct Set {
    /// Its number.
    pub id: u16,
    /// Its name; empty for the null set.
    pub name: Box<str>,
    parity: AtomicBool,
    /// Records that are there: expired ones count until a sweep has met them.
    objects: AtomicI64,
    /// Records with a time to live among them.
    expiring: AtomicI64,
    /// Versions with a lower sequence number than this are gone.
    truncated_below: AtomicU64,
}

impl Set {
    fn new(id: u16, name: &str) -> Self {
        Set {
            id,
            name: name.into(),
            parity: AtomicBool::new(false),
            objects: AtomicI64::new(0),
            expiring: AtomicI64::new(0),
            truncated_below: AtomicU64::new(0),
        }
    }

    /// The flag that entries of this set carry now.
    pub fn parity(&self) -> Flags {
        if self.parity.load(Ordering::Acquire) { Flags::PARITY } else { Flags::NONE }
    }

    /// How many records the set has.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed).max(0) as u64
    }

    /// How many of them have a time to live.
    pub fn expiring(&self) -> u64 {
        self.expiring.load(Ordering::Relaxed).max(0) as u64
    }

    /// Counts one record in (`1`) or out (`-1`).
    pub fn count(&self, by: i64, expires: bool) {
        self.objects.fetch_add(by, Ordering::Relaxed);
        if expires {
            self.expiring.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Counts many records in at once, and the expiring ones among them.
    pub fn count_many(&self, objects: i64, expiring: i64) {
        self.objects.fetch_add(objects, Ordering::Relaxed);
        self.expiring.fetch_add(expiring, Ordering::Relaxed);
    }

    /// Everything below `sequence` is gone. The caller holds all partition locks.
    pub fn truncate(&self, sequence: u64) {
        self.parity.fetch_xor(true, Ordering::AcqRel);
        self.objects.store(0, Ordering::Relaxed);
        self.expiring.store(0, Ordering::Relaxed);
        self.recover_threshold(sequence);
    }

    /// A threshold found at start-up.
    pub fn recover_threshold(&self, sequence: u64) {
        self.truncated_below.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Versions with a lower sequence number are gone.
    pub fn truncated_below(&self) -> u64 {
        self.truncated_below.load(Ordering::Acquire)
    }
}

#[derive(Default)]
struct Names {
    by_id: Vec<Arc<Set>>,
    by_name: HashMap<Box<str>, Arc<Set>>,
}

/// All sets of a namespace.
pub struct Sets {
    namespace: Box<str>,
    names: RwLock<Names>,
}

impl Sets {
    /// The null set only.
    pub fn new(namespace: &str) -> Self {
        let sets = Sets { namespace: namespace.into(), names: RwLock::default() };
        sets.named("").expect("the first set always fits");
        sets
    }

    /// The set called `name`, new if need be.
    pub fn named(&self, name: &str) -> Result<Arc<Set>> {
        if let Some(set) = self.find(name) {
            return Ok(set);
        }
        let mut names = self.names.write();
        if let Some(set) = names.by_name.get(name) {
            return Ok(set.clone());
        }
        if names.by_id.len() == LIMIT {
            let namespace = self.namespace.to_string();
            return Err(Error::TooManySets { namespace, set: name.to_owned(), limit: LIMIT });
        }
        let set = Arc::new(Set::new(names.by_id.len() as u16, name));
        names.by_id.push(set.clone());
        names.by_name.insert(name.into(), set.clone());
        Ok(set)
    }

    /// The set called `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<Arc<Set>> {
        self.names.read().by_name.get(name).cloned()
    }

    /// All sets.
    pub fn all(&self) -> Vec<Arc<Set>> {
        self.names.read().by_id.clone()
    }

    /// The set with this number.
    pub fn get(&self, id: u16) -> Option<Arc<Set>> {
        self.names.read().by_id.get(usize::from(id)).cloned()
    }

    /// Whether a truncation has taken this entry's record away.
    pub fn is_truncated(&self, entry: &Entry) -> bool {
        if entry.flags().contains(Flags::SYSTEM) {
            return false;
        }
        let names = self.names.read();
        let Some(set) = names.by_id.get(usize::from(entry.set_id())) else { return false };
        entry.flags().contains(Flags::PARITY) != set.parity.load(Ordering::Acquire)
    }
}
