//! A server in this process on a free port, and a raw socket to talk to it.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

#[path = "../../../server/tests/process/socket.rs"]
mod socket;

pub use socket::{Socket, command};

use aerolith_server::{Config, Server};
use std::net::SocketAddr;

/// A running server; its data goes when it is dropped.
pub struct Running {
    pub server: Server,
    pub address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Running {
    pub fn new() -> Running {
        Running::with(|_| {})
    }

    /// A server with two workers and changed settings.
    pub fn with(change: impl FnOnce(&mut Config)) -> Running {
        let data = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: data.path().to_owned(), threads: 2, ..Config::default() };
        change(&mut config);
        let at = "127.0.0.1:0".parse().unwrap();
        let server = Server::start_at(config, Some(at)).unwrap();
        let address = server.redis_addr().unwrap();
        Running { server, address, _data: data }
    }

    pub fn connect(&self) -> Socket {
        Socket::connect(self.address.port())
    }
}
