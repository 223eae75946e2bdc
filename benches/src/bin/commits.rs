//! Group commit in the embedded engine: acknowledged durable puts a second, by how many writers wait at a time.
//!
//! The writers are futures on one thread's ring; each puts a record, waits until it is on the device, and puts the next.
//! `benches/durable.sh` runs it beside servers and fio.
//!
//! `cargo run --release -p aerolith-benches --bin commits -- --path DIR/commits.data --writers 64`

use aerolith_engine::{Config, Durability, Engine, Key, LocalRing, NamespaceConfig, Value, WritePolicy};
use clap::Parser;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about = "Acknowledged durable puts of the embedded engine")]
struct Options {
    /// The data file; made, and removed at the end.
    #[arg(long)]
    path: PathBuf,
    /// How many records there are to write to.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// How many writers wait at a time.
    #[arg(long, default_value_t = 64)]
    writers: u64,
    /// Seconds to measure; one second before that does not count.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let namespace = NamespaceConfig {
        durability: Durability::Group,
        ..NamespaceConfig::in_file("bench", &options.path, 4 << 30)
    };
    let engine = Engine::open(Config::of(namespace))?;
    let store = engine.namespace("bench")?.to_async();
    let ring = LocalRing::install(256)?;
    let latencies = RefCell::new(Histogram::<u64>::new(3)?);
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + Duration::from_secs(options.seconds);
    let value = vec![7; options.size];
    let writer = |seed: u64| {
        let (latencies, store, value, options) = (&latencies, &store, &value, &options);
        async move {
            let mut rng = SmallRng::seed_from_u64(seed);
            loop {
                let start = Instant::now();
                if start >= end {
                    return Ok::<(), aerolith_engine::Error>(());
                }
                let key = Key::new("bench", rng.random_range(0..options.records) as i64)?;
                store.put(&key, &[("v", Value::Bytes(value))], &WritePolicy::default()).await?;
                if start >= begin {
                    let taken = start.elapsed().as_nanos() as u64;
                    latencies.borrow_mut().record(taken).expect("it resizes itself");
                }
            }
        }
    };
    let done = ring.block_on(futures_util::future::join_all((0..options.writers).map(writer)));
    done.into_iter().collect::<Result<Vec<()>, _>>()?;
    let latencies = latencies.into_inner();
    println!(
        "{:.0} durable puts/s, p50 {:.0} us, p99 {:.0} us",
        latencies.len() as f64 / options.seconds as f64,
        latencies.value_at_quantile(0.5) as f64 / 1e3,
        latencies.value_at_quantile(0.99) as f64 / 1e3
    );
    drop(ring);
    drop(store);
    engine.close()?;
    std::fs::remove_file(&options.path)?;
    Ok(())
}
