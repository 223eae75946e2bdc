//! Load: what `bench` and `certify` share. Requests are drawn, sent when they are due, answered, judged, and recorded.
//!
//! | part | is |
//! |---|---|
//! | [`clock`] | the time, read in one place, so that pacing is tested without sleeping |
//! | [`schedule`] | when requests are due: intended starts at an exact rate |
//! | [`lane`] | what one worker drives: so many requests in flight at some target |
//! | [`worker`] | the loop: sends what is due, never skips, counts latency from the intended start |
//! | [`recorder`], [`series`] | histograms a kind of request and a second, and how they come together |
//! | [`crew`] | workers on threads, and the seconds as they come |
//! | [`mix`], [`keys`], [`size`], [`value`], [`history`], [`workload`] | what is asked of a store, and whether it answers rightly |
//! | [`target`] | the stores: the engine, and servers behind [`wire`] |

pub mod bar;
pub mod clock;
pub mod crew;
pub mod embedded;
pub mod flag;
pub mod flight;
pub mod history;
pub mod keys;
pub mod lane;
pub mod memcache;
pub mod mix;
pub mod process;
pub mod recorder;
pub mod redis;
pub mod schedule;
pub mod series;
pub mod size;
pub mod target;
pub mod value;
pub mod wire;
pub mod worker;
pub mod workload;

#[cfg(test)]
mod worker_tests;

/// Why a load cannot go on: a connection is gone, a server does not speak the protocol, the engine has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);
