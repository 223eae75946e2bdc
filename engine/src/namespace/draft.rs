//! What a record is to become: its bins and its time to live.

use super::policy::Ttl;
use super::record::Record;
use crate::record::{BinError, BinsWriter, Value};

/// What an update makes of a record.
#[derive(Debug)]
pub enum Outcome {
    /// The record is now this.
    Put(Draft),
    /// The record is gone.
    Delete,
    /// The record stays as it is, generation and time to live included.
    Keep,
}

/// New content of a record.
///
/// ```
/// use aerolith_engine::{Draft, Ttl};
/// use std::time::Duration;
///
/// let draft = Draft::new().bin("visits", 1)?.ttl(Ttl::For(Duration::from_secs(3600)));
/// assert_eq!(draft.bin_count(), 1);
/// # Ok::<(), aerolith_engine::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Draft {
    bins: BinsWriter,
    ttl: Option<Ttl>,
}

impl Draft {
    /// A record without bins.
    pub fn new() -> Self {
        Self::default()
    }

    /// A record with these bins.
    pub fn of(bins: &[(&str, Value<'_>)]) -> Result<Self, BinError> {
        let mut draft = Draft::new();
        for (name, value) in bins {
            draft.bins.bin(name, *value)?;
        }
        Ok(draft)
    }

    /// The content of `old`, with `changes` in place of the bins of the same names.
    pub fn merged(old: Option<&Record>, changes: &[(&str, Value<'_>)]) -> Result<Self, BinError> {
        let mut draft = Draft::new();
        for bin in old.into_iter().flat_map(|record| record.try_bins().into_iter()) {
            let (name, value) = bin?;
            let change = changes.iter().find(|(changed, _)| *changed == name);
            draft.bins.bin(name, change.map_or(value, |(_, value)| *value))?;
        }
        for (name, value) in changes {
            if draft.bins.bins().find(name)?.is_none() {
                draft.bins.bin(name, *value)?;
            }
        }
        Ok(draft)
    }

    /// Adds a bin.
    ///
    /// # Errors
    /// A name of more than 15 bytes, or one that is there already.
    pub fn bin<'v>(mut self, name: &str, value: impl Into<Value<'v>>) -> Result<Self, BinError> {
        self.bins.bin(name, value.into())?;
        Ok(self)
    }

    /// Sets the time to live; else the policy's counts.
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How many bins it has.
    pub fn bin_count(&self) -> usize {
        self.bins.count()
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, u16, Option<Ttl>) {
        let count = self.bins.count() as u16;
        (self.bins.into_bytes(), count, self.ttl)
    }
}
