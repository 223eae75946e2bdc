//! What the child that runs the engine tells its parent, as it happens: records of 40 bytes through a pipe.
//!
//! A record is written by one call and is far below `PIPE_BUF`, so it arrives whole or not at all, also when the
//! child is killed in the middle of anything. Nothing is buffered: what was acknowledged has been told.

use std::io::{self, Read};

/// Bytes of a record.
pub const SIZE: usize = 40;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// The engine is open. `a` is how long that took in ms, `b` how many blocks the start read whole, `c` twice the
    /// checkpoints it rejected, and one more if it rests on one.
    Opened = 1,
    /// A key as the start left it: `a` is its version, 0 if it is absent; `b` and `c` are the wall clock in ms
    /// before and after the read.
    Found,
    /// A key whose bytes are no version of it.
    FoundWrong,
    /// A key that cannot be read; the reason is on stderr.
    FoundError,
    /// All keys have been read.
    Verified,
    /// A write of version `a` begins: `b` is its expiry in ms since the epoch, 0 for never; `c` is 1 for a delete.
    Begin,
    /// Version `a` of this lane is acknowledged; `b` is the monotonic clock in ns.
    Acknowledged,
    /// Version `a` of this lane failed: it may be there or not.
    Failed,
    /// Everything acknowledged before `a` (monotonic, ns) is durable, says a `flush`.
    Flushed,
    /// The engine says that a device has failed.
    Latched,
    /// A read gave what it should.
    ReadRight,
    /// A read gave something else: `a` is the version that was found, `b` the one that should have been.
    ReadWrong,
    /// A read failed; the reason is on stderr.
    ReadFailed,
    /// The engine could not be opened; the reason is on stderr.
    Refused,
    /// The engine's own accounts do not agree; the difference is on stderr.
    Miscounted,
    /// The engine was closed.
    Closed,
}

const TAGS: [Tag; 16] = [
    Tag::Opened,
    Tag::Found,
    Tag::FoundWrong,
    Tag::FoundError,
    Tag::Verified,
    Tag::Begin,
    Tag::Acknowledged,
    Tag::Failed,
    Tag::Flushed,
    Tag::Latched,
    Tag::ReadRight,
    Tag::ReadWrong,
    Tag::ReadFailed,
    Tag::Refused,
    Tag::Miscounted,
    Tag::Closed,
];

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub tag: Tag,
    /// Which lane.
    pub lane: u16,
    /// Which key.
    pub key: u32,
    /// See the tag.
    pub a: u64,
    /// See the tag.
    pub b: u64,
    /// See the tag.
    pub c: u64,
}

impl Message {
    /// A record that is about no lane and no key.
    pub fn of(tag: Tag) -> Self {
        Message { tag, lane: 0, key: 0, a: 0, b: 0, c: 0 }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0] = self.tag as u8;
        bytes[2..4].copy_from_slice(&self.lane.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.key.to_le_bytes());
        for (word, place) in [self.a, self.b, self.c].iter().zip(bytes[8..32].chunks_exact_mut(8)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// A record from its bytes; none if they are not one.
    pub fn decode(bytes: &[u8; SIZE]) -> Option<Self> {
        let tag = TAGS.into_iter().find(|&tag| tag as u8 == bytes[0])?;
        let word =
            |at: usize| bytes[at..at + 8].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        Some(Message {
            tag,
            lane: u16::from_le_bytes([bytes[2], bytes[3]]),
            key: word(0).checked_shr(32)? as u32,
            a: word(8),
            b: word(16),
            c: word(24),
        })
    }

    /// The next record of a pipe; none at its end.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = [0; SIZE];
        match from.read_exact(&mut bytes) {
            Ok(()) => {
                let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the child sent something else");
                Ok(Some(Self::decode(&bytes).ok_or_else(wrong)?))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The monotonic clock, the same one in parent and child, in ns.
pub fn mono_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were() {
        for tag in TAGS {
            let message = Message { tag, lane: 65_000, key: 0xdead_beef, a: u64::MAX, b: 2, c: 1 << 63 };
            let mut bytes = &message.encode()[..];
            assert_eq!(Message::read(&mut bytes).unwrap(), Some(message));
            assert_eq!(Message::read(&mut bytes).unwrap(), None);
        }
        assert!(Message::decode(&[0; SIZE]).is_none());
        assert!(Message::decode(&[99; SIZE]).is_none());
    }

    #[test]
    fn the_clock_runs() {
        let first = mono_ns();
        assert!(first > 0 && mono_ns() >= first);
    }
}
