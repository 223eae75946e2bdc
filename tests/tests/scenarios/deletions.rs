//! What is gone stays gone: deleted, expired, truncated.

use super::{Write, cut, filled, large, swept};
use aerolith_engine::Durability;
use aerolith_engine::format::ROOT_OFFSET;
use aerolith_tests::device::{BLOCK_SIZE, TestDevice, copies, devices};
use aerolith_tests::model::{Model, bytes_of, read};
use aerolith_tests::{World, ready};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

#[test]
pub fn scenario_13_a_deleted_record_stays_gone_when_all_blocks_are_read() {
    let devices = devices(2, 24);
    let mut world = World::of(&devices);
    world.open();
    let mut model = filled(&mut world, 100);
    (0..100).step_by(3).for_each(|key| model.delete(&mut world, key));
    world.flush();
    world.crash();
    let mut after = swept(&devices, &world);
    model.check(&mut after, "after a sweep over all blocks");
    assert_eq!(after.verify("after a sweep").tombstones, 34);
}

/// Keys that were deleted, in blocks that are otherwise alive and so are left alone; their tombstones, in blocks that soon
/// hold nothing else; and so many overwrites that defrag moves the tombstones and their old blocks are used again. `look` is
/// called again and again, with all on the device; the number of older versions that still lie there is what it is told.
fn tombstones_on_the_move(
    world: &mut World,
    devices: &[Arc<TestDevice>],
    mut look: impl FnMut(&mut World, &Model, usize),
) {
    let mut model = Model::default();
    for key in 0..56 {
        model.put(world, key, large(1), None);
    }
    let deleted: Vec<u32> = (0..56).step_by(4).collect();
    deleted.iter().for_each(|&key| model.delete(world, key));
    let older = |devices: &[Arc<TestDevice>]| {
        let is_there = |key: &&u32| {
            let needle = bytes_of(**key, large(1));
            devices[0].with_state(|bytes| bytes.windows(24).any(|window| window == &needle[..24]))
        };
        deleted.iter().filter(is_there).count()
    };
    let (mut moved, mut rng) = (0, StdRng::seed_from_u64(14));
    for round in 2..26 {
        for n in 0..40 {
            model.put(world, 200 + rng.random_range(0..40), large(round * 40 + n), None);
            world.engine().step();
            if n % 20 == 19 {
                world.flush();
                look(world, &model, older(devices));
            }
        }
        moved = world.namespace().stats().counters.moved;
    }
    assert!(moved > 12, "{moved} records were moved");
}

#[test]
pub fn scenario_14_a_tombstone_stays_as_long_as_an_older_version_lies_anywhere() {
    let devices = devices(1, 16);
    let mut world = World::of(&devices);
    world.open();
    let mut with_older = 0;
    tombstones_on_the_move(&mut world, &devices, |world, model, older| {
        with_older += usize::from(older > 0);
        let mut after = swept(&cut(&devices), world);
        model.check(&mut after, &format!("{older} older versions lie on the device"));
        after.verify("a sweep over all blocks");
    });
    assert!(with_older > 4, "older versions were there {with_older} times");
}

#[test]
pub fn scenario_15_a_tombstone_outlives_the_checkpoint_that_could_do_without_it() {
    let devices = devices(1, 20);
    let mut world = World::of(&devices);
    world.config.scrub_rate = 1 << 30;
    world.open();
    let (mut used, mut with_older) = (0, 0);
    tombstones_on_the_move(&mut world, &devices, |world, model, older| {
        let store = world.namespace();
        world.run(store.checkpoint()).expect("a checkpoint, or no room");
        // The scrub looks for tombstones that hide nothing.
        world.clock.advance(Duration::from_secs(700));
        world.settle();
        world.flush();
        let image = cut(&devices);
        let mut with = World::of(&copies(&image)).like(world).opened();
        if with.used_checkpoint().is_none() {
            return;
        }
        used += 1;
        with_older += usize::from(older > 0);
        model.check(&mut with, "from the checkpoint");
        // The same, but both roots rot: the blocks are all there is.
        image[0].with_state(|bytes| bytes[ROOT_OFFSET as usize..BLOCK_SIZE as usize].fill(0xEE));
        let mut without = World::of(&image).like(world).opened();
        assert_eq!(without.used_checkpoint(), None);
        model.check(&mut without, &format!("without it, {older} older versions on the device"));
    });
    assert!(used > 10 && with_older > 10, "{used} checkpoints, {with_older} with older versions");
    assert!(world.namespace().stats().counters.scrub_passes > 1);
}

#[test]
pub fn scenario_16_an_expired_newest_version_hides_an_older_one_that_would_live_longer() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    // The older version's block is alive otherwise, and is left alone.
    (100..118).for_each(|key| model.put(&mut world, key, large(1), None));
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
        for round in 0..800u64 {
            model.put(&mut world, 2 + (round % 40) as u32, large(round), None);
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
pub fn scenario_18_a_truncation_is_answered_only_when_it_is_durable() {
    for set in [Some("keys"), None] {
        let devices = devices(1, 24);
        let mut world = World::of(&devices);
        world.config.durability = Durability::Group;
        world.open();
        filled(&mut world, 50);
        world.settle();
        devices[0].hold(true);
        let store = world.namespace();
        let mut truncation: Write = Box::pin(async move { store.truncate(set).await });
        for step in 0.. {
            let is_told = ready(&mut truncation).is_some();
            let mut after = swept(&cut(&devices), &world);
            let left = (0..50).filter(|&key| read(&mut after, key).is_some()).count();
            assert!(left == 0 || left == 50, "{left} of 50 are left");
            assert!(!is_told || left == 0, "it was answered, and a cut brings {left} records back");
            if is_told {
                assert!(step > 1, "the device has been asked");
                break;
            }
            world.settle();
            devices[0].release(0);
            assert!(step < 100, "it is never answered");
        }
        devices[0].hold(false);
    }
}
