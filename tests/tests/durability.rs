//! What an acknowledgement means, on a device that answers when the test says so.

use aerolith_engine::device::Device;
use aerolith_engine::{Durability, Error, Key, WritePolicy};
use aerolith_tests::World;
use aerolith_tests::device::TestDevice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

type Waiting = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

fn key(id: i64) -> Key<'static> {
    Key::new("keys", id).expect("a number is a key")
}

/// A world on one device that holds back all writes but those of the opening.
fn held_world() -> (World, Arc<TestDevice>) {
    let device = Arc::new(TestDevice::new("held", 40 * (64 << 10)));
    let mut world = World::on(vec![device.clone() as Arc<dyn Device>], 64 << 10);
    world.open();
    device.take_writes();
    device.hold(true);
    (world, device)
}

/// A put that has been started; its record is in the store.
fn put(world: &World, id: i64, durability: Durability) -> Waiting {
    let store = world.namespace();
    let policy = WritePolicy { durability: Some(durability), ..WritePolicy::default() };
    let mut put: Waiting =
        Box::pin(async move { store.put(&key(id), &[("n", id.into())], &policy).await.map(drop) });
    assert_eq!(is_done(&mut put), durability == Durability::Relaxed);
    put
}

fn is_done(future: &mut Waiting) -> bool {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.map(|()| true).expect("a write"),
        Poll::Pending => false,
    }
}

fn is_there_after_a_crash(
    world: &mut World,
    device: &TestDevice,
    ids: impl Iterator<Item = i64>,
) -> Vec<bool> {
    let bytes = device.with_state(|bytes| bytes.to_vec());
    let copy = Arc::new(TestDevice::with_bytes("copy", bytes));
    let mut other = World::on(vec![copy as Arc<dyn Device>], 64 << 10);
    other.config.durability = world.config.durability;
    other.open();
    let store = other.namespace();
    ids.map(|id| other.run(store.get(&key(id))).expect("a get").is_some()).collect()
}

#[test]
fn a_group_put_is_acknowledged_when_the_device_has_answered_and_not_before() {
    let (mut world, device) = held_world();
    let mut waiting = put(&world, 1, Durability::Group);
    for _ in 0..10 {
        world.settle();
        assert!(!is_done(&mut waiting), "the write is still in flight");
    }
    assert_eq!(device.held_count(), 1, "nobody had to wait for flush_max");
    assert_eq!(is_there_after_a_crash(&mut world, &device, 1..=1), [false]);
    device.release(0);
    world.settle();
    assert!(is_done(&mut waiting));
    assert_eq!(is_there_after_a_crash(&mut world, &device, 1..=1), [true]);
    device.hold(false);
}

#[test]
fn all_who_wait_at_one_moment_share_one_write() {
    let (mut world, device) = held_world();
    let mut waiting: Vec<_> = (0..50).map(|id| put(&world, id, Durability::Group)).collect();
    world.settle();
    assert_eq!(device.held_count(), 1);
    device.release(0);
    world.settle();
    assert!(waiting.iter_mut().all(is_done));
    let writes = device.take_writes();
    assert_eq!(writes.len(), 1);
    assert!(writes[0].start.is_multiple_of(4096) && writes[0].end.is_multiple_of(4096));
    assert!(is_there_after_a_crash(&mut world, &device, 0..50).into_iter().all(|there| there));
    device.hold(false);
}

#[test]
fn several_commits_are_in_flight_and_acknowledged_in_the_order_of_the_log() {
    let (mut world, device) = held_world();
    let mut waiting = Vec::new();
    for id in 0..20 {
        waiting.push(put(&world, id, Durability::Group));
        world.settle();
    }
    let in_flight = device.held_count();
    assert!((4..=16).contains(&in_flight), "{in_flight} commits in flight");
    // Answered from the last on: as long as the first is missing, nobody is told anything.
    while device.held_count() > 1 {
        device.release(1);
        waiting.iter_mut().for_each(|put| assert!(!is_done(put)));
    }
    world.engine().step();
    assert!(waiting.iter_mut().all(|put| !is_done(put)));
    device.release(0);
    world.engine().step();
    let mut told: Vec<bool> = waiting.iter_mut().take(in_flight).map(is_done).collect();
    assert!(told.iter().all(|&done| done), "{told:?}");
    told.clear();
    device.hold(false);
    world.settle();
    assert!(waiting.iter_mut().skip(in_flight).all(is_done), "those that came later are in the next commit");
}

#[test]
fn a_relaxed_put_is_on_the_device_within_flush_max() {
    let (mut world, device) = held_world();
    device.hold(false);
    drop(put(&world, 1, Durability::Relaxed));
    world.clock.advance(world.config.flush_max - Duration::from_millis(1));
    world.settle();
    assert_eq!(device.take_writes(), []);
    world.clock.advance(Duration::from_millis(1));
    world.settle();
    assert_eq!(device.take_writes().len(), 1);
    assert_eq!(is_there_after_a_crash(&mut world, &device, 1..=1), [true]);
    world.clock.advance(Duration::from_secs(100));
    world.settle();
    assert_eq!(device.take_writes(), [], "an idle store writes nothing");
}

#[test]
fn a_version_that_replaced_another_in_ram_is_acknowledged_by_the_same_write() {
    let (mut world, device) = held_world();
    drop(put(&world, 1, Durability::Relaxed));
    let mut waiting: Vec<_> = (0..5).map(|_| put(&world, 1, Durability::Group)).collect();
    assert_eq!(world.namespace().stats().overwritten_in_place, 5);
    world.settle();
    assert_eq!(device.held_count(), 1);
    // What has been handed to the device does not change any more.
    let mut later = put(&world, 1, Durability::Group);
    assert_eq!(world.namespace().stats().overwritten_in_place, 5);
    device.release(0);
    world.engine().step();
    assert!(waiting.iter_mut().all(is_done) && !is_done(&mut later));
    device.hold(false);
    world.settle();
    assert!(is_done(&mut later));
}

#[test]
fn flush_waits_for_everything_that_was_acknowledged_before() {
    let devices: Vec<_> =
        (0..3).map(|i| Arc::new(TestDevice::new(&format!("{i}"), 40 * (64 << 10)))).collect();
    let shared = devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect();
    let mut world = World::on(shared, 64 << 10);
    world.open();
    devices.iter().for_each(|device| device.hold(true));
    (0..1000).for_each(|id| drop(put(&world, id, Durability::Relaxed)));
    let store = world.namespace();
    let mut flush: Waiting = Box::pin(async move { store.flush().await });
    for held in (0..3).map(|i| &devices[i]) {
        assert!(!is_done(&mut flush));
        for _ in 0..20 {
            world.settle();
            assert!(!is_done(&mut flush), "a device has not answered");
        }
        held.hold(false);
        world.settle();
    }
    // It asks one device after the other; each had its writes in flight at the latest when it was asked.
    for _ in 0..6 {
        if is_done(&mut flush) {
            return;
        }
        world.settle();
    }
    panic!("all devices have answered, and flush still waits");
}

#[test]
fn a_namespace_of_group_durability_acknowledges_every_verb_by_it() {
    let (mut world, device) = held_world();
    device.hold(false);
    world.close();
    world.config.durability = Durability::Group;
    world.open();
    world.settle();
    device.hold(true);
    let (store, policy) = (world.namespace(), WritePolicy::default());
    let verbs: Vec<Waiting> = vec![
        Box::pin({
            let store = store.clone();
            async move { store.put(&key(1), &[], &policy).await.map(drop) }
        }),
        Box::pin({
            let store = store.clone();
            async move { store.put_many(&[(key(2), &[]), (key(3), &[])], &policy).await }
        }),
        Box::pin({
            let store = store.clone();
            async move { store.delete(&key(1), &policy).await.map(drop) }
        }),
        Box::pin(async move { store.truncate(Some("keys")).await }),
    ];
    for (i, mut verb) in verbs.into_iter().enumerate() {
        assert!(!is_done(&mut verb), "verb {i}");
        world.settle();
        assert!(!is_done(&mut verb), "verb {i} has not been answered by the device");
        while device.release(0) {}
        world.settle();
        assert!(is_done(&mut verb), "verb {i}");
    }
    device.hold(false);
}
