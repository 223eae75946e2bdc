//! Connections to a server, driven by one thread: requests are pipelined, answers come in the order of requests.
//!
//! Sockets do not block. Requests gather in a connection's buffer and leave with one write at the next poll; poll(2) waits
//! for the whole group, with a timeout in nanoseconds. A dialect turns requests into bytes and bytes into replies; a reply
//! names its values by their place in what was received, so nothing is copied on the way to whoever judges it.

use super::LoadError;
use super::clock::{Clock, gap};
use super::lane::{Answer, Lane, Outcome};
use super::target::{LaneSize, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How much is read at once, in bytes.
const READ: usize = 64 << 10;
/// A reply that is larger than this is not one of ours, in bytes.
pub const REPLY_LIMIT: usize = 1 << 30;
/// How long a server may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A reply, its values by their place in the bytes it was read from.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// One value, or none.
    Value(Option<Range<usize>>),
    /// Several.
    Values(Vec<Option<Range<usize>>>),
    /// Done; whether there was a record.
    Done(bool),
    /// Refused; what was said.
    Failed(Range<usize>),
}

/// What answers a request has, for a dialect that must know to read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The answer to a get.
    Value,
    /// The answer to a get of so many.
    Values(usize),
    /// The answer to anything else.
    Done,
}

/// A protocol of requests and replies in order.
pub trait Dialect: Send + Sync {
    /// Appends the request.
    fn write(&self, request: &Request, out: &mut Vec<u8>);

    /// The reply that `bytes` begins with, and its length; `None` if it is not all there.
    fn read(&self, bytes: &[u8], expected: &(Expected, Request)) -> Result<Option<(Reply, usize)>, String>;
}

/// What a request's answer is like.
pub fn expected(request: &Request) -> Expected {
    match request {
        Request::Get(_) => Expected::Value,
        Request::GetMany(keys) => Expected::Values(keys.len()),
        Request::Put { .. } | Request::Delete(_) | Request::Expire { .. } | Request::Scan { .. } => {
            Expected::Done
        }
    }
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    /// Where the received bytes that are not read yet begin and end.
    unread: Range<usize>,
    waiting: VecDeque<(usize, (Expected, Request))>,
}

/// A group of connections.
pub struct Wire {
    address: SocketAddr,
    dialect: Arc<dyn Dialect>,
    clock: Arc<dyn Clock>,
    depth: usize,
    connections: Vec<Connection>,
    /// Where the next request goes, if it has room.
    turn: usize,
}

impl Wire {
    /// Opens the connections.
    pub fn open(
        address: SocketAddr,
        dialect: Arc<dyn Dialect>,
        clock: Arc<dyn Clock>,
        size: LaneSize,
    ) -> Result<Wire, LoadError> {
        let open = || -> std::io::Result<Connection> {
            let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Connection {
                stream,
                out: Vec::new(),
                sent: 0,
                received: vec![0; READ],
                unread: 0..0,
                waiting: VecDeque::new(),
            })
        };
        let connections = (0..size.connections).map(|_| open()).collect::<Result<Vec<_>, _>>();
        let connections = connections.map_err(|error| {
            LoadError(format!("cannot connect to {address}: {error}; is the server there, and has it room for {} connections?", size.connections))
        })?;
        Ok(Wire { address, dialect, clock, depth: size.depth, connections, turn: 0 })
    }

    fn lost(&self, what: &dyn std::fmt::Display) -> LoadError {
        LoadError(format!("server {}: {what}", self.address))
    }
}

impl Connection {
    /// Whether something is left to send.
    fn send(&mut self) -> std::io::Result<bool> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(false)
    }

    /// Reads what is there, once; false if that was nothing.
    fn receive(&mut self) -> std::io::Result<bool> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
        if self.unread.end == self.received.len() {
            // A reply that does not fit: to the front with it, and more room if that is not enough.
            self.received.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.unread.len() > self.received.len() / 2 {
                self.received.resize(self.received.len() * 2, 0);
            }
        }
        loop {
            return match self.stream.read(&mut self.received[self.unread.end..]) {
                Ok(0) => Err(std::io::Error::new(ErrorKind::UnexpectedEof, "it has closed the connection")),
                Ok(count) => {
                    self.unread.end += count;
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }
}

impl Lane<Request> for Wire {
    fn capacity(&self) -> usize {
        self.connections.len() * self.depth
    }

    fn submit(&mut self, slot: usize, request: Request) -> Result<(), LoadError> {
        let count = self.connections.len();
        let at = (0..count)
            .map(|step| (self.turn + step) % count)
            .find(|&at| self.connections[at].waiting.len() < self.depth)
            .expect("there are as many slots as places");
        self.turn = (at + 1) % count;
        let connection = &mut self.connections[at];
        self.dialect.write(&request, &mut connection.out);
        let wanted = expected(&request);
        // The bytes of a value are sent, and need not be kept.
        let kept = match request {
            Request::Put { key, ttl, .. } => Request::Put { key, value: Vec::new(), ttl },
            request => request,
        };
        connection.waiting.push_back((slot, (wanted, kept)));
        Ok(())
    }

    fn poll(&mut self, until_ns: u64, answers: &mut dyn FnMut(Answer<'_>)) -> Result<(), LoadError> {
        let mut failed = None;
        let mut flags = Vec::with_capacity(self.connections.len());
        for connection in &mut self.connections {
            let wants = match connection.send() {
                Ok(false) => PollFlags::IN,
                Ok(true) => PollFlags::IN | PollFlags::OUT,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            flags.push(wants);
        }
        if let Some(error) = failed {
            return Err(self.lost(&error));
        }
        let timeout = gap(self.clock.now_ns(), until_ns);
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> = self
                .connections
                .iter()
                .zip(&flags)
                .map(|(connection, flags)| PollFd::new(&connection.stream, *flags))
                .collect();
            let timeout =
                Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.lost(&error)),
            }
            fds.iter().map(|fd| !(fd.revents() - PollFlags::OUT).is_empty()).collect()
        };
        for at in (0..ready.len()).filter(|&at| ready[at]) {
            match self.connections[at].receive() {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => return Err(self.lost(&error)),
            }
            let at_ns = self.clock.now_ns();
            let Connection { received, unread, waiting, .. } = &mut self.connections[at];
            let mut lost = None;
            while unread.start < unread.end {
                let bytes = &received[unread.clone()];
                let Some((_, wanted)) = waiting.front() else {
                    lost = Some("it answers what was not asked".to_owned());
                    break;
                };
                let (reply, size) = match self.dialect.read(bytes, wanted) {
                    Ok(Some(read)) => read,
                    Ok(None) if bytes.len() > REPLY_LIMIT => {
                        lost = Some(format!("a reply of more than {REPLY_LIMIT} bytes"));
                        break;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        lost = Some(error);
                        break;
                    }
                };
                let (slot, _) = waiting.pop_front().expect("it was there");
                let text;
                let outcome = match reply {
                    Reply::Value(value) => Outcome::Value(value.map(|place| &bytes[place])),
                    Reply::Values(values) => Outcome::Values(
                        values.into_iter().map(|value| value.map(|place| &bytes[place])).collect(),
                    ),
                    Reply::Done(was_there) => Outcome::Done(was_there),
                    Reply::Failed(place) => {
                        text = String::from_utf8_lossy(&bytes[place]).into_owned();
                        Outcome::Failed(&text)
                    }
                };
                answers(Answer { slot, at_ns, outcome });
                unread.start += size;
            }
            if let Some(lost) = lost {
                return Err(self.lost(&lost));
            }
        }
        Ok(())
    }
}
