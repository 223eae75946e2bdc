//! A snapshot is what was there at one moment, whatever happens while it is read.
//!
//! Random lives are driven step by step: between the reader's steps come writes, deletions, groups, expiries, truncations,
//! evictions, defrag and checkpoints. What the reader gives is compared with a copy of the model that was made at the cut. Values
//! name their key and number, so that no other version can be taken for them.

use aerolith_engine::device::{AlignedBuffer, Request};
use aerolith_engine::record::{Digest, Key, Value};
use aerolith_engine::{
    Clock, Config, Draft, Engine, Error, NamespaceConfig, Outcome, Record, Snapshot, Ttl, WritePolicy,
};
use aerolith_tests::model::{bytes_of, is_full, value_of};
use aerolith_tests::{World, seeds};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const SETS: [&str; 2] = ["keys", "others"];
const KEYS: u32 = 160;

/// What a record should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    value: u64,
    generation: u16,
    expires_ms: u64,
}

/// What each key should be: by set and number.
#[derive(Clone, Default)]
struct Model(HashMap<(usize, u32), Version>);

impl Model {
    fn living(&self, now_ms: u64) -> HashMap<Digest, ((usize, u32), Version)> {
        let is_alive = |version: &Version| version.expires_ms == 0 || version.expires_ms > now_ms;
        let named = |(&name, &version): (&(usize, u32), &Version)| (key(name).digest(), (name, version));
        self.0.iter().filter(|(_, version)| is_alive(version)).map(named).collect()
    }

    fn next_generation(&self, name: (usize, u32), now_ms: u64) -> u16 {
        let old = self.0.get(&name).filter(|old| old.expires_ms == 0 || old.expires_ms > now_ms);
        old.map_or(1, |old| old.generation + 1)
    }
}

/// Names of few partitions, so that a reader stops in the middle of them.
static NUMBERS: LazyLock<[Vec<u32>; 2]> = LazyLock::new(|| {
    SETS.map(|set| {
        let is_one =
            |&number: &u32| Key::new(set, number).is_ok_and(|key| key.digest().partition() % 512 == 3);
        (0..).filter(is_one).take(KEYS as usize).collect()
    })
});

fn key((set, number): (usize, u32)) -> Key<'static> {
    Key::new(SETS[set], NUMBERS[set][number as usize]).expect("a number is a key")
}

struct Life {
    world: World,
    model: Model,
    rng: SmallRng,
    next_value: u64,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut world = World::new(2, 30, 16 << 10);
        world.config.expiry_period = Some(Duration::from_secs(2));
        world.config.write_cache_size = 0;
        let rng = SmallRng::seed_from_u64(seed);
        world.open();
        Life { world, model: Model::default(), rng, next_value: 0 }
    }

    fn name(&mut self) -> (usize, u32) {
        (self.rng.random_range(0..SETS.len()), self.rng.random_range(0..KEYS))
    }

    fn put(&mut self) {
        let name = self.name();
        self.next_value += 1;
        let value = self.next_value;
        let now_ms = self.world.clock.now().0;
        let ttl_ms = self.rng.random_bool(0.3).then(|| self.rng.random_range(1..6000));
        let ttl = ttl_ms.map_or(Ttl::Never, |ms| Ttl::For(Duration::from_millis(ms)));
        let generation = self.model.next_generation(name, now_ms);
        let bytes = bytes_of(name.1, value);
        let store = self.world.namespace();
        // The policy asks for the exact record, so that the generation of one in its last second is known.
        let policy = WritePolicy { ttl, ..WritePolicy::default() };
        let key = key(name);
        let draft = || Draft::new().bin("v", Value::Bytes(&bytes)).expect("a short bin");
        let put = store.update(&key, &policy, |_| Ok::<_, Error>(Outcome::Put(draft())));
        match self.world.run(put) {
            Ok(_) => {
                let waited = self.world.clock.now().0 - now_ms;
                let expires_ms = ttl_ms.map_or(0, |ms| now_ms + waited + ms);
                self.model.0.insert(name, Version { value, generation, expires_ms });
            }
            Err(error) => assert!(is_full(&error), "{error}"),
        }
    }

    fn group(&mut self) {
        let names: HashSet<(usize, u32)> = (0..4).map(|_| self.name()).collect();
        let names: Vec<_> = names.into_iter().collect();
        self.next_value += 1;
        let value = self.next_value;
        let now_ms = self.world.clock.now().0;
        let keys: Vec<Key<'_>> = names.iter().map(|&name| key(name)).collect();
        let store = self.world.namespace();
        let policy = WritePolicy::with_ttl(Ttl::Never);
        let drafts = || {
            names.iter().map(|name| {
                let bytes = bytes_of(name.1, value);
                Outcome::Put(Draft::new().bin("v", Value::Bytes(&bytes)).expect("a short bin"))
            })
        };
        let put = store.update_many(&keys, &policy, |_| Ok::<_, Error>(drafts().collect()));
        match self.world.run(put) {
            Ok(_) => {
                for &name in &names {
                    let generation = self.model.next_generation(name, now_ms);
                    self.model.0.insert(name, Version { value, generation, expires_ms: 0 });
                }
            }
            Err(error) => assert!(is_full(&error), "{error}"),
        }
    }

    fn delete(&mut self) {
        let name = self.name();
        let store = self.world.namespace();
        self.world.run(store.delete(&key(name), &WritePolicy::default())).expect("a delete");
        self.model.0.remove(&name);
    }

    fn truncate(&mut self) {
        let set = self.rng.random_range(0..SETS.len() + 1);
        let store = self.world.namespace();
        self.world.run(store.truncate(SETS.get(set).copied())).expect("a truncation");
        self.model.0.retain(|&(of, _), _| set < SETS.len() && of != set);
    }

    /// One thing that happens.
    fn act(&mut self) {
        match self.rng.random_range(0..1000) {
            0..640 => self.put(),
            640..740 => self.group(),
            740..820 => self.delete(),
            820..824 => self.truncate(),
            824..900 => {
                self.world.engine().step();
            }
            900..960 => {
                let jobs = self.world.engine().job_count();
                let job = self.rng.random_range(0..jobs);
                self.world.engine().step_job(job);
            }
            960..965 => {
                let store = self.world.namespace();
                self.world.run(store.checkpoint()).expect("a checkpoint, or no room for one");
            }
            965..970 => self.world.flush(),
            _ => self.world.clock.advance(Duration::from_millis(self.rng.random_range(1..300))),
        }
    }
}

/// Compares what a snapshot gave with the model at the cut.
fn compare(records: &[Record], expected: &HashMap<Digest, ((usize, u32), Version)>, context: &str) {
    let mut seen = HashSet::new();
    for record in records {
        let digest = record.digest();
        assert!(seen.insert(digest), "{context}: {digest} comes twice");
        let Some((name, version)) = expected.get(&digest) else {
            panic!("{context}: {record:?} was not there at the cut");
        };
        let bytes = record.bin("v").and_then(|value| value.as_bytes()).expect("the bin is there");
        let found = Version {
            value: value_of(name.1, bytes),
            generation: record.generation(),
            expires_ms: record.expires_at().map_or(0, |at| at.0),
        };
        assert_eq!((found, record.set()), (*version, SETS[name.0]), "{context}: key {name:?}");
        assert_eq!(record.user_key(), key(*name).user_key(), "{context}: key {name:?}");
    }
    let lost: Vec<_> = expected.iter().filter(|(digest, _)| !seen.contains(digest)).collect();
    assert!(lost.is_empty(), "{context}: {} of {} records are missing: {lost:?}", lost.len(), expected.len());
}

#[test]
fn in_random_lives_a_snapshot_is_the_model_at_its_cut() {
    let (mut whole, mut given_up, mut kept, mut left) = (0, 0, 0, 0);
    for seed in seeds(60) {
        let context = format!("AEROLITH_SEED={seed}");
        let mut life = Life::new(seed);
        for _ in 0..life.rng.random_range(200..2500) {
            life.act();
        }
        for round in 0..2 {
            // A victim of defrag may have been chosen before the cut.
            for _ in 0..life.rng.random_range(0..3) {
                life.world.engine().step_job(aerolith_tests::job::DEFRAG);
            }
            let batch = life.rng.random_range(1..60);
            let mut snapshot = life.world.namespace().snapshot().expect("a snapshot").with_batch(batch);
            let expected = life.model.living(life.world.clock.now().0);
            assert_eq!(snapshot.taken_at(), life.world.clock.now());
            let busy = life.rng.random_range(0..120);
            let mut records = Vec::new();
            let end = loop {
                match life.world.run(snapshot.next_page()) {
                    Ok(Some(page)) => {
                        let record = |found: Result<_, _>| found.unwrap_or_else(|e| panic!("{context}: {e}"));
                        records.extend(page.into_iter().map(record));
                    }
                    Ok(None) => break true,
                    Err(Error::SnapshotGivenUp { .. }) => break false,
                    Err(error) => panic!("{context}: {error}"),
                }
                kept = kept.max(life.world.namespace().stats().snapshot_blocks);
                for _ in 0..life.rng.random_range(0..=busy) {
                    life.act();
                }
            };
            left += snapshot.left_entries();
            drop(snapshot);
            assert_eq!(life.world.namespace().stats().snapshot_blocks, 0, "{context}: blocks are still kept");
            if end {
                compare(&records, &expected, &format!("{context} round {round}"));
                whole += 1;
            } else {
                given_up += 1;
            }
            life.world.verify(&context);
        }
        // What is there now is still what it should be.
        let now = life.model.living(life.world.clock.now().0);
        let snapshot = life.world.namespace().snapshot().expect("a snapshot");
        let records: Vec<Record> = snapshot.collect::<Result<_, _>>().expect("all can be read");
        compare(&records, &now, &format!("{context} at the end"));
    }
    println!("{whole} whole, {given_up} given up, {left} entries left, at most {kept} blocks kept");
    if seeds(60).count() > 1 {
        assert!(whole >= given_up, "{given_up} of {} snapshots were given up", whole + given_up);
        assert!(kept > 0 && left > 0, "nothing happened that a snapshot has to be kept from");
    }
}

fn filled(world: &mut World, count: u32) {
    let store = world.namespace();
    for number in 0..count {
        let bytes = bytes_of(number, 6);
        let key = Key::new("keys", number).expect("a key");
        world.run(store.put(&key, &[("v", Value::Bytes(&bytes))], &WritePolicy::default())).expect("a put");
    }
}

#[test]
fn a_snapshot_gives_way_to_writers_and_says_so() {
    let mut world = World::new(1, 24, 16 << 10);
    world.open();
    filled(&mut world, 190);
    let mut snapshot = world.namespace().snapshot().expect("a snapshot").with_batch(1);
    assert!(world.run(snapshot.next_page()).expect("the first page").is_some());
    // Ten times the device: none of it is refused for the snapshot.
    for _ in 0..20 {
        filled(&mut world, 190);
    }
    let error = loop {
        match world.run(snapshot.next_page()) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the snapshot has read blocks that were reused"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::SnapshotGivenUp { .. }), "{error}");
    assert!(error.to_string().contains("writers needed the blocks"), "{error}");
    assert!(world.run(snapshot.next_page()).expect("an end").is_none());
    assert_eq!(world.namespace().stats().counters.refused, 0);
    world.verify("after the snapshot");
    // There is room for the next one, and the old one's end does not end it.
    let next = world.namespace().snapshot().expect("another snapshot");
    drop(snapshot);
    assert!(matches!(world.namespace().snapshot(), Err(Error::SnapshotRunning { .. })));
    assert_eq!(next.count(), 190);
}

#[test]
fn records_of_a_block_that_defrag_had_chosen_before_the_cut_are_there() {
    let mut world = World::new(1, 24, 16 << 10);
    world.config.write_cache_size = 0;
    world.open();
    filled(&mut world, 150);
    let mut met = 0;
    for round in 0..400 {
        for number in 0..10 {
            let key = Key::new("keys", (round * 7 + number * 13) % 150).expect("a key");
            let bytes = bytes_of((round * 7 + number * 13) % 150, 6);
            let store = world.namespace();
            let (bins, policy) = ([("v", Value::Bytes(&bytes))], WritePolicy::default());
            world.run(store.put(&key, &bins, &policy)).expect("a put");
        }
        // The first step chooses a victim, the next one moves what is in it.
        world.engine().step_job(aerolith_tests::job::DEFRAG);
        let moved = world.namespace().stats().counters.moved;
        let snapshot = world.namespace().snapshot().expect("a snapshot");
        world.engine().step_job(aerolith_tests::job::DEFRAG);
        met += u32::from(world.namespace().stats().counters.moved > moved);
        assert_eq!(snapshot.filter(Result::is_ok).count(), 150, "round {round}");
    }
    assert!(met > 0, "defrag never moved anything between the cut and its reading");
}

#[test]
fn a_damaged_record_is_an_error_in_its_place() {
    let mut world = World::new(1, 24, 16 << 10);
    world.config.write_cache_size = 0;
    world.open();
    filled(&mut world, 120);
    world.flush();
    world.close();
    let (device, offset) = (&world.devices[0], 16 << 10);
    let read = Request::Read { offset, buffer: AlignedBuffer::zeroed(16 << 10) };
    let mut block = device.submit(read).wait().into_buffer().expect("a block");
    block[1000] ^= 1;
    let (data, range) = (Arc::new(block), 0..16 << 10);
    device.submit(Request::Write { offset, data, range, durable: true }).wait().result.expect("a write");
    world.open();
    let (sound, damaged): (Vec<_>, Vec<_>) =
        world.namespace().snapshot().expect("a snapshot").partition(Result::is_ok);
    assert_eq!((sound.len(), damaged.len()), (119, 1));
    let error = damaged.into_iter().next().expect("one").expect_err("it is damaged");
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

/// The sums of a snapshot of counters that always move together.
fn sums(snapshot: Snapshot) -> HashMap<String, Vec<i64>> {
    let mut sums: HashMap<String, Vec<i64>> = HashMap::new();
    for record in snapshot {
        let record = record.expect("a record");
        let count = record.bin("n").and_then(|value| value.as_i64()).expect("a number");
        sums.entry(record.set().to_owned()).or_default().push(count);
    }
    sums
}

#[test]
fn counters_that_move_together_agree_in_every_snapshot_taken_under_load() {
    const GROUPS: usize = 12;
    const MEMBERS: i64 = 9;
    let engine = Engine::open(Config::of(NamespaceConfig::in_memory("test", 64 << 20))).expect("an engine");
    let test = engine.namespace("test").expect("it is configured");
    let group = |group: usize| -> Vec<(String, i64)> {
        (0..MEMBERS).map(|member| (format!("group{group}"), member)).collect()
    };
    let add = |of: &[(String, i64)], by: i64| {
        let keys: Vec<Key<'_>> = of.iter().map(|(set, m)| Key::new(set, *m).expect("a key")).collect();
        let policy = WritePolicy::default();
        let all = test.update_many(&keys, &policy, |old| {
            let count = |r: &Option<Record>| r.as_ref().and_then(|r| r.bin("n")?.as_i64()).unwrap_or(0);
            let one = |r| Ok::<_, Error>(Outcome::Put(Draft::new().bin("n", count(r) + by)?));
            old.iter().map(one).collect()
        });
        all.expect("a group");
    };
    (0..GROUPS).for_each(|at| add(&group(at), 1));
    let stop = AtomicBool::new(false);
    let least = if seeds(1).count() > 1 { 4000 } else { 100 };
    let (mut moved, mut round) = (0, 0);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (stop, add) = (&stop, &add);
            scope.spawn(move || {
                let groups: Vec<_> = (0..GROUPS).filter(|at| at % 3 == writer).map(group).collect();
                while !stop.load(Ordering::Relaxed) {
                    groups.iter().for_each(|group| add(group, 1));
                }
            });
        }
        let _end = AtEnd(|| stop.store(true, Ordering::Relaxed));
        let mut last: HashMap<String, i64> = HashMap::new();
        // So long that the writers have certainly been in between.
        while moved < least || round < least / 10 {
            round += 1;
            // With a small batch writers come in between all the time.
            let sums = sums(test.snapshot().expect("a snapshot").with_batch(5));
            assert_eq!(sums.len(), GROUPS, "round {round}");
            for (set, counts) in sums {
                assert_eq!(counts.len(), MEMBERS as usize, "round {round}: {set}");
                assert!(counts.iter().all(|&count| count == counts[0]), "round {round}: {set}: {counts:?}");
                let before = last.insert(set, counts[0]).unwrap_or(0);
                assert!(counts[0] >= before, "round {round}: a snapshot is older than the one before");
                moved += u64::from(counts[0] > before);
            }
        }
    });
}

/// Does something at the end, also of a test that fails: else its threads would never stop.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        self.0();
    }
}
