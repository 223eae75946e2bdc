//! One turn of a connection: a batch of commands, its reads in flight, its replies in order.
//!
//! A read that is answered from RAM while nothing is outstanding is told at once. A read that has to wait for
//! the device is put into a queue with how its answer is to be told; from then on everything that is told goes
//! into a side buffer, the tail, and each waiting read remembers its place there. [`Turn::settle`] then joins
//! the two in order. A command is measured when the last of its reads is told.
//!
//! ```text
//! commands   GET a      PING    GET b     TTL c
//! out        (nothing yet)
//! waiting    a at 0             b at 7
//! tail       +PONG CRLF                   :-1 CRLF          settle:  a, +PONG, b, :-1
//! ```
//!
//! What always holds: replies leave in the order of their commands; at most `reads_in_flight` reads of one
//! connection hold a buffer, and with them not much more bytes than may be unsent; further ones start as earlier
//! ones are told; the unsent replies exceed the output mark by at most one value.

use super::command::Done;
use super::error::CommandError;
use super::output::Output;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use crate::store::{Get, Record, Store, StoreError};
use std::collections::VecDeque;
use std::io;
use std::time::Instant;

/// How an answer is told: the record, and two numbers of the command's own.
pub(crate) type Tell = fn(&mut Reply, Option<&Record>, [i64; 2]) -> Done;

enum Stage<'a> {
    Started(Get),
    /// Not started: too many are in flight, or too much is unsent.
    Held(&'a [u8]),
}

struct Waiting<'a> {
    /// Where in the tail the reply belongs.
    at: usize,
    stage: Stage<'a>,
    tell: Tell,
    numbers: [i64; 2],
    /// The command that ends with this read.
    ends: Option<Begun<'a>>,
}

/// A command that has begun, to be measured when it ends.
#[derive(Clone, Copy)]
pub(crate) struct Begun<'a> {
    /// Its row.
    pub(crate) command: usize,
    pub(crate) args: Args<'a>,
    /// When it was parsed, and when its turn came.
    pub(crate) parsed: Instant,
    pub(crate) begun: Instant,
}

/// See the head of this file.
pub(crate) struct Turn<'a> {
    pub(crate) output: &'a mut Output,
    /// The time of the batch, in milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
    /// None while the data is being opened; then nothing that reads is run.
    store: Option<Store>,
    waiting: VecDeque<Waiting<'a>>,
    tail: Reply,
    started: usize,
    /// Bytes of the records whose reads have been started.
    held: usize,
    hits: u64,
    misses: u64,
    /// Reads that had to wait, so far.
    waited: u64,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(output: &'a mut Output, store: Option<Store>, now_ms: u64) -> Turn<'a> {
        let tail = Reply { resp3: output.reply.resp3, bytes: Vec::new() };
        Turn {
            output,
            now_ms,
            store,
            waiting: VecDeque::new(),
            tail,
            started: 0,
            held: 0,
            hits: 0,
            misses: 0,
            waited: 0,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("reads are refused until the data is there")
    }

    /// Where the next reply goes.
    pub(crate) fn reply(&mut self) -> &mut Reply {
        if self.waiting.is_empty() { &mut self.output.reply } else { &mut self.tail }
    }

    /// From here on, write replies in this protocol. Nothing is outstanding when it changes.
    pub(crate) fn set_resp3(&mut self, resp3: bool) {
        self.output.reply.resp3 = resp3;
        self.tail.resp3 = resp3;
    }

    /// Reads a key and tells its value when it is this reply's turn.
    pub(crate) fn get(&mut self, key: &'a [u8], tell: Tell, numbers: [i64; 2]) {
        let crowded = self.started >= self.output.reads_in_flight
            || self.held > self.output.mark
            || self.output.is_over_mark()
            || self.tail.bytes.len() > self.output.mark;
        let stage = if crowded {
            Stage::Held(key)
        } else {
            match self.store().begin_get(key) {
                Get::Ready(answer) if self.waiting.is_empty() => return self.tell(answer, tell, numbers),
                get => {
                    self.started += 1;
                    self.held += get.size();
                    Stage::Started(get)
                }
            }
        };
        self.waited += 1;
        self.waiting.push_back(Waiting { at: self.tail.bytes.len(), stage, tell, numbers, ends: None });
    }

    /// How many reads had to wait so far: a command during which this grows has not ended when its handler has.
    pub(crate) fn waited(&self) -> u64 {
        self.waited
    }

    /// The command ends with the last read that was begun.
    pub(crate) fn ends_with_last(&mut self, begun: Begun<'a>) {
        if let Some(last) = self.waiting.back_mut() {
            last.ends = Some(begun);
        }
    }

    /// Waits for the outstanding reads and puts all replies in order.
    pub(crate) async fn settle(&mut self, session: &Session) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let tail = std::mem::take(&mut self.tail.bytes);
        let mut told = 0;
        while let Some(Waiting { at, stage, tell, numbers, ends }) = self.waiting.pop_front() {
            self.output.reply.bytes.extend_from_slice(&tail[told..at]);
            told = at;
            let answer = match stage {
                Stage::Held(key) => self.store().begin_get(key).wait().await,
                Stage::Started(get) => {
                    self.started -= 1;
                    self.held -= get.size();
                    get.wait().await
                }
            };
            self.tell(answer, tell, numbers);
            if let Some(begun) = ends {
                session.ended(begun, Instant::now());
            }
            self.output.relieve().await?;
            self.start_held();
        }
        self.output.reply.bytes.extend_from_slice(&tail[told..]);
        self.output.relieve().await
    }

    /// Starts the first reads that were held back, as many as may be in flight.
    fn start_held(&mut self) {
        let Some(store) = &self.store else { return };
        let room = self.output.reads_in_flight.saturating_sub(self.started);
        if room == 0 {
            return;
        }
        // Started ones are always in front of held ones.
        for waiting in self.waiting.iter_mut().skip(self.started).take(room) {
            if self.held > self.output.mark {
                return;
            }
            if let Stage::Held(key) = waiting.stage {
                let get = store.begin_get(key);
                self.held += get.size();
                waiting.stage = Stage::Started(get);
                self.started += 1;
            }
        }
    }

    fn tell(&mut self, answer: Result<Option<Record>, StoreError>, tell: Tell, numbers: [i64; 2]) {
        let reply = &mut self.output.reply;
        let start = reply.bytes.len();
        let told = answer.map_err(CommandError::from).and_then(|record| {
            match record {
                Some(_) => self.hits += 1,
                None => self.misses += 1,
            }
            tell(reply, record.as_ref(), numbers)
        });
        if let Err(error) = told {
            reply.bytes.truncate(start);
            reply.error(&error);
        }
    }

    /// Counts a look into the index as INFO counts reads.
    pub(crate) fn count_lookup(&mut self, found: bool) {
        match found {
            true => self.hits += 1,
            false => self.misses += 1,
        }
    }

    /// What the index knows of a key.
    pub(crate) fn metadata(&self, key: &[u8]) -> Result<Option<crate::store::Metadata>, CommandError> {
        Ok(self.store().metadata(key)?)
    }

    /// Adds the turn's figures to the worker's.
    pub(crate) fn report(&self, session: &Session) {
        session.counters.keyspace_hits.add(self.hits);
        session.counters.keyspace_misses.add(self.misses);
    }
}
