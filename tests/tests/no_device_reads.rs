//! What needs no read of the device does none, and what needs one does one, of exactly the record's sectors.
//!
//! All records are on the device and in no cache: blocks that were written long before have left RAM.

use aerolith_engine::device::Device;
use aerolith_engine::{Exists, Generation, Key, Ttl, Value, WritePolicy};
use aerolith_tests::World;
use aerolith_tests::device::{SECTOR, TestDevice};
use std::sync::Arc;
use std::time::Duration;

const ANY: WritePolicy = WritePolicy {
    exists: Exists::Any,
    generation: Generation::Any,
    ttl: Ttl::Default,
    durability: None,
    send_key: true,
};

fn key(id: i64) -> Key<'static> {
    Key::new("keys", id).expect("a number is a key")
}

/// Ids 0 to 99 on the device, each of a size of its own, out of RAM since the engine has been restarted.
fn cold_world() -> (World, Arc<TestDevice>) {
    let device = Arc::new(TestDevice::new("cold", 100 * (64 << 10)));
    let mut world = World::on(vec![device.clone() as Arc<dyn Device>], 64 << 10);
    world.open();
    let store = world.namespace();
    for id in 0..100 {
        let bytes = vec![id as u8; 30 + 97 * id as usize];
        let policy = WritePolicy::with_ttl(Ttl::For(Duration::from_secs(1000)));
        world.run(store.put(&key(id), &[("b", Value::Bytes(&bytes))], &policy)).unwrap();
    }
    world.close();
    world.open();
    device.take_reads();
    (world, device)
}

#[test]
fn writes_and_questions_about_metadata_read_nothing() {
    let (mut world, device) = cold_world();
    let store = world.namespace();
    for id in 0..100 {
        let metadata = world.run(store.exists(&key(id))).unwrap().expect("it is there");
        assert_eq!((metadata.generation, metadata.expires_at.is_some()), (1, true));
        let wrong = WritePolicy { generation: Generation::Equal(7), ..ANY };
        world.run(store.put(&key(id), &[], &wrong)).unwrap_err();
        let create = WritePolicy { exists: Exists::CreateOnly, ..ANY };
        world.run(store.put(&key(id), &[], &create)).unwrap_err();
        match id % 5 {
            0 => drop(world.run(store.put(&key(id), &[("b", 1.into())], &ANY)).unwrap()),
            1 => assert!(world.run(store.delete(&key(id), &ANY)).unwrap()),
            2 => {
                let checked = WritePolicy { generation: Generation::Equal(1), ..ANY };
                assert_eq!(world.run(store.put(&key(id), &[], &checked)).unwrap().generation, 2);
            }
            3 => world.run(store.put_many(&[(key(id), &[]), (key(id + 2000), &[])], &ANY)).unwrap(),
            _ => assert!(world.run(store.get(&key(id + 1000))).unwrap().is_none()),
        }
    }
    world.flush();
    assert_eq!(device.take_reads(), []);
    world.verify("after blind writes");
}

#[test]
fn a_get_reads_the_sectors_of_its_record_once() {
    let (mut world, device) = cold_world();
    let store = world.namespace();
    for id in 0..100 {
        let stored = u64::from(world.run(store.exists(&key(id))).unwrap().unwrap().stored_size);
        let record = world.run(store.get(&key(id))).unwrap().expect("it is there");
        assert_eq!(record.bin("b").unwrap().as_bytes().unwrap().len(), 30 + 97 * id as usize);
        let reads = device.take_reads();
        assert_eq!(reads.len(), 1, "record {id}");
        let read = reads[0].end - reads[0].start;
        let sector = SECTOR as u64;
        assert!(reads[0].start.is_multiple_of(sector) && read.is_multiple_of(sector));
        assert!(read >= stored && read < stored + 2 * sector, "{read} bytes for {stored}");
    }
}

#[test]
fn a_get_many_reads_once_a_key_and_all_reads_start_before_one_is_awaited() {
    let (mut world, device) = cold_world();
    let store = world.namespace();
    let keys: Vec<_> = (0..40).map(key).collect();
    assert!(world.run(store.get_many(&keys)).unwrap().iter().all(Option::is_some));
    assert_eq!(device.take_reads().len(), 40);
    let started: Vec<_> = keys.iter().map(|key| store.begin_get(key)).collect();
    assert_eq!(device.take_reads().len(), 40, "a read is in flight before anybody asks for its result");
    drop(started);
}

#[test]
fn a_second_get_is_served_from_the_read_cache_until_the_record_changes() {
    let (mut world, device) = cold_world();
    world.close();
    world.config.read_cache_size = 1 << 20;
    world.open();
    device.take_reads();
    let store = world.namespace();
    for expected in [1, 0, 0] {
        world.run(store.get(&key(7))).unwrap().expect("it is there");
        assert_eq!(device.take_reads().len(), expected);
    }
    world.run(store.put(&key(7), &[("b", 1.into())], &ANY)).unwrap();
    let record = world.run(store.get(&key(7))).unwrap().expect("it is there");
    assert_eq!(record.bin("b"), Some(Value::Integer(1)));
    assert_eq!(device.take_reads(), [], "the new version is still in RAM");
}
