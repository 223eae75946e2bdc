//! Named tests of invariants that no other file claims by name: I5, I6 (order), I9, I12.

use aerolith_engine::device::{AlignedBuffer, Request};
use aerolith_engine::{Key, Timestamp, Value, WritePolicy};
use aerolith_tests::{START, World};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const BLOCK_SIZE: u32 = 32 << 10;

fn put(world: &mut World, key: i64, value: u64) {
    let store = world.namespace();
    let bytes = vec![value as u8; 100 + (value % 900) as usize];
    let key = Key::new("keys", key).expect("a number is a key");
    world.run(store.put(&key, &[("v", Value::Bytes(&bytes))], &WritePolicy::default())).expect("a put");
}

fn get(world: &mut World, key: i64) -> Option<Vec<u8>> {
    let store = world.namespace();
    let key = Key::new("keys", key).expect("a number is a key");
    let record = world.run(store.get(&key)).expect("a get")?;
    Some(record.bin("v")?.as_bytes()?.to_vec())
}

/// A life of puts, deletes and steps that depends on nothing but `seed`.
fn live(world: &mut World, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for number in 0..3000 {
        let key = rng.random_range(0..60);
        if rng.random_bool(0.9) {
            put(world, key, number);
        } else {
            let store = world.namespace();
            let key = Key::new("keys", key).expect("a number is a key");
            world.run(store.delete(&key, &WritePolicy::default())).expect("a delete");
        }
        if rng.random_bool(0.2) {
            world.clock.advance(Duration::from_millis(30));
            world.engine().step();
        }
    }
}

#[test]
fn i5_the_newest_version_wins_though_the_clock_went_back() {
    let mut world = World::new(1, 30, BLOCK_SIZE);
    world.open();
    put(&mut world, 1, 1);
    world.flush();
    world.clock.set(Timestamp(START.0 - 86_400_000));
    put(&mut world, 1, 2);
    world.flush();
    world.crash();
    world.open();
    assert_eq!(get(&mut world, 1), Some(vec![2; 102]));
}

#[test]
fn i6_the_outcome_of_a_recovery_does_not_depend_on_the_order_of_the_devices() {
    let mut world = World::new(3, 30, BLOCK_SIZE);
    world.open();
    live(&mut world, 6);
    world.flush();
    world.crash();
    let mut seen = Vec::new();
    for _ in 0..3 {
        world.config.devices.rotate_left(1);
        world.open();
        seen.push((0..60).map(|key| get(&mut world, key)).collect::<Vec<_>>());
        world.crash();
    }
    assert!(seen.iter().all(|one| *one == seen[0]));
    assert!(seen[0].iter().filter(|value| value.is_some()).count() > 30);
}

#[test]
fn i9_a_writer_faster_than_the_device_waits_and_is_never_refused() {
    let mut world = World::new(1, 60, BLOCK_SIZE);
    world.open();
    let before = world.namespace().stats().unwritten_blocks;
    // No job is stepped: sealed blocks pile up to their bound, then the writer waits.
    let store = world.namespace();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let value = [7; 1000];
    let bins = [("v", Value::Bytes(&value))];
    let policy = WritePolicy::default();
    let mut written = 0;
    loop {
        let key = Key::new("keys", written).expect("a number is a key");
        let mut waiting = std::pin::pin!(store.put(&key, &bins, &policy));
        match waiting.as_mut().poll(&mut context) {
            std::task::Poll::Ready(put) => {
                put.expect("never refused");
                written += 1;
            }
            std::task::Poll::Pending => {
                let unwritten = store.stats().unwritten_blocks;
                assert!(before < unwritten && unwritten <= 4, "{unwritten} sealed blocks wait");
                world.run(waiting).expect("it goes on when the device has taken some");
                break;
            }
        }
        assert!(written < 1000, "nothing ever bounds the blocks that wait for the device");
    }
}

#[test]
fn i12_the_same_seed_leaves_the_same_bytes() {
    let image = || {
        let mut world = World::new(2, 30, BLOCK_SIZE);
        world.open();
        live(&mut world, 12);
        world.close();
        let mut bytes = Vec::new();
        for device in &world.devices {
            let size = device.geometry().size as usize;
            let read = device.submit(Request::Read { offset: 0, buffer: AlignedBuffer::zeroed(size) });
            bytes.extend_from_slice(&read.wait().into_buffer().expect("RAM can be read"));
        }
        bytes
    };
    assert!(image() == image());
}
