//! One Redis connection, from its first byte to its last.
//!
//! ```text
//! read ── parse a batch ── run it ── send the replies ── read ...
//!              └── more in the buffer: let others run, then go on here
//! ```
//!
//! A turn costs one read and one write system call, however many commands it carries. The read buffer starts
//! small and grows only as bytes come; what a batch has used is let go at its end.

use super::error::CommandError;
use super::output::Output;
use super::parser::{Parser, Stop};
use super::session::{Session, run_batch};
use crate::clients::{Client, Phase};
use crate::counters::Counters;
use crate::limits::{LINGER_MS, LINGER_SIZE, QUANTUM_COMMANDS, QUANTUM_SIZE, READ_STEP, READ_STEP_MAX};
use crate::shared::Shared;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

/// See the head of this file.
pub(crate) struct Connection {
    socket: OwnedReadHalf,
    buffer: Vec<u8>,
    /// How much room a read is given; it grows when reads fill it.
    step: usize,
    parser: Parser,
    session: Session,
    output: Output,
}

impl Connection {
    pub(crate) fn new(
        stream: TcpStream,
        shared: Arc<Shared>,
        client: Arc<Client>,
        counters: Arc<Counters>,
    ) -> Connection {
        let (socket, out) = stream.into_split();
        Connection {
            socket,
            buffer: Vec::new(),
            step: READ_STEP,
            parser: Parser::new(shared.limits.parser()),
            output: Output::new(Some(out), client.clone(), &shared.limits),
            session: Session::new(shared, client, counters),
        }
    }

    /// Serves the client until it leaves, asks to, breaks the protocol, or the server stops.
    pub(crate) async fn serve(mut self) -> io::Result<()> {
        loop {
            let stop = self.parser.parse(&mut self.buffer, QUANTUM_COMMANDS, QUANTUM_SIZE);
            if self.parser.batch_len() > 0 {
                run_batch(&mut self.session, &self.parser, &self.buffer, &mut self.output).await?;
                self.session.client.note_active(self.session.now_ms);
            }
            self.let_go();
            if self.session.closing || *self.session.shared.stop.borrow() {
                return self.output.finish().await;
            }
            match stop {
                Stop::Full => {
                    self.output.flush().await?;
                    tokio::task::yield_now().await;
                }
                Stop::Broken(error) => return self.refuse(error).await,
                Stop::Starved => {
                    self.output.flush().await?;
                    self.session.counters.sent.add(self.output.take_sent());
                    if self.read().await? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes what has come. 0 is the end of the stream.
    async fn read(&mut self) -> io::Result<usize> {
        if self.parser.is_mid_command(self.buffer.len()) {
            self.session.client.note_request(self.buffer.len());
        } else {
            self.session.client.enter(Phase::Idle);
        }
        if self.buffer.capacity() - self.buffer.len() < self.step / 2 {
            // Ahead of what has come only by a step, so a declared length costs nothing by itself; in proportion
            // to it for a large value, so that it is not copied again and again.
            self.buffer.reserve_exact(self.step.max(self.buffer.len() / 4));
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let count = self.socket.read_buf(&mut self.buffer).await?;
        if count == room {
            // Sixteen SETs of a kilobyte do not fit the first step: they would cost two reads and two writes.
            self.step = (self.step * 2).min(READ_STEP_MAX);
        }
        self.session.client.enter(Phase::Running);
        self.session.counters.received.add(count as u64);
        Ok(count)
    }

    /// Drops the batch and its bytes.
    fn let_go(&mut self) {
        let unneeded = self.parser.finish_batch();
        if unneeded == self.buffer.len() {
            self.buffer.clear();
            if self.buffer.capacity() > 4 * READ_STEP_MAX {
                self.buffer = Vec::new();
            }
        } else {
            self.buffer.drain(..unneeded);
        }
    }

    /// Says what is wrong and closes, reading on a little: a close with unread bytes would be a reset, and the
    /// client might never see the error.
    async fn refuse(mut self, error: &str) -> io::Result<()> {
        self.session.counters.protocol_errors.add(1);
        tracing::debug!(client = self.session.client.id, error, "closing a connection: protocol error");
        self.output.reply.error(&CommandError::new(format!("ERR Protocol error: {error}")));
        self.output.finish().await?;
        let mut sink = vec![0; READ_STEP];
        let drain = async {
            let mut drained = 0;
            while drained < LINGER_SIZE {
                match self.socket.read(&mut sink).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => drained += count,
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(LINGER_MS), drain).await;
        Ok(())
    }
}
