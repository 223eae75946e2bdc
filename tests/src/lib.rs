//! What the tests of Aerolith as a whole share: engines stepped by hand, and a model to compare them with.

use aerolith_engine::device::{Device, MemoryDevice};
use aerolith_engine::{
    AsyncNamespace, Clock, Config, DeviceConfig, Engine, Error, ManualClock, NamespaceConfig, Timestamp,
    Verified,
};
use device::{BLOCK_SIZE, TestDevice};
use std::sync::Arc;

pub mod device;
pub mod model;
pub mod sim;

/// 2026-01-01 in milliseconds since the Unix epoch: where tests begin.
pub const START: Timestamp = Timestamp(1_767_225_600_000);

/// The numbers of an engine's jobs, for stepping one alone; the engine of a test has one namespace.
pub mod job {
    /// Takes what was appended to the device, and frees what has settled.
    pub const FLUSH: usize = 0;
    /// Empties blocks that are mostly garbage.
    pub const DEFRAG: usize = 1;
    /// Writes a checkpoint.
    pub const CHECKPOINT: usize = 4;
}

/// An engine on devices that outlive it, stepped by hand.
pub struct World {
    /// The devices: what survives a crash is what was written to them.
    pub devices: Vec<Arc<dyn Device>>,
    /// The clock.
    pub clock: Arc<ManualClock>,
    /// The configuration, devices included.
    pub config: NamespaceConfig,
    engine: Option<Engine>,
}

impl World {
    /// A world of `count` devices with `blocks` blocks of `block_size` bytes each.
    pub fn new(count: usize, blocks: u64, block_size: u32) -> Self {
        let size = blocks * u64::from(block_size);
        let device = |i| Arc::new(MemoryDevice::new(&format!("memory-{i}"), size)) as Arc<dyn Device>;
        Self::on((0..count).map(device).collect(), block_size)
    }

    /// A world on these devices.
    pub fn on(devices: Vec<Arc<dyn Device>>, block_size: u32) -> Self {
        let config = NamespaceConfig {
            devices: devices.iter().cloned().map(DeviceConfig::Handed).collect(),
            block_size,
            write_cache_size: 4 * u64::from(block_size),
            read_cache_size: 0,
            expiry_period: Some(std::time::Duration::from_secs(10)),
            scrub_rate: 0,
            checkpoint_period: None,
            ..NamespaceConfig::default()
        };
        World { devices, clock: Arc::new(ManualClock::at(START)), config, engine: None }
    }

    /// A world on these test devices, with blocks of `BLOCK_SIZE`.
    pub fn of(devices: &[Arc<TestDevice>]) -> Self {
        Self::on(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect(), BLOCK_SIZE)
    }

    /// At the time of another world, and as durable as that one.
    pub fn like(mut self, other: &World) -> Self {
        self.clock.set(other.clock.now());
        self.config.durability = other.config.durability;
        self
    }

    /// Opens the engine. Panics where it is refused.
    pub fn open(&mut self) -> &mut Engine {
        self.try_open().expect("the engine opens")
    }

    /// Opens the engine, or says why not.
    pub fn try_open(&mut self) -> Result<&mut Engine, Error> {
        let config = Config { recovery_threads: 1, ..Config::of(self.config.clone()) };
        let engine = Engine::open_by_hand(config, self.clock.clone(), 1)?;
        Ok(self.engine.insert(engine))
    }

    /// The open engine.
    pub fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("the engine is open")
    }

    /// The namespace.
    pub fn namespace(&self) -> AsyncNamespace {
        let engine = self.engine.as_ref().expect("the engine is open");
        engine.namespace("test").expect("it is configured").to_async()
    }

    /// Runs a future, stepping the jobs whenever it waits.
    pub fn run<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        for _ in 0..100_000 {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            if !self.engine().step() {
                self.clock.advance(std::time::Duration::from_millis(1));
            }
        }
        panic!("the jobs cannot give what the future waits for");
    }

    /// Steps the jobs until none has more to do at once.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.engine().step() {
                return;
            }
        }
        panic!("the jobs never come to rest");
    }

    /// Opens it, for a world that is only read.
    pub fn opened(mut self) -> Self {
        self.open();
        self
    }

    /// Steps one job alone until it has no more to do at once.
    pub fn work(&mut self, job: usize) {
        assert!(job < self.engine().job_count(), "there is no job {job}");
        for _ in 0..100_000 {
            if !self.engine().step_job(job) {
                return;
            }
        }
        panic!("job {job} never comes to rest");
    }

    /// The checkpoint that the engine was opened from, if it was.
    pub fn used_checkpoint(&mut self) -> Option<u64> {
        self.engine().recovery("test").expect("it is configured").checkpoint
    }

    /// Steps all jobs until everything appended so far is on the device.
    pub fn flush(&mut self) {
        self.clock.advance(self.config.flush_max);
        self.settle();
    }

    /// The process ends without another word: what is not on the devices is gone.
    pub fn crash(&mut self) {
        // Dropping would flush. The engine has no threads, so forgetting it is all there is to a crash.
        std::mem::forget(self.engine.take());
    }

    /// A clean end.
    pub fn close(&mut self) {
        self.try_close().expect("a clean close");
    }

    /// An end, clean or not.
    pub fn try_close(&mut self) -> Result<(), Error> {
        self.engine.take().map_or(Ok(()), Engine::close)
    }

    /// Compares what the engine keeps count of with a fresh count.
    pub fn verify(&self, context: &str) -> Verified {
        self.namespace().verify().unwrap_or_else(|wrong| panic!("{context}: {wrong}"))
    }

    /// Reads that the devices have served.
    pub fn device_reads(&self) -> u64 {
        self.devices.iter().map(|device| device.counters().snapshot().reads).sum()
    }
}

impl Drop for World {
    /// A test that has failed ends like a crash: closing would wait, maybe for a device that its test holds.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.crash();
        }
    }
}

/// Seeds to run: a few, or as many as the environment variable `AEROLITH_SEEDS` says, or the one in `AEROLITH_SEED`.
pub fn seeds(few: u64) -> std::ops::Range<u64> {
    let read = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match read("AEROLITH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..read("AEROLITH_SEEDS").unwrap_or(few),
    }
}

/// Asks a future once.
pub fn ready<F: Future + Unpin + ?Sized>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
