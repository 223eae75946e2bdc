//! A server in this process on a free port, and a raw socket to talk to it.

#![allow(dead_code, reason = "each test file uses its own part")]

use aerolith_server::{Config, Server};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

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
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Socket { reader: BufReader::new(stream) }
    }
}

/// A connection that sees every byte.
pub struct Socket {
    pub reader: BufReader<TcpStream>,
}

impl Socket {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what may not arrive, because the server may have closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.reader.get_mut().write_all(bytes).is_ok()
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads exactly these bytes.
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut found = vec![0; expected.len()];
        self.reader.read_exact(&mut found).unwrap();
        assert!(found == expected, "{} is not {}", found.escape_ascii(), expected.escape_ascii());
    }

    /// Everything until the server closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.reader.read_to_end(&mut rest);
        rest
    }
}

/// A command as clients send it.
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
