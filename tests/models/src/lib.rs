//! The engine's hand-overs between threads, under schedules that shuttle draws from a seed.
//!
//! The code is the engine's own: its files are compiled into this crate as they are. What they call `parking_lot` is
//! shuttle's here, and what they call `std` has shuttle's atomics and threads (`std/`), so that before every use of a lock
//! or an atomic another thread may go on. Shuttle runs one thread at a time and knows no weak memory: an ordering that is
//! too weak is not seen.
//!
//! ```text
//! compiled in     signal.rs, all of volume/, device/ticket.rs, device/unpark.rs
//! not modelled    formats, buffers, the memory device: from the engine, used by one thread at a time
//! ```
//!
//! Each model has a mistake planted beside it, which the same schedules must find.

extern crate aerolith_models_std as std;

#[allow(missing_docs)]
#[path = "../../../engine/src/planted.rs"]
pub mod planted;
#[path = "../../../engine/src/signal.rs"]
pub mod signal;
#[path = "../../../engine/src/volume/mod.rs"]
pub mod volume;

pub mod handover;

mod device {
    pub use aerolith_engine::device::*;
}

mod format {
    pub use aerolith_engine::format::*;
}

mod index {
    pub use aerolith_engine::index::*;
}

/// Runs `model` under as many schedules as `AEROLITH_SCHEDULES` says, or `few`: half drawn freely, half with few changes of
/// thread at moments that matter.
pub fn explore(few: usize, model: impl Fn() + Send + Sync + 'static) {
    let asked = ::std::env::var("AEROLITH_SCHEDULES").ok().and_then(|value| value.parse().ok());
    let (count, model) = (asked.unwrap_or(few).max(2), ::std::sync::Arc::new(model));
    let again = model.clone();
    shuttle::check_random(move || model(), count / 2);
    shuttle::check_pct(move || again(), count / 2, 3);
}
