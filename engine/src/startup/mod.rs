//! How a namespace comes back: devices are claimed, blocks swept, the index rebuilt.
//!
//! 1. The devices of the set are opened, locked and checked (`volume/header.rs`).
//! 2. The newest checkpoint that is whole on all devices gives the index as it was when it began. Without one, or with
//!    none that proves itself, the index begins empty.
//! 3. A sweep over the blocks written since (without a checkpoint: over all blocks), on several threads, collects what each
//!    holds: from its footer, or, where it has none, by reading it whole. For each key the version with the highest
//!    sequence number wins, and any of them wins over the checkpoint's.
//! 4. Only then is asked whether the winner is there: below a truncation threshold, deleted, expired. Dropping
//!    it on sight would let an older version back in.
//! 5. Block live sizes follow from the index; blocks without any are free.
//! 6. The device headers get a new incarnation, durably, before anything else is written.
//!
//! The sweep writes nothing, so a recovery that is interrupted starts over with the same bytes. Its outcome
//! does not depend on the order of the blocks (I6), nor on whether there was a checkpoint.

mod checkpoint;
mod open;
mod recovery;
mod settle;
mod sweep;

pub(crate) use open::{Environment, open_namespace};
pub use recovery::Recovery;
