//! The scrub: damage is found and named, and a tombstone goes when nothing is left for it to hide, never before.
//!
//! A failure of a random life names its seed: `AEROLITH_SEED=n cargo test -p aerolith-tests --test scrub`.

use aerolith_engine::device::Device;
use aerolith_engine::{Clock, Damage};
use aerolith_tests::device::TestDevice;
use aerolith_tests::model::{Model, read};
use aerolith_tests::{World, seeds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

const BLOCK_SIZE: u32 = 16 << 10;

fn world_of(blocks: u64, scrub_rate: u64) -> (World, Arc<TestDevice>) {
    let device = Arc::new(TestDevice::new("test", blocks * u64::from(BLOCK_SIZE)));
    let mut world = World::on(vec![device.clone() as Arc<dyn Device>], BLOCK_SIZE);
    world.config.scrub_rate = scrub_rate;
    (world, device)
}

/// Runs until one more whole pass, begun from now on, has ended.
fn pass(world: &mut World) {
    world.flush();
    let passes = |world: &World| world.namespace().stats().counters.scrub_passes;
    let target = passes(world) + 2;
    for _ in 0..200_000 {
        if passes(world) >= target {
            return;
        }
        if !world.engine().step() {
            let is_resting = world.namespace().stats().scrub_pass_blocks == 0;
            world.clock.advance(Duration::from_millis(if is_resting { 600_000 } else { 1 }));
        }
    }
    panic!("the scrub never ends a pass");
}

#[test]
fn a_tombstone_goes_when_the_older_versions_are_overwritten_and_not_before() {
    let (mut world, _device) = world_of(24, 1 << 30);
    world.open();
    let mut model = Model::default();
    (0..20).for_each(|key| model.put(&mut world, key, 1, None));
    // A tombstone in the same block as what it hides would keep that block from being used again.
    (100..140).for_each(|key| model.put(&mut world, key, 13, None));
    world.flush();
    (0..20).for_each(|key| model.delete(&mut world, key));
    pass(&mut world);
    // The blocks with the older versions are free and not erased: a sweep would find them.
    assert_eq!(world.namespace().stats().counters.tombstones_removed, 0);
    world.crash();
    world.config.use_checkpoint = false;
    world.open();
    (0..20).for_each(|key| assert_eq!(read(&mut world, key), None, "key {key}"));
    // Every block is used again.
    let mut removed = 0;
    for round in 0..60u64 {
        (100..140).for_each(|key| model.put(&mut world, key, round * 7 + 3, None));
        if round % 10 == 9 {
            pass(&mut world);
            removed += world.namespace().stats().counters.tombstones_removed;
            world.verify("after a pass");
            world.crash();
            world.open();
            (0..20).for_each(|key| assert_eq!(read(&mut world, key), None, "round {round} key {key}"));
        }
    }
    assert!(removed >= 20, "{removed}");
    model.check(&mut world, "in the end");
}

#[test]
fn damage_is_found_and_named_and_what_can_be_saved_is_moved() {
    let (mut world, device) = world_of(24, 1 << 30);
    world.open();
    let mut model = Model::default();
    (0..100).for_each(|key| model.put(&mut world, key, 13, None));
    world.close();
    // Block 1 loses its header, block 2 a record, block 3 its footer.
    let block = |id: usize| id * BLOCK_SIZE as usize;
    device.with_state(|bytes| {
        assert!([1, 2, 3].iter().all(|&id| bytes[block(id)] != 0));
    });
    world.open();
    device.with_state(|bytes| {
        bytes[block(1) + 9] ^= 1;
        bytes[block(2) + 64 + 100] ^= 1;
        bytes[block(4) - 1] ^= 1;
    });
    pass(&mut world);
    let faults = world.namespace().scrub_faults();
    let has = |block: u32, wanted: fn(&Damage) -> bool| {
        faults.iter().any(|fault| fault.block == block && wanted(&fault.damage))
    };
    assert!(has(1, |damage| *damage == Damage::BlockHeader), "{faults:?}");
    assert!(has(2, |damage| matches!(damage, Damage::Record(_))), "{faults:?}");
    assert!(has(3, |damage| *damage == Damage::Footer), "{faults:?}");
    let first: Vec<_> = faults.iter().filter(|fault| fault.pass == 1).collect();
    assert_eq!(first.len(), 3, "{faults:?}");
    // Header and footer are gone with their blocks; the record is told once more.
    let second: Vec<_> = faults.iter().filter(|fault| fault.pass == 2).map(|fault| fault.block).collect();
    assert_eq!(second, [2]);
    assert!(world.namespace().stats().counters.moved > 0);
}

#[test]
fn a_block_that_cannot_be_read_keeps_every_tombstone() {
    let (mut world, device) = world_of(24, 1 << 30);
    world.open();
    let mut model = Model::default();
    (0..20).for_each(|key| model.put(&mut world, key, 1, None));
    // A tombstone in the same block as what it hides would keep that block from being used again.
    (100..140).for_each(|key| model.put(&mut world, key, 13, None));
    world.flush();
    (0..20).for_each(|key| model.delete(&mut world, key));
    for round in 0..60u64 {
        (100..140).for_each(|key| model.put(&mut world, key, round * 7 + 3, None));
    }
    let last = 23 * u64::from(BLOCK_SIZE);
    device.fail_reads(std::iter::once(last..last + 4096).collect());
    pass(&mut world);
    assert_eq!(world.namespace().stats().counters.tombstones_removed, 0);
    device.fail_reads(Vec::new());
    pass(&mut world);
    assert!(world.namespace().stats().counters.tombstones_removed > 0);
}

#[test]
fn it_reads_no_faster_than_it_may() {
    let rate = 100_000;
    let (mut world, device) = world_of(24, rate);
    world.open();
    (0..100).for_each(|key| Model::default().put(&mut world, key, 13, None));
    world.flush();
    world.settle();
    device.take_reads();
    let (begun, mut read) = (world.namespace().stats().counters.scrubbed_size, 0);
    for ms in 1..2000 {
        world.clock.advance(Duration::from_millis(1));
        world.settle();
        read += device.take_reads().iter().map(|range| range.end - range.start).sum::<u64>();
        // What it had not used of a tenth of a second, and one read more.
        assert!(read <= rate * (ms + 100) / 1000 + u64::from(BLOCK_SIZE), "{read} in {ms} ms");
    }
    assert!(read > rate, "{read}");
    assert!(world.namespace().stats().counters.scrubbed_size > begun);
}

fn life(seed: u64) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut world, _device) = world_of(rng.random_range(20..32), 1 << 30);
    world.config.checkpoint_period = Some(Duration::from_millis(300));
    let mut model = Model::default();
    let (mut number, mut removed) = (seed << 32, 0);
    let keys = rng.random_range(20..80);
    for chapter in 0..8 {
        world.config.use_checkpoint = rng.random_bool(0.5);
        world.open();
        let context = format!("AEROLITH_SEED={seed} chapter {chapter}");
        model.check_after_crash(&mut world, &context);
        for _ in 0..rng.random_range(50..1200) {
            number += 1;
            let key = rng.random_range(0..keys);
            match rng.random_range(0..100) {
                0..45 => {
                    let ttl = rng.random_bool(0.3).then(|| rng.random_range(1..20_000));
                    model.put(&mut world, key, number, ttl);
                }
                45..65 => model.delete(&mut world, key),
                65..75 => world.clock.advance(Duration::from_millis(rng.random_range(1..900))),
                75..78 => {
                    world.flush();
                    model.all_durable();
                }
                _ => {
                    world.engine().step();
                }
            }
            assert_eq!(
                read(&mut world, key),
                model.current(key, world.clock.now().0),
                "{context}: key {key}"
            );
        }
        model.check(&mut world, &context);
        world.verify(&context);
        removed += world.namespace().stats().counters.tombstones_removed;
        world.crash();
    }
    removed
}

#[test]
fn in_a_random_life_tombstones_go_and_nothing_comes_back() {
    let seeds = seeds(30);
    let are_few = seeds.end - seeds.start < 10;
    let removed: u64 = seeds.map(life).sum();
    println!("{removed} tombstones removed");
    assert!(are_few || removed > 0, "{removed} tombstones removed");
}
