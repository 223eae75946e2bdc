//! Damage in a block that was open at the crash: told from a torn tail, and never answered with an older version.
//!
//! Each commit of an open block ends with a mark that says how far the block was certainly on the device, and names the
//! records there (`engine/src/format/mark.rs`). Here a device is damaged after a crash, in every way and in every
//! record, and a start must give the newest value of each key or an error.

use aerolith_engine::device::Device;
use aerolith_engine::format::{BlockHeader, DurableMark, HEADER_PAGE, LogItem, scan_log};
use aerolith_engine::volume::{BlockId, BlockPlace, read_header};
use aerolith_engine::{Bin, Durability, Error, Recovery, Value, WritePolicy};
use aerolith_tests::World;
use aerolith_tests::device::{SECTOR, TestDevice};
use aerolith_tests::model::{Model, Version, bytes_of, key_of, try_read};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

const BLOCK_SIZE: u32 = 128 << 10;
/// Enough for defrag to stay away.
const BLOCKS: u64 = 20;
const KEYS: u32 = 24;
/// What is added to a key for the number of its newest value.
const NEW: u64 = 1000;

fn device(bytes: Vec<u8>) -> Arc<TestDevice> {
    Arc::new(TestDevice::with_bytes("test", bytes))
}

fn world_on(device: &Arc<TestDevice>) -> World {
    let mut world = World::on(vec![device.clone() as Arc<dyn Device>], BLOCK_SIZE);
    world.config.durability = Durability::Group;
    world
}

fn put(world: &mut World, key: u32, value: u64) {
    let (store, bytes) = (world.namespace(), bytes_of(key, value));
    let (key, bins) = (key_of(key), [("v", Value::Bytes(&bytes))]);
    world.run(store.put(&key, &bins, &WritePolicy::default())).expect("a put");
}

fn put_group(world: &mut World, keys: Range<u32>) {
    let store = world.namespace();
    let values: Vec<_> = keys.clone().map(|key| bytes_of(key, NEW + u64::from(key))).collect();
    let bins: Vec<[Bin<'_>; 1]> = values.iter().map(|value| [("v", Value::Bytes(value))]).collect();
    let records: Vec<_> = keys.zip(&bins).map(|(key, bins)| (key_of(key), &bins[..])).collect();
    world.run(store.put_many(&records, &WritePolicy::default())).expect("a group");
}

/// A store whose keys have an old version in sealed blocks and a new one in the open block, each durable before the next was
/// put; three of them as a group. What is on the device when the process is killed.
fn crashed(with_checkpoint: bool) -> Vec<u8> {
    let device = device(vec![0; (BLOCKS * u64::from(BLOCK_SIZE)) as usize]);
    let mut world = world_on(&device);
    world.open();
    (0..KEYS).for_each(|key| put(&mut world, key, u64::from(key)));
    world.close();
    world.open();
    for key in 0..KEYS {
        match key {
            10 => put_group(&mut world, 10..13),
            11..13 => {}
            _ => put(&mut world, key, NEW + u64::from(key)),
        }
        if key == KEYS / 2 && with_checkpoint {
            let store = world.namespace();
            assert!(world.run(store.checkpoint()).expect("a checkpoint"));
        }
    }
    world.crash();
    device.with_state(|bytes| bytes.to_vec())
}

/// A record in an open block.
#[derive(Clone, Copy, Debug)]
struct Placed {
    key: u32,
    /// From the device's start.
    offset: usize,
    size: usize,
}

/// What lies in the blocks that have no footer.
struct Open {
    records: Vec<Placed>,
    /// Where the newest mark says that the block was durable up to, from the device's start.
    durable_end: usize,
    marks: Vec<usize>,
}

fn open_blocks(bytes: &[u8]) -> Open {
    let header = read_header(device(bytes.to_vec()).as_ref()).expect("a good header").expect("a header");
    let keys: HashMap<[u8; 20], u32> = (0..KEYS).map(|key| (*key_of(key).digest().as_bytes(), key)).collect();
    let mut open = Open { records: Vec::new(), durable_end: 0, marks: Vec::new() };
    for (id, block) in bytes.chunks(BLOCK_SIZE as usize).enumerate().skip(1) {
        let Ok(found) = BlockHeader::parse(block) else { continue };
        let place = BlockPlace::new(&header, BlockId(id as u32));
        if place.footer(found.epoch, block).is_ok() || found.stream == 255 {
            continue;
        }
        let start = id * BLOCK_SIZE as usize;
        scan_log(block, place.salt(found.epoch), |item| match item {
            LogItem::Record(pos, record) => open.records.push(Placed {
                key: keys[&record.header().digest],
                offset: start + pos as usize,
                size: record.header().length as usize,
            }),
            LogItem::Mark(pos, DurableMark { header, .. }) => {
                open.durable_end = open.durable_end.max(start + header.durable_end as usize);
                open.marks.push(start + pos as usize);
            }
            LogItem::Group(..) | LogItem::Stray(..) => {}
        });
    }
    open
}

fn recovery(world: &mut World) -> Recovery {
    world.engine().recovery("test").expect("it is configured").clone()
}

/// Opens damaged bytes, and checks every key: the newest value, or for `victims` an error. Returns how many errors.
fn check(damaged: &Arc<TestDevice>, victims: &[u32], with_checkpoint: bool, context: &str) -> usize {
    let mut world = world_on(damaged);
    world.config.use_checkpoint = with_checkpoint;
    world.open();
    let mut errors = 0;
    for key in 0..KEYS {
        match try_read(&mut world, key) {
            Ok(value) => assert_eq!(value, Some(NEW + u64::from(key)), "{context}: key {key}"),
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. } | Error::Device(_)), "{context}: {error}");
                assert!(victims.contains(&key), "{context}: key {key}: {error}");
                errors += 1;
            }
        }
    }
    world.verify(context);
    // Writing heals, and the next start finds what was written.
    damaged.fail_reads(Vec::new());
    for &key in victims {
        put(&mut world, key, 5000);
    }
    world.crash();
    world.open();
    for &key in victims {
        assert_eq!(try_read(&mut world, key).expect("a healed key"), Some(5000), "{context}: key {key}");
    }
    errors
}

#[test]
fn scenario_29_damage_to_the_newest_version_in_an_open_block_is_never_answered_with_an_older_one() {
    for with_checkpoint in [false, true] {
        let whole = crashed(with_checkpoint);
        let open = open_blocks(&whole);
        assert_eq!(open.records.len() as u32, KEYS, "every newest version is in an open block");
        let is_marked = |record: &&Placed| record.offset + record.size <= open.durable_end;
        let marked: Vec<_> = open.records.iter().filter(is_marked).copied().collect();
        // One commit at a time: all but the last were known to be durable when the last was cut off.
        assert_eq!(marked.len() as u32, KEYS - 1);
        assert_eq!(check(&device(whole.clone()), &[], with_checkpoint, "no damage"), 0);
        for record in marked {
            let page = record.offset - record.offset % HEADER_PAGE as usize;
            let sharing: Vec<u32> = open
                .records
                .iter()
                .filter(|other| other.offset / HEADER_PAGE as usize == record.offset / HEADER_PAGE as usize)
                .map(|other| other.key)
                .collect();
            // Magic, length, checksum, sequence number, digest, generation, expiry, body.
            for at in [0, 4, 9, 17, 23, 24, 40, 44, 48, record.size - 1] {
                let mut bytes = whole.clone();
                bytes[record.offset + at] ^= 0x04;
                let context = format!("{record:?}, byte {at}, checkpoint {with_checkpoint}");
                let errors = check(&device(bytes), &[record.key], with_checkpoint, &context);
                assert_eq!(errors, 1, "{context}");
            }
            // A sector that was lost, and one that was torn.
            for fill in [0, 0xA5] {
                let mut bytes = whole.clone();
                bytes[page..page + HEADER_PAGE as usize].fill(fill);
                // The block's own header is in its first page.
                if page.is_multiple_of(BLOCK_SIZE as usize) {
                    bytes[page..page + 64].copy_from_slice(&whole[page..page + 64]);
                }
                let context = format!("{record:?}, its page is {fill:#x}, checkpoint {with_checkpoint}");
                let errors = check(&device(bytes), &sharing, with_checkpoint, &context);
                assert_eq!(errors, sharing.len(), "{context}");
            }
            // The sector of the block's own header is another matter.
            let sector = record.offset / SECTOR * SECTOR;
            for lost in [page..page + HEADER_PAGE as usize, sector..sector + SECTOR] {
                if lost.start.is_multiple_of(BLOCK_SIZE as usize) {
                    continue;
                }
                let touches = |other: &&Placed| {
                    let end = (other.offset + other.size).next_multiple_of(SECTOR);
                    other.offset / SECTOR * SECTOR < lost.end && lost.start < end
                };
                let victims: Vec<u32> = open.records.iter().filter(touches).map(|other| other.key).collect();
                let unreadable = device(whole.clone());
                unreadable.fail_reads(std::iter::once(lost.start as u64..lost.end as u64).collect());
                let context = format!("{record:?}, {lost:?} cannot be read, checkpoint {with_checkpoint}");
                let errors = check(&unreadable, &victims, with_checkpoint, &context);
                assert_eq!(errors, victims.len(), "{context}");
            }
        }
        // A bad sector beside the block's header does not take the header with it.
        let Placed { key, offset, size } = open.records[0];
        let block = offset / BLOCK_SIZE as usize * BLOCK_SIZE as usize;
        for sector in (block + SECTOR..block + HEADER_PAGE as usize).step_by(SECTOR) {
            let unreadable = device(whole.clone());
            unreadable.fail_reads(std::iter::once(sector as u64..(sector + SECTOR) as u64).collect());
            let context = format!("sector {sector} cannot be read, checkpoint {with_checkpoint}");
            let victims = if sector < offset + size { vec![key] } else { Vec::new() };
            assert_eq!(check(&unreadable, &victims, with_checkpoint, &context), victims.len(), "{context}");
        }
    }
}

#[test]
fn a_damaged_mark_costs_no_record() {
    let whole = crashed(false);
    for mark in open_blocks(&whole).marks {
        for at in [0, 4, 12, 16, 32, 44] {
            let mut bytes = whole.clone();
            bytes[mark + at] ^= 0x40;
            assert_eq!(check(&device(bytes), &[], false, &format!("mark at {mark}, byte {at}")), 0);
        }
    }
}

#[test]
fn marks_make_no_write_and_no_page_of_their_own() {
    let device = device(vec![0; (BLOCKS * u64::from(BLOCK_SIZE)) as usize]);
    let mut world = world_on(&device);
    world.open();
    device.take_writes();
    (0..KEYS).for_each(|key| put(&mut world, key, u64::from(key)));
    // Besides zeros, which go to blocks that have never been used.
    let mut writes = device.take_writes();
    writes.retain(|write| write.end - write.start < u64::from(BLOCK_SIZE));
    assert_eq!(writes.len() as u32, KEYS, "one write for each put");
    assert!(writes.iter().all(|write| write.end - write.start == 4096), "{writes:?}");
    world.crash();
    let bytes = device.with_state(|bytes| bytes.to_vec());
    assert_eq!(open_blocks(&bytes).marks.len() as u32, KEYS - 1);
}

#[test]
fn what_marks_had_no_room_to_name_is_told_as_damage_of_a_block() {
    let device = device(vec![0; (BLOCKS * u64::from(BLOCK_SIZE)) as usize]);
    let mut world = world_on(&device);
    world.config.durability = Durability::Relaxed;
    world.open();
    // One commit of many records, and one of a single record behind it, whose padding cannot name them all.
    (0..KEYS * 10).for_each(|key| put(&mut world, key, u64::from(key % 7)));
    world.flush();
    put(&mut world, 0, NEW);
    world.flush();
    world.crash();
    let whole = device.with_state(|bytes| bytes.to_vec());
    let found = |damage: Option<usize>| {
        let mut bytes = whole.clone();
        if let Some(at) = damage {
            bytes[at] ^= 1;
        }
        let damaged = self::device(bytes);
        let mut world = world_on(&damaged);
        world.open();
        let Recovery { records, damaged_versions, damaged_runs, .. } = recovery(&mut world);
        (records, damaged_versions, damaged_runs)
    };
    const LAST: u32 = KEYS * 10 - 1;
    let all = u64::from(LAST) + 1;
    assert_eq!(found(None), (all, 0, 0));
    let record_at = |value: &[u8]| {
        whole.windows(value.len()).position(|bytes| bytes == value).expect("it is on the device")
    };
    // The first are named, the last are not.
    assert_eq!(found(Some(record_at(&bytes_of(1, 1)))), (all, 1, 0));
    assert_eq!(found(Some(record_at(&bytes_of(LAST, u64::from(LAST % 7))))), (all - 1, 0, 1));
    // In the commit behind which there is none, nothing is certain.
    let last = record_at(&bytes_of(0, NEW));
    assert_eq!(found(Some(last)), (all, 0, 0));
}

#[test]
fn after_a_clean_end_every_damaged_record_is_named() {
    let device = device(vec![0; (BLOCKS * u64::from(BLOCK_SIZE)) as usize]);
    let mut world = world_on(&device);
    world.open();
    let mut model = Model::default();
    for key in 0..KEYS {
        put(&mut world, key, NEW + u64::from(key));
        model.note(key, Version { value: Some(NEW + u64::from(key)), expires_ms: 0 });
    }
    world.close();
    let whole = device.with_state(|bytes| bytes.to_vec());
    for key in 0..KEYS {
        let value = bytes_of(key, NEW + u64::from(key));
        let at = whole.windows(value.len()).position(|bytes| bytes == value).expect("it is on the device");
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        assert_eq!(check(&self::device(bytes), &[key], false, &format!("key {key}")), 1);
    }
}
