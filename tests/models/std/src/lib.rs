//! The standard library, but for what a model must see: atomics and threads are shuttle's.
//!
//! `tests/models` names this crate `std`, so that the engine's files, compiled into it as they are, use it.

pub use ::std::*;

/// `std::sync` with shuttle's atomics.
pub mod sync {
    pub use ::std::sync::*;

    /// Atomics whose every use is a point where another thread may go on.
    pub mod atomic {
        pub use shuttle::sync::atomic::*;
    }
}

/// `std::thread` of shuttle.
pub mod thread {
    pub use shuttle::thread::*;
}
