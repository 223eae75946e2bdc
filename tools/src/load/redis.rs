//! A server that speaks Redis's protocol (RESP2), for load.
//!
//! GET, SET with PX, DEL, PEXPIRE, MGET. There is no scan by key range in that protocol: SCAN walks in the order of hashes
//! and returns names without values, so nothing stands for `scan`.

use super::LoadError;
use super::clock::Clock;
use super::mix::Operation;
use super::target::{LaneSize, Request, StoreLane, Target, write_key};
use super::wire::{Dialect, Expected, REPLY_LIMIT, Reply, Wire};
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// Requests in flight on a connection while records are loaded.
const LOAD_DEPTH: usize = 16;
/// The longest first line of a reply that is looked for, in bytes.
const LINE_LIMIT: usize = 64 << 10;

/// A server.
pub struct Redis {
    address: SocketAddr,
    dialect: Arc<Resp>,
    clock: Arc<dyn Clock>,
}

/// The protocol, with what keys begin with.
pub struct Resp {
    prefix: String,
}

impl Redis {
    /// At this address.
    pub fn new(address: SocketAddr, prefix: &str, clock: Arc<dyn Clock>) -> Redis {
        Redis { address, dialect: Arc::new(Resp { prefix: prefix.to_owned() }), clock }
    }
}

impl Target for Redis {
    fn name(&self) -> String {
        format!("redis {}", self.address)
    }

    fn lane(&self, size: LaneSize) -> Result<StoreLane, LoadError> {
        Ok(Box::new(Wire::open(self.address, self.dialect.clone(), self.clock.clone(), size)?))
    }

    fn load_depth(&self) -> usize {
        LOAD_DEPTH
    }

    fn stands_for(&self, operation: Operation) -> Result<Option<&'static str>, LoadError> {
        match operation {
            Operation::Scan => Err(LoadError(
                "Redis's protocol has no scan by key range (SCAN walks in the order of hashes and returns no values), so \
                 'scan' and YCSB's workload E cannot run against a server; use --engine, or a mix without scan"
                    .into(),
            )),
            Operation::ReadModifyWrite => Ok(Some("rmw is GET, then SET: two requests, not one step")),
            _ => Ok(None),
        }
    }

    fn largest_value(&self) -> Option<u64> {
        None
    }

    fn settle(&self) -> Result<(), LoadError> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), LoadError> {
        Ok(())
    }
}

impl Resp {
    /// A command's arguments: a name, and keys and other parts.
    fn argument(out: &mut Vec<u8>, bytes: &[u8]) {
        // Writing into a Vec cannot fail.
        let _ = write!(out, "${}\r\n", bytes.len());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }

    fn command(&self, out: &mut Vec<u8>, name: &str, keys: &[u64], rest: &[&[u8]]) {
        let _ = write!(out, "*{}\r\n", 1 + keys.len() + rest.len());
        Self::argument(out, name.as_bytes());
        let mut key_bytes = Vec::with_capacity(64);
        for &key in keys {
            key_bytes.clear();
            write_key(&mut key_bytes, &self.prefix, key);
            Self::argument(out, &key_bytes);
        }
        rest.iter().for_each(|argument| Self::argument(out, argument));
    }
}

impl Dialect for Resp {
    fn write(&self, request: &Request, out: &mut Vec<u8>) {
        match request {
            Request::Get(key) => self.command(out, "GET", &[*key], &[]),
            Request::Put { key, value, ttl: None } => self.command(out, "SET", &[*key], &[value]),
            Request::Put { key, value, ttl: Some(ttl) } => {
                let ms = ttl.as_millis().max(1).to_string();
                self.command(out, "SET", &[*key], &[value, b"PX", ms.as_bytes()]);
            }
            Request::Delete(key) => self.command(out, "DEL", &[*key], &[]),
            Request::Expire { key, ttl } => {
                let ms = ttl.as_millis().max(1).to_string();
                self.command(out, "PEXPIRE", &[*key], &[ms.as_bytes()]);
            }
            Request::GetMany(keys) => self.command(out, "MGET", keys, &[]),
            Request::Scan { .. } => unreachable!("`stands_for` refuses it"),
        }
    }

    fn read(
        &self,
        bytes: &[u8],
        (expected, _): &(Expected, Request),
    ) -> Result<Option<(Reply, usize)>, String> {
        let Some((kind, line, mut at)) = line(bytes)? else { return Ok(None) };
        let reply = match kind {
            b'+' => Reply::Done(true),
            b':' => Reply::Done(number(&bytes[line])? > 0),
            b'-' => Reply::Failed(line),
            b'$' => match bulk(bytes, &line, at)? {
                None => return Ok(None),
                Some((value, end)) => {
                    at = end;
                    Reply::Value(value)
                }
            },
            b'*' => {
                let count = number(&bytes[line])?;
                if *expected != Expected::Values(count.max(0) as usize) {
                    return Err(format!("an array of {count} is no answer to what was asked"));
                }
                let mut values = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    let Some((kind, line, after)) = self::line(&bytes[at..])? else { return Ok(None) };
                    if kind != b'$' {
                        return Err(format!(
                            "an array holds something that begins with {:?}",
                            char::from(kind)
                        ));
                    }
                    let line = line.start + at..line.end + at;
                    match bulk(bytes, &line, after + at)? {
                        None => return Ok(None),
                        Some((value, end)) => {
                            at = end;
                            values.push(value);
                        }
                    }
                }
                Reply::Values(values)
            }
            other => return Err(format!("a reply that begins with {:?}", char::from(other))),
        };
        let fits = match &reply {
            Reply::Value(_) => *expected == Expected::Value,
            Reply::Done(_) => *expected == Expected::Done,
            Reply::Values(_) | Reply::Failed(_) => true,
        };
        if !fits {
            return Err(format!("{reply:?} is no answer to a request that expects {expected:?}"));
        }
        Ok(Some((reply, at)))
    }
}

/// The first byte, the rest of the line, and where the next one begins.
fn line(bytes: &[u8]) -> Result<Option<(u8, Range<usize>, usize)>, String> {
    let Some(end) = bytes.iter().take(LINE_LIMIT).position(|&byte| byte == b'\r') else {
        return if bytes.len() >= LINE_LIMIT { Err("a line without an end".into()) } else { Ok(None) };
    };
    match bytes.get(end + 1) {
        None => Ok(None),
        Some(b'\n') if end > 0 => Ok(Some((bytes[0], 1..end, end + 2))),
        Some(_) => Err("a line that does not end as one".into()),
    }
}

fn number(digits: &[u8]) -> Result<i64, String> {
    let text = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    text.ok_or_else(|| format!("'{}' is not a number", String::from_utf8_lossy(digits)))
}

type Bulk = (Option<Range<usize>>, usize);

/// A string whose length is in `line` and whose bytes begin at `at`.
fn bulk(bytes: &[u8], line: &Range<usize>, at: usize) -> Result<Option<Bulk>, String> {
    let size = number(&bytes[line.clone()])?;
    if size == -1 {
        return Ok(Some((None, at)));
    }
    let size = usize::try_from(size).ok().filter(|&size| size <= REPLY_LIMIT);
    let size = size.ok_or_else(|| "a string of an impossible length".to_owned())?;
    match bytes.get(at + size..at + size + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some((Some(at..at + size), at + size + 2))),
        Some(_) => Err("a string that does not end where it says".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn resp() -> Resp {
        Resp { prefix: "k".into() }
    }

    fn read(bytes: &[u8], expected: Expected) -> Result<Option<(Reply, usize)>, String> {
        resp().read(bytes, &(expected, Request::Get(0)))
    }

    #[test]
    fn requests_are_commands() {
        let ttl = Some(Duration::from_millis(1500));
        for (request, command) in [
            (Request::Get(7), "*2\r\n$3\r\nGET\r\n$13\r\nk000000000007\r\n"),
            (
                Request::Put { key: 7, value: b"ab".to_vec(), ttl },
                "*5\r\n$3\r\nSET\r\n$13\r\nk000000000007\r\n$2\r\nab\r\n$2\r\nPX\r\n$4\r\n1500\r\n",
            ),
            (Request::Delete(1), "*2\r\n$3\r\nDEL\r\n$13\r\nk000000000001\r\n"),
            (
                Request::GetMany(vec![1, 2]),
                "*3\r\n$4\r\nMGET\r\n$13\r\nk000000000001\r\n$13\r\nk000000000002\r\n",
            ),
        ] {
            let mut out = Vec::new();
            resp().write(&request, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), command);
        }
    }

    #[test]
    fn replies_are_read_whole_and_every_cut_of_them_waits_for_more() {
        let cases: [(&[u8], Expected, Reply); 7] = [
            (b"$5\r\nhello\r\n", Expected::Value, Reply::Value(Some(4..9))),
            (b"$-1\r\n", Expected::Value, Reply::Value(None)),
            (b"+OK\r\n", Expected::Done, Reply::Done(true)),
            (b":0\r\n", Expected::Done, Reply::Done(false)),
            (b"-OOM full\r\n", Expected::Value, Reply::Failed(1..9)),
            (b"*2\r\n$2\r\nab\r\n$-1\r\n", Expected::Values(2), Reply::Values(vec![Some(8..10), None])),
            (b"$0\r\n\r\n", Expected::Value, Reply::Value(Some(4..4))),
        ];
        for (bytes, expected, reply) in cases {
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut], expected), Ok(None), "{cut} of {bytes:?}");
            }
            let more = [bytes, b"+NEXT"].concat();
            assert_eq!(read(&more, expected), Ok(Some((reply, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error_and_never_a_panic() {
        for wrong in [
            b"hello\r\n".as_slice(),
            b"$x\r\n",
            b"$-7\r\n",
            b"$99999999999\r\n",
            b"$2\r\nabc\r\n",
            b"*3\r\n",
            b"*1\r\n+OK\r\n",
            b"\r\n",
            b"+OK\rx",
            b"+OK\r\n",
        ] {
            assert!(read(wrong, Expected::Value).is_err() || wrong == b"*1\r\n+OK\r\n", "{wrong:?}");
        }
        assert!(read(b"*1\r\n+OK\r\n", Expected::Values(1)).is_err());
        assert!(read(&[b'a'; LINE_LIMIT], Expected::Value).is_err());
    }
}
