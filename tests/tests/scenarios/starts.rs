//! Starts: what was served stays, what was drawn goes on, and a set is what it was.

use super::{cut, filled, put};
use aerolith_engine::format::{DeviceHeader, HEADER_PAGE};
use aerolith_engine::{Clock, Durability, Error, Timestamp, Ttl, Value, WritePolicy};
use aerolith_tests::device::{Survival, TestDevice, devices};
use aerolith_tests::model::{bytes_of, key_of, read};
use aerolith_tests::{World, ready};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;

fn bytes(device: &TestDevice) -> Vec<u8> {
    device.with_state(|bytes| bytes.to_vec())
}

#[test]
pub fn scenario_23_what_a_start_after_a_kill_has_served_survives_a_cut() {
    let devices = devices(2, 24);
    let mut world = World::of(&devices);
    world.config.durability = Durability::Group;
    world.open();
    let mut model = filled(&mut world, 40);
    world.settle();
    devices.iter().for_each(|device| device.hold(true));
    let mut puts: Vec<_> = (0..40).map(|key| put(&world, key, 1000, Durability::Group)).collect();
    puts.iter_mut().for_each(|put| assert!(ready(put).is_none()));
    world.settle();
    assert!(devices.iter().all(|device| device.held_count() > 0));
    // kill -9: what was on its way is in the devices' caches, and was never acknowledged.
    world.crash();
    drop(puts);
    devices.iter().for_each(|device| device.kill());
    world.open();
    let served: Vec<_> = (0..40).map(|key| read(&mut world, key)).collect();
    let from_cache = served.iter().filter(|value| **value == Some(1000)).count();
    assert!(from_cache > 10, "{from_cache} of 40 are served from the cache");
    // The power goes before anything else is written.
    let mut after = World::of(&cut(&devices)).like(&world).opened();
    for (key, value) in (0..).zip(&served) {
        assert_eq!(read(&mut after, key), *value, "key {key} had been served");
        model.note(key, aerolith_tests::model::Version { value: *value, expires_ms: 0 });
    }
    model.check(&mut after, "what was served");
    after.verify("after the cut");
}

#[test]
pub fn scenario_24_versions_and_generations_go_on_after_a_start_though_the_clock_went_back() {
    let devices = devices(2, 24);
    let mut world = World::of(&devices);
    world.open();
    let mut generation = 0;
    for start in 0..6u64 {
        // Fewer than before, so that numbers that start anew do not come to where they were.
        let last = 20 - 3 * start;
        for round in 0..=last {
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
        // A checkpoint's tail wins over it without a look at numbers; a sweep over all blocks compares them.
        world.config.use_checkpoint = start % 2 == 0;
        world.open();
        assert_eq!(read(&mut world, 7), Some(start << 8 | last));
    }
}

/// How often the header of a device says that it was opened for writing.
fn incarnation(device: &TestDevice) -> u64 {
    device.with_state(|bytes| {
        let copy =
            |at: usize| DeviceHeader::parse(&bytes[at..]).map(|header| header.incarnation).unwrap_or(0);
        copy(0).max(copy(HEADER_PAGE as usize))
    })
}

fn store_put(world: &mut World, key: u32, bytes: &[u8]) -> u16 {
    let store = world.namespace();
    let policy = WritePolicy::with_ttl(Ttl::Never);
    world.run(store.put(&key_of(key), &[("v", Value::Bytes(bytes))], &policy)).expect("a put").generation
}

#[test]
pub fn scenario_25_a_start_that_is_cut_at_any_of_its_writes_can_be_made_again() {
    let devices = devices(2, 24);
    let mut world = World::of(&devices);
    world.open();
    let model = filled(&mut world, 80);
    let store = world.namespace();
    world.run(store.checkpoint()).expect("a checkpoint");
    world.crash();
    devices.iter().for_each(|device| device.record());
    world.open();
    world.crash();
    let writes: usize = devices.iter().map(|device| device.recorded_count()).sum();
    assert_eq!(writes, 4, "a start writes both header copies of each device");
    let mut rng = StdRng::seed_from_u64(25);
    for done in 0..=writes {
        for survival in [Survival::None, Survival::Prefix, Survival::All] {
            let images: Vec<_> = devices
                .iter()
                .enumerate()
                .map(|(i, device)| {
                    // They come in turn: first the number on each device, then on each that it is confirmed.
                    let survival = if done % 2 == i { survival } else { Survival::None };
                    let bytes = device.image_at((done + 1 - i) / 2, survival, &mut rng);
                    Arc::new(TestDevice::with_bytes("image", bytes))
                })
                .collect();
            let before = images.iter().map(|device| incarnation(device)).max();
            let mut again = World::of(&images);
            again.open();
            // Whatever the cut start had drawn, this one's epochs are its own.
            assert!(images.iter().all(|device| Some(incarnation(device)) > before), "{done} {survival:?}");
            model.check(&mut again, &format!("{done} writes done, the next one {survival:?}"));
            again.verify("a start made again");
        }
    }
}

#[test]
pub fn scenario_32_a_set_with_a_missing_swapped_foreign_or_older_member_is_refused() {
    let devices = devices(2, 24);
    let mut world = World::of(&devices);
    world.open();
    let model = filled(&mut world, 50);
    world.close();
    let old = bytes(&devices[1]);
    // Another run writes to both.
    let mut world = World::of(&devices).opened();
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
        let mut world = World::of(&images);
        let error = world.try_open().err().unwrap_or_else(|| panic!("{why}: it opens"));
        assert!(matches!(error, Error::Header(_)), "{why}: {error}");
        let after: Vec<Vec<u8>> = images.iter().map(|device| bytes(device)).collect();
        assert!(before == after, "{why}: something was written");
        error.to_string()
    };
    assert!(refused(vec![&now[0], &old], "an older copy").contains("older copy of itself"));
    for nth in 0..2 {
        // A run that has written nothing, and one whose only record is on one of the devices.
        let older: Vec<Vec<u8>> = devices.iter().map(|device| bytes(device)).collect();
        let mut world = World::of(&devices).opened();
        (0..nth).for_each(|_| model.put(&mut world, 7, 2000, None));
        world.flush();
        world.crash();
        let now: Vec<Vec<u8>> = devices.iter().map(|device| bytes(device)).collect();
        for (first, second) in [(&now[0], &older[1]), (&older[0], &now[1])] {
            let why = refused(vec![first, second], "an older copy, and hardly anything written since");
            assert!(why.contains("older copy of itself"), "{why}");
        }
    }
    let now: Vec<Vec<u8>> = devices.iter().map(|device| bytes(device)).collect();
    refused(vec![&now[0]], "one is missing");
    refused(vec![&now[0], &now[0]], "the same twice");
    refused(vec![&now[0], &vec![0; old.len()]], "one is empty");
    // The order in which they are given does not matter.
    let swapped: Vec<_> =
        [1, 0].iter().map(|&i| Arc::new(TestDevice::with_bytes("image", now[i].clone()))).collect();
    let mut world = World::of(&swapped).opened();
    model.check(&mut world, "given in another order");
}
