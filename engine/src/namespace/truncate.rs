//! Truncation: all records of a set, or of the namespace, are gone from one moment on.
//!
//! The moment is a sequence number, kept durably as a system record. It is drawn with all partitions locked,
//! so every version is clearly before or after it; the locks are held for as long as it takes to append one
//! record and flip the sets' parity, whatever the number of records. A sweep then takes the dead
//! entries out of the index.

use super::core::{Core, Need, Wanted};
use super::sets::Set;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::format::{EncodedRecord, RecordFlags};
use crate::index::{Entry, Flags, PartitionId, Partitions, SizeClass};
use crate::planted::{self, Bug};
use crate::record::{Digest, Value, particle};
use crate::volume::{AppendError, Receipt};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The bin that holds a threshold.
const BELOW: &str = "below";
/// Truncation of a set: the set's own name with this key. No digest of a user's key is made this way.
const SYSTEM_SET: &str = "\u{1}truncate";

/// Names the system record that holds a set's threshold, or the namespace's.
fn digest_of(set: Option<&str>) -> Digest {
    let (kind, name) = match set {
        Some(name) => (particle::STRING, name),
        None => (particle::INTEGER, "namespace"),
    };
    Digest::of(SYSTEM_SET.as_bytes(), kind, name.as_bytes())
}

/// Why nothing was truncated, or evicted.
pub(crate) enum Refused {
    NoBlock,
    By(Error),
}

impl Core {
    /// Truncates a set, or all sets.
    pub async fn truncate(self: &Arc<Self>, set: Option<&str>) -> Result<()> {
        let only = match set.map(|name| self.sets.find(name)) {
            Some(None) => return Ok(()),
            Some(only) => only,
            None => None,
        };
        let receipt = loop {
            if self.needs_sweep() {
                self.sweep_all();
            }
            let turn = self.gate.turn();
            match self.try_truncate(set, only.as_ref()) {
                Ok(Some(receipt)) => break receipt,
                // Another truncation came in between: its sweep comes first.
                Ok(None) => {}
                Err(Refused::NoBlock) => self.wait_for_space(turn).await?,
                Err(Refused::By(error)) => return Err(error),
            }
        };
        self.upkeep_work.raise();
        if planted::is(Bug::TruncationAckEarly) {
            return Ok(());
        }
        self.acknowledge(receipt, None).await
    }

    fn try_truncate(&self, set: Option<&str>, only: Option<&Arc<Set>>) -> Result<Option<Receipt>, Refused> {
        let digest = digest_of(set);
        let wanted = Wanted::of(digest);
        let now = self.now();
        let mut partitions = self.index.lock_all();
        self.check_open().map_err(Refused::By)?;
        if self.needs_sweep() {
            return Ok(None);
        }
        let below = self.next_sequence();
        let key = set.unwrap_or("");
        let key_type = if set.is_some() { particle::STRING } else { particle::INTEGER };
        let mut bins = crate::record::BinsWriter::new();
        let bin = bins.bin(BELOW, Value::Integer(below as i64));
        assert!(bin.is_ok(), "one short bin is always right");
        let mut record = EncodedRecord::begin(digest.as_bytes(), b"", key_type, key.as_bytes(), 64);
        record.body().extend_from_slice(&bins.into_bytes());
        record.complete(self.next_sequence(), 1, 0, now.0, RecordFlags(RecordFlags::SYSTEM), 1);
        let receipt = self.publish_fact(&mut partitions, &wanted, &record, now)?;
        // A set that came in meanwhile has records that are older than this, too.
        match only {
            Some(set) => set.truncate(below),
            None => self.sets.all().iter().for_each(|set| set.truncate(below)),
        }
        self.truncations.fetch_add(1, Ordering::AcqRel);
        Ok(Some(receipt))
    }

    /// Appends a record of the system's own, and lets the index point at it instead of the one before.
    pub fn publish_fact(
        &self,
        partitions: &mut Partitions<'_, Entry>,
        wanted: &Wanted,
        record: &EncodedRecord,
        now: Timestamp,
    ) -> Result<Receipt, Refused> {
        let class = SizeClass::for_size(record.length());
        let volume = self.volume_of(wanted.partition, wanted.tag);
        let context = self.append_context(self.fresh_stream(None), Need::Delete, now);
        let appended = volume.append(record, class, context).map_err(|error| match error {
            AppendError::NoBlock => Refused::NoBlock,
            AppendError::Latched => Refused::By(self.device_failed(volume)),
        })?;
        let partition = partitions.get_mut(wanted.partition).expect("all partitions are locked");
        let entry =
            Entry::new(wanted.tag, appended.location, class).with_generation(1).with_flags(Flags::SYSTEM);
        if let Some(old) = partition.insert(entry) {
            self.volume(old.location().device).release(old.location(), old.size_class());
        }
        Ok(appended.receipt)
    }

    /// Takes dead entries out of all partitions.
    fn sweep_all(&self) {
        let truncations = self.truncations.load(Ordering::Acquire);
        for id in PartitionId::all() {
            self.sweep_partition(id);
        }
        self.swept(truncations);
    }
}

/// The threshold that a system record holds: of a set, or (`None`) of the whole namespace.
pub(crate) fn threshold_of(record: &super::record::Record) -> Option<(Option<String>, u64)> {
    let below = record.bin(BELOW)?.as_i64()? as u64;
    let header = record.header();
    let (key, _) = record.content();
    let set = (header.key_type == particle::STRING).then(|| String::from_utf8_lossy(key).into_owned());
    Some((set, below))
}
