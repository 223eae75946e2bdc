//! Random reads from a file, as fast as the drivers go: beside `fio --ioengine=io_uring --direct=1` on the same file.
//!
//! ```text
//! cargo run --release -p aerolith-benches --bin device -- --path /data/f --size-mib 1024
//! fio --name=r --filename=/data/f --rw=randread --bs=4k --ioengine=io_uring --direct=1 --iodepth=32 \
//!     --runtime=5 --time_based --size=1g
//! ```
//!
//! The file is written first (a hole would be read without the SSD), and left in place. Latency is measured from
//! submit to answer, with the queue always full: it is the driver's, not what a client under a given rate sees.

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aerolith_engine::device::{
    AlignedBuffer, Device, DeviceOptions, Driver, FileDevice, LocalRing, Request, SharedRing, context,
};
use clap::Parser;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Random reads through the device drivers.
#[derive(Parser)]
struct Arguments {
    /// The file, created and filled when it is missing or smaller.
    #[arg(long)]
    path: PathBuf,
    /// How much of it to read from.
    #[arg(long, default_value_t = 1024)]
    size_mib: u64,
    /// Bytes a read.
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    /// Seconds a run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Requests under way at once, one run each.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128")]
    depths: Vec<usize>,
    /// Drivers, one run each: local, shared, blocking.
    #[arg(long, value_delimiter = ',', default_value = "local,shared,blocking")]
    drivers: Vec<String>,
}

/// One run's reads.
struct Load {
    bytes: usize,
    size: u64,
    end: Instant,
}

type Latencies = Rc<RefCell<Histogram<u64>>>;

fn main() {
    let arguments = Arguments::parse();
    let size = arguments.size_mib << 20;
    fill(&arguments.path, size);
    let shared = SharedRing::start();
    println!("driver    depth    reads/s   p50 us   p99 us  CPU us/read");
    for driver in &arguments.drivers {
        for &depth in &arguments.depths {
            let options = DeviceOptions {
                shared_ring: Some(shared.clone()),
                driver: if driver == "blocking" { Driver::Blocking } else { Driver::Auto },
                ..DeviceOptions::new(&arguments.path)
            };
            let device = Arc::new(FileDevice::open(options).expect("the file opens"));
            let (start, cpu) = (Instant::now(), cpu_time());
            let load =
                Load { bytes: arguments.bytes, size, end: start + Duration::from_secs(arguments.seconds) };
            let latencies = match driver.as_str() {
                "local" => local(&device, &load, depth),
                "shared" => shared_ring(&device, &load, depth),
                _ => blocking(&device, &load, depth),
            };
            let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_time() - cpu);
            let reads = latencies.len() as f64;
            let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
            println!(
                "{driver:<9} {depth:>5} {:>10.0} {:>8.1} {:>8.1} {:>12.2}",
                reads / seconds,
                us(0.5),
                us(0.99),
                cpu.as_secs_f64() * 1e6 / reads
            );
        }
    }
}

/// One thread, its own ring, `depth` futures.
fn local(device: &FileDevice, load: &Load, depth: usize) -> Histogram<u64> {
    let ring = LocalRing::install(256).expect("io_uring is available");
    let latencies = histogram();
    ring.block_on(readers(device, load, depth, &latencies));
    drop(ring);
    take(latencies)
}

/// One thread of futures, woken by the shared ring's thread.
fn shared_ring(device: &FileDevice, load: &Load, depth: usize) -> Histogram<u64> {
    let latencies = histogram();
    // Not the engine's block_on, which would carry the reads out in place.
    park_on(readers(device, load, depth, &latencies));
    take(latencies)
}

/// `depth` threads, each with one read at a time.
fn blocking(device: &Arc<FileDevice>, load: &Load, depth: usize) -> Histogram<u64> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..depth)
            .map(|seed| {
                scope.spawn(move || {
                    let latencies = histogram();
                    context::block_on(reader(device, load, seed as u64, latencies.clone()));
                    take(latencies)
                })
            })
            .collect();
        let mut all = take(histogram());
        threads
            .into_iter()
            .for_each(|thread| all.add(thread.join().expect("a reader ends well")).expect("same bounds"));
        all
    })
}

async fn readers(device: &FileDevice, load: &Load, depth: usize, latencies: &Latencies) {
    let mut readers: FuturesUnordered<_> =
        (0..depth).map(|seed| reader(device, load, seed as u64, latencies.clone())).collect();
    while readers.next().await.is_some() {}
}

async fn reader(device: &FileDevice, load: &Load, seed: u64, latencies: Latencies) {
    let mut random = StdRng::seed_from_u64(seed);
    let places = load.size / load.bytes as u64;
    let mut start = Instant::now();
    while start < load.end {
        let offset = random.random_range(0..places) * load.bytes as u64;
        let buffer = AlignedBuffer::for_read(load.bytes);
        device.submit(Request::Read { offset, buffer }).await.result.expect("a read succeeds");
        let now = Instant::now();
        latencies.borrow_mut().saturating_record((now - start).as_nanos() as u64);
        start = now;
    }
}

/// A plain executor: polls, and parks until woken.
fn park_on(future: impl Future<Output = ()>) {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut context).is_pending() {
        thread::park();
    }
}

fn fill(path: &PathBuf, size: u64) {
    const PIECE: u64 = 8 << 20;
    let old = std::fs::metadata(path).map_or(0, |file| file.len());
    if old >= size {
        return;
    }
    let options = DeviceOptions { size: Some(size), create: true, ..DeviceOptions::new(path) };
    let device = FileDevice::open(options).expect("the file opens");
    let data = Arc::new(AlignedBuffer::copy_of(&vec![0xA5; PIECE as usize]));
    for offset in (0..size).step_by(PIECE as usize) {
        let range = 0..PIECE.min(size - offset) as usize;
        let request = Request::Write { offset, data: data.clone(), range, durable: false };
        device.submit(request).wait().result.expect("the file takes its bytes");
    }
    device.submit(Request::Flush).wait().result.expect("the file is flushed");
}

fn histogram() -> Latencies {
    Rc::new(RefCell::new(Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds are sound")))
}

fn take(latencies: Latencies) -> Histogram<u64> {
    latencies.borrow().clone()
}

/// User and system time of the whole process.
fn cpu_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the struct, whose zeros are valid numbers if it does not.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}
