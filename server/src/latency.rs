//! How long commands take: by what it is told.
//!
//! A command's time begins when it has been parsed, which is when its batch was, and ends when its reply is queued: in a
//! pipeline it includes the commands before it, as the client sees it. A read that goes to the device ends when its
//! answer has come. No clock is read for this that was not read before, but for reads of the device.

use std::time::Duration;

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Redis,
}

impl Protocol {
    pub(crate) const ALL: [Protocol; 1] = [Protocol::Redis];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Redis => "redis",
        }
    }
}

/// Kinds of commands, as they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Asks for values, or whether they are there.
    Read,
    /// Stores or changes values.
    Write,
    /// Removes keys.
    Delete,
    /// Walks over many keys.
    Scan,
    /// Everything else: connections, figures, waiting.
    Other,
}

impl Class {
    pub(crate) const ALL: [Class; 5] = [Class::Read, Class::Write, Class::Delete, Class::Scan, Class::Other];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::Write => "write",
            Class::Delete => "delete",
            Class::Scan => "scan",
            Class::Other => "other",
        }
    }
}

/// Every protocol with every class, in the order in which they are told.
pub(crate) fn kinds() -> impl Iterator<Item = (Protocol, Class)> {
    Protocol::ALL.into_iter().flat_map(|protocol| Class::ALL.into_iter().map(move |class| (protocol, class)))
}

/// A duration as one number, without 128-bit arithmetic; longer than 584 years is that.
#[inline]
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(time.subsec_nanos()))
}
