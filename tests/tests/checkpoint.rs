//! Checkpoints: a start from one gives what a sweep over all blocks gives, whatever happened before, between and after.
//!
//! Directed cases first; then random lives with a checkpoint begun now and then and cut off anywhere, in which every
//! image is opened both ways and compared. A failure names its seed: `AEROLITH_SEED=n cargo test -p aerolith-tests
//! --test checkpoint`.

use aerolith_engine::format::{CheckpointRoot, ROOT_OFFSET};
use aerolith_engine::{Bin, Clock, Durability, Error, Ttl, Value, WritePolicy};
use aerolith_tests::device::{BLOCK_SIZE, Survival, TestDevice, copies, devices, images};
use aerolith_tests::model::{Model, Version, bytes_of, key_of, try_read};
use aerolith_tests::{World, seeds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

/// A world with some keys, a checkpoint, and some more.
fn written(count: usize) -> (World, Vec<Arc<TestDevice>>, Model) {
    let devices = devices(count, 40);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    for key in 0..100 {
        model.put(&mut world, key, u64::from(key), None);
    }
    let store = world.namespace();
    assert!(world.run(store.checkpoint()).expect("a checkpoint"));
    for key in 50..150 {
        model.put(&mut world, key, 1000 + u64::from(key), (key % 2 == 0).then_some(3_600_000));
    }
    (0..20).for_each(|key| model.delete(&mut world, key));
    world.flush();
    (world, devices, model)
}

/// Opens `devices` from their checkpoint and without, and compares all that can be seen.
fn compare(devices: &[Arc<TestDevice>], like: &World, keys: u32, context: &str) -> Option<u64> {
    let open = |use_checkpoint| {
        let mut world = World::of(&copies(devices)).like(like);
        world.config.use_checkpoint = use_checkpoint;
        world.open();
        world
    };
    let (mut with, mut without) = (open(true), open(false));
    for key in 0..keys {
        let read = |world: &mut World| {
            let store = world.namespace();
            let record = world.run(store.get(&key_of(key))).expect("a get");
            record.map(|r| {
                (r.generation(), r.expires_at(), r.bin("v").map(|v| v.as_bytes().map(<[u8]>::to_vec)))
            })
        };
        assert_eq!(read(&mut with), read(&mut without), "{context}: key {key}");
    }
    let (a, b) = (with.verify(context).without_masks(), without.verify(context).without_masks());
    assert_eq!(a, b, "{context}");
    assert_eq!(with.namespace().count("keys"), without.namespace().count("keys"), "{context}");
    assert_eq!(without.used_checkpoint(), None);
    with.used_checkpoint()
}

#[test]
fn a_start_from_a_checkpoint_and_its_tail_is_a_start_from_all_blocks() {
    for count in 1..4 {
        let (mut world, devices, model) = written(count);
        assert_eq!(compare(&devices, &world, 160, "a crash"), Some(1));
        world.crash();
        world.open();
        assert_eq!(world.used_checkpoint(), Some(1));
        model.check(&mut world, "after the crash");
        // And again, from a checkpoint of a store that came from a checkpoint.
        let store = world.namespace();
        assert!(world.run(store.checkpoint()).expect("a checkpoint"));
        assert_eq!(compare(&devices, &world, 160, "a second one"), Some(2));
        world.crash();
        world.open();
        assert_eq!(world.engine().recovery("test").expect("it is there").versions, 0, "there is no tail");
        model.check(&mut world, "after the second crash");
    }
}

#[test]
fn closing_leaves_a_checkpoint_without_a_tail() {
    let (mut world, devices, model) = written(2);
    world.config.checkpoint_period = Some(Duration::from_secs(60));
    world.close();
    world.open();
    let mut model_world = world;
    model.check(&mut model_world, "before");
    model_world.close();
    let bytes = |device: &Arc<TestDevice>| device.with_state(|bytes| bytes.to_vec());
    let before: Vec<_> = devices.iter().map(bytes).collect();
    model_world.open();
    assert!(model_world.used_checkpoint().is_some());
    assert_eq!(model_world.engine().recovery("test").expect("it is there").versions, 0);
    model.check(&mut model_world, "after");
    model_world.close();
    let after: Vec<_> = devices.iter().map(bytes).collect();
    let differ =
        |(a, b): (&Vec<u8>, &Vec<u8>)| a.chunks(4096).zip(b.chunks(4096)).filter(|(a, b)| a != b).count();
    let pages: usize = before.iter().zip(&after).map(differ).sum();
    assert_eq!(
        pages,
        2 * devices.len(),
        "an opening and a close of an idle store write both copies of the device headers, nothing else"
    );
}

#[test]
fn every_damaged_page_of_a_checkpoint_is_seen_and_the_blocks_are_read_instead() {
    let (world, devices, mut model) = written(1);
    drop(world);
    let root = devices[0].with_state(|bytes| {
        let slots = (0..2).map(|slot| CheckpointRoot::parse(&bytes[(ROOT_OFFSET + slot * 4096) as usize..]));
        slots.flatten().next().expect("there is one root")
    });
    let summary = u64::from(root.summary_block) * u64::from(BLOCK_SIZE);
    let bad_places = [CheckpointRoot::offset_of(root.id) + 9, summary + 70, summary + 200, summary + 600];
    for at in bad_places {
        let devices = copies(&devices);
        devices[0].with_state(|bytes| bytes[at as usize] ^= 4);
        let mut world = World::of(&devices);
        world.open();
        assert_eq!(world.used_checkpoint(), None, "offset {at}");
        model.check_after_crash(&mut world, &format!("offset {at}"));
        world.verify("a rejected checkpoint");
    }
}

#[test]
fn an_entry_counts_only_in_the_life_of_its_block_that_the_checkpoint_saw() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    for key in 0..60 {
        model.put(&mut world, key, u64::from(key), None);
    }
    let store = world.namespace();
    assert!(world.run(store.checkpoint()).expect("a checkpoint"));
    // Every block is used again several times, while the checkpoint stays.
    for round in 0..400u64 {
        for key in 0..60 {
            if (u64::from(key) + round) % 3 == 0 {
                model.put(&mut world, key, (round + 1) << 8 | u64::from(key), None);
            }
        }
        world.settle();
    }
    (0..10).for_each(|key| model.delete(&mut world, key));
    world.flush();
    assert_eq!(compare(&devices, &world, 60, "reused blocks"), Some(1));
    world.crash();
    world.open();
    model.check(&mut world, "reused blocks");
}

#[test]
fn what_a_checkpoint_knows_of_a_record_holds_for_its_copy_in_the_tail() {
    let devices = devices(1, 40);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    // Written between border and copy: the checkpoint has the entries, but the records are of the tail.
    (0..40).for_each(|key| model.put(&mut world, key, 1, None));
    let store = world.namespace();
    let mut checkpoint = Box::pin(async move { store.checkpoint().await });
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(checkpoint.as_mut().poll(&mut context).is_pending());
    let last = world.engine().job_count() - 1;
    world.engine().step_job(last);
    (0..40).for_each(|key| model.put(&mut world, key, 2, Some(5_000)));
    assert!(world.run(checkpoint).expect("a checkpoint"));
    world.flush();
    // The versions below, which never expire, are still on the device: the expired ones must go on hiding them.
    world.clock.advance(Duration::from_secs(20));
    let masks = |use_checkpoint| {
        let mut other = World::of(&copies(&devices));
        other.clock.set(world.clock.now());
        other.config.use_checkpoint = use_checkpoint;
        other.open();
        assert_eq!(other.used_checkpoint(), use_checkpoint.then_some(1));
        assert_eq!(try_read(&mut other, 0).expect("a get"), None);
        other.verify("another start").masks
    };
    assert_eq!((masks(true), masks(false)), (40, 40));
}

#[test]
fn a_root_that_cannot_be_read_does_not_keep_a_set_from_opening() {
    let (mut world, devices, mut model) = written(2);
    let store = world.namespace();
    assert!(world.run(store.checkpoint()).expect("a checkpoint"));
    world.flush();
    for (id, used) in [(1, Some(2)), (2, None)] {
        let devices = copies(&devices);
        let offset = CheckpointRoot::offset_of(id);
        devices[0].fail_reads(vec![offset..offset + 8, offset + 4000..offset + 4096]);
        let mut other = World::of(&devices);
        other.clock.set(world.clock.now());
        other.open();
        // The blocks of the first one have been given back, so it may be there or not.
        assert!(used.is_none() || other.used_checkpoint() == used, "root {id}");
        model.check_after_crash(&mut other, &format!("root {id}"));
    }
}

#[test]
fn a_block_that_kept_the_header_of_its_earlier_life_is_read_by_its_footer() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    let bytes = || devices[0].with_state(|bytes| bytes.to_vec());
    let mut earlier = Vec::new();
    for round in 0..60u64 {
        (0..60).for_each(|key| model.put(&mut world, key, round << 8 | u64::from(key), None));
        world.flush();
        earlier.push(bytes());
    }
    let now_ms = world.clock.now().0;
    world.close();
    let last = bytes();
    let mut count = 0;
    for start in (1..24).map(|block| block * BLOCK_SIZE as usize) {
        // The header and the records behind it were never written, all that came later was.
        let page = start..start + 4096;
        let Some(old) = earlier.iter().rev().find(|old| old[page.clone()] != last[page.clone()]) else {
            continue;
        };
        let mut bytes = last.clone();
        bytes[page.clone()].copy_from_slice(&old[page]);
        let mut other = World::of(&[Arc::new(TestDevice::with_bytes("image", bytes))]);
        other.clock.set(world.clock.now());
        other.open();
        for key in 0..60 {
            match try_read(&mut other, key) {
                Ok(read) => assert_eq!(read, model.current(key, now_ms), "block at {start}, key {key}"),
                Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
            }
        }
        count += 1;
    }
    assert!(count > 5, "{count} blocks were used twice");
}

#[test]
fn records_that_need_the_space_get_it() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    let mut key = 0;
    let store = world.namespace();
    let mut refused = 0;
    while refused < 3 {
        let bytes = bytes_of(key, 6);
        let put = world.run(store.put(&key_of(key), &[("v", Value::Bytes(&bytes))], &WritePolicy::default()));
        match put {
            Ok(_) => {
                model.note(key, Version { value: Some(6), expires_ms: 0 });
                key += 1;
            }
            Err(_) => refused += 1,
        }
        if key % 40 == 0 {
            world.run(store.checkpoint()).expect("written, or no room");
        }
    }
    world.settle();
    let stats = store.stats();
    assert_eq!(stats.checkpoint_blocks, 0, "{stats:?}");
    assert!(stats.checkpoints_written > 0 && stats.checkpoints_skipped > 0, "{stats:?}");
    world.flush();
    compare(&devices, &world, key, "full");
    // With a little room, overwriting goes on as long as it likes.
    (0..20).for_each(|key| model.delete(&mut world, key));
    for round in 0..2000u32 {
        model.put(&mut world, 20 + round * 7 % (key - 20), 13, None);
        if round % 50 == 0 {
            world.run(store.checkpoint()).expect("written, or no room");
        }
    }
    world.flush();
    compare(&devices, &world, key, "full and overwritten");
}

/// Work on a store whose devices answer at random; now and then a checkpoint is asked for, and never waited for.
fn life(seed: u64, used: &mut u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let devices = devices(rng.random_range(1..3), rng.random_range(20..40));
    let mut world = World::of(&devices);
    if rng.random_bool(0.3) {
        world.config.durability = Durability::Group;
    }
    world.config.checkpoint_period = rng.random_bool(0.5).then(|| Duration::from_millis(300));
    world.open();
    let mut number = seed << 32;
    let keys = rng.random_range(20..80);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut waiting: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    for at in 0..rng.random_range(500..3000) {
        number += 1;
        let (key, store) = (rng.random_range(0..keys), world.namespace());
        let ttl = rng.random_bool(0.4).then(|| rng.random_range(1..20_000));
        let policy = WritePolicy::with_ttl(ttl.map_or(Ttl::Never, |ms| Ttl::For(Duration::from_millis(ms))));
        let bytes = bytes_of(key, number);
        match rng.random_range(0..100) {
            0..50 => waiting.push(Box::pin(async move {
                let _ = store.put(&key_of(key), &[("v", Value::Bytes(&bytes))], &policy).await;
            })),
            50..60 => waiting.push(Box::pin(async move {
                let _ = store.delete(&key_of(key), &policy).await;
            })),
            60..64 => {
                let other = (key + 1) % keys;
                waiting.push(Box::pin(async move {
                    let values = [bytes_of(key, number), bytes_of(other, number)];
                    let bins: Vec<[Bin<'_>; 1]> = values.iter().map(|v| [("v", Value::Bytes(v))]).collect();
                    let records = [(key_of(key), &bins[0][..]), (key_of(other), &bins[1][..])];
                    let _ = store.put_many(&records, &policy).await;
                }));
            }
            64..66 => waiting.push(Box::pin(async move {
                let _ = store.checkpoint().await;
            })),
            66..67 if rng.random_bool(0.1) => {
                devices.iter().for_each(|device| device.hold(false));
                world.run(store.truncate(Some("keys"))).expect("a truncation");
            }
            67..75 => world.clock.advance(Duration::from_millis(rng.random_range(1..400))),
            75..80 => {
                let hold = rng.random_bool(0.7);
                devices.iter().for_each(|device| device.hold(hold));
            }
            _ => {
                world.engine().step();
                let device = &devices[rng.random_range(0..devices.len())];
                for _ in 0..rng.random_range(0..4) {
                    device.release(rng.random_range(0..device.held_count().max(1)));
                }
            }
        }
        waiting.retain_mut(|write| write.as_mut().poll(&mut context).is_pending());
        if rng.random_bool(0.02) {
            let survival = Survival::draw(&mut rng);
            let image = images(&devices, |device| device.image(survival, &mut rng));
            let context = format!("AEROLITH_SEED={seed} action {at} {survival:?}");
            *used += u64::from(compare(&image, &world, keys, &context).is_some());
        }
    }
    devices.iter().for_each(|device| device.hold(false));
    world.settle();
    world.verify(&format!("AEROLITH_SEED={seed}"));
    drop(waiting);
    for key in 0..keys {
        try_read(&mut world, key).expect("a get");
    }
}

#[test]
fn in_a_random_life_every_image_gives_the_same_with_and_without_its_checkpoint() {
    let (mut used, seeds) = (0, seeds(40));
    let are_few = seeds.end - seeds.start < 10;
    for seed in seeds {
        life(seed, &mut used);
    }
    println!("{used} starts from a checkpoint");
    assert!(are_few || used > 100, "{used} starts from a checkpoint");
}
