//! The embedded engine on a real file: load, random reads by queue depth, overwrites; fio beside it.
//!
//! Reads go through `LocalRing::block_on` with so many futures in flight on one thread, from records chosen
//! at random with caches too small to matter. fio reads the same file with the same depth and about the same
//! block size, in turns with ours, so that both see the same machine. CPU is this process's user and system
//! time (getrusage) over the reads; fio's is what it reports itself.
//!
//! `cargo run --release -p aerolith-benches --bin embedded -- --path DIR/embedded.data`

use aerolith_engine::{
    AsyncNamespace, Config, Engine, Key, LocalRing, NamespaceConfig, Value, WritePolicy, block_on,
};
use clap::Parser;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about = "The embedded engine beside fio on one file")]
struct Options {
    /// The data file; made, and removed at the end unless --keep.
    #[arg(long)]
    path: PathBuf,
    /// How many records.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 1000)]
    size: usize,
    /// Queue depths.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128")]
    depths: Vec<usize>,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often each measurement is repeated, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Whether to run fio beside it.
    #[arg(long)]
    fio: bool,
    /// Whether to leave the file.
    #[arg(long)]
    keep: bool,
}

/// One measurement.
struct Measured {
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

fn cpu_seconds() -> f64 {
    // SAFETY: `usage` is ours, zeroed is a value of it, and the call writes no more than it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn load(store: &AsyncNamespace, options: &Options) -> aerolith_engine::Result<()> {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut value = vec![0; options.size];
    for i in 0..options.records {
        rng.fill_bytes(&mut value);
        let key = Key::new("bench", i as i64)?;
        block_on(store.put(&key, &[("v", Value::Bytes(&value))], &WritePolicy::default()))?;
    }
    block_on(store.flush())
}

fn read(store: &AsyncNamespace, ring: &LocalRing, options: &Options, depth: usize) -> Measured {
    let latencies = RefCell::new(Histogram::<u64>::new(3).expect("three digits"));
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let reader = |seed: u64| {
        let latencies = &latencies;
        async move {
            let mut rng = SmallRng::seed_from_u64(seed);
            loop {
                let start = Instant::now();
                if start >= end {
                    return;
                }
                let key = Key::new("bench", rng.random_range(0..options.records) as i64).expect("a key");
                let record = store.get(&key).await.expect("a read").expect("every key was loaded");
                assert_eq!(record.bin("v").and_then(|v| v.as_bytes()).map(<[u8]>::len), Some(options.size));
                latencies.borrow_mut().record(start.elapsed().as_nanos() as u64).expect("it resizes itself");
            }
        }
    };
    let (cpu, start) = (cpu_seconds(), Instant::now());
    ring.block_on(futures_util::future::join_all((0..depth as u64).map(reader)));
    let (cpu, elapsed) = (cpu_seconds() - cpu, start.elapsed().as_secs_f64());
    let latencies = latencies.into_inner();
    Measured {
        per_second: latencies.len() as f64 / elapsed,
        cpu_us: cpu * 1e6 / latencies.len() as f64,
        p50_us: latencies.value_at_quantile(0.5) as f64 / 1e3,
        p99_us: latencies.value_at_quantile(0.99) as f64 / 1e3,
    }
}

/// fio's reads a second, CPU and latencies, or why it could not run.
fn fio(path: &Path, size: u64, depth: usize, seconds: u64, block: usize) -> Result<Measured, String> {
    let output = Command::new("fio")
        .args([
            "--name=r",
            "--rw=randread",
            "--ioengine=io_uring",
            "--direct=1",
            "--time_based",
            "--readonly",
        ])
        .args(["--output-format=terse", "--terse-version=3", "--randrepeat=0", "--blockalign=512"])
        .arg(format!("--filename={}", path.display()))
        .arg(format!("--size={size}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--bs={block}"))
        .arg(format!("--runtime={seconds}"))
        .output()
        .map_err(|error| format!("fio: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find(|line| line.starts_with("3;"))
        .ok_or_else(|| format!("fio: no result: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    let fields: Vec<&str> = line.split(';').collect();
    let number =
        |i: usize| fields.get(i).and_then(|f| f.trim_end_matches('%').parse::<f64>().ok()).unwrap_or(0.0);
    let per_second = number(7);
    let percentile = |wanted: &str| {
        fields[17..37].iter().find_map(|f| f.strip_prefix(wanted)?.strip_prefix('=')?.parse::<f64>().ok())
    };
    Ok(Measured {
        per_second,
        cpu_us: (number(87) + number(88)) / 100.0 * 1e6 / per_second,
        p50_us: percentile("50.000000%").unwrap_or(0.0),
        p99_us: percentile("99.000000%").unwrap_or(0.0),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(name: &str, depth: usize, runs: &[Measured]) -> f64 {
    let of = |f: fn(&Measured) -> f64| median(runs.iter().map(f).collect());
    let per_second = of(|m| m.per_second);
    println!(
        "| {name} | {depth} | {per_second:.0} | {:.1} | {:.0} | {:.0} |",
        of(|m| m.cpu_us),
        of(|m| m.p50_us),
        of(|m| m.p99_us)
    );
    per_second
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let size = (options.records * (options.size as u64 + 160) * 5 / 4).max(1 << 30).next_multiple_of(8 << 20);
    let namespace =
        NamespaceConfig { read_cache_size: 0, ..NamespaceConfig::in_file("bench", &options.path, size) };
    let engine = Engine::open(Config::of(namespace))?;
    let store = engine.namespace("bench")?.to_async();
    println!("rss empty: {:.0} MiB", rss_mib());
    let (cpu, start) = (cpu_seconds(), Instant::now());
    load(&store, &options)?;
    let elapsed = start.elapsed().as_secs_f64();
    println!(
        "load: {:.0} records/s, {:.1} us CPU a record, rss {:.0} MiB, index {:.1} bytes a record",
        options.records as f64 / elapsed,
        (cpu_seconds() - cpu) * 1e6 / options.records as f64,
        rss_mib(),
        store.stats().index_size as f64 / options.records as f64,
    );
    // Blocks are used from the file's start on: what lies behind is a hole, and would be read without the device.
    let written = store.stats().fresh_size / 4096 * 4096;
    let ring = LocalRing::install(512)?;
    println!("| what | depth | reads/s | CPU us | p50 us | p99 us |\n|---|---|---|---|---|---|");
    for &depth in &options.depths {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            ours.push(read(&store, &ring, &options, depth));
            if options.fio {
                theirs.push(fio(
                    &options.path,
                    written,
                    depth,
                    options.seconds,
                    (options.size + 600) / 512 * 512,
                )?);
            }
        }
        let own = print("aerolith", depth, &ours);
        if options.fio {
            let other = print("fio", depth, &theirs);
            println!("| ratio | {depth} | {:.2} | | | |", own / other);
        }
    }
    drop(ring);
    drop(store);
    let start = Instant::now();
    engine.close()?;
    println!("close: {:.2} s", start.elapsed().as_secs_f64());
    let namespace = NamespaceConfig::in_file("bench", &options.path, size);
    let start = Instant::now();
    let engine = Engine::open(Config::of(namespace))?;
    println!("reopen: {:.2} s, {:?}", start.elapsed().as_secs_f64(), engine.recovery("bench"));
    drop(engine);
    if !options.keep {
        std::fs::remove_file(&options.path)?;
    }
    Ok(())
}
