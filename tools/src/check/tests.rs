//! The check on devices that a file cannot be: such that do not give all sectors, that were damaged in any place
//! and asked beside the engine itself, and that lost power at any write.
//!
//! `AEROLITH_SEEDS=n` and `AEROLITH_SEED=n` run more, or one again.

use super::findings::{Finding, Findings, Kind};
use super::{check, devices};
use aerolith_engine::device::Device;
use aerolith_engine::format::{CheckpointRoot, DeviceHeader, Footer};
use aerolith_engine::volume::{BlockId, BlockPlace, Seen};
use aerolith_engine::{Durability, Error, Key, Ttl, Value, WritePolicy};
use aerolith_tests::device::{Survival, TestDevice};
use aerolith_tests::{World, seeds};
use indicatif::ProgressBar;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

const BLOCK: usize = 16 << 10;
const BLOCKS: usize = 24;

fn run(device: &Arc<TestDevice>) -> Findings {
    let mut found = Findings::default();
    let sources = devices::claim_open(vec![device.clone() as Arc<dyn Device>], &mut found);
    check(&sources, &mut found, &ProgressBar::hidden());
    found
}

fn run_on(bytes: Vec<u8>) -> Findings {
    run(&Arc::new(TestDevice::with_bytes("image", bytes)))
}

fn world_on(device: &Arc<TestDevice>, has_checkpoints: bool) -> World {
    let mut world = World::on(vec![device.clone() as Arc<dyn Device>], BLOCK as u32);
    world.config.checkpoint_period = has_checkpoints.then_some(Duration::from_secs(3600));
    world
}

fn key(id: u32) -> Key<'static> {
    Key::new("keys", i64::from(id)).unwrap()
}

/// Puts that take some hundred bytes each.
fn put(world: &mut World, id: u32, value: i64) {
    let (test, policy) = (world.namespace(), WritePolicy::default());
    let filling = vec![id as u8; 300 + id as usize % 7 * 100];
    let bins = [("n", Value::Integer(value)), ("filling", filling.as_slice().into())];
    world.run(test.put(&key(id), &bins, &policy)).unwrap();
}

/// A closed device with 60 keys, some of them written twice, some deleted.
fn closed(has_checkpoints: bool) -> Arc<TestDevice> {
    let device = Arc::new(TestDevice::new("test", (BLOCK * BLOCKS) as u64));
    let mut world = world_on(&device, has_checkpoints);
    for round in 0..2 {
        world.open();
        (0..60).step_by(round + 1).for_each(|id| put(&mut world, id, round as i64));
        for id in (0..60).step_by(13) {
            let test = world.namespace();
            world.run(test.delete(&key(id), &WritePolicy::default())).unwrap();
        }
        world.close();
    }
    device
}

fn of_kind(found: &Findings, kind: Kind) -> Vec<&Finding> {
    found.faults.iter().filter(|fault| fault.kind == kind).collect()
}

#[test]
fn an_unreadable_sector_is_told_and_everything_behind_it_is_read() {
    let device = closed(true);
    let sound = run(&device);
    assert_eq!((sound.exit_code(), sound.notes.len()), (0, 0), "{}", sound.text());
    let first = (1..BLOCKS).find(|block| is_log(&device, *block)).unwrap();
    // In the records, in the header's page, in the footer, in a copy of the device's header, in a root.
    let root = device.with_state(|bytes| {
        let id = |at: usize| CheckpointRoot::parse(&bytes[at..]).unwrap().id;
        if id(8192) > id(12288) { 8192 } else { 12288 }
    });
    for (at, size, kind, has_records) in [
        (first * BLOCK + 4096, 512, Kind::Unreadable, true),
        (first * BLOCK, 512, Kind::Unreadable, true),
        ((first + 1) * BLOCK - 4096, 4096, Kind::Unreadable, false),
        (first * BLOCK, BLOCK, Kind::Unreadable, true),
        (512, 64, Kind::DeviceHeader, false),
        (root, 64, Kind::Root, false),
    ] {
        device.fail_reads(std::iter::once(at as u64..(at + size) as u64).collect());
        let found = run(&device);
        assert_eq!(found.exit_code(), 1, "{at}: {}", found.text());
        let [fault] = of_kind(&found, kind)[..] else { panic!("{at}: {}", found.text()) };
        assert_eq!(fault.errno, Some(5), "{fault:?}");
        assert_eq!(fault.offset, (at / 4096 * 4096) as u64, "{fault:?}");
        let records = of_kind(&found, Kind::Record);
        assert_eq!(!records.is_empty(), has_records, "{at}: {}", found.text());
        // Of a block that is gone as a whole, the checkpoint knows what was in it.
        let is_known =
            |fault: &&Finding| fault.errno == Some(5) || size == BLOCK && fault.why.contains("checkpoint 2");
        assert!(records.iter().all(|fault| is_known(fault) && fault.digest.is_some()), "{}", found.text());
        // No other block has suffered.
        let lost = sound.totals.records - found.totals.records;
        assert!(lost <= if size == BLOCK { 40 } else { 16 }, "{at}: {}", found.text());
    }
    // All of them at once, and a flipped bit far behind.
    let last = (1..BLOCKS).rev().find(|block| is_log(&device, *block)).unwrap();
    assert!(last > first);
    device.with_state(|bytes| bytes[last * BLOCK + 300] ^= 1);
    device.fail_reads(vec![0..512, (first * BLOCK) as u64..(first * BLOCK + 1) as u64]);
    let found = run(&device);
    assert_eq!(of_kind(&found, Kind::DeviceHeader).len(), 1);
    assert!(
        of_kind(&found, Kind::Record).iter().any(|fault| fault.block == Some(last as u32))
            || !found.notes.is_empty()
    );
}

#[test]
fn a_footer_that_contradicts_its_records_is_told_entry_by_entry() {
    let device = closed(false);
    let block = (1..BLOCKS).rev().find(|block| is_log(&device, *block)).unwrap();
    // No damage does that, for the footer proves itself: a mistake of whoever wrote it.
    let (changed, left_out) = device.with_state(|bytes| {
        let header = DeviceHeader::parse(bytes).unwrap();
        let place = BlockPlace::new(&header, BlockId(block as u32));
        let bytes = &mut bytes[block * BLOCK..][..BLOCK];
        let Seen::Life(life) = place.life(bytes, bytes) else { panic!("no life") };
        let Footer { trailer, mut entries, set_names } = place.footer(life.epoch, bytes).unwrap();
        let left_out = entries.remove(1);
        entries[0].generation += 1;
        let names: Vec<Box<str>> = set_names.into_iter().map(String::into_boxed_str).collect();
        let (salt, end) = (place.salt(life.epoch), trailer.data_end);
        Footer::encode_into(bytes, salt, life.epoch, end, trailer.sealed_epoch, &entries, &names);
        (entries[0], left_out)
    });
    let found = run(&device);
    assert_eq!(found.exit_code(), 1);
    let [entry] = of_kind(&found, Kind::Entry)[..] else { panic!("{}", found.text()) };
    assert_eq!((entry.sequence, entry.position), (Some(changed.sequence), Some(changed.position * 16)));
    assert!(entry.why.contains(&format!("the footer says {}", changed.generation)), "{entry:?}");
    let [footer] = of_kind(&found, Kind::Footer)[..] else { panic!("{}", found.text()) };
    assert_eq!((footer.sequence, footer.position), (Some(left_out.sequence), Some(left_out.position * 16)));
    assert_eq!(found.faults.len(), 2, "{}", found.text());
}

/// Whether a block has a header of a log.
fn is_log(device: &TestDevice, block: usize) -> bool {
    device.with_state(|bytes| {
        let header = &bytes[block * BLOCK..];
        header.starts_with(b"AEROBLK1") && header[14] != 255
    })
}

/// What reads of all keys answer: a value, nothing, or that the record is damaged.
fn answers(bytes: Vec<u8>, has_checkpoints: bool) -> Result<Vec<Result<Option<i64>, ()>>, Error> {
    let device = Arc::new(TestDevice::with_bytes("copy", bytes));
    let mut world = world_on(&device, has_checkpoints);
    world.try_open()?;
    let test = world.namespace();
    let read = |id| match world.run(test.get(&key(id))) {
        Ok(record) => Ok(record.and_then(|record| match record.bin("n") {
            Some(Value::Integer(n)) => Some(n),
            _ => None,
        })),
        Err(Error::Corrupt { .. }) => Err(()),
        Err(error) => panic!("{error}"),
    };
    let answers = (0..60).map(read).collect();
    world.crash();
    Ok(answers)
}

#[test]
fn whatever_damage_changes_an_answer_of_the_engine_is_found() {
    for seed in seeds(150) {
        let mut rng = StdRng::seed_from_u64(seed);
        let has_checkpoints = seed % 2 == 0;
        let device = closed(has_checkpoints);
        let sound = device.with_state(|bytes| bytes.to_vec());
        let expected = answers(sound.clone(), has_checkpoints).unwrap();
        let mut bytes = sound;
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..BLOCK * 12);
            match rng.random_range(0..3) {
                0 => bytes[at] ^= 1 << rng.random_range(0..8),
                1 => bytes[at / 512 * 512..][..512].fill(0),
                _ => bytes[at / 4096 * 4096..][..4096].fill(rng.random()),
            }
        }
        let found = run_on(bytes.clone());
        let is_told = !found.faults.is_empty() || !found.not_checked.is_empty();
        match answers(bytes, has_checkpoints) {
            Ok(answers) if answers == expected => {}
            // A block whose footer has gone without a trace looks like one that was never sealed.
            Ok(_) if found.notes.iter().any(|note| matches!(note.kind, Kind::Open)) => {}
            Ok(answers) => assert!(is_told, "seed {seed}: {answers:?}\n{}", found.text()),
            Err(error) => assert!(is_told, "seed {seed}: {error}\n{}", found.text()),
        }
    }
}

/// A life of puts, deletes, groups, truncations, expiries, defrag and checkpoints, of which every write is on record.
fn life(seed: u64) -> Arc<TestDevice> {
    let mut rng = StdRng::seed_from_u64(seed);
    let device = Arc::new(TestDevice::new("test", (BLOCK * BLOCKS) as u64));
    let mut world = world_on(&device, true);
    world.config.durability = [Durability::Relaxed, Durability::Group][seed as usize % 2];
    for round in 0..2 {
        world.open();
        // A device that is being formatted has nothing to lose.
        if round == 0 {
            device.record();
        }
        for step in 0..150 {
            let test = world.namespace();
            let id = rng.random_range(0..40);
            match rng.random_range(0..40) {
                0..4 => drop(world.run(test.delete(&key(id), &WritePolicy::default())).unwrap()),
                4..7 => {
                    let keys = [key(id), key(40 + id), key(80 + id)];
                    let bins = [("n", Value::Integer(step))];
                    let records: Vec<_> = keys.iter().map(|key| (*key, &bins[..])).collect();
                    world.run(test.put_many(&records, &WritePolicy::default())).unwrap();
                }
                7 => {
                    let soon = WritePolicy::with_ttl(Ttl::For(Duration::from_secs(5)));
                    world.run(test.put(&key(id), &[("n", 1.into())], &soon)).unwrap();
                    world.clock.advance(Duration::from_secs(3));
                }
                8 if step % 10 == 0 => world.run(test.truncate(Some("keys"))).unwrap(),
                9 => drop(world.run(test.checkpoint()).unwrap()),
                10..13 => world.flush(),
                _ => put(&mut world, id, step),
            }
        }
        if rng.random_bool(0.5) { world.close() } else { world.crash() }
    }
    world.crash();
    device
}

#[test]
fn no_loss_of_power_leaves_what_is_taken_for_damage() {
    let (mut torn_footers, mut cut_lives) = (0, 0u64);
    let (mut images, mut open) = (0, 0);
    for seed in seeds(6) {
        let device = life(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        for at in 0..device.recorded_count() {
            let image = device.image_at(at, Survival::draw(&mut rng), &mut rng);
            let found = run_on(image);
            // A footer of which not all sectors have arrived is not whole, whatever the reason; so says the fault.
            let (footers, others): (Vec<_>, Vec<_>) =
                found.faults.iter().partition(|fault| fault.kind == Kind::Footer);
            torn_footers += footers.len();
            // Nor can it be seen that a block that had no footer was about to begin another life.
            let (lives, others): (Vec<_>, Vec<_>) =
                others.into_iter().partition(|fault| fault.kind == Kind::Record && fault.digest.is_none());
            cut_lives += lives.len() as u64;
            assert!(others.is_empty() && footers.len() <= 1, "seed {seed}, write {at}: {}", found.text());
            assert!(found.not_checked.is_empty(), "seed {seed}, write {at}: {}", found.text());
            images += 1;
            open += found.totals.open_blocks;
        }
    }
    assert!(
        images > 300 && open > images / 2 && cut_lives < images / 20,
        "{images} images, {open} open blocks, {torn_footers} torn footers, {cut_lives} lives cut off"
    );
}
