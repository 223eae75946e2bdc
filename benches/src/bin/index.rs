//! Micro-bench of the index: bytes a record at several sizes, and lookups a second.
//!
//! ```text
//! cargo run --release -p aerolith-benches --bin index -- [--records 1000000,10000000] [--seconds 2]
//! ```
//! Digests are a mix of a counter, made before the clock runs. `worst` is the highest figure seen on the way from the size
//! before to this one, looked at 200 times; `RSS` is what the process really grew by since it started.

use aerolith_engine::index::{Entry, Index, Location, PartitionId, SizeClass, Tag};
use clap::Parser;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes a record, and lookups a second, of the index.
#[derive(Parser)]
struct Arguments {
    /// Where to measure on the way up.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 3_000_000, 10_000_000, 30_000_000])]
    records: Vec<u64>,
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

    /// A number below `limit`, which is below 2^32.
    fn below(&mut self, limit: u64) -> u64 {
        ((self.next() >> 32) * limit) >> 32
    }
}

/// Nanoseconds this thread has run on a processor.
fn thread_time_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    stat.split(' ').next().and_then(|field| field.parse().ok()).expect("schedstat's first field")
}

/// Runs `lookups` on some threads for so long, and returns how many a thread made in a second of its
/// processor time: what else the machine does then counts for little.
fn rate(threads: u64, seconds: f64, lookups: impl Fn(&mut Numbers) -> u64 + Sync) -> f64 {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let (count, spent_ns) = std::thread::scope(|scope| {
        let run = |seed| {
            let (mut numbers, mut count, begin_ns) = (Numbers(seed), 0, thread_time_ns());
            while Instant::now() < until {
                count += (0..16).map(|_| lookups(&mut numbers)).sum::<u64>();
            }
            (count, thread_time_ns() - begin_ns)
        };
        let handles: Vec<_> = (1..=threads).map(|t| scope.spawn(move || run(t * 0x9e37_79b9))).collect();
        let ended = handles.into_iter().map(|handle| handle.join().expect("no panic"));
        ended.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    count as f64 * 1e9 / spent_ns as f64
}

/// What the machine gives just now: random reads of one cache line from an array as large as the index.
fn probe(size: u64, seconds: f64) {
    let lines = (size / 64) as usize;
    let map = memmap2::MmapMut::map_anon(lines * 64).expect("memory for the probe");
    let _ = map.advise(memmap2::Advice::HugePage);
    let mut map = map;
    map.chunks_mut(4096).for_each(|page| page[0] = 1);
    let read = |at: usize| map[at * 64] as u64;
    let independent = rate(1, seconds, |numbers| {
        black_box((0..256).map(|_| read(numbers.below(lines as u64) as usize)).sum::<u64>());
        256
    });
    let dependent = rate(1, seconds, |numbers| {
        let mut number = numbers.next();
        for _ in 0..256 {
            number = (number ^ read((((number >> 32) * lines as u64) >> 32) as usize))
                .wrapping_mul(0xd6e8_feb8_6659_fd93);
            number ^= number >> 29;
        }
        black_box(number);
        256
    });
    println!(
        "    this machine, random lines read, M a CPU second: independent {:.1}, dependent {:.2}",
        independent / 1e6,
        dependent / 1e6
    );
}

fn lookups(index: &Index, records: u64, seconds: f64) {
    const BATCH: usize = 256;
    // Digests are made beforehand: read back while their bytes are still on the way to the cache they would
    // hold up every load behind them, and nothing could overlap.
    const SAMPLES: usize = 1 << 22;
    for (name, from) in [("hits", 0), ("misses", 1 << 40)] {
        let mut numbers = Numbers(records);
        let samples: Vec<[u8; 20]> = (0..SAMPLES).map(|_| digest(from + numbers.below(records))).collect();
        let sample = |numbers: &mut Numbers| {
            let at = numbers.next() as usize % (SAMPLES / BATCH) * BATCH;
            &samples[at..at + BATCH]
        };
        for threads in [1, 2] {
            let independent = rate(threads, seconds, |numbers| {
                sample(numbers).iter().for_each(|digest| {
                    black_box(index.get(digest));
                });
                BATCH as u64
            });
            let locked = rate(threads, seconds, |numbers| {
                sample(numbers).iter().for_each(|digest| {
                    black_box(index.lock(PartitionId::of(digest)).get(Tag::of(digest)));
                });
                BATCH as u64
            });
            let batched = rate(threads, seconds, |numbers| {
                let mut out = Vec::with_capacity(BATCH);
                index.get_batch(sample(numbers), &mut out);
                black_box(&out);
                BATCH as u64
            });
            println!(
                "    {name:6} {threads} thread(s), M a CPU second: get {:5.2}  get_batch {:5.2}  lock+get {:5.2}",
                independent / 1e6,
                batched / 1e6,
                locked / 1e6,
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
    for target in arguments.records {
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
        probe(index.memory_size(), arguments.seconds);
        lookups(&index, records, arguments.seconds);
    }
}
