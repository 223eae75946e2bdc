//! The engines, one file each: how it is set up, and its four verbs.

pub mod aerolith;
pub mod fjall;
pub mod lmdb;
pub mod redb;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
