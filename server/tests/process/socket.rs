//! A raw connection of the Redis protocol: bytes as they are, and replies read one by one.
//!
//! The one client of all tests that want to see every byte: also those of other crates include this file.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A reply of the second protocol version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

impl Reply {
    pub fn is_error(&self, code: &str) -> bool {
        matches!(self, Reply::Error(text) if text.starts_with(code))
    }

    pub fn ok() -> Reply {
        Reply::Simple("OK".into())
    }

    pub fn bulk(bytes: &[u8]) -> Reply {
        Reply::Bulk(Some(bytes.to_vec()))
    }
}

/// A raw connection.
pub struct Socket {
    pub reader: BufReader<TcpStream>,
}

impl Socket {
    pub fn connect(port: u16) -> Socket {
        Socket::over(TcpStream::connect(("127.0.0.1", port)).unwrap())
    }

    pub fn over(stream: TcpStream) -> Socket {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Socket { reader: BufReader::with_capacity(64 << 10, stream) }
    }

    /// Sends bytes; says whether the connection took them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.reader.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// The next reply; none if the connection ended.
    pub fn reply(&mut self) -> Option<Reply> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).ok()? == 0 || !line.ends_with("\r\n") {
            return None;
        }
        let (kind, rest) = line.trim_end().split_at(1);
        Some(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse().unwrap()),
            "$" if rest == "-1" => Reply::Bulk(None),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.reader.read_exact(&mut bytes).ok()?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(Some(bytes))
            }
            "*" => {
                let count = rest.parse::<usize>().unwrap();
                Reply::Array((0..count).map(|_| self.reply()).collect::<Option<_>>()?)
            }
            _ => panic!("not a reply: {line:?}"),
        })
    }

    /// Sends a command and reads its reply.
    pub fn ask(&mut self, words: &[&[u8]]) -> Reply {
        self.send(command(words));
        self.reply().unwrap_or_else(|| panic!("no reply to {}", words[0].escape_ascii()))
    }

    /// Sends many commands at once and reads their replies.
    pub fn ask_all(&mut self, commands: &[Vec<u8>]) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(commands.len());
        for some in commands.chunks(64) {
            assert!(self.send(some.concat()));
            replies.extend(some.iter().map(|_| self.reply().expect("a reply")));
        }
        replies
    }

    /// The next line, without its end.
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
