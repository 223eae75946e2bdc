//! Acknowledgements: what was answered is durable, and what is durable stays.

use super::{Write, cut, filled, large, put, swept};
use aerolith_engine::format::{FOOTER_MAGIC, FOOTER_TRAILER_SIZE, ROOT_OFFSET};
use aerolith_engine::{Durability, Error, Value, WritePolicy};
use aerolith_tests::device::{BLOCK_SIZE, devices};
use aerolith_tests::model::{Model, bytes_of, key_of, read};
use aerolith_tests::{World, ready};
use std::collections::HashMap;
use std::ops::Range;

#[test]
pub fn scenario_01_a_group_commit_is_answered_only_when_its_write_is_durable() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.config.durability = Durability::Group;
    world.open();
    world.settle();
    devices[0].hold(true);
    // Several commits in flight, several puts in each.
    let (mut puts, mut told) = (Vec::new(), Vec::new());
    for key in 0..40 {
        let mut put: Write = put(&world, key, large(1), Durability::Group);
        match ready(&mut put) {
            Some(_) => told.push(key),
            None => puts.push((key, put)),
        }
        if key % 4 == 3 {
            world.settle();
        }
    }
    // The device answers them from the last to the first.
    let mut commits = 0;
    loop {
        world.settle();
        puts.retain_mut(|(key, put)| {
            let is_told = ready(put).is_some();
            told.extend(is_told.then_some(*key));
            !is_told
        });
        let mut after = swept(&cut(&devices), &world);
        for &key in &told {
            assert_eq!(read(&mut after, key), Some(large(1)), "key {key} was acknowledged");
        }
        let Some(last) = devices[0].held_count().checked_sub(1) else { break };
        commits += usize::from(devices[0].release(last));
    }
    devices[0].hold(false);
    assert!(commits > 3, "{commits} commits");
    assert_eq!(told.len(), 40, "in the end all are told");
}

#[test]
pub fn scenario_02_every_write_is_durable_by_itself() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
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
    let image = cut(&devices);
    let mut after = World::of(&image);
    after.open();
    model.check(&mut after, "nothing but what was durable");
}

#[test]
pub fn scenario_22_a_page_that_holds_acknowledged_records_is_not_written_again() {
    let devices = devices(1, 40);
    let mut world = World::of(&devices);
    world.config.durability = Durability::Group;
    world.open();
    world.settle();
    devices[0].take_writes();
    let mut written: Vec<Range<u64>> = Vec::new();
    for key in 0..60 {
        let mut put = put(&world, key, 1, Durability::Group);
        world.run(&mut put).expect("a put");
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
pub fn scenario_26_after_a_failed_write_nothing_is_acknowledged_and_a_start_decides_from_the_medium() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
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

/// What the write at `offset` is: the commit record of a block, or of a checkpoint.
fn is_commit_record(offset: u64, bytes: &[u8]) -> bool {
    let ends_a_block = (offset + bytes.len() as u64).is_multiple_of(u64::from(BLOCK_SIZE));
    let trailer = &bytes[bytes.len() - FOOTER_TRAILER_SIZE as usize..];
    (ends_a_block && trailer.starts_with(&FOOTER_MAGIC)) || is_root(offset)
}

fn is_root(offset: u64) -> bool {
    (ROOT_OFFSET..u64::from(BLOCK_SIZE)).contains(&offset)
}

#[test]
pub fn scenario_27_what_a_footer_or_a_root_commits_is_durable_before_it_is_sent() {
    let devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.config.write_cache_size = 16 * u64::from(BLOCK_SIZE);
    world.open();
    devices[0].hold(true);
    let mut model = Model::default();
    for key in 0..80 {
        model.put(&mut world, key, large(1), None);
    }
    let store = world.namespace();
    let mut checkpoint: Write = Box::pin(async move { store.checkpoint().await.map(drop) });
    let (mut footers, mut roots, mut rounds) = (0, 0, 0);
    while ready(&mut checkpoint).is_none() {
        rounds += 1;
        assert!(rounds < 1000, "the checkpoint never ends");
        world.settle();
        world.clock.advance(std::time::Duration::from_millis(20));
        let held = devices[0].held_writes();
        let durable = cut(&devices);
        for (offset, bytes) in held.iter().filter(|(offset, bytes)| is_commit_record(*offset, bytes)) {
            let block = offset / u64::from(BLOCK_SIZE);
            // All that is answered is on the medium by itself, whatever else was flushed or not.
            let same = |range: Range<usize>| {
                devices[0].with_state(|now| durable[0].with_state(|then| now[range.clone()] == then[range]))
            };
            if is_root(*offset) {
                roots += 1;
                let are_commits = held.iter().all(|(offset, bytes)| is_commit_record(*offset, bytes));
                assert!(are_commits, "a root is on its way, and so is what it commits");
                assert!(same(BLOCK_SIZE as usize..24 * BLOCK_SIZE as usize), "a root before what it names");
            } else {
                footers += 1;
                let others = held.iter().filter(|(other, _)| other / u64::from(BLOCK_SIZE) == block).count();
                assert_eq!(others, 1, "the footer of block {block} is on its way, and so is its data");
                let start = (block * u64::from(BLOCK_SIZE)) as usize;
                let end = *offset as usize;
                assert!(same(start..end), "the footer of block {block} before its data");
                assert!(end > start && bytes.len() < BLOCK_SIZE as usize);
            }
        }
        // The oldest is answered last.
        if let Some(last) = devices[0].held_count().checked_sub(1) {
            devices[0].release(last);
        }
    }
    assert!(footers >= 2 && roots >= 1, "{footers} footers, {roots} roots");
    let mut after = World::of(&cut(&devices)).opened();
    assert_eq!(after.used_checkpoint(), Some(1));
    model.check(&mut after, "nothing but what was durable");
    devices[0].hold(false);
}

#[test]
pub fn scenario_28_a_flush_covers_what_came_before_and_a_buffer_on_its_way_does_not_change() {
    let devices = devices(1, 40);
    let mut world = World::of(&devices);
    world.config.write_cache_size = 24 * u64::from(BLOCK_SIZE);
    world.open();
    devices[0].hold(true);
    let (mut model, mut sent) = (Model::default(), HashMap::new());
    let mut look = |context: &str| {
        for (offset, bytes) in devices[0].held_writes() {
            let first = sent.entry(offset).or_insert_with(|| bytes.clone());
            assert!(*first == bytes, "{context}: the write at {offset} changed on its way");
        }
    };
    // Overwritten in RAM, in the tail, and when they are on their way to the device.
    for round in 0..6 {
        for key in 0..30 {
            model.put(&mut world, key, large(round), None);
        }
        world.flush();
        look("while puts go on");
    }
    let store = world.namespace();
    let mut flush: Write = Box::pin(async move { store.flush().await });
    let mut releases = 0;
    while ready(&mut flush).is_none() {
        world.settle();
        look("while it is flushed");
        let last = devices[0].held_count().checked_sub(1).expect("all is answered, and the flush is not");
        devices[0].release(last);
        releases += 1;
    }
    let mut after = swept(&cut(&devices), &world);
    model.check(&mut after, "the flush was answered");
    assert!(releases > 3, "{releases} writes were in flight");
    devices[0].hold(false);
}
