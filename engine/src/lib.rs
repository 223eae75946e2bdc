//! Aerolith's engine: a hybrid-memory key-value store. The index of all records is in RAM, in at most 32
//! bytes a record; the records are in log-structured write blocks on SSD, raw devices or files. A read is one
//! I/O; an overwrite, a delete or a question whether something exists is none.
//!
//! ```
//! use aerolith_engine::{Config, Engine, Key, NamespaceConfig, Ttl, Value, WritePolicy};
//! use std::time::Duration;
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("users.data");
//! let engine = Engine::open(Config::of(NamespaceConfig::in_file("test", &path, 256 << 20)))?;
//! let test = engine.namespace("test")?;
//!
//! let key = Key::new("users", "ada")?;
//! let an_hour = WritePolicy::with_ttl(Ttl::For(Duration::from_secs(3600)));
//! test.put(&key, &[("name", "Ada Lovelace".into()), ("born", 1815.into())], &an_hour)?;
//!
//! let record = test.get(&key)?.expect("it was just written");
//! assert_eq!(record.bin("name").and_then(|name| name.as_str()), Some("Ada Lovelace"));
//! assert_eq!(record.bin("born"), Some(Value::Integer(1815)));
//!
//! test.delete(&key, &WritePolicy::default())?;
//! engine.close()?;
//! # Ok::<(), aerolith_engine::Error>(())
//! ```
//!
//! The rooms, from the bottom up: `format` (what bytes mean), `device` (where they lie), `index` (where each
//! record is), `volume` (a device as a log), `record` (keys, values, bins), `namespace` (the verbs), `jobs` (what
//! happens by itself), `startup` (how the index comes back). `docs/ARCHITECTURE.md` has the invariants.

pub mod backup;
pub mod clock;
pub mod config;
pub mod device;
mod engine;
mod error;
pub mod format;
pub mod index;
mod jobs;
pub mod latency;
mod namespace;
#[cfg(feature = "planted-bugs")]
pub mod planted;
#[cfg(not(feature = "planted-bugs"))]
#[allow(dead_code)]
mod planted;
mod progress;
pub mod record;
mod signal;
mod startup;
pub mod volume;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use config::{Config, DeviceConfig, Durability, NamespaceConfig};
pub use device::context::block_on;
pub use device::{Driver, LocalRing};
pub use engine::Engine;
pub use error::{Error, Result};
pub use namespace::{
    AsyncNamespace, Bin, BlockPicture, CountersSnapshot, Damage, DeviceStats, Draft, Exists, Generation, Get,
    Metadata, Namespace, Outcome, Record, RestoreMode, Restored, ScanPage, ScanPoint, ScrubFault, Snapshot,
    Stats, StoredRecord, TTL_BOUNDS_S, Ttl, TtlHistogram, Tunable, Updated, Verified, WritePolicy,
};
pub use progress::{OpenPhase, OpenProgress};
pub use record::{Key, UserKey, Value, ValueBuf};
pub use startup::Recovery;
