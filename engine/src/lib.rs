//! Placeholder.
pub mod format;
pub mod record;
