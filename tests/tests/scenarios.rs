//! Mistakes that log-structured hybrid engines make at a crash, one directed test each, named after it.
//!
//! The numbers are those of the list in `docs/RELIABILITY.md`, which says where the others are: most are met by the
//! simulation (`simulation.rs`, `crash_points.rs`, `checkpoint.rs`) and by the planted bugs that it must catch.

use aerolith_engine::device::Device;
use aerolith_engine::{Clock, Durability, Error, Timestamp, Ttl, Value, WritePolicy};
use aerolith_tests::World;
use aerolith_tests::device::{Survival, TestDevice};
use aerolith_tests::model::{Model, bytes_of, key_of, read};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::Duration;

const BLOCK_SIZE: u32 = 16 << 10;

fn devices(count: usize, blocks: u64) -> Vec<Arc<TestDevice>> {
    let device = |i| TestDevice::new(&format!("test-{i}"), blocks * u64::from(BLOCK_SIZE));
    (0..count).map(|i| Arc::new(device(i))).collect()
}

fn world_on(devices: &[Arc<TestDevice>]) -> World {
    World::on(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect(), BLOCK_SIZE)
}

fn bytes(device: &TestDevice) -> Vec<u8> {
    device.with_state(|bytes| bytes.to_vec())
}

fn filled(world: &mut World, keys: u32) -> Model {
    let mut model = Model::default();
    for key in 0..keys {
        model.put(world, key, u64::from(key), None);
    }
    world.flush();
    model
}

#[test]
fn scenario_02_every_write_is_durable_by_itself() {
    let devices = devices(1, 24);
    let mut world = world_on(&devices);
    world.open();
    let mut model = filled(&mut world, 100);
    for round in 1..40u64 {
        for key in 0..100 {
            model.put(&mut world, key, round << 8 | u64::from(key), None);
        }
    }
    let store = world.namespace();
    world.run(store.checkpoint()).expect("a checkpoint");
    world.flush();
    // No flush came after the writes, so whatever was written without being durable is lost in this image.
    let mut rng = StdRng::seed_from_u64(2);
    let image = Arc::new(TestDevice::with_bytes("image", devices[0].image(Survival::None, &mut rng)));
    let mut after = world_on(&[image]);
    after.open();
    model.check(&mut after, "nothing but what was durable");
}

#[test]
fn scenario_16_an_expired_newest_version_hides_an_older_one_that_would_live_longer() {
    let devices = devices(1, 24);
    let mut world = world_on(&devices);
    world.open();
    let mut model = Model::default();
    model.put(&mut world, 1, 10, Some(3_600_000));
    world.flush();
    model.put(&mut world, 1, 11, Some(5_000));
    world.flush();
    world.clock.advance(Duration::from_secs(60));
    world.settle();
    assert_eq!(read(&mut world, 1), None);
    for use_checkpoint in [false, true] {
        world.crash();
        world.config.use_checkpoint = use_checkpoint;
        world.open();
        assert_eq!(read(&mut world, 1), None, "after a crash, use_checkpoint {use_checkpoint}");
        // Its block is reused by and by; what it hid must stay hidden as long as it is there.
        for round in 0..300u64 {
            model.put(&mut world, 2 + (round % 40) as u32, round << 8, None);
            world.settle();
        }
        world.flush();
        let store = world.namespace();
        assert!(world.run(store.checkpoint()).expect("a checkpoint"));
    }
    world.crash();
    world.config.use_checkpoint = false;
    world.open();
    assert_eq!(read(&mut world, 1), None, "after its block was reused");
}

#[test]
fn scenario_21_a_block_that_a_crash_left_open_is_never_written_again_in_that_life() {
    let devices = devices(1, 24);
    let mut world = world_on(&devices);
    world.open();
    filled(&mut world, 3);
    let left = devices[0].take_writes().last().cloned().expect("something was written");
    let open_block = left.start / u64::from(BLOCK_SIZE);
    world.crash();
    world.open();
    devices[0].take_writes();
    let mut model = Model::default();
    for key in 100..130 {
        model.put(&mut world, key, u64::from(key), None);
        world.flush();
    }
    let written = devices[0].take_writes();
    assert!(written.iter().all(|range| range.start / u64::from(BLOCK_SIZE) != open_block), "{written:?}");
}

#[test]
fn scenario_22_a_page_that_holds_acknowledged_records_is_not_written_again() {
    let devices = devices(1, 40);
    let mut world = world_on(&devices);
    world.config.durability = Durability::Group;
    world.open();
    world.settle();
    devices[0].take_writes();
    let mut written: Vec<std::ops::Range<u64>> = Vec::new();
    for key in 0..60 {
        store_put(&mut world, key, &bytes_of(key, 1));
        for range in devices[0].take_writes() {
            // Zeroing ahead of a block's first use is a whole block.
            if range.end - range.start < u64::from(BLOCK_SIZE) {
                let again = written.iter().find(|old| old.start < range.end && range.start < old.end);
                assert_eq!(again, None, "{range:?} overlaps what was acknowledged");
                written.push(range);
            }
        }
    }
    assert!(written.len() > 30, "{} commits", written.len());
}

#[test]
fn scenario_24_versions_and_generations_go_on_after_a_start_though_the_clock_went_back() {
    let devices = devices(2, 24);
    let mut world = world_on(&devices);
    world.open();
    let mut generation = 0;
    for start in 0..6u64 {
        for round in 0..10 {
            let bytes = bytes_of(7, start << 8 | round);
            let put = store_put(&mut world, 7, &bytes);
            assert_eq!(put, generation + 1, "start {start} round {round}");
            generation = put;
        }
        world.flush();
        if start % 2 == 0 {
            let store = world.namespace();
            world.run(store.checkpoint()).expect("a checkpoint");
        }
        world.clock.set(Timestamp(world.clock.now().0 - 86_400_000));
        world.crash();
        world.open();
        assert_eq!(read(&mut world, 7), Some(start << 8 | 9));
    }
}

fn store_put(world: &mut World, key: u32, bytes: &[u8]) -> u16 {
    let store = world.namespace();
    let policy = WritePolicy::with_ttl(Ttl::Never);
    world.run(store.put(&key_of(key), &[("v", Value::Bytes(bytes))], &policy)).expect("a put").generation
}

#[test]
fn scenario_25_a_start_that_is_cut_at_any_of_its_writes_can_be_made_again() {
    let devices = devices(2, 24);
    let mut world = world_on(&devices);
    world.open();
    let model = filled(&mut world, 80);
    let store = world.namespace();
    world.run(store.checkpoint()).expect("a checkpoint");
    world.crash();
    devices.iter().for_each(|device| device.record());
    world.open();
    world.crash();
    let writes: usize = devices.iter().map(|device| device.recorded_count()).sum();
    assert_eq!(writes, 2, "a start writes one header copy on each device");
    let mut rng = StdRng::seed_from_u64(25);
    for done in 0..=writes {
        for survival in [Survival::None, Survival::Prefix, Survival::All] {
            let images: Vec<_> = devices
                .iter()
                .enumerate()
                .map(|(i, device)| {
                    let at = usize::from(done > i).min(device.recorded_count());
                    Arc::new(TestDevice::with_bytes("image", device.image_at(at, survival, &mut rng)))
                })
                .collect();
            let mut again = world_on(&images);
            again.open();
            model.check(&mut again, &format!("{done} writes done, the next one {survival:?}"));
            again.verify("a start made again");
        }
    }
}

#[test]
fn scenario_26_after_a_failed_write_nothing_is_acknowledged_and_a_start_decides_from_the_medium() {
    let devices = devices(1, 24);
    let mut world = world_on(&devices);
    world.config.durability = Durability::Group;
    world.open();
    world.settle();
    let model = {
        let mut model = Model::default();
        (0..20).for_each(|key| model.put(&mut world, key, 1, None));
        model
    };
    devices[0].fail_writes(Some(libc::EIO));
    let store = world.namespace();
    let bytes = bytes_of(5, 2);
    let refused = world.run(store.put(&key_of(5), &[("v", Value::Bytes(&bytes))], &WritePolicy::default()));
    assert!(matches!(refused, Err(Error::DeviceFailed { .. })), "{refused:?}");
    // The device says that all is well again, as a kernel does after a failed fsync: nobody believes it.
    devices[0].fail_writes(None);
    let still = world.run(store.put(&key_of(6), &[("v", Value::Bytes(&bytes))], &WritePolicy::default()));
    assert!(matches!(still, Err(Error::DeviceFailed { .. })), "{still:?}");
    let read_on = world.run(store.get(&key_of(7))).expect("reads go on");
    assert!(read_on.is_some());
    world.crash();
    world.open();
    model.check(&mut world, "what was acknowledged before is there");
}

#[test]
fn scenario_30_a_block_that_was_written_to_another_place_is_not_taken_for_what_lies_there() {
    let devices = devices(1, 24);
    let mut world = world_on(&devices);
    world.open();
    let model = filled(&mut world, 60);
    world.close();
    let block = BLOCK_SIZE as usize;
    let image = bytes(&devices[0]);
    let used: Vec<usize> = (1..24).filter(|id| image[id * block] != 0).collect();
    assert!(used.len() >= 2, "{used:?}");
    for (&from, &to) in used.iter().zip(&used[1..]) {
        let mut misdirected = image.clone();
        misdirected.copy_within(from * block..(from + 1) * block, to * block);
        let device = Arc::new(TestDevice::with_bytes("misdirected", misdirected));
        let mut after = world_on(&[device]);
        after.config.use_checkpoint = false;
        after.open();
        let found = after.engine().recovery("test").expect("it is configured").clone();
        assert_eq!(found.damaged_blocks, 1, "block {from} over block {to}");
        for key in 0..60 {
            let value = read(&mut after, key);
            assert!(
                value.is_none() || value == model.current(key, after.clock.now().0),
                "key {key}: {value:?}"
            );
        }
    }
    model.check(&mut { world_on(&devices) }.opened(), "the untouched image");
}

/// A world that is open.
trait Opened {
    fn opened(self) -> World;
}

impl Opened for World {
    fn opened(mut self) -> World {
        self.open();
        self
    }
}

#[test]
fn scenario_31_blank_and_unreadable_blocks_hide_nothing_behind_them() {
    let devices = devices(1, 40);
    let mut world = world_on(&devices);
    world.open();
    let model = filled(&mut world, 300);
    world.close();
    let block = u64::from(BLOCK_SIZE);
    let image = bytes(&devices[0]);
    let used: Vec<u64> = (1..40).filter(|id| image[(id * block) as usize] != 0).collect();
    let (first, last) = (used[0], used[used.len() - 1]);
    assert!(last > first + 3, "{used:?}");
    let in_last: Vec<u32> = (0..300)
        .filter(|&key| {
            let needle = bytes_of(key, u64::from(key));
            let at = (last * block) as usize;
            image[at..at + block as usize].windows(needle.len()).any(|window| window == needle)
        })
        .collect();
    assert!(!in_last.is_empty());
    for unreadable in [false, true] {
        let device = TestDevice::with_bytes("image", image.clone());
        let hidden = first * block..last * block;
        if unreadable {
            device.fail_reads(vec![hidden]);
        } else {
            device.with_state(|bytes| bytes[hidden.start as usize..hidden.end as usize].fill(0));
        }
        let mut after = world_on(&[Arc::new(device)]);
        after.config.use_checkpoint = false;
        after.open();
        for &key in &in_last {
            assert_eq!(read(&mut after, key), Some(u64::from(key)), "key {key}, unreadable: {unreadable}");
        }
    }
    drop(model);
}

#[test]
fn scenario_32_a_set_with_a_missing_swapped_foreign_or_older_member_is_refused() {
    let devices = devices(2, 24);
    let mut world = world_on(&devices);
    world.open();
    let model = filled(&mut world, 50);
    world.close();
    let old = bytes(&devices[1]);
    // Another run writes to both.
    let mut world = world_on(&devices).opened();
    let mut model = model;
    for key in 0..50 {
        model.put(&mut world, key, 1000 + u64::from(key), None);
    }
    world.close();
    let now: Vec<Vec<u8>> = devices.iter().map(|device| bytes(device)).collect();
    let refused = |images: Vec<&[u8]>, why: &str| {
        let images: Vec<_> =
            images.iter().map(|bytes| Arc::new(TestDevice::with_bytes("image", bytes.to_vec()))).collect();
        let before: Vec<Vec<u8>> = images.iter().map(|device| bytes(device)).collect();
        let mut world = world_on(&images);
        let error = world.try_open().err().unwrap_or_else(|| panic!("{why}: it opens"));
        assert!(matches!(error, Error::Header(_)), "{why}: {error}");
        let after: Vec<Vec<u8>> = images.iter().map(|device| bytes(device)).collect();
        assert!(before == after, "{why}: something was written");
        error.to_string()
    };
    assert!(refused(vec![&now[0], &old], "an older copy").contains("older copy of itself"));
    refused(vec![&now[0]], "one is missing");
    refused(vec![&now[0], &now[0]], "the same twice");
    refused(vec![&now[0], &vec![0; old.len()]], "one is empty");
    // The order in which they are given does not matter.
    let swapped: Vec<_> =
        [1, 0].iter().map(|&i| Arc::new(TestDevice::with_bytes("image", now[i].clone()))).collect();
    let mut world = world_on(&swapped).opened();
    model.check(&mut world, "given in another order");
}
