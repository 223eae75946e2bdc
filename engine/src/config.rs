//! What an engine is opened with. Plain structs: fill in what matters, take the rest from `default()`.

use crate::device::{Device, Driver};
use crate::error::{Error, Result};
use crate::progress::OpenProgress;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// As soon as it is in RAM; it is on the device within `flush_max`.
    #[default]
    Relaxed,
    /// When it is on the device, together with all that wait at the same moment.
    Group,
}

/// One device of a namespace.
#[derive(Clone)]
pub enum DeviceConfig {
    /// A file (created sparse if it is missing) or a raw block device.
    Path {
        /// Where.
        path: PathBuf,
        /// Bytes; for a file that is created. An existing file or a raw device keeps its own size.
        size: u64,
    },
    /// RAM only: gone when the engine is.
    Memory {
        /// Bytes.
        size: u64,
    },
    /// Any device of the caller's own.
    Handed(Arc<dyn Device>),
}

/// One namespace.
#[derive(Clone)]
pub struct NamespaceConfig {
    /// Its name, 1 to 31 bytes.
    pub name: String,
    /// Where its records live. They are spread over the devices evenly.
    pub devices: Vec<DeviceConfig>,
    /// Bytes of a write block: a power of two from 16 KiB to 64 MiB. The largest record (`record_limit`) is 8 KiB
    /// and up to a 64th smaller: 7.9 MiB in blocks of 8 MiB; 32 MiB at most. Existing devices keep the size
    /// they were formatted with.
    pub block_size: u32,
    /// When a write is acknowledged, unless its policy says otherwise.
    pub durability: Durability,
    /// How long a relaxed write may wait in RAM.
    pub flush_max: Duration,
    /// What `Ttl::Default` means; `None`: records never expire.
    pub default_ttl: Option<Duration>,
    /// RAM for blocks that are being written or have just been, in bytes; at least four blocks are used.
    pub write_cache_size: u64,
    /// RAM for records read from the device, in bytes; 0 = none.
    pub read_cache_size: u64,
    /// Writes are refused when live records take more than this share of the space.
    pub stop_writes_pct: u8,
    /// Records with a time to live are evicted, those that end soonest first, when live records take more than this share
    /// of the space, in percent, below `stop_writes_pct`; 0: none is.
    pub evict_above: u8,
    /// How often every record is looked at for expiry; `None`: never by itself.
    pub expiry_period: Option<Duration>,
    /// Bytes a second that the scrub reads, over all devices together; 0 = no scrub, and tombstones stay for good.
    pub scrub_rate: u64,
    /// How often the index is written to the devices, so that the next start need not read every block, if enough was
    /// appended; sooner under much writing. `None`: only when asked for.
    pub checkpoint_period: Option<Duration>,
    /// Whether a start may use a checkpoint. Without, it reads what all blocks hold; both give the same answer.
    pub use_checkpoint: bool,
}

impl Default for NamespaceConfig {
    fn default() -> Self {
        NamespaceConfig {
            name: "test".into(),
            devices: Vec::new(),
            block_size: 8 << 20,
            durability: Durability::Relaxed,
            flush_max: Duration::from_secs(1),
            default_ttl: None,
            write_cache_size: 64 << 20,
            read_cache_size: 64 << 20,
            stop_writes_pct: 90,
            evict_above: 0,
            expiry_period: Some(Duration::from_secs(60)),
            // A terabyte in 17 hours, and below one percent of what an NVMe drive reads.
            scrub_rate: 16 << 20,
            checkpoint_period: Some(Duration::from_secs(60)),
            use_checkpoint: true,
        }
    }
}

impl NamespaceConfig {
    /// A namespace in RAM only: for tests and examples.
    pub fn in_memory(name: &str, size: u64) -> Self {
        NamespaceConfig {
            name: name.into(),
            devices: vec![DeviceConfig::Memory { size }],
            block_size: 1 << 20,
            // What is in RAM only has no next start.
            checkpoint_period: None,
            ..Self::default()
        }
    }

    /// A namespace in one file.
    pub fn in_file(name: &str, path: impl Into<PathBuf>, size: u64) -> Self {
        let devices = vec![DeviceConfig::Path { path: path.into(), size }];
        NamespaceConfig { name: name.into(), devices, ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fail = |why: String| Err(Error::Config(format!("namespace '{}': {why}", self.name)));
        if self.name.is_empty() || self.name.len() > 31 {
            return fail(format!("its name has {} bytes, 1 to 31 are allowed", self.name.len()));
        }
        if self.devices.is_empty() || self.devices.len() > 64 {
            return fail(format!("it has {} devices, 1 to 64 are allowed", self.devices.len()));
        }
        if !self.block_size.is_power_of_two() || !(16 << 10..=64 << 20).contains(&self.block_size) {
            return fail(format!(
                "block_size is {}; a power of two from 16384 (16 KiB) to 67108864 (64 MiB) is needed",
                self.block_size
            ));
        }
        if !(1..=98).contains(&self.stop_writes_pct) {
            return fail(format!("stop_writes_pct is {}, 1 to 98 are allowed", self.stop_writes_pct));
        }
        if self.evict_above >= self.stop_writes_pct {
            return fail(format!(
                "evict_above is {}; 0 (no eviction) to {}, one below stop_writes_pct, are allowed",
                self.evict_above,
                self.stop_writes_pct - 1
            ));
        }
        Ok(())
    }
}

/// An engine.
#[derive(Clone)]
pub struct Config {
    /// Its namespaces.
    pub namespaces: Vec<NamespaceConfig>,
    /// How devices are driven.
    pub driver: Driver,
    /// Threads that read the devices when the engine starts; 0 = one a core, at most 8.
    pub recovery_threads: usize,
    /// Where the open tells how far it is and hears that it is called off; `None`: nobody asks.
    pub progress: Option<Arc<OpenProgress>>,
}

impl Default for Config {
    fn default() -> Self {
        Config { namespaces: Vec::new(), driver: Driver::Auto, recovery_threads: 0, progress: None }
    }
}

impl Config {
    /// A configuration with one namespace.
    pub fn of(namespace: NamespaceConfig) -> Self {
        Config { namespaces: vec![namespace], ..Self::default() }
    }
}
