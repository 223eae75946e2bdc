//! A server in this process on a free port, and a raw socket to talk to it.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

#[path = "../../../server/tests/process/socket.rs"]
mod socket;

mod http;

pub use http::get;
pub use socket::{Socket, command};

use aerolith_server::{Config, Server};
use std::net::{SocketAddr, TcpListener};

/// As admin port: a free one.
pub const ANY_PORT: u16 = u16::MAX;

/// A free port: nobody else takes it in between, as far as one can tell.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

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
        let mut config =
            Config { data_dir: data.path().to_owned(), threads: 2, admin_port: 0, ..Config::default() };
        change(&mut config);
        if config.admin_port == ANY_PORT {
            config.admin_port = free_port();
        }
        let at = "127.0.0.1:0".parse().unwrap();
        let server = Server::start_at(config, Some(at)).unwrap();
        let address = server.redis_addr().unwrap();
        Running { server, address, _data: data }
    }

    /// Status and body of a path of the admin port.
    pub fn admin(&self, path: &str) -> (u16, String) {
        get(self.server.admin_addr().expect("it has an admin port"), path)
    }

    pub fn connect(&self) -> Socket {
        Socket::connect(self.address.port())
    }
}
