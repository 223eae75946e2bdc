//! What a connection knows between its commands, and the running of one batch.
//!
//! [`run_batch`] is the heart of the protocol: for each command of a batch it looks up the row, checks the
//! number of words, and calls the handler; a command that may wait runs when everything before it has been
//! told. The records that read-modify-write commands of the batch will need are read ahead, all at once.

use super::command::{Command, Done, Flag, Handler, Running, find};
use super::command_table::COMMANDS;
use super::error::{CommandError, shown};
use super::output::Output;
use super::parser::{Args, Parser};
use super::reply::Reply;
use super::turn::{Begun, Turn};
use crate::clients::Client;
use crate::counters::Counters;
use crate::latency::{Protocol, nanoseconds};
use crate::limits::BLOCKED_GLANCE;
use crate::shared::Shared;
use crate::store::{Ahead, Outcome, Record, Store, StoreError};
use futures_util::poll;
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

/// The state of one connection that handlers see.
pub(crate) struct Session {
    /// A handle of its own; none while the data is being opened.
    store: Option<Store>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) client: Arc<Client>,
    /// The worker's own figures.
    pub(crate) counters: Arc<Counters>,
    pub(crate) resp3: bool,
    /// Set by QUIT and SHUTDOWN: the connection ends when the replies are sent.
    pub(crate) closing: bool,
    /// The time of this batch, in milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
    /// The same as the store sees it, which expiry goes by: never less than before.
    pub(crate) data_ms: u64,
    /// Reads started ahead for the batch's read-modify-write commands.
    ahead: RefCell<Ahead>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, client: Arc<Client>, counters: Arc<Counters>) -> Session {
        let store = shared.opening.store().cloned();
        Session {
            store,
            shared,
            client,
            counters,
            resp3: false,
            closing: false,
            now_ms: 0,
            data_ms: 0,
            ahead: RefCell::default(),
        }
    }

    /// The data. Only for commands without the flag `loading`: the others also run before it is there.
    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("commands that use the data are refused until it is there")
    }

    /// A command's reply is queued.
    #[inline]
    pub(crate) fn ended(&self, begun: Begun<'_>, now: Instant) {
        self.counters.commands[begun.command].latency.record(nanoseconds(now - begun.parsed));
        let own = now - begun.begun;
        if self.shared.slow_log.is_slow(own) || self.shared.spikes.is_one(own) {
            self.was_slow(begun, own);
        }
    }

    #[cold]
    #[inline(never)]
    fn was_slow(&self, begun: Begun<'_>, own: Duration) {
        if self.shared.slow_log.is_slow(own) {
            self.shared.slow_log.note(Protocol::Redis, own, begun.args.from(0), &self.client);
        }
        if self.shared.spikes.is_one(own) {
            let is_fast = COMMANDS[begun.command].flags.contains(&Flag::Fast);
            self.shared.spikes.note(if is_fast { "fast-command" } else { "command" }, own);
        }
    }

    /// Reads a record and replaces it by what `change` makes of it, atomically.
    pub(crate) async fn update<'a, T>(
        &self,
        key: &[u8],
        change: impl FnMut(Option<&Record>) -> (Outcome<'a>, T),
    ) -> Result<T, StoreError> {
        // Taken out for the time of the call: nothing else of this connection runs meanwhile.
        let mut ahead = self.ahead.take();
        let done = self.store().update(key, &mut ahead, change).await;
        self.ahead.replace(ahead);
        done
    }
}

/// Runs all complete commands that the parser has found in the buffer. Errors are the socket's.
pub(crate) async fn run_batch(
    session: &mut Session,
    parser: &Parser,
    buffer: &[u8],
    output: &mut Output,
) -> io::Result<()> {
    session.now_ms = crate::clock::unix_ms();
    let count = parser.batch_len();
    if session.store.is_none() {
        session.store = session.shared.opening.store().cloned();
    }
    session.ahead.replace(read_ahead(session, parser, buffer));
    session.data_ms = session.store.as_ref().map_or(session.now_ms, Store::now_ms);
    let mut turn = Turn::new(output, session.store.clone(), session.data_ms);
    let parsed = Instant::now();
    let mut clock = parsed;
    for index in 0..count {
        let args = parser.command(index, buffer);
        match find(args.at(0)) {
            None => turn.reply().error(&unknown_command(args)),
            Some(found) => {
                let waited = turn.waited();
                let done = run_one(session, &COMMANDS[found], args, &mut turn).await?;
                let now = Instant::now();
                session.counters.count(found, now - clock, done.is_err());
                session.client.note_command(found);
                let begun = Begun { command: found, args, parsed, begun: clock };
                if turn.waited() == waited {
                    session.ended(begun, now)
                } else {
                    turn.ends_with_last(begun)
                }
                clock = now;
                if let Err(error) = done {
                    turn.reply().error(&error);
                }
            }
        }
        if turn.output.is_over_mark() {
            turn.settle(session).await?;
            turn.output.relieve().await?;
        }
        if session.closing {
            break;
        }
    }
    session.ahead.take();
    turn.settle(session).await?;
    turn.report(session);
    Ok(())
}

/// Runs one command. When the inner result is an error, nothing else was written for this command.
async fn run_one<'a>(
    session: &mut Session,
    command: &Command,
    args: Args<'a>,
    turn: &mut Turn<'a>,
) -> io::Result<Done> {
    if !command.takes(args.len()) {
        return Ok(Err(CommandError::wrong_arguments(command.name)));
    }
    if session.store.is_none() && !command.flags.contains(&Flag::Loading) {
        return Ok(Err(CommandError::LOADING));
    }
    Ok(match command.handler {
        Handler::Read(handler) => handler(args, turn),
        Handler::Now(handler) => {
            if command.barrier {
                turn.settle(session).await?;
            }
            let reply = turn.reply();
            let start = reply.bytes.len();
            let done = handler(session, args, reply);
            if done.is_err() {
                reply.bytes.truncate(start);
            }
            turn.set_resp3(session.resp3);
            done
        }
        Handler::Later(handler) if command.flags.contains(&Flag::Blocking) => {
            turn.settle(session).await?;
            let mut reply = Reply { resp3: session.resp3, bytes: Vec::new() };
            let done = run_blocking(session, handler(session, args, &mut reply), turn.output).await?;
            if done.is_ok() {
                turn.output.reply.bytes.extend_from_slice(&reply.bytes);
            }
            done
        }
        Handler::Later(handler) => {
            turn.settle(session).await?;
            let reply = &mut turn.output.reply;
            let start = reply.bytes.len();
            let done = handler(session, args, reply).await;
            if done.is_err() {
                turn.output.reply.bytes.truncate(start);
            }
            done
        }
    })
}

/// Runs a command that may wait for long: until its client has gone or the server stops. The replies to the commands
/// before it are sent first.
async fn run_blocking(session: &Session, mut running: Running<'_>, output: &mut Output) -> io::Result<Done> {
    if let Poll::Ready(done) = poll!(running.as_mut()) {
        return Ok(done);
    }
    let _blocked = Blocked::new(&session.shared);
    output.flush().await?;
    let abandoned = async {
        loop {
            // Data of the next commands may lie unread on the socket, so that there is no event to wait for.
            tokio::time::sleep(BLOCKED_GLANCE).await;
            if *session.shared.stop.borrow() || output.has_hung_up().await {
                return;
            }
        }
    };
    tokio::select! {
        done = running => Ok(done),
        () = abandoned => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Counts a connection as blocked for as long as this lives.
struct Blocked<'a>(&'a Shared);

impl Blocked<'_> {
    fn new(shared: &Shared) -> Blocked<'_> {
        shared.blocked.fetch_add(1, Relaxed);
        Blocked(shared)
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.blocked.fetch_sub(1, Relaxed);
    }
}

/// Starts the device reads that the batch's read-modify-write commands will need.
fn read_ahead(session: &Session, parser: &Parser, buffer: &[u8]) -> Ahead {
    let mut ahead = Ahead::default();
    let Some(store) = &session.store else { return ahead };
    if parser.batch_len() < 2 {
        return ahead;
    }
    for index in 0..parser.batch_len() {
        let args = parser.command(index, buffer);
        let Some(command) = find(args.at(0)).map(|found| &COMMANDS[found]) else { continue };
        if command.prefetch
            && let Some(key) = args.get(command.keys.0)
            && ahead.count() < session.shared.limits.reads_in_flight
            && ahead.size() < session.shared.limits.output_mark
            && let Some(read) = store.prefetch(key)
        {
            ahead.push(read);
        }
    }
    ahead
}

fn unknown_command(args: Args<'_>) -> CommandError {
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", shown(args.at(0), 128));
    let start = text.len();
    for arg in args.from(1) {
        let room = 128_usize.saturating_sub(text.len() - start);
        if room == 0 {
            break;
        }
        text.push('\'');
        text.push_str(&shown(arg, room));
        text.push_str("' ");
    }
    CommandError::new(text)
}
