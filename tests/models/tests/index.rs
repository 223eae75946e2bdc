//! The index's lookups without a lock: a small model of `index/partition.rs`, by its names.
//!
//! It is not the code itself: the index keeps its words in mapped memory, where shuttle's atomics do not fit. The model has
//! what `Shard::get` and `Partition` do with lock and version. It leaves out tables, arenas and memory orderings
//! (everything is as if sequentially consistent), so the fences of the code are not proved by it.

use aerolith_models::explore;
use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use shuttle::sync::{Mutex, MutexGuard};
use shuttle::thread;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// The version is not looked at again behind the search.
    NoSecondLook,
    /// The version is even again before all words are there.
    EvenTooEarly,
}

struct Shard {
    lock: Mutex<()>,
    version: AtomicU32,
    words: [AtomicU64; 3],
    planted: Planted,
}

struct Partition<'a> {
    shard: &'a Shard,
    changing: bool,
    _lock: MutexGuard<'a, ()>,
}

impl Shard {
    fn search(&self) -> [u64; 3] {
        [0, 1, 2].map(|at| self.words[at].load(SeqCst))
    }

    fn get(&self) -> [u64; 3] {
        let before = self.version.load(SeqCst);
        if before.is_multiple_of(2) {
            let found = self.search();
            if self.version.load(SeqCst) == before || self.planted == Planted::NoSecondLook {
                return found;
            }
        }
        let _lock = self.lock.lock().unwrap();
        self.search()
    }

    fn lock(&self) -> Partition<'_> {
        Partition { shard: self, changing: false, _lock: self.lock.lock().unwrap() }
    }

    fn step(&self) {
        self.version.store(self.version.load(SeqCst).wrapping_add(1), SeqCst);
    }
}

impl Partition<'_> {
    fn insert(&mut self, entry: [u64; 3]) {
        if !self.changing {
            self.changing = true;
            self.shard.step();
        }
        for (at, word) in entry.into_iter().enumerate() {
            if at == 2 && self.shard.planted == Planted::EvenTooEarly {
                self.shard.step();
                self.changing = false;
            }
            self.shard.words[at].store(word, SeqCst);
        }
    }
}

impl Drop for Partition<'_> {
    fn drop(&mut self) {
        if self.changing {
            self.shard.step();
        }
    }
}

/// A writer, and a reader who must see whole entries, and none older than one it has seen.
fn lookups(planted: Planted) {
    let words = [(); 3].map(|()| AtomicU64::new(0));
    let shard = Arc::new(Shard { lock: Mutex::new(()), version: AtomicU32::new(0), words, planted });
    let writer = {
        let shard = shard.clone();
        thread::spawn(move || {
            for value in 1..4 {
                let mut partition = shard.lock();
                partition.insert([value; 3]);
            }
        })
    };
    let mut last = 0;
    for _ in 0..3 {
        let [a, b, c] = shard.get();
        assert!(a == b && b == c, "torn: {a} {b} {c}");
        assert!(a >= last, "an older entry: {a} after {last}");
        last = a;
    }
    writer.join().unwrap();
}

#[test]
fn a_lookup_never_sees_part_of_a_change() {
    explore(4000, || lookups(Planted::Nothing));
}

#[test]
#[should_panic(expected = "torn")]
fn a_lookup_that_believes_without_a_second_look_is_found() {
    explore(4000, || lookups(Planted::NoSecondLook));
}

#[test]
#[should_panic(expected = "torn")]
fn a_version_that_is_even_too_early_is_found() {
    explore(4000, || lookups(Planted::EvenTooEarly));
}
