//! Loads many records into a file and reads some of them back.
//!
//! A load that is faster than the device is slowed down by the engine, never refused: `put` waits for space in
//! the write buffers. `cargo run --release -p aerolith-engine --example bulk_load -- 1000000`

use aerolith_engine::{Config, Engine, Key, NamespaceConfig, Result, Value, WritePolicy};
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::time::Instant;

/// Bytes of each record's value.
const VALUE_SIZE: usize = 1000;
/// How many are read back.
const READS: u64 = 10_000;
/// Records between two strokes of the bar: moving it costs more than a `put`.
const STROKE: u64 = 1000;

fn main() -> Result<()> {
    let count: u64 = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 200_000,
        Some(Ok(count)) if count > 0 => count,
        Some(_) => {
            eprintln!("usage: bulk_load [RECORDS]");
            std::process::exit(2);
        }
    };
    let dir = tempfile::tempdir().expect("a directory for the example");
    let file = dir.path().join("bulk_load.data");
    // Room for the records and as much again: a fuller log spends more on moving records.
    let size = (count * 2 * (VALUE_SIZE as u64 + 128)).max(256 << 20);
    let engine = Engine::open(Config::of(NamespaceConfig::in_file("test", &file, size)))?;
    let test = engine.namespace("test")?;

    let style = "{bar:40} {human_pos}/{human_len} records, {per_sec}, {eta} to go";
    let bar = ProgressBar::new(count).with_style(ProgressStyle::with_template(style).expect("a template"));
    let mut rng = StdRng::seed_from_u64(1);
    let mut value = vec![0; VALUE_SIZE];
    let start = Instant::now();
    for id in 0..count {
        rng.fill_bytes(&mut value);
        value[..8].copy_from_slice(&id.to_le_bytes());
        let bins = [("id", (id as i64).into()), ("value", Value::Bytes(&value))];
        test.put(&Key::new("load", id as i64)?, &bins, &WritePolicy::default())?;
        if id % STROKE == STROKE - 1 {
            bar.inc(STROKE);
        }
    }
    // What was acknowledged so far is in RAM; now it is on the device.
    test.flush()?;
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let stats = test.stats();
    println!(
        "loaded {count} records of {VALUE_SIZE} bytes in {seconds:.1} s: {:.0} records/s, {} MiB on the device, \
         {:.1} bytes of RAM a record for the index",
        count as f64 / seconds,
        stats.used_size >> 20,
        stats.index_size as f64 / count as f64
    );

    let start = Instant::now();
    for _ in 0..READS {
        let id = rng.random_range(0..count);
        let record = test.get(&Key::new("load", id as i64)?)?.expect("it was loaded");
        let value = record.bin("value");
        let is_right = matches!(value, Some(Value::Bytes(value)) if value[..8] == id.to_le_bytes());
        assert!(is_right, "record {id} has another's value");
    }
    let seconds = start.elapsed().as_secs_f64();
    let counters = test.stats().counters;
    println!(
        "read {READS} of them at random, one at a time: {:.0} records/s, {} from the device, {} from RAM",
        READS as f64 / seconds,
        counters.device_reads,
        counters.ram_reads()
    );
    engine.close()
}
