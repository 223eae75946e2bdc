//! Placeholder.

pub mod record;
