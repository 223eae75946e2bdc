//! The wall clock, read in one place: expiry arrives and leaves as milliseconds since the Unix epoch.
//!
//! A connection reads it once for each batch of commands, so all commands of a batch see one time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since the Unix epoch; 0 on a host whose clock stands before it.
pub(crate) fn unix_ms() -> u64 {
    unix_us() / 1000
}

/// Now, in microseconds since the Unix epoch.
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
