//! The Redis room: RESP2 and RESP3, and the commands of Redis 7.2 that concern strings and keys.
//!
//! ```text
//! connection   bytes in, batches, bytes out          turn      reads in flight, replies in order
//! parser       bytes to commands (inline: by hand)   session   runs a batch
//! reply        values to bytes                       output    the unsent replies and the socket
//! command      what a command is                     command_table   all of them, one row each
//! strings set incr expire keys scan ...              the handlers, by subject
//! ```

mod admin;
mod client_command;
mod command;
mod command_command;
pub(crate) mod command_table;
mod config_command;
pub(crate) mod connection;
mod connection_commands;
pub(crate) mod durable;
mod error;
mod expire;
mod glob;
mod incr;
mod info;
mod inline;
mod keys;
mod latency_command;
mod memory_command;
pub(crate) mod number;
pub mod offline;
mod output;
pub(crate) mod parser;
mod reply;
mod scan;
mod session;
mod set;
mod slowlog_command;
mod strings;
mod turn;

#[cfg(test)]
mod tests;
