//! Eviction above the high-water mark: what ends soonest goes first, and stays gone.
//!
//! A device is filled with records beyond the mark; eviction runs while its writes are held back, and at every cut an image is
//! opened from a checkpoint, where there is one, and without. What had left before the cut is gone, what lives
//! beyond the watermark is there, records without a time to live are untouched, no older version comes back.

use aerolith_engine::device::Device;
use aerolith_engine::{Clock, Recovery, Stats, Ttl, Value, WritePolicy};
use aerolith_tests::device::{Survival, TestDevice};
use aerolith_tests::model::{bytes_of, key_of, read};
use aerolith_tests::{World, seeds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

const BLOCK_SIZE: u32 = 16 << 10;
const BLOCKS: u64 = 40;
/// Seconds that the shortest-lived records have.
const LIFE_S: u64 = 100_000;
/// Records without a time to live, from this key on.
const LASTING: u32 = 10_000;

fn world_on(device: &Arc<TestDevice>, evict_above: u8) -> World {
    let mut world = World::on(vec![device.clone() as Arc<dyn Device>], BLOCK_SIZE);
    world.config.evict_above = evict_above;
    world
}

fn new_device() -> Arc<TestDevice> {
    Arc::new(TestDevice::new("test", BLOCKS * u64::from(BLOCK_SIZE)))
}

fn put(world: &mut World, key: u32, value: u64, life_s: Option<u64>) {
    let (store, bytes) = (world.namespace(), bytes_of(key, value));
    let ttl = life_s.map_or(Ttl::Never, |seconds| Ttl::For(Duration::from_secs(seconds)));
    let (key, bins) = (key_of(key), [("v", Value::Bytes(&bytes))]);
    world.run(store.put(&key, &bins, &WritePolicy::with_ttl(ttl))).expect("a put");
}

fn stats(world: &World) -> Stats {
    world.namespace().stats()
}

/// Live bytes in percent of what records may take.
fn share(world: &World) -> u64 {
    let stats = stats(world);
    stats.used_size * 100 / (stats.used_limit / u64::from(world.config.stop_writes_pct) * 100)
}

/// Puts records until `percent` of the space is in use: key `k` lives `LIFE_S + k` seconds, and every fourth one for ever.
/// Returns how many have a time to live.
fn fill(world: &mut World, percent: u64) -> u32 {
    for key in 0.. {
        if share(world) >= percent {
            return key;
        }
        put(world, key, u64::from(key) * 7 + 6, Some(LIFE_S + u64::from(key)));
        if key % 4 == 0 {
            put(world, LASTING + key, u64::from(key), None);
        }
    }
    unreachable!("the device is finite");
}

fn present(world: &mut World, keys: impl IntoIterator<Item = u32>) -> HashSet<u32> {
    keys.into_iter().filter(|&key| read(world, key).is_some()).collect()
}

#[test]
fn what_ends_soonest_goes_first_and_no_more_than_is_needed() {
    let device = new_device();
    let mut world = world_on(&device, 50);
    world.config.stop_writes_pct = 90;
    world.open();
    let count = fill(&mut world, 40);
    world.flush();
    assert_eq!(stats(&world).counters.evicted, 0);
    // Beyond the mark, without letting the jobs run in between.
    let mut key = count;
    while share(&world) < 60 {
        put(&mut world, key, u64::from(key) * 7 + 6, Some(LIFE_S + u64::from(key)));
        key += 1;
    }
    world.flush();
    (0..10).for_each(|_| world.flush());
    let evicted = stats(&world).counters.evicted;
    assert!(evicted > 0 && share(&world) <= 50, "{evicted} evicted, {} % in use", share(&world));
    assert!(share(&world) >= 47, "{} % in use: too much has gone", share(&world));
    let there = present(&mut world, 0..key);
    let first = *there.iter().min().expect("some are left");
    assert_eq!(there.len() as u32, key - first, "those that go are those that end first");
    assert_eq!(u64::from(first), evicted);
    let lasting: Vec<u32> = (0..count).step_by(4).map(|key| LASTING + key).collect();
    assert_eq!(present(&mut world, lasting.clone()).len(), lasting.len());
    assert!(stats(&world).evicted_below_ms >= world.clock.now().0 + LIFE_S * 1000);
    world.verify("after an eviction");
    // The next write of such a key lives, though it ends before the watermark.
    put(&mut world, 0, 77, Some(5000));
    world.flush();
    world.crash();
    world.open();
    assert_eq!(read(&mut world, 0), Some(77));
    assert_eq!(present(&mut world, 1..key), there);
}

#[test]
fn without_a_time_to_live_nothing_goes() {
    let device = new_device();
    let mut world = world_on(&device, 30);
    world.open();
    let mut key = 0;
    while share(&world) < 50 {
        put(&mut world, key, 1, None);
        key += 1;
    }
    (0..10).for_each(|_| world.flush());
    assert_eq!((stats(&world).counters.evicted, present(&mut world, 0..key).len() as u32), (0, key));
}

#[test]
fn a_mark_at_or_above_the_refusal_of_writes_is_refused() {
    let mut world = world_on(&new_device(), 90);
    let error = world.try_open().err().expect("a bad mark").to_string();
    assert!(error.contains("evict_above is 90; 0 (no eviction) to 89"), "{error}");
}

#[test]
fn an_older_version_that_would_live_longer_stays_hidden_behind_an_evicted_one() {
    for with_checkpoint in [true, false] {
        let device = new_device();
        let mut world = world_on(&device, 0);
        world.config.use_checkpoint = with_checkpoint;
        world.open();
        // Old versions that live for ever, or longer than the new ones, in blocks that stay because of what else is there.
        for key in 0..30 {
            put(&mut world, key, 1, (key % 2 == 0).then_some(LIFE_S * 9));
            (0..4).for_each(|i| put(&mut world, LASTING + key * 4 + i, 6, None));
        }
        world.flush();
        // New versions in blocks that hold nothing else that stays.
        let mut other = 100;
        for key in 0..30 {
            put(&mut world, key, 2, Some(LIFE_S));
            for _ in 0..4 {
                put(&mut world, other, 6, Some(LIFE_S));
                other += 1;
            }
        }
        while share(&world) < 45 {
            put(&mut world, other, 6, Some(LIFE_S + 1));
            other += 1;
        }
        world.close();
        world.config.evict_above = 35;
        world.open();
        (0..10).for_each(|_| world.flush());
        assert!(share(&world) <= 35);
        assert_eq!(present(&mut world, 0..30).len(), 0);
        let masks = stats(&world).tombstones;
        assert_eq!(masks, 30, "each of the evicted hides an older version");
        world.verify("masks");
        // Without masks the blocks of the new versions would be used again by now; those of the old ones would not.
        if with_checkpoint {
            let store = world.namespace();
            assert!(world.run(store.checkpoint()).expect("a checkpoint"));
        }
        for i in 0..3000 {
            put(&mut world, 20_000 + i * 7919 % 150, u64::from(i) * 7 + 6, None);
        }
        world.flush();
        assert!(stats(&world).fresh_size > 2 * BLOCKS * u64::from(BLOCK_SIZE));
        world.crash();
        world.open();
        assert_eq!(present(&mut world, 0..30).len(), 0, "with a checkpoint: {with_checkpoint}");
        assert_eq!(present(&mut world, LASTING..LASTING + 120).len(), 120);
        world.verify("masks, after a crash");
    }
}

type Checkpointing = Pin<Box<dyn Future<Output = Result<bool, aerolith_engine::Error>>>>;

/// Holds back a device's writes until its drop: an engine that closes waits for its devices.
struct Held(Arc<TestDevice>);

impl Held {
    fn new(device: &Arc<TestDevice>) -> Self {
        device.hold(true);
        Held(device.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.hold(false);
    }
}

/// What must hold of an image that was cut off while records were being evicted.
struct Before {
    /// Those that had left when the power went.
    gone: HashSet<u32>,
    keys: u32,
    lasting: Vec<u32>,
}

fn check(image: Vec<u8>, before: &Before, like: &World, context: &str) -> (Recovery, u64) {
    let mut seen = None;
    let mut last = None;
    for use_checkpoint in [true, false] {
        let device = Arc::new(TestDevice::with_bytes("test", image.clone()));
        let mut world = world_on(&device, 0);
        world.config.use_checkpoint = use_checkpoint;
        world.clock.set(like.clock.now());
        world.open();
        let there = present(&mut world, 0..before.keys);
        let zombies: Vec<_> = before.gone.intersection(&there).collect();
        assert!(zombies.is_empty(), "{context}, checkpoint {use_checkpoint}: {zombies:?} came back");
        // Either the watermark was durable, and all below it are gone, or nothing is.
        let first = there.iter().min().copied().expect("some live beyond the watermark");
        assert_eq!(there.len() as u32, before.keys - first, "{context}, checkpoint {use_checkpoint}");
        assert_eq!(present(&mut world, before.lasting.clone()).len(), before.lasting.len(), "{context}");
        world.verify(context);
        let recovery = world.engine().recovery("test").expect("it is configured").clone();
        let evicted_below = stats(&world).evicted_below_ms;
        let same = (there, evicted_below, recovery.records);
        assert!(seen.get_or_insert_with(|| same.clone()) == &same, "{context}: two ways of starting differ");
        last.get_or_insert((recovery, evicted_below));
    }
    last.expect("two starts")
}

#[test]
fn scenario_17_what_was_evicted_stays_gone_whenever_the_power_goes() {
    let mut rng = StdRng::seed_from_u64(17);
    let (mut with_watermark, mut without, mut half_way, mut from_checkpoint) = (0, 0, 0, 0);
    for with_checkpoint in [false, true] {
        let device = new_device();
        let mut world = world_on(&device, 0);
        world.open();
        let keys = fill(&mut world, 55);
        world.flush();
        world.close();
        world.config.evict_above = 40;
        world.open();
        let lasting: Vec<u32> = (0..keys).step_by(4).map(|key| LASTING + key).collect();
        let _held = Held::new(&device);
        let store = world.namespace();
        let mut checkpoint: Option<Checkpointing> = None;
        let mut is_wanted = with_checkpoint;
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut steps = 0;
        // One job at a time, so that images fall into the middle of a pass.
        while share(&world) > 40 || device.held_count() > 0 || checkpoint.is_some() || is_wanted {
            steps += 1;
            assert!(steps < 20_000, "eviction never ends");
            for job in 0..world.engine().job_count() {
                world.engine().step_job(job);
                let is_done =
                    checkpoint.as_mut().is_some_and(|wait| wait.as_mut().poll(&mut context).is_ready());
                checkpoint = checkpoint.filter(|_| !is_done);
            }
            // What it copies is under the watermark that is being applied.
            if is_wanted && stats(&world).evicted_below_ms > 0 {
                is_wanted = false;
                let store = store.clone();
                checkpoint = Some(Box::pin(async move { store.checkpoint().await }));
            }
            let evicted = stats(&world).counters.evicted;
            let is_half_way = evicted > 0 && share(&world) > 40;
            if device.held_count() > 0 || (is_half_way && rng.random_bool(0.2)) {
                let gone: HashSet<u32> =
                    (0..keys).filter(|&key| world.namespace().peek(&key_of(key)).is_none()).collect();
                assert_eq!(gone.len() as u64, evicted);
                let before = Before { gone, keys, lasting: lasting.clone() };
                half_way += u64::from(is_half_way);
                let image = device.image(Survival::draw(&mut rng), &mut rng);
                let told = format!("step {steps}, checkpoint {with_checkpoint}");
                let (recovery, evicted_below) = check(image, &before, &world, &told);
                from_checkpoint += u64::from(recovery.checkpoint.is_some());
                with_watermark += u64::from(evicted_below > 0);
                without += u64::from(evicted_below == 0);
                // Before the watermark is durable nothing leaves the index.
                assert!(evicted == 0 || evicted_below > 0);
                device.release(rng.random_range(0..device.held_count().max(1)));
            }
            world.clock.advance(Duration::from_millis(rng.random_range(0..30)));
        }
        device.hold(false);
        world.flush();
        assert!(stats(&world).counters.evicted > 0);
        world.verify("after the last cut");
    }
    println!(
        "images: {with_watermark} with a watermark, {without} without, {half_way} half way, {from_checkpoint}"
    );
    assert!(with_watermark > 0 && without > 0 && half_way > 0 && from_checkpoint > 0);
}

#[test]
fn in_a_random_life_both_ways_of_starting_agree_on_what_was_evicted() {
    let (mut quiet, mut evicted) = (0, 0);
    for seed in seeds(40) {
        let mut rng = StdRng::seed_from_u64(seed);
        let device = new_device();
        let mut world = world_on(&device, 45);
        world.open();
        let mut newest = std::collections::HashMap::new();
        for round in 0..6 {
            for _ in 0..rng.random_range(50..250) {
                let key = rng.random_range(0..600u32);
                let value = rng.random_range(0..1 << 20);
                // Now short lives, now long ones: the watermark falls and rises.
                let life =
                    rng.random_bool(0.9).then(|| rng.random_range(1..100) * 1000 * (1 + round % 3 * 50));
                put(&mut world, key, value, life);
                newest.insert(key, (value, life.is_some()));
                if rng.random_bool(0.05) {
                    world.engine().step();
                }
            }
            if rng.random_bool(0.6) {
                let store = world.namespace();
                world.run(store.checkpoint()).expect("written, or no room");
            }
            let flushes = rng.random_range(0..6);
            (0..flushes).for_each(|_| world.flush());
            // Then nothing is on its way any more, and what is there is what a start must find.
            let is_quiet = flushes > 3 && share(&world) <= 45;
            quiet += u64::from(is_quiet);
            let store = world.namespace();
            world.run(store.flush()).expect("a flush");
            let there: HashSet<u32> = present(&mut world, 0..600);
            let image = device.image(Survival::None, &mut rng);
            let mut answers = Vec::new();
            for use_checkpoint in [true, false] {
                let copy = Arc::new(TestDevice::with_bytes("test", image.clone()));
                let mut other = world_on(&copy, 0);
                other.config.use_checkpoint = use_checkpoint;
                other.clock.set(world.clock.now());
                other.open();
                other.verify(&format!("seed {seed} round {round}"));
                let found: Vec<_> = (0..600).map(|key| read(&mut other, key)).collect();
                for (key, value) in (0..600).zip(&found) {
                    let expected = newest.get(&key).map(|&(value, _)| value);
                    let context = format!("seed {seed} round {round} key {key} checkpoint {use_checkpoint}");
                    // What is being evicted may be gone already; what is gone does not come back.
                    match value {
                        Some(value) => assert!(there.contains(&key) && Some(*value) == expected, "{context}"),
                        None if is_quiet => assert!(!there.contains(&key), "{context}"),
                        None => assert!(newest.get(&key).is_none_or(|&(_, can_go)| can_go), "{context}"),
                    }
                }
                answers.push((found, stats(&other).evicted_below_ms));
            }
            assert!(answers[0] == answers[1], "seed {seed} round {round}: two ways of starting differ");
            evicted += stats(&world).counters.evicted;
            if rng.random_bool(0.3) {
                world.crash();
                world.open();
            }
        }
    }
    assert!(quiet > 0 && evicted > 0, "{quiet} quiet moments, {evicted} evicted");
}
