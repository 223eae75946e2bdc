//! Placeholder.
pub mod format;
