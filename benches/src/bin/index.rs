//! Micro-bench of the index: bytes a record at several sizes, and lookups a second.
//!
//! ```text
//! cargo run --release -p aerolith-benches --bin index -- [--max-records 30000000] [--seconds 2]
//! ```
//! Digests are a keyed mix of a counter, so a lookup costs a few nanoseconds beside the index's own work
//! and nothing but the index is in memory. `worst` is the highest figure seen on the way from the size
//! before to this one, looked at 200 times; `RSS` is what the process really grew by since it started.

use aerolith_engine::index::{Entry, Index, Location, PartitionId, SizeClass, Tag};
use clap::Parser;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes a record, and lookups a second, of the index.
#[derive(Parser)]
struct Arguments {
    /// Stop at this many records (1M, 3M, 10M, 30M are measured).
    #[arg(long, default_value_t = 30_000_000)]
    max_records: u64,
    /// Seconds for each figure of lookups.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// A stand-in for RIPEMD-160: 20 bytes, evenly spread, from a number.
fn digest(number: u64) -> [u8; 20] {
    let mix = |mut x: u64| {
        x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^ x >> 32
    };
    let mut digest = [0; 20];
    digest[..8].copy_from_slice(&mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15)).to_le_bytes());
    digest[8..16].copy_from_slice(&mix(number ^ 0x5851_f42d_4c95_7f2d).to_le_bytes());
    digest
}

fn resident_size() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 =
        status.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("statm's second field");
    pages * 4096
}

/// A cheap sequence of numbers, for which key to look up next.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Runs `lookups` on some threads and returns how many lookups a second one thread made.
fn rate(threads: u64, seconds: f64, lookups: impl Fn(&mut Numbers) -> u64 + Sync) -> f64 {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let begin = Instant::now();
    let total: u64 = std::thread::scope(|scope| {
        let run = |seed| {
            let mut numbers = Numbers(seed);
            let mut count = 0;
            while Instant::now() < until {
                count += lookups(&mut numbers);
            }
            count
        };
        let handles: Vec<_> = (1..=threads).map(|t| scope.spawn(move || run(t * 0x9e37_79b9))).collect();
        handles.into_iter().map(|handle| handle.join().expect("no panic")).sum()
    });
    total as f64 / begin.elapsed().as_secs_f64() / threads as f64
}

fn lookups(index: &Index, records: u64, seconds: f64) {
    const BATCH: usize = 256;
    for (name, from) in [("hits", 0), ("misses", 1 << 40)] {
        let number = |numbers: &mut Numbers| from + ((numbers.next() >> 32) * records >> 32);
        for threads in [1, 2] {
            let independent = rate(threads, seconds, |numbers| {
                (0..BATCH).for_each(|_| {
                    black_box(index.get(&digest(number(numbers))));
                });
                BATCH as u64
            });
            let locked = rate(threads, seconds, |numbers| {
                (0..BATCH).for_each(|_| {
                    let digest = digest(number(numbers));
                    black_box(index.lock(PartitionId::of(&digest)).get(Tag::of(&digest)));
                });
                BATCH as u64
            });
            // The next key follows from the answer, so nothing can overlap.
            let dependent = rate(threads, seconds, |numbers| {
                let mut number = number(numbers);
                for _ in 0..BATCH {
                    let found = index.get(&digest(number));
                    number = from
                        + (number * 0x9e37 + 1 + found.map_or(0, |entry| entry.set_id() as u64)) % records;
                }
                BATCH as u64
            });
            let batched = rate(threads, seconds, |numbers| {
                let digests: [[u8; 20]; BATCH] = std::array::from_fn(|_| digest(number(numbers)));
                let mut out = Vec::with_capacity(BATCH);
                index.get_batch(&digests, &mut out);
                black_box(&out);
                BATCH as u64
            });
            println!(
                "    {name:6} {threads} thread(s), M/s each: get {:5.2}  get_batch {:5.2}  lock+get {:5.2}  dependent get {:5.2}",
                independent / 1e6,
                batched / 1e6,
                locked / 1e6,
                dependent / 1e6,
            );
        }
    }
}

fn main() {
    let arguments = Arguments::parse();
    let before = resident_size();
    let index: Index = Index::new();
    println!("empty: {} KiB", index.memory_size() / 1024);
    let mut records = 0;
    for target in [1_000_000, 3_000_000, 10_000_000, 30_000_000] {
        if target > arguments.max_records {
            break;
        }
        let (begin, first) = (Instant::now(), records);
        let mut worst = (0.0, 0);
        let mut slowest = Duration::ZERO;
        while records < target {
            let step = records.max(1_000_000) / 200;
            for _ in 0..step.min(target - records) {
                let digest = digest(records);
                let location = Location { device: 0, unit: records * 64 };
                let entry = Entry::new(Tag::of(&digest), location, SizeClass::for_size(1024));
                let one = Instant::now();
                index.lock(PartitionId::of(&digest)).insert(entry);
                slowest = slowest.max(one.elapsed());
                records += 1;
            }
            let size = index.memory_size() as f64 / records as f64;
            if records >= 1_000_000 && size > worst.0 {
                worst = (size, records);
            }
        }
        let spent = begin.elapsed();
        assert_eq!(index.len(), records);
        println!(
            "{records} records: {:.2} B/record (RSS {:.2}), load {:.3}, worst {:.2} at {}; inserts {:.2} M/s, slowest {:?}",
            index.memory_size() as f64 / records as f64,
            (resident_size() - before) as f64 / records as f64,
            index.load_factor(),
            worst.0,
            worst.1,
            (records - first) as f64 / spent.as_secs_f64() / 1e6,
            slowest,
        );
        lookups(&index, records, arguments.seconds);
    }
}
