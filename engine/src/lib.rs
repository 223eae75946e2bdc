//! Placeholder.

pub mod index;
