//! How a namespace comes back: devices are claimed, blocks swept, the index rebuilt.
//!
//! 1. The devices of the set are opened, locked and checked (`volume/header.rs`).
//! 2. A sweep over all blocks, on several threads, collects what each block holds: from its footer, or, where
//!    it has none, by reading it whole. For each key the version with the highest sequence number wins.
//! 3. Only then is asked whether the winner is there: below a truncation threshold, deleted, expired. Dropping
//!    it on sight would let an older version back in.
//! 4. Block live sizes follow from the index; blocks without any are free.
//! 5. The device headers get a new incarnation, durably, before anything else is written.
//!
//! The sweep writes nothing, so a recovery that is interrupted starts over with the same bytes. Its outcome
//! does not depend on the order of the blocks (I6).

mod open;
mod sweep;

pub(crate) use open::{Environment, open_namespace};
pub use sweep::Recovery;
