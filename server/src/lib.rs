//! Aerolith's server: the engine's records over the Redis protocol.
//!
//! ```text
//! main ── config ── server ── listener ──(round robin)── worker ── redis::connection
//!                      │                                                  │
//!                    store  <──────────────── one call a command ─────────┘
//! ```
//!
//! The ports open at once; the data is opened meanwhile, by `opening`. `admin` watches, on a thread of its own:
//! `figures` gathers what `counters`, `latency` and the store tell.
//!
//! One worker thread a core, each with a single-threaded runtime; a connection never leaves its worker. The
//! protocol's room is `redis`; it knows nothing of sockets but its connection and its output, and nothing of
//! the engine but [`store`]. What a client may take is bounded in `limits`.
//!
//! What always holds: no byte from a socket is believed before its length has been checked, and no length makes
//! the server allocate before its bytes have come (I7); every queue has a bound (I9); replies leave in the order
//! of their commands.

#![forbid(unsafe_code)]

mod admin;
mod clients;
mod clock;
pub mod config;
mod counters;
mod figures;
mod latency;
mod limits;
mod listener;
mod opening;
mod process;
mod program;
mod redis;
pub mod ring_pump;
mod server;
mod shared;
mod slowlog;
mod spikes;
pub mod store;
mod worker;

pub use config::{Config, ConfigError};
pub use program::run;
#[doc(hidden)]
pub use redis::offline;
pub use server::{Server, ServerError};
