//! A counter that is incremented all the time costs next to no writes: its versions replace each other in RAM, and
//! only the one that is there when the tail is committed goes to the device.

use aerolith_engine::{Draft, Error, Key, Outcome, Record, WritePolicy};
use aerolith_tests::World;
use std::time::Duration;

const COUNT: u64 = 1_000_000;
/// Increments in one second of the clock, after which the tail is due.
const A_SECOND: u64 = 50_000;

fn next(old: Option<&Record>) -> Result<Outcome, Error> {
    let count = old.and_then(|record| record.bin("n")?.as_i64()).unwrap_or(0);
    Ok(Outcome::Put(Draft::new().bin("n", count + 1)?))
}

#[test]
fn a_million_increments_write_one_sector_a_second() {
    let mut world = World::new(1, 100, 1 << 20);
    world.open();
    let store = world.namespace();
    let key = Key::new("counters", "hits").unwrap();
    for i in 1..=COUNT {
        world.run(store.update(&key, &WritePolicy::default(), next)).unwrap();
        if i % A_SECOND == 0 {
            world.clock.advance(Duration::from_secs(1));
            world.settle();
        }
    }
    let stats = store.stats();
    let seconds = COUNT / A_SECOND;
    println!("{} bytes written in {seconds} s for {COUNT} increments", stats.device_written_size);
    // A page a second, the device header's copies, and room for the roots of checkpoints.
    assert!(stats.device_written_size <= (seconds + 6) * 4096, "{} bytes written", stats.device_written_size);
    assert!(stats.overwritten_in_place >= COUNT - seconds - 1);
    assert_eq!(store.stats().counters.device_reads, 0);
    world.verify("after increments");
    drop(store);
    world.crash();
    world.open();
    let store = world.namespace();
    let record = world.run(store.get(&key)).unwrap().expect("it was flushed");
    assert_eq!(record.bin("n").and_then(|n| n.as_i64()), Some(COUNT as i64));
    assert_eq!(u64::from(record.generation()), (COUNT - 1) % 65_535 + 1);
}
