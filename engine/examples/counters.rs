//! Reading and changing in one step: threads that share a counter, and a transfer between two records.
//!
//! A function from the old record to the new one is applied atomically; it may run again if somebody else was
//! faster. A counter's newest version still lies in a write buffer and is overwritten there, so a hot one
//! writes next to nothing to the device.
//!
//! `cargo run --release -p aerolith-engine --example counters`

use aerolith_engine::{
    Config, Draft, Engine, Error, Key, Namespace, NamespaceConfig, Outcome, Record, Result, WritePolicy,
};
use std::time::Instant;

const THREADS: u32 = 4;
const EACH: u32 = 50_000;

fn number(record: Option<&Record>) -> i64 {
    record.and_then(|record| record.bin("n")).and_then(|value| value.as_i64()).unwrap_or(0)
}

fn count(test: &Namespace) -> Result<()> {
    let key = Key::new("counters", "visits")?;
    for _ in 0..EACH {
        test.update(&key, &WritePolicy::default(), |old| {
            Ok::<_, Error>(Outcome::Put(Draft::new().bin("n", number(old) + 1)?))
        })?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory for the example");
    let file = dir.path().join("counters.data");
    let engine = Engine::open(Config::of(NamespaceConfig::in_file("test", file, 256 << 20)))?;
    let test = engine.namespace("test")?;

    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| count(&test))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let total = number(test.get(&Key::new("counters", "visits")?)?.as_ref());
    assert_eq!(total, i64::from(THREADS * EACH), "no increment was lost");
    test.flush()?;
    let stats = test.stats();
    println!(
        "{THREADS} threads counted to {total}: {:.0} increments/s, {} of them in place, {} KiB written",
        f64::from(THREADS * EACH) / seconds,
        stats.overwritten_in_place,
        stats.device_written_size >> 10
    );

    // Several records as one step: after a crash both have changed, or neither.
    let (from, to) = (Key::new("accounts", "ada")?, Key::new("accounts", "charles")?);
    test.put(&from, &[("n", 100.into())], &WritePolicy::default())?;
    test.update_many(&[from, to], &WritePolicy::default(), |old| {
        let (a, b) = (number(old[0].as_ref()), number(old[1].as_ref()));
        Ok::<_, Error>(vec![
            Outcome::Put(Draft::new().bin("n", a - 30)?),
            Outcome::Put(Draft::new().bin("n", b + 30)?),
        ])
    })?;
    println!(
        "moved 30 from ada to charles: {} and {}",
        number(test.get(&from)?.as_ref()),
        number(test.get(&to)?.as_ref())
    );
    engine.close()
}
