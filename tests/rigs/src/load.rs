//! The child: opens the engine, tells what it finds, then writes, and tells each acknowledgement as it comes.
//!
//! Keys belong to lanes. A lane has one write under way at a time, so the order of a key's versions is known; many
//! lanes on several threads, each with its own io_uring, keep many writes under way together. Versions count up
//! within a lane and over all lives of a chain. The child never ends by itself: it is killed, or its pipe breaks.
//!
//! The data file is small and its blocks too, so that after a few cuts every block has been emptied, defragmented
//! and used again several times.

use crate::planted::{Planted, plant};
use crate::value::{value, version_of};
use crate::wire::{Message, Tag, mono_ns};
use aerolith_engine::device::{DeviceOptions, FileDevice};
use aerolith_engine::{
    AsyncNamespace, Config, DeviceConfig, Driver, Durability, Engine, Error, Key, LocalRing, NamespaceConfig,
    Timestamp, Ttl, Value, WritePolicy,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of the engine's file or device.
pub const DATA_SIZE: u64 = 48 << 20;
const BLOCK_SIZE: u32 = 256 << 10;
/// Lanes: writes under way at a time.
pub const LANES: u16 = 48;
const THREADS: u16 = 3;
/// Keys of a lane.
pub const LANE_KEYS: u32 = 40;
/// How long a relaxed write may wait in RAM: short, so that windows end within a cycle.
pub const FLUSH_MAX: Duration = Duration::from_millis(100);
/// Versions of a life: those of the next begin that much higher.
const LIFE: u64 = 1 << 32;

/// What the child is started with.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The file or device.
    #[arg(long)]
    pub path: PathBuf,
    /// Of values and choices.
    #[arg(long)]
    pub seed: u64,
    /// Which life of the chain, from 1.
    #[arg(long)]
    pub life: u64,
    /// Acknowledge in RAM.
    #[arg(long)]
    pub relaxed: bool,
    /// A bug to plant.
    #[arg(long, value_enum, default_value_t = Planted::None)]
    pub planted: Planted,
    /// Open from what all blocks hold, past any checkpoint.
    #[arg(long)]
    pub whole_scan: bool,
    /// Close the engine after reading all keys.
    #[arg(long)]
    pub only_verify: bool,
}

/// What a lane knows of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// A write failed: it may be there or not.
    Unknown,
    Absent,
    Live {
        version: u64,
        expires_ms: u64,
    },
}

struct Lane<'a> {
    id: u16,
    rng: StdRng,
    keys: Vec<Known>,
    version: u64,
    world: &'a World,
}

/// What all lanes share.
struct World {
    namespace: AsyncNamespace,
    options: Options,
    latched: AtomicBool,
}

/// The key of a number.
pub fn key_of(key: u32) -> Key<'static> {
    let set = ["users", "sessions", "carts"][key as usize % 3];
    Key::new(set, i64::from(key)).expect("a number is a key")
}

/// The wall clock, in ms since the epoch.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Tells the parent. One call to the kernel, past std's buffer, so that a record is never half told.
fn tell(message: Message) {
    static PIPE: OnceLock<Option<File>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| std::io::stdout().as_fd().try_clone_to_owned().ok().map(File::from));
    let told = pipe.as_ref().is_some_and(|mut pipe| pipe.write_all(&message.encode()).is_ok());
    if !told {
        // Nobody listens any more: there is nothing left to do.
        std::process::exit(3);
    }
}

fn namespace_config(options: &Options, device: DeviceConfig) -> NamespaceConfig {
    NamespaceConfig {
        name: "rigs".into(),
        devices: vec![device],
        block_size: BLOCK_SIZE,
        durability: if options.relaxed { Durability::Relaxed } else { Durability::Group },
        flush_max: FLUSH_MAX,
        write_cache_size: 8 * u64::from(BLOCK_SIZE),
        read_cache_size: 0,
        expiry_period: Some(Duration::from_millis(200)),
        // Short, so that cuts fall into checkpoints and starts rest on them.
        checkpoint_period: Some(Duration::from_millis(300)),
        use_checkpoint: !options.whole_scan,
        ..NamespaceConfig::default()
    }
}

fn open(options: &Options) -> Result<Engine, Error> {
    let device = match options.planted {
        Planted::None | Planted::LyingDisk => {
            DeviceConfig::Path { path: options.path.clone(), size: DATA_SIZE }
        }
        planted => {
            let device = DeviceOptions {
                size: Some(DATA_SIZE),
                create: true,
                driver: Driver::Ring,
                ..DeviceOptions::new(&options.path)
            };
            let device = FileDevice::open(device).map_err(|error| Error::Config(error.to_string()))?;
            DeviceConfig::Handed(plant(device, planted))
        }
    };
    // Ring, not Auto: a rig that quietly went another way would prove nothing about io_uring.
    Engine::open(Config { driver: Driver::Ring, ..Config::of(namespace_config(options, device)) })
}

/// Runs the child. Returns only with `only_verify`, or where the engine refuses.
pub fn run(options: Options) {
    let began = mono_ns();
    let engine = match open(&options) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("the engine cannot be opened: {error}");
            return tell(Message::of(Tag::Refused));
        }
    };
    let recovery = engine.recovery("rigs").expect("it is configured");
    let (opened_ms, scanned) = ((mono_ns() - began) / 1_000_000, recovery.scanned_blocks);
    let checkpoints = 2 * recovery.rejected_checkpoints + u64::from(recovery.checkpoint.is_some());
    tell(Message { a: opened_ms, b: scanned, c: checkpoints, ..Message::of(Tag::Opened) });
    let namespace = engine.namespace("rigs").expect("it is configured").to_async();
    let found = verify(&namespace, options.seed);
    if let Err(difference) = namespace.verify() {
        eprintln!("the engine's accounts: {difference}");
        tell(Message::of(Tag::Miscounted));
    }
    tell(Message::of(Tag::Verified));
    if options.only_verify {
        if let Err(error) = engine.close() {
            eprintln!("closing: {error}");
        }
        return tell(Message::of(Tag::Closed));
    }
    let world = World { namespace, options, latched: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (world, found) = (&world, &found);
            scope.spawn(move || {
                let ring = LocalRing::install(64);
                if let Err(error) = &ring {
                    eprintln!("a thread without a ring: {error}");
                }
                let lanes = (0..LANES).filter(|lane| lane % THREADS == thread);
                let lanes = lanes.map(|lane| Lane::new(lane, world, found).live());
                aerolith_engine::block_on(futures_util::future::join_all(lanes));
            });
        }
    });
}

/// Reads every key, tells what it is, and returns it.
fn verify(namespace: &AsyncNamespace, seed: u64) -> Vec<Known> {
    let keys = u32::from(LANES) * LANE_KEYS;
    let mut found = Vec::with_capacity(keys as usize);
    for key in 0..keys {
        let before_ms = wall_ms();
        let message = |tag, version| Message {
            tag,
            lane: (key / LANE_KEYS) as u16,
            key,
            a: version,
            b: before_ms,
            c: wall_ms(),
        };
        let read = aerolith_engine::block_on(namespace.get(&key_of(key)));
        let (known, told) = match read {
            Ok(None) => (Known::Absent, message(Tag::Found, 0)),
            Ok(Some(record)) => {
                let bytes = record.bin("v").and_then(|value| value.as_bytes()).unwrap_or_default();
                match version_of(seed, key, bytes) {
                    Some(version) => {
                        let expires_ms = record.expires_at().map_or(0, |at| at.0);
                        (Known::Live { version, expires_ms }, message(Tag::Found, version))
                    }
                    None => (Known::Unknown, message(Tag::FoundWrong, 0)),
                }
            }
            Err(error) => {
                eprintln!("key {key}: {error}");
                (Known::Unknown, message(Tag::FoundError, 0))
            }
        };
        tell(told);
        found.push(known);
    }
    found
}

impl<'a> Lane<'a> {
    fn new(id: u16, world: &'a World, found: &[Known]) -> Self {
        let first = u32::from(id) * LANE_KEYS;
        let Options { seed, life, .. } = world.options;
        Lane {
            id,
            rng: StdRng::seed_from_u64(seed ^ life << 20 ^ u64::from(id) << 48),
            keys: found[first as usize..(first + LANE_KEYS) as usize].to_vec(),
            version: life * LIFE,
            world,
        }
    }

    fn key(&self, at: usize) -> u32 {
        u32::from(self.id) * LANE_KEYS + at as u32
    }

    fn tell(&self, tag: Tag, key: u32, a: u64, b: u64, c: u64) {
        tell(Message { tag, lane: self.id, key, a, b, c });
    }

    async fn live(mut self) {
        loop {
            // Few keys are hot: some versions are overwritten in the tail of their block, others stay for long.
            let at = match self.rng.random_range(0..3) {
                0 => self.rng.random_range(0..4),
                _ => self.rng.random_range(0..LANE_KEYS as usize),
            };
            match self.rng.random_range(0..100) {
                _ if self.world.latched.load(Ordering::Relaxed) => {
                    // Now and then a write all the same, to one key: no answer to it may be yes.
                    if self.rng.random_range(0..16) == 0 {
                        self.put(LANE_KEYS as usize - 1, 0).await;
                    }
                    self.read(at).await;
                    // What is in RAM answers at once: others must have a turn too, and the parent must keep up.
                    std::thread::sleep(Duration::from_micros(100));
                    give_way().await;
                }
                0..60 => self.put(at, 0).await,
                60..68 => {
                    let expires_ms = wall_ms() + self.rng.random_range(20..3000);
                    self.put(at, expires_ms).await;
                }
                68..80 => self.delete(at).await,
                80..86 => self.put_group(at).await,
                86..98 => self.read(at).await,
                _ if self.world.options.relaxed => self.flush().await,
                _ => self.read(at).await,
            }
        }
    }

    fn begin(&mut self, at: usize, expires_ms: u64, deletes: bool) {
        self.tell(Tag::Begin, self.key(at), self.version, expires_ms, deletes.into());
        self.keys[at] = Known::Unknown;
    }

    fn end(&mut self, result: Result<(), Error>, now: &[(usize, Known)]) {
        match result {
            Ok(()) => {
                self.tell(Tag::Acknowledged, 0, self.version, mono_ns(), 0);
                now.iter().for_each(|(at, known)| self.keys[*at] = *known);
            }
            Err(error) => {
                self.tell(Tag::Failed, 0, self.version, 0, 0);
                self.look_for_latch(&error);
            }
        }
    }

    fn look_for_latch(&self, error: &Error) {
        if matches!(error, Error::DeviceFailed { .. }) && !self.world.latched.swap(true, Ordering::Relaxed) {
            eprintln!("{error}");
            let is_known = self.world.namespace.stats().failed_devices > 0;
            self.tell(Tag::Latched, 0, is_known.into(), mono_ns(), 0);
        }
    }

    async fn put(&mut self, at: usize, expires_ms: u64) {
        self.version += 1;
        let (key, version) = (self.key(at), self.version);
        self.begin(at, expires_ms, false);
        let bytes = value(self.world.options.seed, key, version);
        let ttl = if expires_ms == 0 { Ttl::Never } else { Ttl::At(Timestamp(expires_ms)) };
        let policy = WritePolicy::with_ttl(ttl);
        let result = self.world.namespace.put(&key_of(key), &[("v", Value::Bytes(&bytes))], &policy).await;
        self.end(result.map(drop), &[(at, Known::Live { version, expires_ms })]);
    }

    async fn delete(&mut self, at: usize) {
        self.version += 1;
        self.begin(at, 0, true);
        let policy = WritePolicy::default();
        let result = self.world.namespace.delete(&key_of(self.key(at)), &policy).await;
        self.end(result.map(drop), &[(at, Known::Absent)]);
    }

    async fn put_group(&mut self, at: usize) {
        self.version += 1;
        let version = self.version;
        let count = self.rng.random_range(2..6);
        let members: Vec<usize> = (0..count).map(|i| (at + i * 7) % LANE_KEYS as usize).collect();
        let mut values = Vec::new();
        for &at in &members {
            self.begin(at, 0, false);
            values.push(value(self.world.options.seed, self.key(at), version));
        }
        let bins: Vec<[(&str, Value<'_>); 1]> =
            values.iter().map(|bytes| [("v", Value::Bytes(bytes))]).collect();
        let records: Vec<(Key<'_>, &[(&str, Value<'_>)])> =
            members.iter().zip(&bins).map(|(&at, bins)| (key_of(self.key(at)), &bins[..])).collect();
        let policy = WritePolicy::with_ttl(Ttl::Never);
        let result = self.world.namespace.put_many(&records, &policy).await;
        let now: Vec<_> = members.iter().map(|&at| (at, Known::Live { version, expires_ms: 0 })).collect();
        self.end(result, &now);
    }

    async fn read(&mut self, at: usize) {
        let (key, known) = (self.key(at), self.keys[at]);
        let before_ms = wall_ms();
        let record = match self.world.namespace.get(&key_of(key)).await {
            Ok(record) => record,
            Err(error) => {
                eprintln!("key {key}: {error}");
                return self.tell(Tag::ReadFailed, key, 0, 0, 0);
            }
        };
        let bytes = record.as_ref().and_then(|record| record.bin("v")).and_then(|value| value.as_bytes());
        // Bytes that are no version at all are wrong whatever should be there.
        let found = match bytes {
            Some(bytes) => version_of(self.world.options.seed, key, bytes).unwrap_or(u64::MAX),
            None if record.is_some() => u64::MAX,
            None => 0,
        };
        let (expected, is_right) = match known {
            Known::Unknown => (0, found != u64::MAX),
            Known::Absent => (0, found == 0),
            Known::Live { version, expires_ms: 0 } => (version, found == version),
            Known::Live { version, expires_ms } if found == 0 => (version, expires_ms <= wall_ms()),
            Known::Live { version, expires_ms } => (version, found == version && before_ms < expires_ms),
        };
        let tag = if is_right { Tag::ReadRight } else { Tag::ReadWrong };
        self.tell(tag, key, found, expected, 0);
    }

    async fn flush(&mut self) {
        let before_ns = mono_ns();
        match self.world.namespace.flush().await {
            Ok(()) => self.tell(Tag::Flushed, 0, before_ns, 0, 0),
            Err(error) => {
                eprintln!("flush: {error}");
                self.look_for_latch(&error);
            }
        }
    }
}

/// Lets the other lanes of the thread go on.
async fn give_way() {
    let mut polled = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut polled, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
