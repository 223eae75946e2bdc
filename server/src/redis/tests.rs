//! Every command against the bytes it answers, in both protocols, run in process without a socket.
//!
//! A script is lines of commands and of the raw reply to each, with CRLF written as blanks' `|`; the same
//! helper runs them all. What the replies should be was taken from Redis 7.2.

use super::offline::Offline;
use super::session::run_batch;
use crate::config::Config;
use crate::store::{Store, StoreConfig};
use aerolith_tests::device::TestDevice;
use std::sync::Arc;

mod durable;
mod generic;
mod strings;
mod watching;

/// A connection without a socket.
pub(super) struct Rig(Offline);

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::with(Config { threads: 1, ..Config::default() })
    }

    pub(super) fn with(config: Config) -> Rig {
        Rig(Offline::new(config).unwrap())
    }

    /// One whose data lies on a device that does as it is told.
    pub(super) fn on(device: &Arc<TestDevice>, config: Config) -> Rig {
        let store = Store::on_device(&StoreConfig::of(&config), device.clone()).unwrap();
        Rig(Offline::over(config, store))
    }

    /// Puts a value that is not a Redis string.
    pub(super) fn put_list(&mut self, key: &[u8]) {
        let Offline { runtime, session, .. } = &self.0;
        runtime.block_on(session.store().put_list(key)).unwrap();
    }

    /// Lets the background save come to its end.
    pub(super) fn finish_background_save(&mut self) {
        let shared = self.0.session.shared.clone();
        self.0.runtime.block_on(async {
            while shared.background_save.is_running.load(std::sync::atomic::Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Runs one batch of bytes and returns the bytes of its replies.
    pub(super) fn bytes(&mut self, request: &[u8]) -> Vec<u8> {
        let mut buffer = request.to_vec();
        let Offline { session, parser, output, runtime, .. } = &mut self.0;
        parser.parse(&mut buffer, usize::MAX, usize::MAX);
        runtime.block_on(run_batch(session, parser, &buffer, output)).unwrap();
        parser.finish_batch();
        std::mem::take(&mut output.reply.bytes)
    }

    /// Runs inline commands as one batch; CRLFs of the replies are shown as `|`.
    pub(super) fn run(&mut self, commands: &str) -> String {
        let replies = self.bytes(format!("{commands}\n").as_bytes());
        String::from_utf8_lossy(&replies).replace("\r\n", "|")
    }

    /// Runs commands one by one and compares each reply.
    pub(super) fn expect(&mut self, script: &[(&str, &str)]) {
        for (command, reply) in script {
            assert_eq!(self.run(command), *reply, "{command}");
        }
    }

    /// The integer that a command answers.
    pub(super) fn integer(&mut self, command: &str) -> i64 {
        let reply = self.run(command);
        reply.trim_start_matches(':').trim_end_matches('|').parse().expect(&reply)
    }
}

pub(super) const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value|";
pub(super) const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range|";
pub(super) const SYNTAX: &str = "-ERR syntax error|";
