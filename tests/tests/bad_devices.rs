//! Devices that are damaged, foreign, incomplete or failing: a clear error, nothing lost beside it, no panic.
//!
//! The first half works on real files; the second on a device that fails when the test says so.

use aerolith_engine::device::Device;
use aerolith_engine::{
    Config, DeviceConfig, Driver, Durability, Engine, Error, Key, NamespaceConfig, Value, WritePolicy,
};
use aerolith_tests::World;
use aerolith_tests::device::TestDevice;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const BLOCK_SIZE: u32 = 16 << 10;
const SIZE: u64 = 24 * BLOCK_SIZE as u64;
const COUNT: i64 = 200;

fn key(id: i64) -> Key<'static> {
    Key::new("keys", id).expect("a number is a key")
}

fn bytes_of(id: i64) -> Vec<u8> {
    (0..200 + id).map(|i| (i * 7 + id) as u8).collect()
}

fn open_all(paths: &[&Path], name: &str) -> Result<Engine, Error> {
    let devices = paths.iter().map(|path| DeviceConfig::Path { path: path.into(), size: SIZE }).collect();
    let namespace =
        NamespaceConfig { name: name.into(), devices, block_size: BLOCK_SIZE, ..NamespaceConfig::default() };
    let config = Config { driver: Driver::Blocking, recovery_threads: 1, ..Config::of(namespace) };
    let clock = Arc::new(aerolith_engine::ManualClock::at(aerolith_tests::START));
    // Sets that are made under other names get other identities.
    let name = paths[0].file_name().expect("a file has a name");
    let seed =
        name.as_encoded_bytes().iter().fold(0u64, |seed, &byte| seed.wrapping_mul(31) + u64::from(byte));
    Engine::open_by_hand(config, clock, seed)
}

fn open(path: &Path) -> Result<Engine, Error> {
    open_all(&[path], "test")
}

/// Runs a verb, stepping the engine while it waits.
fn run<F: Future>(engine: &mut Engine, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    for _ in 0..100_000 {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        engine.step();
    }
    panic!("the jobs cannot give what the future waits for");
}

fn fill(engine: &mut Engine) {
    let store = engine.namespace("test").unwrap().to_async();
    for id in 0..COUNT {
        let bytes = bytes_of(id);
        run(engine, store.put(&key(id), &[("b", Value::Bytes(&bytes))], &WritePolicy::default())).unwrap();
    }
}

fn is_right(engine: &Engine, id: i64) -> Result<bool, Error> {
    let record = engine.namespace("test")?.get(&key(id))?;
    Ok(record.is_some_and(|r| r.bin("b").and_then(|b| b.as_bytes()) == Some(&bytes_of(id)[..])))
}

/// A file with all records, closed cleanly.
fn filled(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let mut engine = open(&path).unwrap();
    fill(&mut engine);
    engine.close().unwrap();
    path
}

fn refusal(result: Result<Engine, Error>, words: &[&str]) {
    let Err(error) = result else { panic!("it should have been refused: {words:?}") };
    let text = error.to_string();
    assert!(words.iter().any(|word| text.contains(word)), "{text}");
    assert!(text.contains("device") && text.len() > 60, "does that help anybody? {text}");
}

#[test]
fn a_file_that_was_cut_off_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path(), "data");
    let whole = fs::read(&path).unwrap();
    for size in [1, 100, 4095, 4096, 5000, 8192, 16384, 100_000, SIZE - 4096, SIZE - 1] {
        fs::write(&path, &whole[..size as usize]).unwrap();
        refusal(open(&path), &["cut off", "has 0 bytes", "needs", "damaged"]);
        assert_eq!(fs::read(&path).unwrap(), &whole[..size as usize]);
    }
    fs::write(&path, &whole).unwrap();
    assert!(is_right(&open(&path).unwrap(), 7).unwrap());
}

#[test]
fn one_good_copy_of_the_header_is_enough_and_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path(), "data");
    let whole = fs::read(&path).unwrap();
    for byte in 0..128 {
        for copies in [&[0][..], &[4096], &[0, 4096]] {
            let mut bytes = whole.clone();
            copies.iter().for_each(|copy| bytes[copy + byte] ^= 0x55);
            fs::write(&path, &bytes).unwrap();
            if copies.len() == 2 {
                refusal(open(&path), &["both copies", "not Aerolith's"]);
                assert_eq!(fs::read(&path).unwrap(), bytes, "byte {byte}");
            } else {
                let engine = open(&path).unwrap_or_else(|error| panic!("byte {byte}: {error}"));
                assert!((0..COUNT).all(|id| is_right(&engine, id).unwrap()), "byte {byte} {copies:?}");
            }
        }
    }
}

#[test]
fn what_is_somebody_elses_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreign");
    let mut rng = StdRng::seed_from_u64(1);
    let mut with_table = vec![0; SIZE as usize];
    with_table[SIZE as usize - 512..][..8].copy_from_slice(b"EFI PART");
    let mut in_the_middle = vec![0; SIZE as usize];
    in_the_middle[1080] = 0x53;
    let text = b"Dear diary, today I saved a file under the wrong name.\n".repeat(SIZE as usize / 55);
    let random: Vec<u8> = (0..SIZE).map(|_| rng.random()).collect();
    for bytes in [with_table, in_the_middle, text, random] {
        fs::write(&path, &bytes).unwrap();
        refusal(open(&path), &["not Aerolith's"]);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    refusal(open(dir.path()), &["is a directory"]);
    refusal(open(&dir.path().join("nowhere/data")), &["create"]);
}

#[test]
fn one_flipped_bit_damages_one_record_at_most_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path(), "data");
    let whole = fs::read(&path).unwrap();
    let mut rng = StdRng::seed_from_u64(2);
    let mut damaged = 0;
    for trial in 0..150 {
        // The blocks that are in use are the first; their headers, footers and records are all met.
        let at = rng.random_range(BLOCK_SIZE as usize..8 * BLOCK_SIZE as usize);
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << rng.random_range(0..8);
        fs::write(&path, &bytes).unwrap();
        let mut engine = open(&path).unwrap_or_else(|error| panic!("trial {trial}, byte {at}: {error}"));
        let mut errors = Vec::new();
        for id in 0..COUNT {
            match is_right(&engine, id) {
                Ok(right) => assert!(right, "trial {trial}, byte {at}: record {id} is gone"),
                Err(Error::Corrupt { block, offset, .. }) => errors.push((id, block, offset)),
                Err(error) => panic!("trial {trial}, byte {at}: {error}"),
            }
        }
        assert!(errors.len() <= 1, "trial {trial}, byte {at}: {errors:?}");
        let Some(&(id, block, offset)) = errors.first() else { continue };
        damaged += 1;
        let offset = offset as usize;
        assert!((offset..offset + 600).contains(&at) && block as usize == at / BLOCK_SIZE as usize);
        // A scan tells of it and goes on; writing the record again heals it.
        let store = engine.namespace("test").unwrap().to_async();
        let (mut from, mut seen, mut failed) = (Some(aerolith_engine::ScanPoint::START), 0, 0);
        while let Some(point) = from {
            let page = run(&mut engine, store.scan(point, None, 1000)).unwrap();
            (from, seen, failed) = (page.next, seen + page.records.len(), failed + page.errors.len());
        }
        assert_eq!((seen, failed), (COUNT as usize - 1, 1));
        let bytes = bytes_of(id);
        run(&mut engine, store.put(&key(id), &[("b", Value::Bytes(&bytes))], &WritePolicy::default()))
            .unwrap();
        // A handle keeps the file open for reads.
        drop(store);
        engine.close().unwrap();
        assert!(is_right(&open(&path).unwrap(), id).unwrap());
    }
    assert!(damaged > 30, "{damaged} of the flips hit a record");
}

#[test]
fn a_file_full_of_damage_opens_or_is_refused_and_gives_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path(), "data");
    let whole = fs::read(&path).unwrap();
    let mut rng = StdRng::seed_from_u64(3);
    let (mut opened, mut right, mut corrupt) = (0, 0, 0);
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..400) {
            let at = rng.random_range(0..bytes.len());
            let run = rng.random_range(1..64).min(bytes.len() - at);
            (0..run).for_each(|i| bytes[at + i] ^= rng.random::<u8>());
        }
        fs::write(&path, &bytes).unwrap();
        let Ok(mut engine) = open(&path) else { continue };
        opened += 1;
        let store = engine.namespace("test").unwrap().to_async();
        for id in 0..COUNT {
            let record = run(&mut engine, store.get(&key(id)));
            match record {
                Ok(None) => {}
                Ok(Some(record)) => {
                    assert_eq!(record.bin("b").unwrap().as_bytes().unwrap(), bytes_of(id));
                    right += 1;
                }
                Err(Error::Corrupt { .. }) => corrupt += 1,
                Err(error) => panic!("{error}"),
            }
        }
        store.verify().expect("the books are right, whatever was found");
        fill(&mut engine);
        assert!((0..COUNT).all(|id| is_right(&engine, id).unwrap()));
        engine.close().unwrap();
    }
    println!("{opened} of 60 opened; {right} records right, {corrupt} damaged");
    assert!(opened > 20 && right > 0 && corrupt > 0);
}

#[test]
fn a_second_engine_on_the_same_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path(), "data");
    let engine = open(&path).unwrap();
    refusal(open(&path), &["already in use by this very process"]);
    refusal(open_all(&[&path, &path], "test"), &["already in use"]);
    assert!(is_right(&engine, 1).unwrap());
    engine.close().unwrap();
    open(&path).unwrap();
}

#[test]
fn where_nothing_can_be_written_that_is_said() {
    refusal(open(Path::new("/proc/aerolith.data")), &["create", "look at", "does not exist"]);
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path(), "data");
    // SAFETY: it reads a number of this process.
    if unsafe { libc::geteuid() } == 0 {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    refusal(open(&path), &["check owner and mode"]);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    refusal(open(&dir.path().join("new")), &["check owner and mode"]);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_set_opens_whole_in_any_order_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a", "b", "other-a", "other-b", "single"].map(|name| dir.path().join(name));
    let [a, b, other_a, other_b, single] = [0, 1, 2, 3, 4].map(|i| paths[i].as_path());
    let mut engine = open_all(&[a, b], "test").unwrap();
    fill(&mut engine);
    engine.close().unwrap();
    open_all(&[other_a, other_b], "test").unwrap().close().unwrap();
    open_all(&[single], "another").unwrap().close().unwrap();
    let engine = open_all(&[b, a], "test").unwrap();
    assert!((0..COUNT).all(|id| is_right(&engine, id).unwrap()), "swapped members");
    engine.close().unwrap();
    refusal(open_all(&[a], "test"), &["its set has 2 devices, but 1 are given"]);
    refusal(open_all(&[a, b, other_a], "test"), &["its set has 2 devices, but 3 are given"]);
    refusal(open_all(&[a, other_b], "test"), &["it belongs to another set"]);
    refusal(open_all(&[a, single], "test"), &["belongs to namespace 'another', not to 'test'"]);
    refusal(open_all(&[a, b], "another"), &["belongs to namespace 'test', not to 'another'"]);
    refusal(open_all(&[a, &dir.path().join("lost")], "test"), &["it is blank, the others are not"]);
    let copy = dir.path().join("copy");
    fs::copy(a, &copy).unwrap();
    refusal(open_all(&[a, &copy], "test"), &["member 0 is there twice"]);
    let engine = open_all(&[a, b], "test").unwrap();
    assert!((0..COUNT).all(|id| is_right(&engine, id).unwrap()), "nothing of this changed the set");
}

/// A world on devices that fail when told to, with some records on them and out of RAM.
fn failing_world(count: usize) -> (World, Vec<Arc<TestDevice>>) {
    let devices: Vec<_> = (0..count).map(|i| Arc::new(TestDevice::new(&format!("bad-{i}"), SIZE))).collect();
    let mut world = World::on(devices.iter().map(|d| d.clone() as Arc<dyn Device>).collect(), BLOCK_SIZE);
    world.open();
    let store = world.namespace();
    for id in 0..50 {
        let bytes = bytes_of(id);
        world.run(store.put(&key(id), &[("b", Value::Bytes(&bytes))], &WritePolicy::default())).unwrap();
    }
    drop(store);
    world.close();
    world.open();
    (world, devices)
}

fn put(world: &mut World, id: i64, durability: Durability) -> Result<(), Error> {
    let (store, bytes) = (world.namespace(), bytes_of(id));
    let policy = WritePolicy { durability: Some(durability), ..WritePolicy::default() };
    world.run(store.put(&key(id), &[("b", Value::Bytes(&bytes))], &policy)).map(drop)
}

fn get(world: &mut World, id: i64) -> Result<bool, Error> {
    let store = world.namespace();
    let record = world.run(store.get(&key(id)))?;
    Ok(record.is_some_and(|r| r.bin("b").and_then(|b| b.as_bytes()) == Some(&bytes_of(id)[..])))
}

#[test]
fn a_failed_write_latches_the_device_and_reads_go_on() {
    for errno in [libc::EIO, libc::ENOSPC, libc::EROFS] {
        let (mut world, devices) = failing_world(1);
        devices[0].fail_writes(Some(errno));
        put(&mut world, 60, Durability::Relaxed).unwrap();
        let failed = put(&mut world, 61, Durability::Group).unwrap_err();
        assert!(matches!(&failed, Error::DeviceFailed { device, .. } if device == "bad-0"), "{failed}");
        // A write that works again later changes nothing: what was lost in between is not known.
        devices[0].fail_writes(None);
        for durability in [Durability::Relaxed, Durability::Group] {
            assert!(matches!(put(&mut world, 62, durability), Err(Error::DeviceFailed { .. })));
        }
        let store = world.namespace();
        let delete = world.run(store.delete(&key(1), &WritePolicy::default()));
        assert!(matches!(delete, Err(Error::DeviceFailed { .. })));
        assert!(matches!(world.run(store.truncate(None)), Err(Error::DeviceFailed { .. })));
        assert!(matches!(world.run(store.flush()), Err(Error::DeviceFailed { .. })));
        assert!((0..50).all(|id| get(&mut world, id).unwrap()), "reads go on");
        assert_eq!(store.stats().failed_devices, 1);
        drop(store);
        assert!(matches!(world.try_close(), Err(Error::DeviceFailed { .. })));
        world.open();
        assert!((0..50).all(|id| get(&mut world, id).unwrap()), "what was durable is there again");
        put(&mut world, 61, Durability::Group).unwrap();
        world.close();
    }
}

#[test]
fn when_one_of_two_devices_fails_the_other_takes_writes_until_it_is_full_and_never_hangs() {
    let (mut world, devices) = failing_world(2);
    devices[0].fail_writes(Some(libc::EIO));
    (100..110).for_each(|id| drop(put(&mut world, id, Durability::Group)));
    let (mut taken, mut refused) = (0, 0);
    for i in 0..5000 {
        match put(&mut world, 100 + i % 100, Durability::Relaxed) {
            Ok(()) => taken += 1,
            Err(Error::DeviceFailed { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(taken > 100 && refused > 1000, "{taken} {refused}");
    assert!((0..50).all(|id| get(&mut world, id).unwrap()));
    assert!(world.try_close().is_err());
}

#[test]
fn a_failed_read_is_an_error_of_its_record_only() {
    let (mut world, devices) = failing_world(1);
    devices[0].take_reads();
    assert!(get(&mut world, 17).unwrap());
    let bad = devices[0].take_reads();
    devices[0].fail_reads(bad);
    let failed = (0..50).filter(|&id| match get(&mut world, id) {
        Ok(right) => !right,
        Err(error) => {
            assert!(matches!(&error, Error::Device(e) if e.errno() == Some(libc::EIO)), "{error}");
            true
        }
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.contains(&17) && failed.len() < 5, "{failed:?} share sectors with record 17");
    put(&mut world, 17, Durability::Relaxed).expect("writing it again needs no read");
    assert!(get(&mut world, 17).unwrap());
    let store = world.namespace();
    let touched = failed.iter().find(|&&id| id != 17);
    touched.map(|&id| world.run(store.touch(&key(id), &WritePolicy::default())).unwrap_err());
    world.close();
}

#[test]
fn a_full_file_system_refuses_puts_and_they_go_on_when_it_has_room() {
    let device = Arc::new(TestDevice::new("thin", 64 * u64::from(BLOCK_SIZE)));
    let mut world = World::on(vec![device.clone() as Arc<dyn Device>], BLOCK_SIZE);
    device.fill_up(true);
    world.open();
    let refused = put(&mut world, 0, Durability::Relaxed).unwrap_err();
    assert!(refused.to_string().contains("the file system under it is full"), "{refused}");
    device.fill_up(false);
    world.clock.advance(Duration::from_secs(1));
    world.settle();
    (0..100).for_each(|id| put(&mut world, id, Durability::Relaxed).expect("there is room"));
    device.fill_up(true);
    let mut count = 100;
    let refused = loop {
        match put(&mut world, count, Durability::Relaxed) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.to_string().contains("the file system under it is full"), "{refused}");
    assert!((0..count).all(|id| get(&mut world, id).unwrap()), "reads go on");
    let store = world.namespace();
    assert!(world.run(store.delete(&key(1), &WritePolicy::default())).unwrap(), "deletes go on");
    device.fill_up(false);
    world.clock.advance(Duration::from_secs(1));
    world.settle();
    (count..count + 100)
        .for_each(|id| put(&mut world, id, Durability::Relaxed).expect("there is room again"));
    world.verify("after the file system was full");
    world.close();
}
