//! Walking over records: partition by partition, each in tag order, in pages.
//!
//! A resume point names a partition and the tag it has reached. The index keeps tags in order however it
//! grows, so a record that is there from the first page to the last comes exactly once; one written or
//! deleted meanwhile may or may not come. All device reads of a page are in flight at once.

use super::core::{Core, Wanted};
use super::record::Record;
use crate::error::{Error, Result};
use crate::index::{Entry, Flags, PARTITION_COUNT, PartitionId, Tag};
use std::sync::Arc;

/// Where a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanPoint {
    partition: u16,
    after: Option<Tag>,
}

/// How many of a tag's bits fit beside the partition into a cursor of 64.
const CURSOR_TAG_BITS: u32 = 52;

impl ScanPoint {
    /// The beginning of a namespace.
    pub const START: ScanPoint = ScanPoint { partition: 0, after: None };

    /// The beginning of a partition; numbers from 4096 on give the end.
    pub fn partition(id: u16) -> Self {
        ScanPoint { partition: id, after: None }
    }

    /// The partition that the scan has reached.
    pub fn partition_id(&self) -> u16 {
        self.partition
    }

    /// The point as a number that is never 0 except at the start: 12 bits of partition, 52 of tag. A scan
    /// resumed from it may give a record again that shares those bits with the last one; that takes a
    /// namespace of billions.
    pub fn to_cursor(self) -> u64 {
        let tag = self.after.map_or(0, |tag| tag.high() >> (64 - CURSOR_TAG_BITS));
        u64::from(self.partition) << CURSOR_TAG_BITS | tag
    }

    /// The point that `to_cursor` made this number of.
    pub fn from_cursor(cursor: u64) -> Self {
        let tag = cursor & ((1 << CURSOR_TAG_BITS) - 1);
        let low = 64 - CURSOR_TAG_BITS;
        let after = (tag != 0).then(|| Tag::from_parts(tag << low | ((1 << low) - 1), 15));
        ScanPoint { partition: (cursor >> CURSOR_TAG_BITS) as u16, after }
    }
}

/// One page of a scan.
#[derive(Debug)]
pub struct ScanPage {
    /// The records, in no order that means anything.
    pub records: Vec<Record>,
    /// Why records that are there could not be read, one error each. The scan goes on behind them.
    pub errors: Vec<Error>,
    /// Where to go on; `None` at the end.
    pub next: Option<ScanPoint>,
}

impl Core {
    /// Up to `limit` entries from `from` on that `wants` accepts, looking at no more than `budget`.
    pub fn scan_entries(
        &self,
        from: ScanPoint,
        limit: usize,
        budget: usize,
        wants: impl Fn(&Entry) -> bool,
    ) -> (Vec<(PartitionId, Entry)>, Option<ScanPoint>) {
        let now = self.now();
        let mut found = Vec::new();
        let mut looked_at = 0;
        let mut point = from;
        while usize::from(point.partition) < PARTITION_COUNT {
            let id = PartitionId::new(point.partition);
            let partition = self.index.lock(id);
            for entry in partition.iter_from(point.after) {
                if found.len() >= limit || looked_at >= budget {
                    return (found, Some(point));
                }
                looked_at += 1;
                point.after = Some(entry.tag());
                let hidden = entry.flags().contains(Flags::SYSTEM) || !self.is_visible(&entry, now);
                if !hidden && wants(&entry) {
                    found.push((id, entry));
                }
            }
            drop(partition);
            // An empty partition costs a lock: that is counted too, so that a page stays short.
            looked_at += 1;
            point = ScanPoint::partition(point.partition + 1);
            if (found.len() >= limit || looked_at >= budget) && usize::from(point.partition) < PARTITION_COUNT
            {
                return (found, Some(point));
            }
        }
        (found, None)
    }

    /// One page of a scan: about `limit` records, of `set` if given.
    pub async fn scan(
        self: &Arc<Self>,
        from: ScanPoint,
        set: Option<&str>,
        limit: usize,
    ) -> Result<ScanPage> {
        let set_id = match set {
            Some(name) => match self.sets.find(name) {
                Some(set) => Some(set.id),
                None => return Ok(ScanPage { records: Vec::new(), errors: Vec::new(), next: None }),
            },
            None => None,
        };
        let budget = limit.saturating_mul(8).max(1024);
        let wants = |entry: &Entry| set_id.is_none_or(|id| id == entry.set_id());
        let (entries, next) = self.scan_entries(from, limit.max(1), budget, wants);
        let reads: Vec<_> = entries
            .into_iter()
            .map(|(partition, entry)| self.begin_get(Wanted { partition, tag: entry.tag(), digest: None }))
            .collect();
        let mut records = Vec::with_capacity(reads.len());
        let mut errors = Vec::new();
        for read in reads {
            match read.await {
                Ok(record) => records.extend(record),
                Err(error) => errors.push(error),
            }
        }
        Ok(ScanPage { records, errors, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_resumes_where_it_was_taken() {
        for (partition, high) in [(0, 1 << 12), (17, 0xABCD_EF01_2345_6789), (4095, u64::MAX)] {
            let point = ScanPoint { partition, after: Some(Tag::from_parts(high, 3)) };
            let resumed = ScanPoint::from_cursor(point.to_cursor());
            assert_eq!(resumed.partition, partition);
            assert!(resumed.after >= point.after && resumed.after.unwrap().high() >> 12 == high >> 12);
        }
        assert_eq!(ScanPoint::from_cursor(0), ScanPoint::START);
        assert_eq!(ScanPoint::from_cursor(ScanPoint::partition(9).to_cursor()), ScanPoint::partition(9));
    }
}
