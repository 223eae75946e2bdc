//! Data files that the engine made, what lies where in them, and the tool run on them as a process.

#![allow(dead_code, reason = "each test file uses its own part")]

use aerolith_engine::format::{BLOCK_HEADER_SIZE, DeviceHeader, HEADER_PAGE};
use aerolith_engine::volume::{BlockId, BlockPlace, Seen, listed_versions};
use aerolith_engine::{Config, Engine, Key, NamespaceConfig, Ttl, WritePolicy};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

pub const BLOCK_SIZE: usize = 64 << 10;
pub const RECORDS: i64 = 300;

pub fn namespace(path: &Path, checkpoint_period: Option<Duration>) -> NamespaceConfig {
    NamespaceConfig {
        block_size: BLOCK_SIZE as u32,
        checkpoint_period,
        ..NamespaceConfig::in_file("shop", path, 4 << 20)
    }
}

/// A closed data file with records of 1 KiB, one that expires, one that was deleted.
pub fn data_file(dir: &TempDir, checkpoint_period: Option<Duration>) -> PathBuf {
    let path = dir.path().join("test.data");
    let engine = Engine::open(Config::of(namespace(&path, checkpoint_period))).unwrap();
    let shop = engine.namespace("shop").unwrap();
    let policy = WritePolicy::default();
    for id in 0..RECORDS {
        shop.put(&Key::new("orders", id).unwrap(), &[("v", [7; 1024][..].into())], &policy).unwrap();
    }
    let soon = WritePolicy::with_ttl(Ttl::For(Duration::from_secs(3600)));
    shop.put(&Key::new("sessions", "ada\u{1b}[2J").unwrap(), &[("v", 1.into())], &soon).unwrap();
    assert!(shop.delete(&Key::new("orders", 5).unwrap(), &policy).unwrap());
    engine.close().unwrap();
    path
}

/// Runs the tool: exit code, standard output, standard error.
pub fn aerolith(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_aerolith")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(stdout), text(stderr));
    assert!(!err.contains("panicked"), "{err}");
    (status.code(), out, err)
}

/// Writes bytes into a file.
pub fn damage(path: &Path, at: usize, with: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at..at + with.len()].copy_from_slice(with);
    std::fs::write(path, bytes).unwrap();
}

/// Flips one bit of a file.
pub fn flip(path: &Path, at: usize) {
    let byte = std::fs::read(path).unwrap()[at];
    damage(path, at, &[byte ^ 4]);
}

/// A version that a sealed block of a file lists.
#[derive(Clone, Debug)]
pub struct Listed {
    pub block: usize,
    pub pos: usize,
    pub digest: String,
    pub sequence: u64,
    pub flags: u8,
}

impl Listed {
    /// Where it begins in the file.
    pub fn at(&self) -> usize {
        self.block * BLOCK_SIZE + self.pos
    }
}

/// The header of a file: the newer of the two copies.
pub fn header(bytes: &[u8]) -> DeviceHeader {
    let copies = [0, HEADER_PAGE as usize].map(|at| DeviceHeader::parse(&bytes[at..]).unwrap());
    copies.into_iter().max_by_key(|header| header.copy_sequence).unwrap()
}

/// All that the sealed blocks of a file list, by block and position.
pub fn listed(path: &Path) -> Vec<Listed> {
    let bytes = std::fs::read(path).unwrap();
    let header = header(&bytes);
    let mut all = Vec::new();
    for block in 1..header.block_count as usize {
        let at = &bytes[block * BLOCK_SIZE..][..BLOCK_SIZE];
        let place = BlockPlace::new(&header, BlockId(block as u32));
        let Seen::Life(life) = place.life(at, at) else { continue };
        let Ok(footer) = place.footer(life.epoch, at) else { continue };
        all.extend(listed_versions(&footer).map(|version| Listed {
            block,
            pos: version.pos as usize,
            digest: version.digest[..10].iter().map(|byte| format!("{byte:02x}")).collect(),
            sequence: version.sequence,
            flags: version.flags.0,
        }));
    }
    all
}

/// The versions of one key that a file lists, oldest first.
pub fn versions_of(path: &Path, key: &Key<'_>) -> Vec<Listed> {
    let digest: String = key.digest().as_bytes()[..10].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut versions: Vec<Listed> =
        listed(path).into_iter().filter(|version| version.digest == digest).collect();
    versions.sort_by_key(|version| version.sequence);
    versions
}

/// Where the first byte of a block's log is.
pub fn log_of(block: usize) -> usize {
    block * BLOCK_SIZE + BLOCK_HEADER_SIZE as usize
}
