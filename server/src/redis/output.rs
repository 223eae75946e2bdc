//! The way out of a connection: unsent replies, and the socket they go to.
//!
//! Replies are sent once a turn, in one write. When the unsent bytes pass the mark in the middle of a turn they
//! are sent at once, and nothing further is read or run until the client has taken them: a client that asks
//! and does not read costs at most the mark and one value. Whether it takes them in time is watched by the
//! worker's janitor (see [`clients`](crate::clients)).

use super::reply::Reply;
use crate::clients::{Client, Phase};
use crate::limits::Limits;
use futures_util::poll;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::tcp::OwnedWriteHalf;

/// See the head of this file.
pub(crate) struct Output {
    pub(crate) reply: Reply,
    /// Unsent bytes above which a turn pauses.
    pub(crate) mark: usize,
    /// Reads of this connection that may be in flight at once.
    pub(crate) reads_in_flight: usize,
    /// `None` in tests that look at the replies themselves.
    socket: Option<OwnedWriteHalf>,
    client: Arc<Client>,
    /// Bytes sent since this was last asked.
    sent: u64,
}

impl Output {
    pub(crate) fn new(socket: Option<OwnedWriteHalf>, client: Arc<Client>, limits: &Limits) -> Output {
        Output {
            reply: Reply::default(),
            mark: limits.output_mark,
            reads_in_flight: limits.reads_in_flight,
            socket,
            client,
            sent: 0,
        }
    }

    pub(crate) fn is_over_mark(&self) -> bool {
        self.reply.bytes.len() > self.mark
    }

    /// Sends what is unsent if it is over the mark.
    pub(crate) async fn relieve(&mut self) -> io::Result<()> {
        if self.is_over_mark() { self.flush().await } else { Ok(()) }
    }

    /// Sends everything.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        if self.reply.bytes.is_empty() {
            return Ok(());
        }
        self.client.enter(Phase::Writing);
        socket.write_all(&self.reply.bytes).await?;
        self.client.enter(Phase::Running);
        self.sent += self.reply.bytes.len() as u64;
        self.reply.bytes.clear();
        // One large value must not keep its buffer for the connection's whole life.
        if self.reply.bytes.capacity() > 4 * self.mark {
            self.reply.bytes.shrink_to(self.mark);
        }
        Ok(())
    }

    /// Whether the client has closed its end. Unread data that lies before the end does not hide it.
    pub(crate) async fn has_hung_up(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        match poll!(pin!(socket.ready(Interest::READABLE))) {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// Sends everything and ends the stream.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.flush().await?;
        match &mut self.socket {
            Some(socket) => socket.shutdown().await,
            None => Ok(()),
        }
    }

    /// Bytes sent since the last call.
    pub(crate) fn take_sent(&mut self) -> u64 {
        std::mem::take(&mut self.sent)
    }
}
