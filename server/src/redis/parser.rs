//! From the bytes of a connection to commands, without copying them.
//!
//! The parser walks over the connection's read buffer and notes where each argument lies, as [`Span`]s. It
//! stops where bytes are missing, remembers how far it came, and goes on there when more have arrived: a large
//! value in a thousand pieces is looked at once. A batch of complete commands is run with [`Args`] that borrow
//! the buffer; then the batch's bytes are let go.
//!
//! ```text
//! *2 CRLF  $3 CRLF GET CRLF  $5 CRLF hello CRLF          or, by hand:  GET hello LF
//! |count   |length |span     |       |span
//! ```
//!
//! What always holds: nothing is allocated because a length was declared, only because bytes came; every
//! length is checked against its limit before it is used; after an error the parser is not asked again.

use super::inline;

/// A place in the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The words of one command; the first is its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Args<'a> {
    buffer: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn at(&self, index: usize) -> &'a [u8] {
        let Span { start, end } = self.spans[index];
        &self.buffer[start..end]
    }

    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.len()).then(|| self.at(index))
    }

    /// The words from `first` on.
    pub(crate) fn from(self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let buffer = self.buffer;
        self.spans[first.min(self.spans.len())..].iter().map(move |span| &buffer[span.start..span.end])
    }

    /// Whether a word is this one, in any case.
    pub(crate) fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// How large the parts of a request may be, in bytes or pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParserLimits {
    pub(crate) bulk_size: usize,
    pub(crate) arg_count: usize,
    pub(crate) inline_size: usize,
    pub(crate) request_size: usize,
}

/// Why a request cannot be understood; the connection is closed after saying so.
pub type ProtocolError = &'static str;

/// Why the parser stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// More bytes are needed.
    Starved,
    /// The batch is full; more commands may wait in the buffer.
    Full,
    /// The bytes are not the protocol.
    Broken(ProtocolError),
}

/// The state between two reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the first byte of a command.
    Start,
    /// In the first line of a command given by hand; so many bytes hold no line end.
    Inline { scanned: usize },
    /// So many arguments are still to come; the next one's length is not yet known.
    Length { left: usize },
    /// The same, and the next one has so many bytes.
    Bulk { left: usize, size: usize },
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Parser {
    limits: ParserLimits,
    state: State,
    /// Where the next unread byte lies.
    at: usize,
    /// Where the command that is being read begins.
    command_start: usize,
    spans: Vec<Span>,
    /// Where each complete command's spans end, as an index into `spans`.
    commands: Vec<usize>,
}

impl Parser {
    pub(crate) fn new(limits: ParserLimits) -> Parser {
        Parser {
            limits,
            state: State::Start,
            at: 0,
            command_start: 0,
            spans: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Reads on until the bytes end, or `max_commands` are complete, or `max_size` bytes were taken.
    ///
    /// The buffer is changed only where a quoted inline argument is unquoted in its place.
    pub(crate) fn parse(&mut self, buffer: &mut [u8], max_commands: usize, max_size: usize) -> Stop {
        let begin = self.at;
        while self.commands.len() < max_commands && (self.at - begin < max_size || self.commands.is_empty()) {
            match self.step(buffer) {
                Ok(true) => {}
                Ok(false) => return Stop::Starved,
                Err(error) => return Stop::Broken(error),
            }
        }
        Stop::Full
    }

    /// How many complete commands the batch holds.
    pub(crate) fn batch_len(&self) -> usize {
        self.commands.len()
    }

    /// One command of the batch.
    pub(crate) fn command<'a>(&'a self, index: usize, buffer: &'a [u8]) -> Args<'a> {
        let first = if index == 0 { 0 } else { self.commands[index - 1] };
        Args { buffer, spans: &self.spans[first..self.commands[index]] }
    }

    /// Whether a command has begun that is not complete.
    pub(crate) fn is_mid_command(&self, buffer_len: usize) -> bool {
        self.state != State::Start || self.at < buffer_len
    }

    /// Forgets the batch. Returns how many bytes at the front of the buffer are no longer needed; the caller
    /// must remove exactly those.
    pub(crate) fn finish_batch(&mut self) -> usize {
        let done = self.commands.last().copied().unwrap_or(0);
        self.commands.clear();
        self.spans.drain(..done);
        let unneeded = self.command_start;
        for span in &mut self.spans {
            span.start -= unneeded;
            span.end -= unneeded;
        }
        self.at -= unneeded;
        self.command_start = 0;
        // A request of a million arguments must not keep its vector for the connection's whole life.
        if self.spans.capacity() > 4096 && self.spans.len() < 1024 {
            self.spans.shrink_to(1024);
        }
        unneeded
    }

    /// Takes one line or one argument. False when bytes are missing.
    fn step(&mut self, buffer: &mut [u8]) -> Result<bool, ProtocolError> {
        match self.state {
            State::Start => {
                let Some(first) = buffer.get(self.at) else { return Ok(false) };
                if *first != b'*' {
                    self.state = State::Inline { scanned: 0 };
                    return Ok(true);
                }
                let Some((count, next)) = number_line(buffer, self.at + 1).or(Err(BAD_COUNT))? else {
                    return Ok(false);
                };
                self.at = next;
                match usize::try_from(count) {
                    Err(_) | Ok(0) => self.command_start = next,
                    Ok(count) if count > self.limits.arg_count => return Err(BAD_COUNT),
                    Ok(count) => self.state = State::Length { left: count },
                }
                Ok(true)
            }
            State::Inline { scanned } => self.inline(buffer, scanned),
            State::Length { left } => {
                match buffer.get(self.at) {
                    None => return Ok(false),
                    Some(b'$') => {}
                    Some(_) => return Err("expected '$'"),
                }
                let Some((size, next)) = number_line(buffer, self.at + 1).or(Err(BAD_SIZE))? else {
                    return Ok(false);
                };
                let size = usize::try_from(size).or(Err(BAD_SIZE))?;
                if size > self.limits.bulk_size {
                    return Err(BAD_SIZE);
                }
                if (next - self.command_start).saturating_add(size) > self.limits.request_size {
                    return Err("request is larger than the max-request setting");
                }
                self.at = next;
                self.state = State::Bulk { left, size };
                Ok(true)
            }
            State::Bulk { left, size } => {
                // Cannot overflow: `at` is at most the buffer's length, `size` at most a limit.
                let end = self.at + size;
                match buffer.get(end..end + 2) {
                    None => return Ok(false),
                    Some(b"\r\n") => {}
                    Some(_) => return Err("expected CRLF behind a bulk string"),
                }
                self.spans.push(Span { start: self.at, end });
                self.at = end + 2;
                match left - 1 {
                    0 => self.complete(),
                    left => self.state = State::Length { left },
                }
                Ok(true)
            }
        }
    }

    fn inline(&mut self, buffer: &mut [u8], scanned: usize) -> Result<bool, ProtocolError> {
        let unseen = &buffer[self.at + scanned..];
        let Some(pos) = unseen.iter().position(|byte| *byte == b'\n') else {
            let scanned = buffer.len() - self.at;
            if scanned > self.limits.inline_size {
                return Err("too big inline request");
            }
            self.state = State::Inline { scanned };
            return Ok(false);
        };
        let (start, end) = (self.at, self.at + scanned + pos);
        if end - start > self.limits.inline_size {
            return Err("too big inline request");
        }
        let before = self.spans.len();
        inline::split(buffer, start, end, &mut self.spans)?;
        self.at = end + 1;
        if self.spans.len() > before {
            self.complete();
        } else {
            self.command_start = self.at;
            self.state = State::Start;
        }
        Ok(true)
    }

    fn complete(&mut self) {
        self.commands.push(self.spans.len());
        self.command_start = self.at;
        self.state = State::Start;
    }
}

const BAD_COUNT: ProtocolError = "invalid multibulk length";
const BAD_SIZE: ProtocolError = "invalid bulk length";

/// Reads a number and its line end. `Ok(None)` when bytes are missing.
fn number_line(buffer: &[u8], start: usize) -> Result<Option<(i64, usize)>, ()> {
    let mut number: i64 = 0;
    let mut at = start;
    let negative = buffer.get(at) == Some(&b'-');
    at += usize::from(negative);
    loop {
        match buffer.get(at) {
            None => return Ok(None),
            Some(b'\r') if at > start + usize::from(negative) => break,
            Some(digit @ b'0'..=b'9') => {
                number =
                    number.checked_mul(10).and_then(|n| n.checked_add(i64::from(digit - b'0'))).ok_or(())?;
            }
            Some(_) => return Err(()),
        }
        at += 1;
        // Zeros in front would go on for ever.
        if at - start > 20 {
            return Err(());
        }
    }
    match buffer.get(at + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((if negative { -number } else { number }, at + 2))),
        Some(_) => Err(()),
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
