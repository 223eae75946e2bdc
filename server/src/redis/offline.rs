//! A connection without a socket: bytes in, replies out. For tests and fuzzers.
//!
//! What it leaves out of `Connection` is the socket and its deadlines; parser, batches,
//! session and replies are the same code. Bytes may come in any pieces.

use super::error::CommandError;
use super::output::Output;
use super::parser::{Parser, ProtocolError, Stop};
use super::session::{Session, run_batch};
use crate::clients::Client;
use crate::config::Config;
use crate::limits::{Limits, QUANTUM_COMMANDS, QUANTUM_SIZE};
use crate::opening::Opening;
use crate::shared::Shared;
use crate::store::{Store, StoreConfig, StoreError};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// See the head of this file.
pub struct Offline {
    pub(super) session: Session,
    pub(super) parser: Parser,
    pub(super) output: Output,
    pub(super) runtime: Runtime,
    buffer: Vec<u8>,
}

impl Offline {
    /// A client of a new server whose data is in RAM.
    pub fn new(config: Config) -> Result<Offline, StoreError> {
        let store = Store::in_memory(&StoreConfig::of(&config))?;
        Ok(Offline::over(config, store))
    }

    /// A client of a server with this store.
    pub(super) fn over(config: Config, store: Store) -> Offline {
        Offline::of(Arc::new(Shared::new(config, Opening::done(store))))
    }

    /// Another client of the same server.
    pub fn reconnect(&self) -> Offline {
        Offline::of(self.session.shared.clone())
    }

    fn of(shared: Arc<Shared>) -> Offline {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let client = Arc::new(Client::new(shared.clients.next_id(), address, address));
        let counters = shared.counters[0].clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Offline {
            parser: Parser::new(shared.limits.parser()),
            output: Output::new(None, client.clone(), &shared.limits),
            session: Session::new(shared.clone(), client, counters),
            runtime: runtime.expect("a runtime of one thread needs no resource but memory"),
            buffer: Vec::new(),
        }
    }

    /// Takes the next bytes of the client, and returns the bytes that are answered.
    ///
    /// After a protocol error or QUIT the connection is closed: what comes then is not looked at.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffer.extend_from_slice(bytes);
        while !self.session.closing {
            let stop = self.parser.parse(&mut self.buffer, QUANTUM_COMMANDS, QUANTUM_SIZE);
            let run = run_batch(&mut self.session, &self.parser, &self.buffer, &mut self.output);
            self.runtime.block_on(run).expect("without a socket nothing can fail");
            self.buffer.drain(..self.parser.finish_batch());
            match stop {
                Stop::Full => {}
                Stop::Starved => break,
                Stop::Broken(error) if !self.session.closing => {
                    let text = format!("ERR Protocol error: {error}");
                    self.output.reply.error(&CommandError::new(text));
                    self.session.closing = true;
                }
                Stop::Broken(_) => {}
            }
        }
        std::mem::take(&mut self.output.reply.bytes)
    }
}

/// The words of one request.
pub type Request = Vec<Vec<u8>>;

/// The requests in bytes that come in these pieces, and what is wrong with the first that is none.
pub fn requests<'p>(
    config: &Config,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Request>, Option<ProtocolError>) {
    let (mut parser, mut buffer) = (Parser::new(Limits::of(config).parser()), Vec::new());
    let mut requests = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let stop = parser.parse(&mut buffer, QUANTUM_COMMANDS, QUANTUM_SIZE);
            let words = |at| parser.command(at, &buffer).from(0).map(<[u8]>::to_vec).collect();
            requests.extend((0..parser.batch_len()).map(words));
            buffer.drain(..parser.finish_batch());
            match stop {
                Stop::Full => {}
                Stop::Starved => break,
                Stop::Broken(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}
