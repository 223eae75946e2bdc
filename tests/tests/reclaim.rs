//! Space comes back: overwriting goes on for ten times the size of the device, nothing is refused, nothing is stuck
//! (`World::run` panics when the jobs cannot give what a writer waits for), and the books are right at every step.

use aerolith_engine::{Error, Key, Ttl, Value, WritePolicy};
use aerolith_tests::World;
use aerolith_tests::model::is_full;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const BLOCK_SIZE: u32 = 32 << 10;
const VALUE_SIZE: usize = 700;

fn key(id: u64) -> Key<'static> {
    Key::new("keys", id as i64).expect("a number is a key")
}

fn put(world: &mut World, id: u64, version: u64, ttl: Ttl) -> Result<(), Error> {
    let mut bytes = vec![id as u8; VALUE_SIZE];
    bytes[..8].copy_from_slice(&version.to_le_bytes());
    let store = world.namespace();
    world.run(store.put(&key(id), &[("v", Value::Bytes(&bytes))], &WritePolicy::with_ttl(ttl))).map(drop)
}

fn version(world: &mut World, id: u64) -> Option<u64> {
    let store = world.namespace();
    let record = world.run(store.get(&key(id))).expect("a get")?;
    let bytes = record.bin("v")?.as_bytes()?.to_vec();
    Some(u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")))
}

/// Ids as accesses are: all alike, or a few of them most of the time (about Zipf with exponent 1).
fn draw(rng: &mut StdRng, count: u64, is_skewed: bool) -> u64 {
    if is_skewed {
        ((count as f64).powf(rng.random::<f64>()) as u64 - 1) * 7919 % count
    } else {
        rng.random_range(0..count)
    }
}

fn overwrite(utilisation_pct: u64, is_skewed: bool) {
    let mut world = World::new(1, 160, 128 << 10);
    // The reserve and the footers of so few and small blocks are a tenth of the device.
    world.config.stop_writes_pct = 97;
    world.open();
    put(&mut world, 0, 0, Ttl::Never).unwrap();
    let stored = world.namespace().stats().used_size;
    let device_size = world.namespace().stats().device_size;
    let count = device_size * utilisation_pct / 100 / stored;
    let mut versions = vec![0; count as usize];
    let mut rng = StdRng::seed_from_u64(utilisation_pct);
    (1..count).for_each(|id| put(&mut world, id, 0, Ttl::Never).expect("the load fits"));
    let total = 10 * device_size / stored;
    for i in 1..=total {
        let id = draw(&mut rng, count, is_skewed);
        put(&mut world, id, i, Ttl::Never).expect("an overwrite is never refused");
        versions[id as usize] = i;
        if i % 64 == 0 {
            world.clock.advance(Duration::from_millis(10));
            world.engine().step();
        }
        if i % (total / 10) == 0 {
            world.verify("while overwriting");
        }
    }
    let stats = world.namespace().stats();
    println!(
        "{utilisation_pct} %, skewed {is_skewed}: {total} overwrites, write amplification {:.2}, {} waits",
        stats.write_amplification(),
        stats.counters.waited
    );
    assert_eq!((stats.counters.refused, stats.objects), (0, count));
    for id in 0..count {
        assert_eq!(version(&mut world, id), Some(versions[id as usize]), "record {id}");
    }
    world.close();
    world.open();
    for id in 0..count {
        assert_eq!(version(&mut world, id), Some(versions[id as usize]), "record {id} after a restart");
    }
    let verified = world.verify("after a restart");
    assert_eq!(verified.objects, count);
}

#[test]
fn overwrites_at_60_percent_go_on_for_ten_times_the_device() {
    overwrite(60, false);
}

#[test]
fn skewed_overwrites_at_60_percent_go_on_for_ten_times_the_device() {
    overwrite(60, true);
}

#[test]
fn overwrites_at_80_percent_go_on_for_ten_times_the_device() {
    overwrite(80, false);
}

#[test]
fn skewed_overwrites_at_80_percent_go_on_for_ten_times_the_device() {
    overwrite(80, true);
}

#[test]
fn tombstones_move_with_what_is_alive_and_still_hide_what_they_deleted() {
    let mut world = World::new(2, 40, BLOCK_SIZE);
    world.open();
    (0..600).for_each(|id| put(&mut world, id, 1, Ttl::Never).unwrap());
    let store = world.namespace();
    for id in (0..600).step_by(3) {
        assert!(world.run(store.delete(&key(id), &WritePolicy::default())).unwrap());
    }
    drop(store);
    // Ids from 1000 on turn the blocks over many times; those below are moved along.
    let (mut moved, mut rng) = (0, StdRng::seed_from_u64(1));
    for i in 0..30_000 {
        put(&mut world, 1000 + rng.random_range(0..900), i, Ttl::Never).unwrap();
        if i % 7000 == 0 {
            world.flush();
            moved += world.namespace().stats().counters.moved;
            if i % 2 == 0 {
                world.crash()
            } else {
                world.close()
            }
            world.open();
            let verified = world.verify("after a restart");
            assert_eq!(verified.tombstones, 200, "{moved} moved");
        }
    }
    assert!(moved > 600, "{moved} moved");
    for id in 0..600 {
        assert_eq!(version(&mut world, id), (id % 3 != 0).then_some(1), "record {id}");
    }
}

#[test]
fn blocks_whose_records_have_all_expired_are_freed_without_a_read() {
    let mut world = World::new(1, 60, BLOCK_SIZE);
    world.open();
    let opened = world.device_reads();
    for round in 0..20 {
        let free = world.namespace().stats().free_blocks;
        assert!(free > 50, "round {round}: {free} blocks are free");
        let ttl = Ttl::For(Duration::from_secs(5));
        (0..1000).for_each(|id| put(&mut world, round * 1000 + id, 1, ttl).unwrap());
        assert!(world.namespace().stats().free_blocks < 45);
        world.flush();
        // Two passes of the sweep after the end, then the blocks settle.
        for _ in 0..30 {
            world.clock.advance(Duration::from_secs(1));
            world.settle();
        }
        assert_eq!(world.verify("after expiry").objects, 0);
    }
    assert_eq!(world.device_reads(), opened, "nothing was read after the engine was opened");
    assert_eq!(world.namespace().stats().counters.expired, 20_000);
}

#[test]
fn a_full_device_refuses_puts_serves_the_rest_and_recovers_after_deletes() {
    for devices in 1..=2 {
        let mut world = World::new(devices, 40, BLOCK_SIZE);
        world.open();
        let mut count = 0;
        for _ in 0..3 {
            let refusal = loop {
                match put(&mut world, count, 1, Ttl::Never) {
                    Ok(()) => count += 1,
                    Err(error) => break error,
                }
            };
            assert!(is_full(&refusal) && refusal.to_string().contains("Delete records"), "{refusal}");
            assert!(count > devices as u64 * 700, "{count} records of 800 bytes fit");
            assert!(is_full(&put(&mut world, 0, 2, Ttl::Never).unwrap_err()), "overwrites are refused, too");
            world.verify("when full");
            for id in 0..count {
                assert_eq!(version(&mut world, id), Some(1), "record {id} of a full store");
            }
            let store = world.namespace();
            for id in 0..count {
                assert!(world.run(store.delete(&key(id), &WritePolicy::default())).unwrap(), "record {id}");
            }
            drop(store);
            world.flush();
            for id in 0..count / 2 {
                put(&mut world, id, 1, Ttl::Never).expect("there is space again");
            }
            world.verify("after deletes");
            count /= 2;
        }
        // The same over a restart: a full store opens, and takes deletes.
        while put(&mut world, count, 1, Ttl::Never).is_ok() {
            count += 1;
        }
        world.close();
        world.open();
        let store = world.namespace();
        for id in 0..count / 2 {
            assert!(world.run(store.delete(&key(id), &WritePolicy::default())).unwrap());
        }
        drop(store);
        put(&mut world, 0, 7, Ttl::Never).expect("there is space again");
        assert_eq!(version(&mut world, 0), Some(7));
    }
}
