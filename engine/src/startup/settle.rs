//! What becomes of the newest version of a key, once it is known: there, deleted, expired, truncated.
//!
//! Both ways of starting, the sweep and the checkpoint, end here, so that both give the same answer. Only the
//! newest version is judged: dropping an older one on sight, or an expired newest one before it has hidden the others,
//! would let something back in.

use super::recovery::Recovery;
use crate::clock::Timestamp;
use crate::device::{AlignedBuffer, Device, Request};
use crate::error::{Error, Result};
use crate::format::{BlockSalt, DeviceHeader, RecordView};
use crate::index::{Entry, Flags, Location, PartitionId};
use crate::namespace::core::{Life, Wanted, life};
use crate::namespace::{
    Record, RecordBytes, Sets, Watermark, is_tombstone, mask, threshold_of, watermark_of,
};
use crate::planted::{self, Bug};
use crate::volume::FoundBlock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The devices of a set and what each block was found to be.
pub(super) struct Media<'a> {
    pub devices: &'a [Arc<dyn Device>],
    pub headers: &'a [DeviceHeader],
}

impl Media<'_> {
    /// The block that a location is in, and the position there.
    pub fn place(&self, location: Location) -> (usize, u32, u32) {
        let device = usize::from(location.device);
        let block_size = u64::from(self.headers[device].block_size);
        let offset = location.offset();
        (device, (offset / block_size) as u32, (offset % block_size) as u32)
    }

    /// Reads the record that an entry stands for.
    fn record(&self, found: &[Vec<FoundBlock>], partition: PartitionId, entry: &Entry) -> Result<Record> {
        let wanted = Wanted { partition, tag: entry.tag(), digest: None };
        let (member, block, pos) = self.place(entry.location());
        let (device, header) = (&self.devices[member], &self.headers[member]);
        let sector = u64::from(device.geometry().sector_size);
        let (start, size) = (entry.location().offset(), u64::from(entry.size_class().bytes()));
        let from = start - start % sector;
        let buffer = AlignedBuffer::zeroed(((start + size).next_multiple_of(sector) - from) as usize);
        let buffer = device.submit(Request::Read { offset: from, buffer }).wait().into_buffer()?;
        let epoch = found[member][block as usize].epoch();
        let salt = BlockSalt::new(&header.set_uuid, header.member_index, block, epoch);
        let bytes = &buffer[(start - from) as usize..][..size as usize];
        let corrupt = |fault| Error::Corrupt {
            digest: wanted.name(),
            device: device.geometry().name.to_string(),
            block,
            offset: start,
            fault,
        };
        RecordView::parse(bytes, salt, pos).map_err(corrupt)?;
        Record::new(RecordBytes::Owned(bytes.to_vec())).map_err(corrupt)
    }

    /// Reads the truncation thresholds out of the system's own records and gives them to the sets; and the watermark of
    /// evictions.
    pub fn recover_thresholds(
        &self,
        found: &[Vec<FoundBlock>],
        system: &[(PartitionId, Entry)],
        sets: &Sets,
    ) -> Result<Watermark> {
        let mut thresholds: HashMap<Option<String>, u64> = HashMap::new();
        let mut watermark = Watermark::default();
        for (partition, entry) in system {
            let record = self.record(found, *partition, entry)?;
            watermark = watermark_of(&record).unwrap_or(watermark);
            if let Some((name, below)) = threshold_of(&record) {
                let threshold = thresholds.entry(name).or_default();
                *threshold = below.max(*threshold);
            }
        }
        let for_all = thresholds.get(&None).copied().unwrap_or(0);
        for set in sets.all() {
            let own = thresholds.get(&Some(set.name.to_string())).copied().unwrap_or(0);
            set.recover_threshold(own.max(for_all));
        }
        Ok(watermark)
    }
}

/// Judges the newest versions, and keeps count of what stays.
pub(super) struct Settlement<'a> {
    media: &'a Media<'a>,
    sets: &'a Sets,
    watermark: Watermark,
    now: Timestamp,
    /// Live bytes, by device and block.
    used: Vec<Box<[AtomicU32]>>,
}

/// What one thread has settled.
#[derive(Default)]
pub(super) struct Counts {
    records: u64,
    tombstones: u64,
    expired: u64,
    truncated: u64,
    evicted: u64,
    /// Records, and expiring ones among them, by set number.
    sets: Vec<(i64, i64)>,
}

impl<'a> Settlement<'a> {
    pub fn new(media: &'a Media<'a>, sets: &'a Sets, watermark: Watermark, now: Timestamp) -> Self {
        let blocks = |h: &DeviceHeader| (0..h.block_count).map(|_| AtomicU32::new(0)).collect();
        Settlement { media, sets, watermark, now, used: media.headers.iter().map(blocks).collect() }
    }

    /// What becomes of the newest version of a key. `sequence` is its number, or one that lies on the same side of every
    /// threshold.
    pub fn judge(&self, counts: &mut Counts, entry: Entry, sequence: u64) -> Option<Entry> {
        let mut kept = self.verdict(counts, entry, sequence)?;
        if planted::is(Bug::GenerationForgotten) {
            kept = kept.with_generation(1);
        }
        let (device, block, _) = self.media.place(kept.location());
        self.used[device][block as usize].fetch_add(kept.size_class().bytes(), Ordering::Relaxed);
        if is_tombstone(&kept) {
            counts.tombstones += 1;
        } else if !kept.flags().contains(Flags::SYSTEM) {
            counts.records += 1;
            let set = usize::from(kept.set_id());
            if counts.sets.len() <= set {
                counts.sets.resize(set + 1, (0, 0));
            }
            counts.sets[set].0 += 1;
            counts.sets[set].1 += i64::from(kept.void_time() != 0);
        }
        Some(kept)
    }

    fn verdict(&self, counts: &mut Counts, entry: Entry, sequence: u64) -> Option<Entry> {
        if entry.flags().contains(Flags::SYSTEM) {
            return Some(entry);
        }
        if self.sets.get(entry.set_id()).is_some_and(|set| sequence < set.truncated_below()) {
            counts.truncated += 1;
            return None;
        }
        if is_tombstone(&entry) {
            return Some(entry);
        }
        if life(entry.void_time(), self.now) == Life::Over {
            counts.expired += 1;
        } else if self.watermark.covers(entry.void_time(), sequence) {
            counts.evicted += 1;
        } else {
            return Some(entry);
        }
        // An older version may still be alive: this one must go on hiding it.
        mask(entry)
    }

    /// Adds up what a thread has settled.
    pub fn add(&self, counts: &Counts, recovery: &mut Recovery) {
        recovery.records += counts.records;
        recovery.tombstones += counts.tombstones;
        recovery.expired += counts.expired;
        recovery.truncated += counts.truncated;
        recovery.evicted += counts.evicted;
        for (number, &(objects, expiring)) in counts.sets.iter().enumerate() {
            if let Some(set) = self.sets.get(number as u16) {
                set.count_many(objects, expiring);
            }
        }
    }

    /// Live bytes, by device and block; and what has been evicted.
    pub fn into_used(self) -> (Vec<Vec<u32>>, Watermark) {
        let counted = |blocks: Box<[AtomicU32]>| blocks.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        (self.used.into_iter().map(counted).collect(), self.watermark)
    }
}
