//! Replies, written one behind the other into one buffer a connection.
//!
//! RESP3 has types that RESP2 lacks; each method here writes what the connection's protocol has for it: a map
//! becomes a flat array, a null a null bulk. Errors and simple strings lose their line breaks, so nothing that
//! came from a client can end a reply early.

use super::error::CommandError;
use super::number::Decimal;
use crate::store::{ProtocolRecord, Record};

/// The unsent replies of a connection.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) resp3: bool,
}

impl Reply {
    pub(crate) fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    pub(crate) fn error(&mut self, error: &CommandError) {
        self.line(b'-', &error.0);
    }

    fn line(&mut self, mark: u8, text: &str) {
        self.bytes.push(mark);
        self.bytes.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(crate) fn integer(&mut self, number: i64) {
        self.head(b':', Decimal::new(number));
    }

    pub(crate) fn count(&mut self, count: u64) {
        self.head(b':', Decimal::unsigned(count));
    }

    pub(crate) fn boolean(&mut self, yes: bool) {
        self.bytes.extend_from_slice(if yes { b":1\r\n" } else { b":0\r\n" });
    }

    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len() + 16);
        self.head(b'$', Decimal::unsigned(bytes.len() as u64));
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(crate) fn bulk_str(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    pub(crate) fn bulk_count(&mut self, count: u64) {
        self.bulk(Decimal::unsigned(count).as_bytes());
    }

    /// Text for people: a verbatim string in RESP3.
    pub(crate) fn verbatim(&mut self, text: &str) {
        if self.resp3 {
            self.head(b'=', Decimal::unsigned(text.len() as u64 + 4));
            self.bytes.extend_from_slice(b"txt:");
            self.bytes.extend_from_slice(text.as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
        } else {
            self.bulk_str(text);
        }
    }

    pub(crate) fn null(&mut self) {
        self.bytes.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// Null where an array would stand.
    pub(crate) fn null_array(&mut self) {
        self.bytes.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    pub(crate) fn array(&mut self, count: usize) {
        self.head(b'*', Decimal::unsigned(count as u64));
    }

    /// A map of so many pairs.
    pub(crate) fn map(&mut self, pairs: usize) {
        if self.resp3 {
            self.head(b'%', Decimal::unsigned(pairs as u64));
        } else {
            self.array(pairs * 2);
        }
    }

    /// A set of so many members.
    pub(crate) fn set(&mut self, count: usize) {
        self.head(if self.resp3 { b'~' } else { b'*' }, Decimal::unsigned(count as u64));
    }

    /// A record's text as a bulk string, null if there is none.
    pub(crate) fn record(&mut self, record: Option<&Record>) -> Result<(), CommandError> {
        match record {
            None => self.null(),
            Some(record) => self.bulk(record.text().ok_or(CommandError::WRONG_TYPE)?.as_bytes()),
        }
        Ok(())
    }

    fn head(&mut self, mark: u8, number: Decimal) {
        let digits = number.as_bytes();
        let mut line = [0; 23];
        line[0] = mark;
        line[1..=digits.len()].copy_from_slice(digits);
        line[digits.len() + 1..digits.len() + 3].copy_from_slice(b"\r\n");
        self.bytes.extend_from_slice(&line[..digits.len() + 3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(resp3: bool, write: impl Fn(&mut Reply)) -> String {
        let mut reply = Reply { resp3, ..Reply::default() };
        write(&mut reply);
        String::from_utf8(reply.bytes).unwrap()
    }

    #[test]
    fn each_type_has_its_form_in_both_protocols() {
        type Write = fn(&mut Reply);
        let cases: &[(Write, &str, &str)] = &[
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.map(2), "*4\r\n", "%2\r\n"),
            (|r| r.set(2), "*2\r\n", "~2\r\n"),
            (|r| r.verbatim("hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (|r| r.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(false, write), *resp2);
            assert_eq!(written(true, write), *resp3);
        }
    }

    #[test]
    fn an_error_cannot_carry_a_second_reply() {
        let error = CommandError::of("ERR a\r\n+OK");
        assert_eq!(written(false, |r| r.error(&error)), "-ERR a  +OK\r\n");
    }
}
