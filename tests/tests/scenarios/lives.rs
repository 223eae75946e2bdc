//! A block's lives: what an earlier one left, what a crash left open, and what landed in the wrong place.

use super::{cut, filled, large, swept};
use aerolith_engine::Clock;
use aerolith_engine::format::BLOCK_MAGIC;
use aerolith_tests::World;
use aerolith_tests::device::{BLOCK_SIZE, Survival, TestDevice, copies, devices, images};
use aerolith_tests::model::{Model, bytes_of, read};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;
use std::sync::Arc;

fn bytes(device: &TestDevice) -> Vec<u8> {
    device.with_state(|bytes| bytes.to_vec())
}

/// The blocks of an image in which these bytes lie.
fn blocks_with(image: &[u8], needle: &[u8]) -> Vec<usize> {
    let block = BLOCK_SIZE as usize;
    let has = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    image.chunks(block).enumerate().filter(|(_, bytes)| has(bytes)).map(|(id, _)| id).collect()
}

#[test]
pub fn scenario_19_records_of_an_earlier_life_behind_the_end_of_the_present_one_do_not_count() {
    let devices = devices(1, 16);
    let mut world = World::of(&devices);
    world.open();
    let (mut model, mut looks, mut with_tail) = (Model::default(), 0, 0);
    // Every record is of the same size, so those of an earlier life lie where those of a later one end.
    for number in 0..2000u64 {
        model.put(&mut world, (number % 50) as u32, large(number), None);
        world.settle();
        if number < 600 || number % 29 != 0 {
            continue;
        }
        devices[0].take_writes();
        world.flush();
        let Some(written) = devices[0].take_writes().pop() else { continue };
        let open = (written.end - 1) / u64::from(BLOCK_SIZE);
        // Of all blocks only the one that is being filled is left, so nothing newer hides what it should not have.
        let image = cut(&devices);
        let block = BLOCK_SIZE as usize;
        with_tail += image[0].with_state(|bytes| {
            let others = bytes.chunks_mut(block).enumerate().skip(1).filter(|(id, _)| *id != open as usize);
            others.for_each(|(_, other)| other.fill(0));
            let tail = &bytes[written.end as usize..(open as usize + 1) * block];
            usize::from(tail.iter().any(|&byte| byte != 0))
        });
        looks += 1;
        let mut after = swept(&image, &world);
        let now = after.clock.now().0;
        for key in 0..50 {
            let found = read(&mut after, key);
            let current = model.current(key, now);
            assert!(
                found.is_none() || found == current,
                "put {number}, key {key}: {found:?} of an earlier life"
            );
        }
        after.verify("one block alone");
    }
    assert!(
        looks > 20 && with_tail > 10,
        "{looks} looks, {with_tail} at a block with an earlier life's tail"
    );
}

#[test]
pub fn scenario_20_what_a_freed_block_reads_as_makes_no_difference() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.open();
    let mut rng = StdRng::seed_from_u64(20);
    let (mut freed, mut looks, mut model) = (0, 0, Model::default());
    (0..120).for_each(|key| model.put(&mut world, key, large(1), None));
    for (round, key) in (2..8).flat_map(|round| (0..120).map(move |key| (round, key))) {
        if key % 3 != 0 {
            model.put(&mut world, key, large(round), None);
            world.engine().step();
        }
        if key % 16 != 1 {
            continue;
        }
        looks += 1;
        if looks % 6 != 0 {
            continue;
        }
        world.flush();
        let image = cut(&devices);
        let now = world.clock.now().0;
        let in_use: HashSet<usize> = image[0].with_state(|bytes| {
            let needle = |key| model.current(key, now).map(|value| bytes_of(key, value)[..24].to_vec());
            (0..120).filter_map(needle).flat_map(|needle| blocks_with(bytes, &needle)).collect()
        });
        // What was given back with a TRIM may read as anything, each sector for itself, and nothing was erased.
        for with_old in [false, true] {
            let image = copies(&image);
            image[0].with_state(|bytes| {
                for (id, block) in bytes.chunks_mut(BLOCK_SIZE as usize).enumerate().skip(1) {
                    if in_use.contains(&id) {
                        continue;
                    }
                    freed += u32::from(block.starts_with(&BLOCK_MAGIC));
                    for sector in block.chunks_mut(512) {
                        match rng.random_range(0..3) {
                            0 if with_old => {}
                            1 => sector.fill(0),
                            _ => rng.fill(sector),
                        }
                    }
                }
            });
            let mut after = swept(&image, &world);
            model.check(&mut after, &format!("free blocks read as anything, as they were too: {with_old}"));
            after.verify("free blocks read as anything");
        }
    }
    assert!(freed > 20, "{freed} blocks had been used and were free");
}

/// Of a freed block's next life the first write may arrive without its header.
#[test]
pub fn scenario_20_a_block_that_was_reused_and_lost_its_new_header_hides_no_moved_record() {
    let devices = devices(1, 16);
    let mut world = World::of(&devices);
    world.config.stop_writes_pct = 97;
    world.open();
    let mut rng = StdRng::seed_from_u64(20);
    let (mut torn, mut model) = (0, Model::default());
    (0..96).for_each(|key| model.put(&mut world, key, large(1), None));
    world.flush();
    for number in 0..2500 {
        // Of each three keys one stays as it is, and is moved by and by.
        let key = rng.random_range(0..32) * 3 + rng.random_range(1..3);
        model.put(&mut world, key, large(2 + number), None);
        devices[0].hold(true);
        world.engine().step();
        let opens = |(offset, bytes): &(u64, Vec<u8>)| {
            let old = devices[0].with_state(|now| now[*offset as usize..][..8].to_vec());
            offset.is_multiple_of(u64::from(BLOCK_SIZE))
                && bytes.starts_with(&BLOCK_MAGIC)
                && old == BLOCK_MAGIC
        };
        if devices[0].held_writes().iter().any(opens) {
            torn += 1;
            let image = images(&devices, |device| device.image(Survival::AllButFirst, &mut rng));
            let mut after = swept(&image, &world);
            for key in (0..96).step_by(3) {
                assert_eq!(read(&mut after, key), Some(large(1)), "key {key} had been moved");
            }
            after.verify("a block without its header");
        }
        devices[0].hold(false);
    }
    let moved = world.namespace().stats().counters.moved;
    assert!(torn > 10 && moved > 60, "{torn} blocks were opened again, {moved} records moved");
}

#[test]
pub fn scenario_21_a_block_that_a_crash_left_open_is_never_written_again_in_that_life() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
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
pub fn scenario_30_a_block_that_was_written_to_another_place_is_not_taken_for_what_lies_there() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
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
        let mut after = World::of(&[device]);
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
    model.check(&mut World::of(&devices).opened(), "the untouched image");
}

#[test]
pub fn scenario_31_blank_and_unreadable_blocks_hide_nothing_behind_them() {
    let devices = devices(1, 40);
    let mut world = World::of(&devices);
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
        let mut after = World::of(&[Arc::new(device)]);
        after.config.use_checkpoint = false;
        after.open();
        for &key in &in_last {
            assert_eq!(read(&mut after, key), Some(u64::from(key)), "key {key}, unreadable: {unreadable}");
        }
    }
    drop(model);
}
