//! Starting from a checkpoint: its entries, and over them whatever the tail has.
//!
//! 1. The newest root that every device has names the checkpoint; its summary and all its parts must prove themselves,
//!    else the next older one is tried, and at last the sweep over everything.
//! 2. The sweep looks at the tail only (`sweep.rs`), and tells each block's life as it is now.
//! 3. An entry counts if its block is still in the life that the summary lists, and, in a block that was open when the
//!    checkpoint began, if it lies below the border. All others were replaced before their block was reused, or are
//!    in the tail.
//! 4. Partition by partition the entries that count and the tail's winners, both in tag order, are merged: the tail's is
//!    newer. Then each is judged (`settle.rs`), and the partition filled in one go.
//!
//! Nothing is written, and nothing is kept of an attempt that fails.

use super::recovery::{Recovery, Restored};
use super::settle::{Counts, Media, Settlement};
use super::sweep::{BlockSweep, Swept, outlives, system_entries};
use crate::clock::ForwardClock;
use crate::device::{AlignedBuffer, Request};
use crate::error::Result;
use crate::format::{
    BLOCK_HEADER_SIZE, BlockSalt, CHECKPOINT_ENTRY_SIZE, CheckpointRoot, Fault, PartHeader, PartPlace,
    PartitionSummary, Summary, hash,
};
use crate::index::{Entry, Index, PARTITION_COUNT, PartitionId, RecoverySlot};
use crate::namespace::{Sets, Watermark};
use crate::planted::{self, Bug};
use crate::progress::{OpenPhase, OpenProgress};
use crate::volume::{FoundBlock, read_roots};
use parking_lot::Mutex;
use std::ops::Range;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("part in block {} of device {}: {fault}", .place.block, .place.member)]
    Part { place: PartPlace, fault: Fault },
    #[error("its summary does not fit the devices")]
    Summary,
}

/// A checkpoint whose summary has been read and fits.
struct Checkpoint {
    root: CheckpointRoot,
    summary: Summary,
    /// All its blocks.
    parts: Vec<PartPlace>,
}

/// The roots that all devices have, newest first, and the number that the next checkpoint gets.
pub(super) fn roots(media: &Media<'_>) -> (Vec<CheckpointRoot>, u64) {
    let mut common: Option<Vec<CheckpointRoot>> = None;
    let mut highest = 0;
    for (device, header) in media.devices.iter().zip(media.headers) {
        let roots = read_roots(device.as_ref()).into_iter();
        let readable =
            roots.filter_map(|root| root.inspect_err(|error| tracing::error!("a root: {error}")).ok());
        let mut found: Vec<CheckpointRoot> = readable.collect();
        // A number without a successor was never given to a checkpoint.
        found.retain(|root| root.set_uuid == header.set_uuid && root.id < u64::MAX);
        highest = found.iter().map(|root| root.id).fold(highest, u64::max);
        common = Some(match common {
            None => found,
            Some(before) => before.into_iter().filter(|root| found.contains(root)).collect(),
        });
    }
    let mut common = common.unwrap_or_default();
    common.sort_by_key(|root| std::cmp::Reverse(root.id));
    // A root that only some devices have is written over first: the whole one stays while the next is written.
    let next = common.first().map_or(highest, |root| root.id) + 1;
    (common, next)
}

/// Restores the index from `root` and the tail behind it.
pub(super) fn restore(
    media: &Media<'_>,
    root: CheckpointRoot,
    sets: &Sets,
    clock: &ForwardClock,
    threads: usize,
    progress: &OpenProgress,
) -> Result<Result<Restored, Unusable>> {
    let checkpoint = match Checkpoint::read(media, root) {
        Ok(checkpoint) => checkpoint,
        Err(unusable) => return Ok(Err(unusable)),
    };
    let mut swept = BlockSweep::new(media, sets, Some(&checkpoint.summary.members)).run(threads, progress);
    progress.check()?;
    clock.not_before(swept.latest);
    progress.enter(OpenPhase::Settling);
    if planted::is(Bug::TailBySequence) {
        let is_newer = |slot: &RecoverySlot| slot.sequence >= checkpoint.summary.next_sequence;
        PartitionId::all().for_each(|id| {
            swept.index.lock(id).retain(is_newer);
        });
    }
    let below = checkpoint.valid_below(&swept.found);
    checkpoint.adopt_damaged(&mut swept.found);
    let mut merge = Merge {
        media,
        checkpoint: &checkpoint,
        sets,
        progress,
        set_ids: Vec::new(),
        below,
        system: Vec::new(),
        tail: &swept.index,
        settlement: Settlement::new(media, sets, Watermark::default(), clock.now()),
        index: Index::new(),
        outcome: Mutex::default(),
    };
    if let Err(unusable) = merge.number_sets() {
        return Ok(Err(unusable));
    }
    merge.system = merge.system_entries();
    let watermark = media.recover_thresholds(&swept.found, &merge.system, sets)?;
    merge.settlement = Settlement::new(media, sets, watermark, clock.now());
    let ranges = checkpoint.ranges(threads);
    crate::jobs::in_parallel(threads, ranges.len(), |i| merge.range(ranges[i].clone()));
    progress.check()?;
    let (settled, unusable) = merge.outcome.into_inner();
    if let Some(unusable) = unusable {
        return Ok(Err(unusable));
    }
    let mut merged = Recovery::default();
    settled.iter().for_each(|counts| merge.settlement.add(counts, &mut merged));
    let (index, (used, watermark)) = (merge.index, merge.settlement.into_used());
    let Swept { mut found, max_sequence, recovery, .. } = swept;
    for part in &checkpoint.parts {
        found[usize::from(part.member)][part.block as usize] = FoundBlock::Held { epoch: part.epoch };
    }
    give_back_unused(&mut found, &used, &checkpoint.summary);
    let recovery = Recovery {
        checkpoint: Some(checkpoint.root.id),
        checkpoint_entries: checkpoint.root.entry_count,
        records: merged.records,
        tombstones: merged.tombstones,
        expired: merged.expired,
        truncated: merged.truncated,
        evicted: merged.evicted,
        ..recovery
    };
    let max_sequence = max_sequence.max(checkpoint.summary.next_sequence.saturating_sub(1));
    Ok(Ok(Restored { index, found, used, max_sequence, recovery, watermark, parts: checkpoint.parts }))
}

/// A damaged block that turned out to hold nothing that counts stays out of use, as after a sweep of everything.
fn give_back_unused(found: &mut [Vec<FoundBlock>], used: &[Vec<u32>], summary: &Summary) {
    for (member, blocks) in found.iter_mut().enumerate() {
        for (block, found) in blocks.iter_mut().enumerate() {
            let adopted = *found == adopted(summary.members[member].epochs[block]);
            if adopted && used[member][block] == 0 {
                *found = FoundBlock::Damaged;
            }
        }
    }
}

/// A damaged block in the life that the summary lists. No sound block is found with this stream.
fn adopted(epoch: u64) -> FoundBlock {
    FoundBlock::Life { epoch, stream: ADOPTED_STREAM, first_sequence: 0 }
}

/// The stream of a block whose own header is lost.
const ADOPTED_STREAM: u8 = 254;

impl Checkpoint {
    fn read(media: &Media<'_>, root: CheckpointRoot) -> Result<Self, Unusable> {
        let mut bytes = Vec::new();
        let mut parts = Vec::new();
        let mut next = PartPlace {
            epoch: root.summary_epoch,
            block: root.summary_block,
            member: root.summary_member,
            reserved: 0,
        };
        while (bytes.len() as u64) < root.summary_size {
            let block = read_part(media, next)?;
            let (header, payload) = parse_part(media, &block, next, root.id)?;
            // A row of parts that comes back to itself would never end.
            if payload.is_empty() || parts.contains(&next) {
                return Err(Unusable::Summary);
            }
            bytes.extend_from_slice(payload);
            parts.push(next);
            next = header.next;
        }
        if bytes.len() as u64 != root.summary_size || hash(0, &bytes) != root.summary_checksum {
            return Err(Unusable::Summary);
        }
        let summary = Summary::parse(&bytes).map_err(|_| Unusable::Summary)?;
        parts.extend_from_slice(&summary.parts);
        let checkpoint = Checkpoint { root, summary, parts };
        if checkpoint.fits(media) { Ok(checkpoint) } else { Err(Unusable::Summary) }
    }

    /// Whether the summary speaks of these devices.
    fn fits(&self, media: &Media<'_>) -> bool {
        let Summary { members, parts, partitions, .. } = &self.summary;
        let is_member = |member: &crate::format::MemberSummary, header: &crate::format::DeviceHeader| {
            member.epochs.len() == header.block_count as usize
                && member.open.iter().all(|(block, _)| *block < header.block_count)
        };
        let entry_count: u64 = partitions.iter().map(|p| u64::from(p.entry_count)).sum();
        let per_part = per_part(media);
        members.len() == media.headers.len()
            && members.iter().zip(media.headers).all(|(member, header)| is_member(member, header))
            && parts.iter().all(|part| is_place(media, *part))
            && partitions.iter().all(|p| usize::from(p.partition) < PARTITION_COUNT)
            && entry_count == self.root.entry_count
            && entry_count.div_ceil(per_part as u64) == parts.len() as u64
    }

    /// For each device and block, the position below which entries count.
    fn valid_below(&self, found: &[Vec<FoundBlock>]) -> Vec<Vec<u32>> {
        let of_member = |(member, found): (&crate::format::MemberSummary, &Vec<FoundBlock>)| {
            let of_block = |(block, (found, &epoch)): (usize, (&FoundBlock, &u64))| match found {
                _ if epoch == 0 || epoch >= member.begin_epoch => 0,
                _ if planted::is(Bug::StaleEntriesCount) => u32::MAX,
                // Of a damaged block the life is not known. Its records prove themselves, or are damaged ones.
                found if *found != FoundBlock::Damaged && found.epoch() != epoch => 0,
                _ => {
                    let open = member.open.iter().find(|(open, _)| *open as usize == block);
                    open.map_or(u32::MAX, |&(_, position)| position)
                }
            };
            found.iter().zip(&member.epochs).enumerate().map(of_block).collect()
        };
        self.summary.members.iter().zip(found).map(of_member).collect()
    }

    /// Takes damaged blocks for what they were when the checkpoint began: reads of what they hold will tell.
    fn adopt_damaged(&self, found: &mut [Vec<FoundBlock>]) {
        for (member, blocks) in self.summary.members.iter().zip(found) {
            for (found, &epoch) in blocks.iter_mut().zip(&member.epochs) {
                if *found == FoundBlock::Damaged && epoch != 0 {
                    *found = adopted(epoch);
                }
            }
        }
    }

    /// Cuts the partitions into runs of about as many entries each, one a thread: a part at the border of two is
    /// read twice.
    fn ranges(&self, threads: usize) -> Vec<Range<usize>> {
        let share = self.root.entry_count.div_ceil(threads.max(1) as u64).max(1);
        let (mut ranges, mut start, mut entries) = (Vec::new(), 0, 0);
        for partition in &self.summary.partitions {
            entries += u64::from(partition.entry_count);
            if entries >= share {
                let end = usize::from(partition.partition) + 1;
                ranges.push(start..end);
                (start, entries) = (end, 0);
            }
        }
        ranges.push(start..PARTITION_COUNT);
        ranges
    }
}

/// Entries in each part of a body but the last.
fn per_part(media: &Media<'_>) -> usize {
    let block_size = media.headers.iter().map(|header| header.block_size).min().unwrap_or(0);
    (PartHeader::capacity(block_size.max(BLOCK_HEADER_SIZE * 4)) / CHECKPOINT_ENTRY_SIZE) as usize
}

fn is_place(media: &Media<'_>, place: PartPlace) -> bool {
    let header = media.headers.get(usize::from(place.member));
    header.is_some_and(|header| (1..header.block_count).contains(&place.block))
}

fn read_part(media: &Media<'_>, place: PartPlace) -> Result<AlignedBuffer, Unusable> {
    if !is_place(media, place) {
        return Err(Unusable::Summary);
    }
    let (device, header) =
        (&media.devices[usize::from(place.member)], &media.headers[usize::from(place.member)]);
    let offset = u64::from(place.block) * u64::from(header.block_size);
    let buffer = AlignedBuffer::zeroed(header.block_size as usize);
    let answer = device.submit(Request::Read { offset, buffer }).wait();
    answer.into_buffer().map_err(|error| {
        tracing::error!("{error}");
        Unusable::Part { place, fault: Fault::Short }
    })
}

fn parse_part<'b>(
    media: &Media<'_>,
    block: &'b [u8],
    place: PartPlace,
    id: u64,
) -> Result<(PartHeader, &'b [u8]), Unusable> {
    let header = &media.headers[usize::from(place.member)];
    let salt = BlockSalt::new(&header.set_uuid, header.member_index, place.block, place.epoch);
    PartHeader::parse(block, id, salt).map_err(|fault| Unusable::Part { place, fault })
}

/// An entry of a checkpoint's body.
#[derive(Clone, Copy)]
struct Listed {
    entry: Entry,
    /// Whether it lies below the border, in a block that is still in the life that the summary lists. If not, the record is in
    /// the tail, or was replaced.
    counts: bool,
}

/// Merges a checkpoint's body with the tail.
struct Merge<'a> {
    media: &'a Media<'a>,
    checkpoint: &'a Checkpoint,
    sets: &'a Sets,
    progress: &'a OpenProgress,
    /// The set numbers of this run, by those in the entries.
    set_ids: Vec<Option<u16>>,
    below: Vec<Vec<u32>>,
    /// The newest entries of the system's own records.
    system: Vec<(PartitionId, Entry)>,
    tail: &'a Index<RecoverySlot>,
    settlement: Settlement<'a>,
    index: Index<Entry>,
    outcome: Mutex<(Vec<Counts>, Option<Unusable>)>,
}

impl Merge<'_> {
    fn number_sets(&mut self) -> Result<(), Unusable> {
        for (number, name) in &self.checkpoint.summary.sets {
            let number = usize::from(*number);
            if self.set_ids.len() <= number {
                self.set_ids.resize(number + 1, None);
            }
            self.set_ids[number] = Some(self.sets.named(name).map_err(|_| Unusable::Summary)?.id);
        }
        Ok(())
    }

    /// The entry of these words, which must be one of this checkpoint's.
    fn entry(&self, words: [u64; 3]) -> Result<Listed, Unusable> {
        let entry = Entry::from_words(words).ok_or(Unusable::Summary)?;
        let location = entry.location();
        let is_there = usize::from(location.device) < self.media.headers.len() && {
            let (device, block, pos) = self.media.place(location);
            let header = &self.media.headers[device];
            let end = u64::from(pos) + u64::from(entry.size_class().bytes());
            (1..header.block_count).contains(&block) && end <= u64::from(header.block_size)
        };
        if !is_there {
            return Err(Unusable::Summary);
        }
        let (device, block, pos) = self.media.place(location);
        Ok(Listed { entry, counts: pos < self.below[device][block as usize] })
    }

    /// The system's own entries: those of the tail, and those of the checkpoint that the tail does not replace.
    fn system_entries(&self) -> Vec<(PartitionId, Entry)> {
        let mut system = Vec::new();
        for (partition, words) in &self.checkpoint.summary.system {
            let Some(partition) =
                (usize::from(*partition) < PARTITION_COUNT).then(|| PartitionId::new(*partition))
            else {
                continue;
            };
            if let Ok(Listed { entry, counts: true }) = self.entry(*words)
                && self.tail.lock(partition).get(entry.tag()).is_none()
            {
                system.push((partition, entry));
            }
        }
        system.extend(system_entries(self.tail));
        system
    }

    /// Merges a run of partitions.
    fn range(&self, range: Range<usize>) {
        let mut counts = Counts::default();
        let result = self.try_range(range, &mut counts);
        let mut outcome = self.outcome.lock();
        outcome.0.push(counts);
        if let Err(unusable) = result {
            outcome.1 = Some(unusable);
        }
    }

    fn try_range(&self, range: Range<usize>, counts: &mut Counts) -> Result<(), Unusable> {
        let partitions = &self.checkpoint.summary.partitions;
        let first = partitions.partition_point(|p| usize::from(p.partition) < range.start);
        let start: u64 = partitions[..first].iter().map(|p| u64::from(p.entry_count)).sum();
        let mut body = Body { merge: self, at: start as usize, part: None };
        let mut listed = partitions[first..].iter().peekable();
        let (mut entries, mut merged) = (Vec::new(), Vec::new());
        for id in range.map(|id| PartitionId::new(id as u16)) {
            if self.progress.is_cancelled() {
                return Ok(());
            }
            entries.clear();
            merged.clear();
            let mut sequence = u64::MAX;
            if let Some(partition) = listed.next_if(|p| p.partition == id.get()) {
                let read = body.entries(partition, &mut entries);
                if planted::is(Bug::RootBeforeParts) {
                    entries.sort_unstable_by_key(|listed: &Listed| listed.entry.tag());
                    entries.dedup_by_key(|listed| listed.entry.tag());
                } else {
                    read?;
                }
                sequence = partition.sequence;
            }
            self.partition(id, &entries, sequence, counts, &mut merged);
            self.index.lock(id).fill(&merged);
        }
        Ok(())
    }

    /// Merges one partition: `entries` were copied when the next sequence number was `sequence`.
    fn partition(
        &self,
        id: PartitionId,
        entries: &[Listed],
        sequence: u64,
        counts: &mut Counts,
        merged: &mut Vec<Entry>,
    ) {
        let tail = self.tail.lock(id);
        let mut old = entries.iter().peekable();
        // An entry was written before it was copied; what was truncated or evicted before that is not in the checkpoint.
        let of_checkpoint = |listed: &Listed, counts: &mut Counts| {
            let Listed { entry, counts: true } = listed else { return None };
            self.settlement.judge(counts, *entry, sequence.saturating_sub(1))
        };
        for slot in tail.iter_from(None) {
            while let Some(listed) = old.next_if(|listed| listed.entry.tag() < slot.entry.tag()) {
                merged.extend(of_checkpoint(listed, counts));
            }
            // Also one that does not count, because it is in the tail too or was moved since, knows whether an older version
            // could outlive it. The tail does not: that version lies in a block that was not read.
            let hidden = old.next_if(|listed| listed.entry.tag() == slot.entry.tag());
            let winner = hidden.map_or(slot.entry, |hidden| outlives(slot.entry, &hidden.entry));
            merged.extend(self.settlement.judge(counts, winner, slot.sequence));
        }
        for listed in old {
            merged.extend(of_checkpoint(listed, counts));
        }
        let before = merged.len();
        let system = self
            .system
            .iter()
            .filter(|(partition, entry)| *partition == id && tail.get(entry.tag()).is_none());
        merged.extend(system.filter_map(|(_, entry)| self.settlement.judge(counts, *entry, u64::MAX)));
        if merged.len() > before {
            merged.sort_unstable_by_key(Entry::tag);
        }
    }
}

/// The body's stream of entries, read part by part.
struct Body<'a> {
    merge: &'a Merge<'a>,
    /// The number of the next entry.
    at: usize,
    part: Option<(usize, AlignedBuffer)>,
}

impl Body<'_> {
    /// Reads one partition's entries.
    fn entries(&mut self, partition: &PartitionSummary, entries: &mut Vec<Listed>) -> Result<(), Unusable> {
        let merge = self.merge;
        let (per_part, checkpoint) = (per_part(merge.media), merge.checkpoint);
        let mut rest = partition.entry_count as usize;
        while rest > 0 {
            let number = self.at / per_part;
            let place = *checkpoint.summary.parts.get(number).ok_or(Unusable::Summary)?;
            if self.part.as_ref().is_none_or(|(read, _)| *read != number) {
                let block = read_part(merge.media, place)?;
                parse_part(merge.media, &block, place, checkpoint.root.id)?;
                self.part = Some((number, block));
            }
            let Some((_, block)) = &self.part else { return Err(Unusable::Summary) };
            let from = self.at % per_part;
            let count = rest.min(per_part - from);
            let size = CHECKPOINT_ENTRY_SIZE as usize;
            let payload = &block[crate::format::PART_PAYLOAD as usize..];
            let bytes = payload.get(from * size..(from + count) * size).ok_or(Unusable::Summary)?;
            for words in bytes.chunks_exact(size) {
                let Listed { entry, counts } = merge.entry(bytemuck::pod_read_unaligned(words))?;
                let set = merge.set_ids.get(usize::from(entry.set_id())).copied().flatten();
                entries.push(Listed { entry: entry.with_set_id(set.ok_or(Unusable::Summary)?), counts });
            }
            self.at += count;
            rest -= count;
        }
        if entries.is_sorted_by_key(|listed| listed.entry.tag()) { Ok(()) } else { Err(Unusable::Summary) }
    }
}
