//! A start on devices that were damaged, and on devices that lie.
//!
//! Small images are made once, by the engine. An input is a list of changes to one of them: bits, pages, blocks moved and
//! doubled, a device cut off, pages that cannot be read; and changes with the checksums made right again (`Forge`), which
//! no accident makes. Whatever it is, the engine opens or says why not, takes no more memory than a few images, and gives
//! every key one of the versions that were written, or an error. After damage alone its accounts must agree, what is
//! written then must be there after the next start, and what was read before must be what is read.

mod image;

use crate::bytes::{bounded, recipe};
use aerolith_engine::device::Device;
use aerolith_engine::{Error, Value, WritePolicy};
use aerolith_tests::World;
use aerolith_tests::device::TestDevice;
use aerolith_tests::model::{bytes_of, key_of, try_read};
use arbitrary::Arbitrary;
pub use image::{BLOCK_SIZE, Image, KEYS};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that a start on an image may hold.
const START_SIZE: usize = 24 << 20;

/// Where a forged field lies.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Forged {
    DeviceHeader,
    BlockHeader,
    FooterEntry,
    Trailer,
    Root,
    Part,
    Summary,
    Record,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Flip { member: u8, at: u32, mask: u8 },
    Bytes { member: u8, at: u32, bytes: Vec<u8> },
    SwapBlocks { member: u8, a: u8, b: u8 },
    CopyBlock { member: u8, from: u8, to: u8 },
    CopyPage { member: u8, from: u8, to: u8 },
    ZeroPage { member: u8, page: u8 },
    CutOff { member: u8, blocks: u8 },
    Unreadable { member: u8, page: u8 },
    SwapMembers,
    Forge { member: u8, block: u8, what: Forged, nth: u8, at: u8, value: u64, size: u8 },
}

#[derive(Arbitrary, Debug)]
struct Recipe {
    image: u8,
    without_checkpoint: bool,
    later_s: u16,
    changes: Vec<Change>,
}

fn refused(error: &Error) -> bool {
    matches!(
        error,
        Error::Header(_)
            | Error::Device(_)
            | Error::Corrupt { .. }
            | Error::Config(_)
            | Error::NoSpace { .. }
            | Error::DeviceFailed { .. }
            | Error::TooManySets { .. }
            | Error::TooLarge { .. }
    )
}

/// What each key has; an error is none.
fn read_all(world: &mut World, image: &Image, believe: bool) -> Vec<Result<Option<u64>, ()>> {
    (0..KEYS)
        .map(|key| match try_read_raw(world, key, believe) {
            Ok(Some(value)) => {
                assert!(
                    !believe || image.written[key as usize].contains(&value),
                    "key {key} has {value}, which was never written"
                );
                Ok(Some(value))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                assert!(refused(&error), "key {key}: {error}");
                Err(())
            }
        })
        .collect()
}

/// Reads a key; of a forged record the value is not looked at.
fn try_read_raw(world: &mut World, key: u32, believe: bool) -> Result<Option<u64>, Error> {
    if believe {
        return try_read(world, key);
    }
    let store = world.namespace();
    let record = world.run(store.get(&key_of(key)))?;
    let looked_at = record.map(|record| {
        let bins = record.try_bins().into_iter().filter(Result::is_ok).count() as u64;
        (bins, record.user_key().is_some(), record.set().len())
    });
    Ok(looked_at.map(|looked_at| looked_at.0))
}

fn scan_all(world: &mut World) {
    let mut from = aerolith_engine::ScanPoint::START;
    for _ in 0..10_000 {
        let store = world.namespace();
        match world.run(store.scan(from, None, 50)) {
            Ok(page) => match page.next {
                Some(next) => from = next,
                None => return,
            },
            Err(error) => {
                assert!(refused(&error), "scan: {error}");
                return;
            }
        }
    }
    panic!("a scan does not end");
}

pub fn run(data: &[u8]) {
    if let Some(recipe) = recipe::<Recipe>(data) {
        follow(recipe);
    }
}

/// Forges each field of each structure in turn, with the numbers that mistakes like. Of these cases every `stride`th is run,
/// from the `first` on. Returns how many that were, and which of them panicked.
pub fn forge_fields(first: usize, stride: usize) -> (usize, Vec<String>) {
    use Forged::*;
    let structures = [
        (DeviceHeader, 120, 2),
        (BlockHeader, 56, 1),
        (FooterEntry, 32, 3),
        (Trailer, 48, 1),
        (Root, 112, 2),
        (Part, 24, 4),
        (Summary, 8, 40),
        (Record, 64, 3),
    ];
    let values =
        [0, 1, 2, 0x7FFF_FFFF_FFFF_FFFF, 1 << 63, u64::MAX - 1, u64::MAX, 1 << 40, 0x0101_0101_0101_0101];
    let mut cases = Vec::new();
    for (what, fields, nths) in structures {
        for at in (0..fields).step_by(2) {
            for size in [0, 1, 2, 3].into_iter().filter(|size| at % (1 << size) == 0) {
                for (nth, value) in (0..nths).flat_map(|nth| values.map(|value| (nth, value))) {
                    for (image, block) in [(0, 3), (1, 1), (1, 8), (2, 2)] {
                        cases.push((image, Change::Forge { member: 0, block, what, nth, at, value, size }));
                    }
                }
            }
        }
    }
    let (mut count, mut failed) = (0, Vec::new());
    for (image, change) in cases.into_iter().skip(first).step_by(stride) {
        count += 1;
        let case = format!("image {image}, {change:?}");
        let recipe = Recipe { image, without_checkpoint: false, later_s: 0, changes: vec![change] };
        if catch_unwind(AssertUnwindSafe(|| follow(recipe))).is_err() {
            failed.push(case);
        }
    }
    (count, failed)
}

/// A start on a device whose checkpoints' summaries come back to themselves: how many there were, and how many were rejected.
pub fn start_on_endless_summaries() -> (u64, u64) {
    let image = &image::images()[1];
    let mut member = image.members[0].clone();
    let count = image::Forge::endless_summaries(&mut member) as u64;
    let mut world = World::on(vec![Arc::new(TestDevice::with_bytes("memory-0", member))], BLOCK_SIZE);
    world.clock.set(image.ended);
    bounded("a start", START_SIZE, || world.try_open().map(drop)).expect("the log alone is enough");
    let rejected = world.engine().recovery("test").expect("its namespace").rejected_checkpoints;
    image.model.clone().check_after_crash(&mut world, "without its checkpoints");
    world.close();
    (count, rejected)
}

fn follow(recipe: Recipe) {
    let image = &image::images()[usize::from(recipe.image) % image::images().len()];
    let mut bytes = image.members.clone();
    let (mut forged, mut unreadable) = (false, vec![Vec::new(); bytes.len()]);
    let is_damaged = !recipe.changes.is_empty();
    for change in recipe.changes.into_iter().take(24) {
        forged |= matches!(change, Change::Forge { .. });
        apply(change, &mut bytes, &mut unreadable);
    }
    let devices: Vec<Arc<TestDevice>> = bytes
        .into_iter()
        .zip(&unreadable)
        .enumerate()
        .map(|(i, (bytes, unreadable))| {
            let device = TestDevice::with_bytes(&format!("memory-{i}"), bytes);
            device.fail_reads(unreadable.clone());
            Arc::new(device)
        })
        .collect();
    let handed = || devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect();
    let mut world = World::on(handed(), BLOCK_SIZE);
    world.config.use_checkpoint = !recipe.without_checkpoint;
    world.config.scrub_rate = 64 << 20;
    world.clock.set(image.ended);
    world.clock.advance(Duration::from_secs(recipe.later_s.into()));
    let opened = bounded("a start", START_SIZE, || world.try_open().map(|_| ()));
    if let Err(error) = opened {
        assert!(is_damaged && refused(&error), "{error}");
        return;
    }
    let before = read_all(&mut world, image, !forged);
    if !is_damaged {
        image.model.clone().check_after_crash(&mut world, "an image as it was");
    }
    scan_all(&mut world);
    // An unreadable sector is readable again when it was written; from here on all are, and what was missing is back.
    let same_medium = unreadable.iter().all(Vec::is_empty);
    devices.iter().for_each(|device| device.fail_reads(Vec::new()));
    if !forged {
        world.verify("after damage");
    }
    live_on(&mut world, image, same_medium.then_some(&before[..]), forged);
}

/// Writes, lets the jobs work, starts again.
fn live_on(world: &mut World, image: &Image, before: Option<&[Result<Option<u64>, ()>]>, forged: bool) {
    let mut put = Vec::new();
    for key in (0..KEYS).step_by(7) {
        let (store, value) = (world.namespace(), 1_000_000 + u64::from(key));
        let bytes = bytes_of(key, value);
        match world.run(store.put(&key_of(key), &[("v", Value::Bytes(&bytes))], &WritePolicy::default())) {
            Ok(_) => put.push((key, value)),
            Err(error) => assert!(refused(&error), "put: {error}"),
        }
    }
    for _ in 0..200 {
        world.engine().step();
        world.clock.advance(Duration::from_millis(20));
    }
    let later = world.clock.clone();
    let check = |world: &mut World, when: &str| {
        for (key, value) in put.iter().filter(|_| !forged) {
            assert_eq!(try_read(world, *key).ok().flatten(), Some(*value), "{when}: key {key}");
        }
    };
    check(world, "after the put");
    if world.try_close().is_err() {
        return;
    }
    later.advance(Duration::from_secs(1));
    match world.try_open() {
        Err(error) => assert!(forged && refused(&error), "after a clean close: {error}"),
        Ok(_) => {
            check(world, "after the next start");
            if !forged {
                let after = read_all(world, &image.with(&put), true);
                for (key, (before, after)) in before.unwrap_or_default().iter().zip(&after).enumerate() {
                    // What had a time to live may be gone by now.
                    let same = before == after || after.is_err() || before.is_err() || *after == Ok(None);
                    assert!(
                        same || put.iter().any(|(other, _)| *other == key as u32),
                        "key {key} was {before:?} and is {after:?}"
                    );
                }
                world.verify("after the next start");
            }
            let _ = world.try_close();
        }
    }
}

fn apply(change: Change, members: &mut [Vec<u8>], unreadable: &mut [Vec<std::ops::Range<u64>>]) {
    let count = members.len();
    let page = |page: u8, bytes: &[u8]| usize::from(page) * 4096 % bytes.len().max(4096);
    let block = |block: u8, bytes: &[u8]| {
        let size = BLOCK_SIZE as usize;
        usize::from(block) % (bytes.len() / size).max(1) * size
    };
    match change {
        Change::Flip { member, at, mask } => {
            let bytes = &mut members[usize::from(member) % count];
            let at = at as usize % bytes.len();
            bytes[at] ^= mask;
        }
        Change::Bytes { member, at, bytes: new } => {
            let bytes = &mut members[usize::from(member) % count];
            let at = at as usize % bytes.len();
            let size = new.len().min(bytes.len() - at);
            bytes[at..at + size].copy_from_slice(&new[..size]);
        }
        Change::SwapBlocks { member, a, b } => {
            let bytes = &mut members[usize::from(member) % count];
            let (a, b) = (block(a, bytes), block(b, bytes));
            for i in 0..BLOCK_SIZE as usize {
                bytes.swap(a + i, b + i);
            }
        }
        Change::CopyBlock { member, from, to } => {
            let bytes = &mut members[usize::from(member) % count];
            let (from, to) = (block(from, bytes), block(to, bytes));
            bytes.copy_within(from..from + BLOCK_SIZE as usize, to);
        }
        Change::CopyPage { member, from, to } => {
            let bytes = &mut members[usize::from(member) % count];
            let (from, to) = (page(from, bytes), page(to, bytes));
            bytes.copy_within(from..from + 4096, to);
        }
        Change::ZeroPage { member, page: at } => {
            let bytes = &mut members[usize::from(member) % count];
            let at = page(at, bytes);
            bytes[at..at + 4096].fill(0);
        }
        Change::CutOff { member, blocks } => {
            let bytes = &mut members[usize::from(member) % count];
            let left = usize::from(blocks) % (bytes.len() / BLOCK_SIZE as usize) + 1;
            bytes.truncate(left * BLOCK_SIZE as usize);
        }
        Change::Unreadable { member, page: at } => {
            let member = usize::from(member) % count;
            let at = page(at, &members[member]) as u64;
            unreadable[member].push(at..at + 4096);
        }
        Change::SwapMembers => members.rotate_left(1),
        Change::Forge { member, block, what, nth, at, value, size } => {
            let bytes = &mut members[usize::from(member) % count];
            let forge = image::Forge {
                block: u32::from(block),
                nth,
                at,
                value,
                size: [1, 2, 4, 8][usize::from(size % 4)],
            };
            match what {
                Forged::DeviceHeader => forge.device_header(bytes),
                Forged::BlockHeader => forge.block_header(bytes),
                Forged::FooterEntry => forge.footer_entry(bytes),
                Forged::Trailer => forge.trailer(bytes),
                Forged::Root => forge.root(bytes),
                Forged::Part => forge.part(bytes),
                Forged::Summary => forge.summary(bytes),
                Forged::Record => forge.record(bytes),
            };
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    let mut rng = StdRng::seed_from_u64(2);
    let mut seeds = vec![vec![0; 4], vec![1, 0, 0, 0], vec![2, 0, 0, 0], vec![1, 1, 0, 0], vec![2, 1, 0, 0]];
    seeds.extend((0..40).map(|i| {
        let mut bytes = vec![0; 40 + 6 * i];
        rng.fill(&mut bytes[..]);
        bytes
    }));
    seeds
}
