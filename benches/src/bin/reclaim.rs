//! What defrag costs: sustained overwrites of a device that is so and so full, uniform and Zipf 0.99.
//!
//! The device is RAM, so that hours of overwriting take minutes; all else is the engine as it is, threads
//! included. A share of the device's record slots is filled once, then records are overwritten until ten
//! times the device's size has been written. Write amplification is (fresh + moved) / fresh, over the second
//! half of that. A write that is refused ends the run.
//!
//! `cargo run --release -p aerolith-benches --bin reclaim`

use aerolith_engine::{
    AsyncNamespace, Config, DeviceConfig, Engine, Key, NamespaceConfig, Stats, Value, WritePolicy, block_on,
};
use clap::Parser;
use rand::distr::Distribution;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;

#[derive(Parser)]
#[command(about = "Write amplification under sustained overwrites")]
struct Options {
    /// Blocks of the device.
    #[arg(long, default_value_t = 2048)]
    blocks: u64,
    /// Bytes of a block.
    #[arg(long, default_value_t = 512 << 10)]
    block_size: u32,
    /// Bytes of each value; the stored record takes 1 KiB with the default.
    #[arg(long, default_value_t = 932)]
    size: usize,
    /// Shares of the device's record slots that are filled, in percent.
    #[arg(long, value_delimiter = ',', default_value = "60,80")]
    fill: Vec<u64>,
    /// Key distributions: uniform, zipf.
    #[arg(long, value_delimiter = ',', default_value = "uniform,zipf")]
    keys: Vec<String>,
    /// How often the device's size is written.
    #[arg(long, default_value_t = 10)]
    times: u64,
}

/// Spreads ranks over keys, so that hot keys are not neighbours.
fn spread(rank: u64, count: u64) -> u64 {
    // A large prime: unless it divides the count, every rank gets a key of its own.
    (u128::from(rank) * 0xFFFF_FFFF_FFFF_FFC5 % u128::from(count)) as u64
}

fn put(store: &AsyncNamespace, key: u64, value: &[u8]) -> aerolith_engine::Result<()> {
    let key = Key::new("b", key as i64)?;
    block_on(store.put(&key, &[("v", Value::Bytes(value))], &WritePolicy::default()))?;
    Ok(())
}

fn amplification(before: &Stats, after: &Stats) -> f64 {
    let (fresh, moved) = (after.fresh_size - before.fresh_size, after.moved_size - before.moved_size);
    (fresh + moved) as f64 / fresh as f64
}

fn run(options: &Options, fill: u64, keys: &str) -> Result<(), Box<dyn std::error::Error>> {
    let size = options.blocks * u64::from(options.block_size);
    let engine = Engine::open(Config::of(NamespaceConfig {
        devices: vec![DeviceConfig::Memory { size }],
        block_size: options.block_size,
        read_cache_size: 0,
        write_cache_size: 16 * u64::from(options.block_size),
        stop_writes_pct: 98,
        ..NamespaceConfig::default()
    }))?;
    let store = engine.namespace("test")?.to_async();
    let value = vec![7; options.size];
    put(&store, 0, &value)?;
    let record_size = store.stats().used_size;
    // What a block holds beside its header and a footer of 32 bytes a record.
    let slots = u64::from(options.block_size - 4096) / (record_size + 32) * (options.blocks - 1);
    let count = slots * fill / 100;
    for key in 0..count {
        put(&store, key, &value)?;
    }
    let zipf = Zipf::new(count as f64, 0.99)?;
    let mut rng = SmallRng::seed_from_u64(fill);
    let total = size * options.times / record_size;
    let mut half = store.stats();
    let start = std::time::Instant::now();
    for i in 0..total {
        let key = match keys {
            "uniform" => rng.random_range(0..count),
            "zipf" => spread(zipf.sample(&mut rng) as u64 - 1, count),
            other => return Err(format!("keys are uniform or zipf, not {other}").into()),
        };
        put(&store, key, &value)?;
        if i == total / 2 {
            half = store.stats();
        }
    }
    let stats = store.stats();
    println!(
        "| {keys} | {fill} % | {:.2} | {:.2} | {:.0} | {} | {} |",
        amplification(&half, &stats),
        (stats.device_written_size - half.device_written_size) as f64
            / (stats.fresh_size - half.fresh_size) as f64,
        total as f64 / start.elapsed().as_secs_f64(),
        stats.counters.waited,
        stats.counters.refused,
    );
    drop(store);
    engine.close()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    println!(
        "| keys | slots filled | write amplification | device bytes a fresh byte | puts/s | waits | refused |"
    );
    println!("|---|---|---|---|---|---|---|");
    for keys in &options.keys {
        for &fill in &options.fill {
            run(&options, fill, keys)?;
        }
    }
    Ok(())
}
