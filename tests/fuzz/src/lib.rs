//! Fuzz targets: functions that take any bytes and panic where Aerolith breaks a promise.
//!
//! ```text
//! corpus/TARGET/*   inputs that reach different code: real encodings, what fuzzing found, inputs of mended bugs
//! tests/replay.rs   all of them, and mutations of each, in `cargo test`
//! driver/, run      libFuzzer over a target, on plain stable Rust
//! ```
//!
//! What every target of a decoder holds it to: no panic; no more memory than a stated multiple of the input; nothing
//! is taken for whole whose checksum does not hold; what was encoded decodes to itself. Inputs often are not bytes of a
//! format but a recipe (`arbitrary`) that ends with a right checksum, because random bytes never get past one.

pub mod bytes;
mod targets {
    pub mod block;
    pub mod checkpoint;
    pub mod config;
    pub mod header;
    pub mod inline;
    pub mod life;
    pub mod msgpack;
    pub mod record;
    pub mod recovery;
    pub mod replies;
    pub mod requests;
}

use targets::*;

pub use targets::recovery::{forge_fields, start_on_endless_summaries};

/// One fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and its folder's in `corpus`.
    pub name: &'static str,
    /// Runs it over one input.
    pub run: fn(&[u8]),
    /// Inputs made of real encodings, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many mutations of each corpus file a test run can afford, in proportion.
    pub rounds: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "requests", run: requests::run, seeds: requests::seeds, rounds: 20 },
    Target { name: "inline", run: inline::run, seeds: inline::seeds, rounds: 20 },
    Target { name: "replies", run: replies::run, seeds: replies::seeds, rounds: 2 },
    Target { name: "config", run: config::run, seeds: config::seeds, rounds: 5 },
    Target { name: "msgpack", run: msgpack::run, seeds: msgpack::seeds, rounds: 20 },
    Target { name: "record", run: record::run, seeds: record::seeds, rounds: 20 },
    Target { name: "block", run: block::run, seeds: block::seeds, rounds: 5 },
    Target { name: "checkpoint", run: checkpoint::run, seeds: checkpoint::seeds, rounds: 20 },
    Target { name: "header", run: header::run, seeds: header::seeds, rounds: 5 },
    Target { name: "recovery", run: recovery::run, seeds: recovery::seeds, rounds: 1 },
    Target { name: "life", run: life::run, seeds: life::seeds, rounds: 1 },
];

/// The target of this name.
pub fn named(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}
