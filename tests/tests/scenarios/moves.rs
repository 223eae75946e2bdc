//! Defrag: a block whose records were moved is not reused before they are durable where they went.

use super::{Write, cut, large, put, swept};
use aerolith_engine::format::BLOCK_MAGIC;
use aerolith_engine::{Clock, Durability, Error};
use aerolith_tests::device::{BLOCK_SIZE, TestDevice, devices};
use aerolith_tests::model::{Model, Version, is_full, read};
use aerolith_tests::{World, job, ready};
use std::sync::Arc;

/// The stream of moved records of a store as small as these.
const MOVED_STREAM: u8 = 1;

/// A store that is short of free blocks. All of it is durable, each block is partly garbage, and nothing has been moved.
struct Short {
    world: World,
    devices: Vec<Arc<TestDevice>>,
    model: Model,
    /// Keys that are overwritten no more.
    cold: u32,
    /// Blocks into which records have been moved, in the order in which they were opened.
    moved: Vec<u64>,
}

impl Drop for Short {
    fn drop(&mut self) {
        self.devices[0].hold(false);
    }
}

impl Short {
    /// Of each four records `cold_of_four` stay, the others are overwritten.
    fn new(cold_of_four: u32) -> Self {
        let devices = devices(1, 24);
        let mut world = World::of(&devices);
        world.config.write_cache_size = 40 * u64::from(BLOCK_SIZE);
        world.config.stop_writes_pct = 97;
        world.open();
        let (mut model, mut cold, mut hot) = (Model::default(), 0, 0);
        for n in 0u32.. {
            world.work(job::FLUSH);
            if world.namespace().stats().free_blocks < 7 {
                break;
            }
            if n % 4 < cold_of_four {
                model.put(&mut world, cold, large(1), None);
                cold += 1;
            } else {
                model.put(&mut world, 1000 + hot % 40, large(u64::from(hot)), None);
                hot += 1;
            }
        }
        world.clock.advance(world.config.flush_max);
        world.work(job::FLUSH);
        model.all_durable();
        assert_eq!(world.namespace().stats().counters.moved, 0);
        Short { world, devices, model, cold, moved: Vec::new() }
    }

    /// Empties blocks until `count` more are empty; what is moved stays in RAM or waits for the device.
    fn defrag(&mut self, count: u64) {
        let emptied = |world: &World| world.namespace().stats().counters.defragged_blocks;
        let target = emptied(&self.world) + count;
        for _ in 0..1000 {
            if emptied(&self.world) >= target {
                return;
            }
            self.world.engine().step_job(job::DEFRAG);
        }
        panic!("nothing is emptied");
    }

    /// Which of the waiting writes go into a block of moved records, and into the how many-th of these.
    fn held_moves(&mut self) -> Vec<(usize, usize)> {
        let held = self.devices[0].held_writes();
        for (offset, bytes) in &held {
            let block = offset / u64::from(BLOCK_SIZE);
            if offset.is_multiple_of(u64::from(BLOCK_SIZE)) && bytes.starts_with(&BLOCK_MAGIC) {
                let is_known = self.moved.contains(&block);
                match bytes[14] {
                    MOVED_STREAM if !is_known => self.moved.push(block),
                    MOVED_STREAM => {}
                    _ => self.moved.retain(|moved| *moved != block),
                }
            }
        }
        let of_moved = |(at, (offset, _)): (usize, &(u64, Vec<u8>))| {
            let block = offset / u64::from(BLOCK_SIZE);
            self.moved.iter().position(|moved| *moved == block).map(|nth| (at, nth))
        };
        held.iter().enumerate().filter_map(of_moved).collect()
    }

    /// Lets the flush job and the device work, but the writes of moved records get what `answer` says: true if one was
    /// answered, false if it goes on waiting.
    fn answer(&mut self, answer: &mut impl FnMut(&TestDevice, usize, usize) -> bool) {
        for _ in 0..20 {
            self.world.work(job::FLUSH);
            let moves = self.held_moves();
            let mut any = false;
            for at in (0..self.devices[0].held_count()).rev() {
                any |= match moves.iter().find(|(moved, _)| *moved == at) {
                    Some(&(_, nth)) => answer(&self.devices[0], at, nth),
                    None => self.devices[0].release(at),
                };
            }
            if !any {
                return;
            }
        }
    }

    /// Writes other records until there is no more room for them, and looks at what a cut leaves again and again.
    /// Returns how many were written, and the error that ended it if one did.
    fn press(
        &mut self,
        mut answer: impl FnMut(&TestDevice, usize, usize) -> bool,
        context: &str,
    ) -> (u64, Option<Error>) {
        for n in 0..1000 {
            let (key, value) = (1000 + (n % 40) as u32, large(10_000 + n));
            let mut put: Write = put(&self.world, key, value, Durability::Relaxed);
            let mut turns = 0;
            let done = loop {
                if let Some(done) = ready(&mut put) {
                    break done;
                }
                self.world.clock.advance(self.world.config.flush_max);
                self.answer(&mut answer);
                self.world.engine().step_job(job::DEFRAG);
                turns += 1;
                if turns > 200 {
                    self.look(context);
                    return (n, None);
                }
            };
            if let Err(error) = done {
                self.look(context);
                return (n, Some(error));
            }
            self.model.note(key, Version { value: Some(value), expires_ms: 0 });
            self.answer(&mut answer);
            self.world.engine().step_job(job::DEFRAG);
            if n % 25 == 0 {
                self.look(context);
            }
        }
        self.look(context);
        (1000, None)
    }

    /// What was durable is there if the power goes now.
    fn look(&mut self, context: &str) {
        let mut after = swept(&cut(&self.devices), &self.world);
        self.model.clone().check_after_crash(&mut after, context);
        after.verify(context);
    }

    /// All goes well again.
    fn check_in_the_end(mut self) {
        self.devices[0].hold(false);
        self.world.flush();
        self.model.check(&mut self.world, "in the end");
        self.world.verify("in the end");
    }
}

#[test]
pub fn scenario_03_an_emptied_block_is_not_reused_before_its_moved_records_are_durable() {
    let mut short = Short::new(1);
    short.devices[0].hold(true);
    short.defrag(2);
    let before = short.world.namespace().stats();
    assert!(before.counters.moved > 0);
    let (written, error) = short.press(|_, _, _| false, "the moved records are on their way");
    assert!(error.is_none(), "{error:?}");
    assert!(written > 0 && written < 500, "{written} records found room beside the emptied blocks");
    assert!(!short.moved.is_empty(), "moved records were on their way");
    short.check_in_the_end();
}

#[test]
pub fn scenario_04_a_block_scattered_into_two_is_reused_when_both_are_durable() {
    let mut short = Short::new(2);
    short.devices[0].hold(true);
    // One of these victims has more records than those before it left room for.
    short.defrag(3);
    let moved = short.world.namespace().stats().moved_size;
    assert!(moved > u64::from(BLOCK_SIZE), "{moved} bytes do not fit one block");
    // The first destination is durable, footer and all; those behind it are not.
    let mut of_first = 0;
    let answer = |device: &TestDevice, at: usize, nth: usize| {
        of_first += u32::from(nth == 0);
        nth == 0 && device.release(at)
    };
    let (written, error) = short.press(answer, "one of two destinations is durable");
    assert!(error.as_ref().is_none_or(is_full), "{error:?}");
    assert!(of_first >= 2, "the first destination came to the device");
    assert!(short.moved.len() >= 2 && written < 500, "{:?}, {written} written", short.moved);
    short.check_in_the_end();
}

#[test]
pub fn scenario_05_when_the_write_of_moved_records_fails_their_old_block_is_kept() {
    let mut short = Short::new(1);
    short.devices[0].hold(true);
    short.defrag(2);
    let mut failed = 0;
    let answer = |device: &TestDevice, at: usize, _| {
        failed += 1;
        device.fail(at, libc::EIO)
    };
    let (_, error) = short.press(answer, "the write of moved records failed");
    assert!(matches!(error, Some(Error::DeviceFailed { .. })), "{error:?}");
    assert!(failed > 0);
    // Nothing is written any more, so whatever was there stays.
    short.devices[0].hold(false);
    short.devices[0].take_writes();
    short.world.flush();
    assert_eq!(short.devices[0].take_writes(), []);
    short.look("in the end");
    short.world.crash();
}

#[test]
pub fn scenario_06_a_record_that_was_overwritten_while_its_block_was_emptied_is_not_moved() {
    let mut short = Short::new(1);
    // The first step chooses a victim and reads it; the records are looked at in the next ones.
    short.world.engine().step_job(job::DEFRAG);
    for key in (0..short.cold).step_by(2) {
        short.model.put(&mut short.world, key, large(2), None);
        short.world.work(job::FLUSH);
    }
    short.defrag(1);
    let moved = short.world.namespace().stats().counters.moved;
    assert!((1..20).contains(&moved), "{moved} records of the victim were current");
    short.model.clone().check(&mut short.world, "while it goes on");
    short.world.verify("while it goes on");
    short.world.flush();
    short.model.all_durable();
    short.look("after a crash");
    short.check_in_the_end();
}

#[test]
pub fn scenario_07_of_a_moved_record_and_its_original_one_counts_once() {
    let mut short = Short::new(2);
    short.defrag(3);
    let stats = short.world.namespace().stats();
    assert!(stats.counters.moved > 20);
    // The copies are durable, and the blocks that they came from are still whole.
    short.world.clock.advance(short.world.config.flush_max);
    short.world.work(job::FLUSH);
    short.world.crash();
    let mut after = swept(&short.devices, &short.world);
    let found = after.engine().recovery("test").expect("it is configured").clone();
    assert!(found.versions >= found.records + stats.counters.moved, "{found:?}: both are there");
    short.model.check(&mut after, "after a sweep");
    let verified = after.verify("after a sweep");
    assert_eq!(verified.objects, found.records);
    // What one copy was counted for is given back once: every block can be emptied, and none of them twice.
    for round in 2..5 {
        for key in 0..short.cold {
            short.model.put(&mut after, key, large(round), None);
        }
        after.flush();
        after.verify("while all are overwritten");
        // By now older versions lie behind newer ones, too.
        short.model.check(&mut swept(&cut(&short.devices), &after), "after another sweep");
    }
    let store = after.namespace();
    assert!(after.run(store.truncate(None)).is_ok());
    after.flush();
    after.clock.advance(std::time::Duration::from_secs(30));
    after.flush();
    assert!(store.stats().free_blocks >= 20, "{} of 23 blocks are free", store.stats().free_blocks);
    after.verify("when all are gone");
}

#[test]
pub fn scenario_33_a_store_that_is_full_starts_takes_deletes_and_then_writes() {
    let mut devices = devices(1, 24);
    let mut world = World::of(&devices);
    world.open();
    let (mut model, mut key) = (Model::default(), 0);
    for cycle in 0..4u64 {
        // Until nothing more is taken, and overwrites are refused like the rest.
        let mut refused = 0;
        while refused < 3 {
            let mut put = put(&world, key, large(cycle), Durability::Relaxed);
            match world.run(&mut put) {
                Ok(()) => {
                    model.note(key, Version { value: Some(large(cycle)), expires_ms: 0 });
                    key += 1;
                }
                Err(error) => {
                    assert!(is_full(&error), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(key > 150, "{key} records");
        // A tenth goes, and the rest is overwritten without any defrag, until writers have to leave the reserve.
        let now = world.clock.now().0;
        let store = world.namespace();
        (0..key).step_by(10).for_each(|key| model.delete(&mut world, key));
        for n in 0..2000 {
            let (key, value) = (n * 37 % key, large(u64::from(n) + 1000));
            // Some are left alone in each block, so that none becomes empty by itself.
            if key % 3 == (cycle as u32 + 1) % 3 || model.current(key, now).is_none() {
                continue;
            }
            let mut put = put(&world, key, value, Durability::Relaxed);
            let done = ready(&mut put).or_else(|| {
                world.clock.advance(world.config.flush_max);
                world.work(job::FLUSH);
                ready(&mut put)
            });
            match done {
                Some(Ok(())) => drop(model.note(key, Version { value: Some(value), expires_ms: 0 })),
                Some(Err(error)) => panic!("an overwrite waits, it is not refused: {error}"),
                None => break,
            }
            world.work(job::FLUSH);
        }
        world.clock.advance(world.config.flush_max);
        world.work(job::FLUSH);
        let free = store.stats().free_blocks;
        assert!(free <= 5, "{free} blocks are free");
        // The power goes, and it starts with every block in use.
        let image = cut(&devices);
        world.crash();
        let now = world.clock.now().0;
        let mut after = World::of(&image).like(&world);
        after.config.use_checkpoint = cycle % 2 == 0;
        (devices, world) = (image, after.opened());
        model.check(&mut world, "full, and started again");
        // Each block loses every third record: no block is free, and there is nothing but moving to free one.
        let gone = (0..key).filter(|key| key % 3 == cycle as u32 % 3);
        gone.for_each(|key| model.delete(&mut world, key));
        for n in 0..300u64 {
            let key = (n * 37 % u64::from(key)) as u32;
            if model.current(key, now).is_some() {
                model.put(&mut world, key, large(100 + n), None);
                world.engine().step();
            }
        }
        world.flush();
        world.verify("written again");
        assert!(world.namespace().stats().counters.moved > 0);
    }
    assert_eq!(read(&mut world, u32::MAX), None);
}
