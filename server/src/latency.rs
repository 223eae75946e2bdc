//! How long commands take, by protocol and kind, counted by each worker for itself.
//!
//! A command's time begins when it has been parsed, which is when its batch was, and ends when its reply is queued: in a
//! pipeline it includes the commands before it, as the client sees it. A read that goes to the device ends when its
//! answer has come. No clock is read for this that was not read before, but for reads of the device.

use aerolith_engine::latency::{Histogram, Latencies};
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

/// Every protocol with every class, in the order in which [`Latency`] keeps them.
pub(crate) fn kinds() -> impl Iterator<Item = (Protocol, Class)> {
    Protocol::ALL.into_iter().flat_map(|protocol| Class::ALL.into_iter().map(move |class| (protocol, class)))
}

/// One worker's histograms.
#[derive(Debug, Default)]
pub(crate) struct Latency([[Histogram; Class::ALL.len()]; Protocol::ALL.len()]);

impl Latency {
    pub(crate) fn of(&self, protocol: Protocol, class: Class) -> &Histogram {
        &self.0[protocol as usize][class as usize]
    }

    pub(crate) fn record(&self, protocol: Protocol, class: Class, time: Duration) {
        self.of(protocol, class).record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn reset(&self) {
        self.0.iter().flatten().for_each(Histogram::reset);
    }
}

/// What several workers have counted, one sum for each of [`kinds`].
pub(crate) fn sum<'a>(workers: impl Iterator<Item = &'a Latency> + Clone) -> Vec<Latencies> {
    kinds()
        .map(|(protocol, class)| {
            let mut sum = Latencies::default();
            workers.clone().for_each(|worker| worker.of(protocol, class).add_to(&mut sum));
            sum
        })
        .collect()
}
