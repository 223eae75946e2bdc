//! Placeholder.
pub mod device;
