//! Checkpoints: what counts from one is durable, is of this life of its block, and is never all there is.

use super::{cut, large};
use aerolith_engine::format::{CheckpointRoot, ROOT_OFFSET};
use aerolith_tests::device::{BLOCK_SIZE, Survival, TestDevice, copies, devices, images};
use aerolith_tests::model::{Model, read};
use aerolith_tests::{World, ready};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::Duration;

type Asked = std::pin::Pin<Box<dyn Future<Output = Result<bool, aerolith_engine::Error>>>>;

fn asked(world: &World) -> Asked {
    let store = world.namespace();
    Box::pin(async move { store.checkpoint().await })
}

fn is_root(offset: u64) -> bool {
    (ROOT_OFFSET..u64::from(BLOCK_SIZE)).contains(&offset)
}

/// What the roots of an image name, and where each lies.
fn roots(device: &TestDevice) -> Vec<(usize, CheckpointRoot)> {
    let at = |slot: u64| (ROOT_OFFSET + slot * 4096) as usize;
    let parse = |bytes: &[u8], at: usize| CheckpointRoot::parse(&bytes[at..]).ok().map(|root| (at, root));
    device.with_state(|bytes| (0..2).filter_map(|slot| parse(bytes, at(slot))).collect())
}

#[test]
pub fn scenario_08_a_record_that_was_moved_behind_a_checkpoint_is_found_though_its_number_is_old() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    // Cold keys between hot ones, and then a checkpoint that has them all.
    for key in 0..150 {
        model.put(&mut world, key, large(1), None);
    }
    assert!(world.run(asked(&world)).expect("a checkpoint"));
    let begun = world.namespace().stats().counters.moved;
    for round in 2..20 {
        for key in (0..150).filter(|key| key % 6 != 0) {
            model.put(&mut world, key, large(round), None);
            world.engine().step();
        }
    }
    world.flush();
    let moved = world.namespace().stats().counters.moved - begun;
    assert!(moved >= 15, "{moved} records were moved");
    let mut after = World::of(&cut(&devices)).like(&world).opened();
    assert_eq!(after.used_checkpoint(), Some(1));
    for key in (0..150).step_by(6) {
        assert_eq!(read(&mut after, key), Some(large(1)), "key {key} was written before the checkpoint");
    }
    model.check(&mut after, "from the checkpoint and its tail");
    after.verify("from the checkpoint and its tail");
}

#[test]
pub fn scenario_09_an_entry_into_a_block_that_was_reused_since_does_not_count() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.config.scrub_rate = 1 << 30;
    world.open();
    let mut model = Model::default();
    for key in (0..60).chain(100..130) {
        model.put(&mut world, key, large(1), None);
    }
    assert!(world.run(asked(&world)).expect("a checkpoint"));
    (0..60).for_each(|key| model.delete(&mut world, key));
    // Their blocks are used again, and then no version of them is left: their tombstones go. The entries stay.
    let removed = |world: &World| world.namespace().stats().counters.tombstones_removed;
    let mut rounds_after = 0;
    for round in 2..200 {
        for key in 100..160 {
            model.put(&mut world, key, large(round), None);
            world.engine().step();
        }
        world.flush();
        world.clock.advance(Duration::from_secs(60));
        // The blocks in which the tombstones lay are used again, too.
        rounds_after += u32::from(removed(&world) == 60);
        if rounds_after > 20 {
            break;
        }
    }
    assert_eq!(removed(&world), 60);
    let mut after = World::of(&cut(&devices)).like(&world).opened();
    assert_eq!(after.used_checkpoint(), Some(1));
    for key in 0..60 {
        assert_eq!(read(&mut after, key), None, "key {key} is an entry into a reused block");
    }
    model.check(&mut after, "from the checkpoint and its tail");
    after.verify("from the checkpoint and its tail");
}

#[test]
pub fn scenario_10_a_root_is_sent_behind_its_body_and_proves_it() {
    let devices = devices(1, 40);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    for key in 0..300 {
        model.put(&mut world, key, large(1), None);
    }
    world.flush();
    devices[0].hold(true);
    let mut checkpoint = asked(&world);
    // One part stays on its way while all else is answered: as long as it does, there is no root.
    for step in 0..100 {
        assert!(ready(&mut checkpoint).is_none());
        world.settle();
        world.clock.advance(Duration::from_millis(20));
        while devices[0].held_count() > 1 {
            devices[0].release(1);
        }
        assert!(devices[0].held_writes().iter().all(|(offset, _)| !is_root(*offset)), "step {step}");
        let mut after = World::of(&cut(&devices)).like(&world).opened();
        assert_eq!(after.used_checkpoint(), None, "step {step}");
    }
    assert_eq!(devices[0].held_count(), 1, "a part is on its way");
    devices[0].hold(false);
    assert!(world.run(checkpoint).expect("a checkpoint"));
    // A root whose body is not what it was, in any of its pages, counts for nothing.
    let image = cut(&devices);
    let before = World::of(&copies(&image)).opened().used_checkpoint();
    assert_eq!(before, Some(1));
    let root = roots(&image[0])[0].1;
    let parts: Vec<usize> = image[0].with_state(|bytes| {
        let is_part = |bytes: &[u8]| bytes[14] == aerolith_engine::format::CHECKPOINT_STREAM;
        let blocks = bytes.chunks(BLOCK_SIZE as usize).enumerate().skip(1);
        blocks.filter(|(_, bytes)| is_part(bytes)).map(|(id, _)| id).collect()
    });
    assert!(parts.len() >= 2 && parts.contains(&(root.summary_block as usize)), "{parts:?}");
    for part in parts {
        let image = copies(&image);
        image[0].with_state(|bytes| bytes[part * BLOCK_SIZE as usize + 700] ^= 0x10);
        let mut after = World::of(&image).like(&world).opened();
        assert_eq!(after.used_checkpoint(), None, "block {part} is damaged");
        model.check(&mut after, "a damaged body");
    }
}

#[test]
pub fn scenario_11_a_torn_checkpoint_costs_time_and_no_data() {
    let devices = devices(1, 40);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    for key in 0..200 {
        model.put(&mut world, key, large(1), None);
    }
    assert!(world.run(asked(&world)).expect("a checkpoint"));
    for key in 100..300 {
        model.put(&mut world, key, large(2), None);
    }
    world.flush();
    // The second root is in flight when the power goes, and arrives as the cut likes it.
    devices[0].hold(true);
    let mut checkpoint = asked(&world);
    while !devices[0].held_writes().iter().any(|(offset, _)| is_root(*offset)) {
        assert!(ready(&mut checkpoint).is_none());
        world.settle();
        world.clock.advance(Duration::from_millis(20));
        while devices[0].held_writes().first().is_some_and(|(offset, _)| !is_root(*offset)) {
            devices[0].release(0);
        }
    }
    let mut rng = StdRng::seed_from_u64(11);
    let survivals = [Survival::None, Survival::AllButFirst, Survival::Prefix, Survival::All];
    for survival in survivals {
        let image = images(&devices, |device| device.image(survival, &mut rng));
        let mut after = World::of(&image).like(&world).opened();
        // The older one is whole: it is in a slot of its own, and its blocks are not given away before.
        let expected = if survival == Survival::None { 1 } else { 2 };
        let used = after.used_checkpoint();
        assert!(used == Some(expected) || used == Some(1), "{survival:?}: {used:?}");
        model.check(&mut after, &format!("{survival:?}, from checkpoint {used:?}"));
        after.verify("from a checkpoint");
    }
    let garbage = cut(&devices);
    let slot = CheckpointRoot::offset_of(2) as usize;
    garbage[0].with_state(|bytes| bytes[slot..slot + 4096].fill(0xEE));
    assert_eq!(
        World::of(&garbage).like(&world).opened().used_checkpoint(),
        Some(1),
        "a torn slot of the second"
    );
    devices[0].hold(false);
    assert!(world.run(checkpoint).expect("a checkpoint"));
    // No log is given up because a checkpoint has it: with both roots gone all is there.
    let image = cut(&devices);
    image[0].with_state(|bytes| bytes[ROOT_OFFSET as usize..ROOT_OFFSET as usize + 8192].fill(0xEE));
    let mut after = World::of(&image).like(&world).opened();
    assert_eq!(after.used_checkpoint(), None);
    model.check(&mut after, "without any checkpoint");
    after.verify("without any checkpoint");
}

#[test]
pub fn scenario_12_a_checkpoint_counts_only_when_what_it_names_is_durable() {
    let devices = devices(1, 40);
    let mut world = World::of(&devices);
    world.open();
    let mut model = Model::default();
    for key in 0..50 {
        model.put(&mut world, key, 1, None);
    }
    world.flush();
    for key in 0..50 {
        model.put(&mut world, key, 2, None);
    }
    // What was written last is in RAM only: as long as the device does not answer, there must be no root.
    devices[0].hold(true);
    let store = world.namespace();
    let mut checkpoint = Box::pin(async move { store.checkpoint().await });
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut rng = StdRng::seed_from_u64(1);
    for step in 0..200 {
        assert!(checkpoint.as_mut().poll(&mut context).is_pending());
        world.settle();
        world.clock.advance(Duration::from_millis(20));
        // Everything but the oldest write is answered.
        while devices[0].held_count() > 1 {
            devices[0].release(1);
        }
        let image = Arc::new(TestDevice::with_bytes("image", devices[0].image(Survival::None, &mut rng)));
        let mut other = World::of(&[image]);
        other.open();
        assert_eq!(other.used_checkpoint(), None, "step {step}");
    }
    devices[0].hold(false);
    assert!(world.run(checkpoint).expect("a checkpoint"));
    let mut after = World::of(&cut(&devices)).like(&world).opened();
    assert_eq!(after.used_checkpoint(), Some(1));
    model.check(&mut after, "all was answered");
}
