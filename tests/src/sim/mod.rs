//! The simulated world: one thread and one seed live a whole life, and every crash in it is checked.
//!
//! ```text
//! run.rs       many lives on all cores, and what they add up to
//! image.rs     one image opened in every way and held against the oracle
//! life.rs      runs, cuts, kills and recoveries in a chain: the one who draws
//! damaged_life.rs  runs on media that damage what they hold   damage.rs  what that may lead to
//! host.rs      an engine on a rack, opened, read out whole, dropped
//! client.rs    operations under way, and what the oracle learns of them
//! workload.rs  what clients ask          version.rs  what a key was, and bytes that name themselves
//! oracle.rs    what may be answered      coverage.rs what a run has met
//! device.rs    devices that answer when told, in any order
//! media.rs     what a device holds: medium, cache, poison     survival.rs  what a cut leaves
//! faults.rs    what goes wrong while it runs                 target.rs    what a write is for
//! ```
//!
//! What always holds: the same seed gives the same requests in the same order and leaves the same bytes. Nothing reads
//! a clock, and chance comes from the seed alone. The engine is the real one, from its verbs down to `Device::submit`;
//! below that, kernel and drives are models.

pub mod client;
pub mod coverage;
pub mod damage;
mod damaged_life;
pub mod device;
pub mod faults;
pub mod host;
pub mod image;
pub mod life;
pub mod media;
pub mod oracle;
pub mod run;
pub mod survival;
pub mod target;
pub mod version;
pub mod workload;
