//! A server that speaks memcached's text protocol, for load.
//!
//! get (of one key or several), set, delete, touch. Times to live are whole seconds there, rounded up here. There is no
//! scan at all.

use super::LoadError;
use super::clock::Clock;
use super::mix::Operation;
use super::target::{LaneSize, Request, StoreLane, Target, write_key};
use super::wire::{Dialect, Expected, REPLY_LIMIT, Reply, Wire};
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Requests in flight on a connection while records are loaded.
const LOAD_DEPTH: usize = 16;
/// The longest line of a reply that is looked for, in bytes.
const LINE_LIMIT: usize = 4096;
/// Longer times to live are taken for moments by the protocol.
pub const LONGEST_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// A server.
pub struct Memcache {
    address: SocketAddr,
    dialect: Arc<Text>,
    clock: Arc<dyn Clock>,
}

/// The protocol, with what keys begin with.
pub struct Text {
    prefix: String,
}

impl Memcache {
    /// At this address.
    pub fn new(address: SocketAddr, prefix: &str, clock: Arc<dyn Clock>) -> Memcache {
        Memcache { address, dialect: Arc::new(Text { prefix: prefix.to_owned() }), clock }
    }
}

impl Target for Memcache {
    fn name(&self) -> String {
        format!("memcache {}", self.address)
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
                "memcached's protocol has no scan, so 'scan' and YCSB's workload E cannot run against a server; use \
                 --engine, or a mix without scan"
                    .into(),
            )),
            Operation::ReadModifyWrite => Ok(Some("rmw is get, then set: two requests, not one step")),
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

fn seconds(ttl: Duration) -> u64 {
    ttl.as_millis().div_ceil(1000).max(1) as u64
}

impl Dialect for Text {
    fn write(&self, request: &Request, out: &mut Vec<u8>) {
        let mut head = |verb: &[u8], key: u64| {
            out.extend_from_slice(verb);
            write_key(out, &self.prefix, key);
        };
        // Writing into a Vec cannot fail.
        match request {
            Request::Get(key) => head(b"get ", *key),
            Request::Put { key, value, ttl } => {
                head(b"set ", *key);
                let _ = write!(out, " 0 {} {}\r\n", ttl.map_or(0, seconds), value.len());
                out.extend_from_slice(value);
            }
            Request::Delete(key) => head(b"delete ", *key),
            Request::Expire { key, ttl } => {
                head(b"touch ", *key);
                let _ = write!(out, " {}", seconds(*ttl));
            }
            Request::GetMany(keys) => {
                out.extend_from_slice(b"get");
                for &key in keys {
                    out.push(b' ');
                    write_key(out, &self.prefix, key);
                }
            }
            Request::Scan { .. } => unreachable!("`stands_for` refuses it"),
        }
        out.extend_from_slice(b"\r\n");
    }

    fn read(
        &self,
        bytes: &[u8],
        (expected, request): &(Expected, Request),
    ) -> Result<Option<(Reply, usize)>, String> {
        let keys: &[u64] = match request {
            Request::GetMany(keys) => keys,
            Request::Get(key) => std::slice::from_ref(key),
            _ => &[],
        };
        let mut values: Vec<Option<Range<usize>>> = vec![None; keys.len()];
        let mut at = 0;
        loop {
            let Some((line, next)) = line(bytes, at)? else { return Ok(None) };
            let text = &bytes[line.clone()];
            let word = text.split(|&byte| byte == b' ').next().unwrap_or(text);
            match word {
                b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => return Ok(Some((Reply::Failed(line), next))),
                b"VALUE" if *expected != Expected::Done => {
                    let shown = String::from_utf8_lossy(text);
                    let mut parts = shown.split(' ').skip(1);
                    let (key, size) = (parts.next().unwrap_or(""), parts.nth(1).unwrap_or(""));
                    let size = size.parse().ok().filter(|&size: &usize| size <= REPLY_LIMIT);
                    let size = size.ok_or_else(|| format!("'{shown}' has no size"))?;
                    match bytes.get(next + size..next + size + 2) {
                        None => return Ok(None),
                        Some(b"\r\n") => {}
                        Some(_) => return Err("a value that does not end where it says".into()),
                    }
                    // A key that is asked for twice may be answered once.
                    let mut known = false;
                    for (value, _) in values.iter_mut().zip(keys).filter(|(_, wanted)| self.is(**wanted, key))
                    {
                        known = true;
                        *value = Some(next..next + size);
                    }
                    if !known {
                        return Err(format!("a value of '{key}', which was not asked for"));
                    }
                    at = next + size + 2;
                    continue;
                }
                b"END" if *expected == Expected::Value => {
                    return Ok(Some((Reply::Value(values.pop().flatten()), next)));
                }
                b"END" if *expected != Expected::Done => return Ok(Some((Reply::Values(values), next))),
                b"STORED" | b"DELETED" | b"TOUCHED" if *expected == Expected::Done => {
                    return Ok(Some((Reply::Done(true), next)));
                }
                b"NOT_FOUND" if *expected == Expected::Done => return Ok(Some((Reply::Done(false), next))),
                b"NOT_STORED" if *expected == Expected::Done => return Ok(Some((Reply::Failed(line), next))),
                _ => {
                    return Err(format!(
                        "'{}' is no answer to what was asked",
                        String::from_utf8_lossy(text)
                    ));
                }
            }
        }
    }
}

impl Text {
    fn is(&self, wanted: u64, key: &str) -> bool {
        let mut bytes = Vec::with_capacity(64);
        write_key(&mut bytes, &self.prefix, wanted);
        bytes == key.as_bytes()
    }
}

/// The line that begins at `at`, and where the next one does.
fn line(bytes: &[u8], at: usize) -> Result<Option<(Range<usize>, usize)>, String> {
    let rest = bytes.get(at..).unwrap_or(&[]);
    let Some(end) = rest.iter().take(LINE_LIMIT).position(|&byte| byte == b'\n') else {
        return if rest.len() >= LINE_LIMIT { Err("a line without an end".into()) } else { Ok(None) };
    };
    if end == 0 || rest[end - 1] != b'\r' {
        return Err("a line that does not end as one".into());
    }
    Ok(Some((at..at + end - 1, at + end + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], request: Request) -> Result<Option<(Reply, usize)>, String> {
        let expected = super::super::wire::expected(&request);
        Text { prefix: "k".into() }.read(bytes, &(expected, request))
    }

    #[test]
    fn requests_are_lines() {
        for (request, expected) in [
            (Request::Get(7), "get k000000000007\r\n"),
            (
                Request::Put { key: 7, value: b"ab".to_vec(), ttl: Some(Duration::from_millis(1500)) },
                "set k000000000007 0 2 2\r\nab\r\n",
            ),
            (Request::Delete(7), "delete k000000000007\r\n"),
            (Request::Expire { key: 7, ttl: Duration::from_secs(9) }, "touch k000000000007 9\r\n"),
            (Request::GetMany(vec![1, 2]), "get k000000000001 k000000000002\r\n"),
        ] {
            let mut out = Vec::new();
            Text { prefix: "k".into() }.write(&request, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn replies_are_read_whole_and_every_cut_of_them_waits_for_more() {
        let put = || Request::Put { key: 7, value: Vec::new(), ttl: None };
        let many = Request::GetMany(vec![1, 2, 1]);
        let cases: [(&[u8], Request, Reply); 6] = [
            (b"VALUE k000000000007 0 5\r\nhello\r\nEND\r\n", Request::Get(7), Reply::Value(Some(25..30))),
            (b"END\r\n", Request::Get(7), Reply::Value(None)),
            (b"STORED\r\n", put(), Reply::Done(true)),
            (b"NOT_FOUND\r\n", Request::Delete(7), Reply::Done(false)),
            (b"SERVER_ERROR out of memory\r\n", put(), Reply::Failed(0..26)),
            (
                b"VALUE k000000000001 0 1\r\nx\r\nEND\r\n",
                many,
                Reply::Values(vec![Some(25..26), None, Some(25..26)]),
            ),
        ];
        for (bytes, request, reply) in cases {
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut], request.clone()), Ok(None), "{cut} of {bytes:?}");
            }
            assert_eq!(read(&[bytes, b"END"].concat(), request), Ok(Some((reply, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error_and_never_a_panic() {
        for wrong in [
            b"STORED\r\n".as_slice(),
            b"VALUE k000000000007\r\n",
            b"VALUE k000000000007 0 x\r\n",
            b"VALUE k000000000007 0 99999999999\r\n",
            b"VALUE k000000000007 0 1\r\nxyz\r\n",
            b"VALUE other 0 1\r\nx\r\nEND\r\n",
            b"\r\n",
            b"\n",
        ] {
            assert!(read(wrong, Request::Get(7)).is_err(), "{wrong:?}");
        }
        assert!(read(&[b'a'; LINE_LIMIT], Request::Get(7)).is_err());
        assert!(read(b"END\r\n", Request::Delete(7)).is_err());
    }
}
