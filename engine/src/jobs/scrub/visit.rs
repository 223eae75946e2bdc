//! One block of a scrub pass: what it holds is read, listed, and compared with the index.
//!
//! ```text
//! edges ---> rest ---> (all) ---> judge the list ---> search ---> done
//! ```
//! The first and the last page say which life it is and how it is listed. Then only what is needed is read: the
//! footer, and the records if any of them is live; the whole block where there is no good footer. Each listed
//! version is held against the index: a live one must prove itself, an older one keeps its key's tombstone. If live
//! bytes remain that no list names (a record that was damaged in a block without a footer), the index is
//! searched for who points there.

use super::super::Next;
use super::pace::Pace;
use super::reader::{PAGE, Reader, Reading};
use crate::format::{
    DEVICE_HEADER_COPIES, DeviceHeader, FOOTER_TRAILER_SIZE, FooterEntry, HEADER_PAGE, PART_PAYLOAD,
    PartHeader, RecordFlags, UNIT,
};
use crate::index::{Entry, Location, PARTITION_COUNT, PartitionId, Tag};
use crate::namespace::core::{Core, Wanted};
use crate::namespace::{Damage, ScrubFault};
use crate::volume::{
    BlockId, BlockInfo, BlockPlace, BlockState, NoFooter, Seen, Version, Volume, listed_record,
    listed_versions, logged_versions,
};

/// Listed versions looked at in one step.
const BATCH: usize = 256;
/// Partitions searched in one step.
const PARTITIONS: usize = 16;

/// A version that the block lists, and in which life.
#[derive(Clone, Copy)]
struct Listed {
    partition: PartitionId,
    tag: Tag,
    pos: u32,
    epoch: u64,
    sequence: u64,
    flags: RecordFlags,
}

enum Stage {
    Edges,
    Rest { is_whole: bool },
    Judge { next: usize },
    Search { next: usize },
}

/// What a visit led to.
pub(super) struct Outcome {
    /// Whether every version that the block could give back after a crash has been listed.
    pub is_certain: bool,
    /// The block is being written, and what it holds is not settled: look again.
    pub is_unsettled: bool,
    /// Bytes that were read.
    pub size: u64,
    /// The buffer, for the next visit.
    pub bytes: Vec<u8>,
}

/// How a visit goes on.
pub(super) enum Visited {
    Again(Next),
    Done(Outcome),
}

/// A block being looked at.
pub(super) struct Visit {
    pub member: u8,
    pub block: BlockId,
    pass: u64,
    /// Whether there are tombstones that older versions would keep.
    is_hunting: bool,
    place: BlockPlace,
    before: BlockInfo,
    /// The checkpoint that the block holds a part of.
    checkpoint: Option<u64>,
    in_ram: Option<(u64, Vec<FooterEntry>)>,
    reader: Reader,
    stage: Stage,
    list: Vec<Listed>,
    is_certain: bool,
    /// Live bytes that the list accounts for.
    live_size: u64,
    faults: Vec<ScrubFault>,
}

impl Visit {
    pub fn new(
        core: &Core,
        volume: &Volume,
        block: BlockId,
        pass: u64,
        is_hunting: bool,
        bytes: Vec<u8>,
    ) -> Self {
        let before = volume.blocks.info(block);
        // What the stream still holds is listed before the device is read: what leaves RAM in between is there then.
        let is_in_ram = matches!(before.state, BlockState::Open | BlockState::Flushing);
        let mut reader = Reader::new(bytes, volume.block_size());
        if block.0 == 0 {
            reader.want(0..(DEVICE_HEADER_COPIES * HEADER_PAGE) as u32);
        } else {
            reader.want(0..PAGE);
            reader.want(volume.block_size() - PAGE..volume.block_size());
        }
        Visit {
            member: volume.member(),
            block,
            pass,
            is_hunting,
            place: volume.block_place(block),
            before,
            checkpoint: core.checkpoint_in(volume.member(), block),
            in_ram: if is_hunting && is_in_ram { volume.list_in_ram(block) } else { None },
            reader,
            stage: Stage::Edges,
            list: Vec::new(),
            is_certain: true,
            live_size: 0,
            faults: Vec::new(),
        }
    }

    /// Whether the block's records are to be proved.
    fn is_proving(&self) -> bool {
        self.before.state == BlockState::Sealed && self.before.used_size > 0
    }

    pub fn step(&mut self, core: &Core, pace: &mut Pace) -> Visited {
        let volume = core.volume(self.member);
        match self.stage {
            Stage::Edges | Stage::Rest { .. } => {
                match self.reader.step(volume, self.block, pace, core.clock.mono_ms()) {
                    Reading::Done if self.block.0 == 0 => {
                        self.look_at_device_headers(volume);
                        return Visited::Done(self.finish(core, volume));
                    }
                    Reading::Done => self.read_on(volume),
                    Reading::Going => {}
                    Reading::Waits(ms) => return Visited::Again(Next::Within(ms)),
                }
            }
            Stage::Judge { next } => {
                let end = self.list.len().min(next + BATCH);
                (next..end).for_each(|at| self.judge(core, volume, at));
                self.stage = Stage::Judge { next: end };
                if end == self.list.len() {
                    if !self.lacks_live_bytes(volume) {
                        return Visited::Done(self.finish(core, volume));
                    }
                    self.stage = Stage::Search { next: 0 };
                }
            }
            Stage::Search { next } => {
                let end = PARTITION_COUNT.min(next + PARTITIONS);
                (next..end).for_each(|id| self.search(core, volume, PartitionId::new(id as u16)));
                self.stage = Stage::Search { next: end };
                if end == PARTITION_COUNT {
                    return Visited::Done(self.finish(core, volume));
                }
            }
        }
        Visited::Again(Next::Now)
    }

    fn edges(&self) -> (&[u8], &[u8]) {
        let bytes = &self.reader.bytes[..];
        (&bytes[..PAGE as usize], &bytes[bytes.len() - PAGE as usize..])
    }

    fn seen(&self) -> Seen {
        let (first, last) = self.edges();
        self.place.life(first, last)
    }

    /// The lives whose records count: what a cold start would go by, what it would go by if the header were damaged,
    /// and what the index goes by.
    fn lives(&self) -> Vec<u64> {
        let mut lives = Vec::new();
        let (_, last) = self.edges();
        if self.is_hunting
            && let Seen::Life(life) = self.seen()
        {
            lives.extend((!life.is_checkpoint()).then_some(life.epoch));
            lives.extend(self.place.earlier_trailer(life.epoch, last).map(|trailer| trailer.epoch));
        }
        if self.is_proving() {
            lives.push(self.before.epoch);
        }
        lives.sort_unstable();
        lives.dedup();
        lives
    }

    /// Asks for what is still needed, or makes the list.
    fn read_on(&mut self, volume: &Volume) {
        let (is_first, is_whole) = match self.stage {
            Stage::Edges => (true, false),
            Stage::Rest { is_whole } => (false, is_whole),
            Stage::Judge { .. } | Stage::Search { .. } => return,
        };
        let (lives, size) = (self.lives(), self.place.block_size);
        let (mut needs_whole, mut data_end, mut footer_start) = (self.checkpoint.is_some(), 0, size);
        for &epoch in &lives {
            match self.place.trailer(epoch, self.edges().1) {
                Ok(trailer) => {
                    footer_start = footer_start.min(size - trailer.footer_size);
                    let is_proved = self.is_proving() && epoch == self.before.epoch;
                    data_end = if is_proved { trailer.data_end } else { data_end };
                    // Once its bytes are there, the footer itself tells whether it is good.
                    needs_whole |= !is_first && self.place.footer(epoch, &self.reader.bytes).is_err();
                }
                Err(_) => needs_whole = true,
            }
        }
        if needs_whole && !is_whole {
            self.reader.want(PAGE..size - PAGE);
            self.stage = Stage::Rest { is_whole: true };
        } else if is_first {
            self.reader.want(PAGE.min(data_end)..data_end);
            self.reader.want(footer_start..size - PAGE);
            self.stage = Stage::Rest { is_whole: false };
        } else {
            self.make_list(&lives);
            self.look_at_header_and_footer(volume);
            self.look_at_checkpoint(volume);
            self.stage = Stage::Judge { next: 0 };
        }
    }

    fn make_list(&mut self, lives: &[u64]) {
        let mut list = Vec::new();
        for &epoch in lives {
            let mut add = |version: Version<'_>| {
                let (partition, tag) = (PartitionId::of(&version.digest), Tag::of(&version.digest));
                let Version { pos, sequence, flags, .. } = version;
                list.push(Listed { partition, tag, pos, epoch, sequence, flags });
            };
            match self.place.footer(epoch, &self.reader.bytes) {
                Ok(footer) => listed_versions(&footer).for_each(add),
                Err(_) => drop(logged_versions(&self.reader.bytes, self.place.salt(epoch), &mut add)),
            }
        }
        let (epoch, entries) = self.in_ram.take().unwrap_or_default();
        list.extend(entries.iter().map(|entry| {
            let mut digest = [0; 20];
            digest[..10].copy_from_slice(&entry.digest_prefix);
            let (partition, tag) = (PartitionId::of(&digest), Tag::of(&digest));
            let (pos, sequence) = (entry.position * UNIT, entry.sequence);
            Listed { partition, tag, pos, epoch, sequence, flags: RecordFlags(entry.flags()) }
        }));
        self.list = list;
    }

    /// Notes what of the block's own structures is damaged, and whether the list can be whole.
    fn look_at_header_and_footer(&mut self, volume: &Volume) {
        let (size, expected) = (self.place.block_size, self.before.epoch);
        let seen = self.seen();
        let footer = |epoch| self.place.footer(epoch, &self.reader.bytes).err();
        let is_shown = match seen {
            Seen::Blank => true,
            Seen::Life(life) => {
                life.is_checkpoint() || !matches!(footer(life.epoch), Some(NoFooter::Damaged(_)))
            }
            Seen::Misplaced(_) | Seen::Damaged(_) => false,
        };
        self.is_certain = is_shown && self.reader.unreadable.is_empty();
        if !self.is_proving() {
            return;
        }
        let unreadable = |range| self.reader.error_in(range).map(|error| error.cause.to_string());
        let header = unreadable(0..PAGE).or_else(|| match seen {
            Seen::Life(life) if life.epoch == expected => life.header.err().map(|fault| fault.to_string()),
            Seen::Life(life) => Some(format!("it is that of life {}, not {expected}", life.epoch)),
            Seen::Blank => Some("it is blank".into()),
            Seen::Misplaced(header) => Some(format!("it is that of block {}", header.block_id)),
            Seen::Damaged(fault) => Some(fault.to_string()),
        });
        // What this run sealed has a footer; a block that an earlier run left open need not have one.
        let must_be_there = expected >> 40 == volume.header.incarnation;
        let footer = unreadable(size - PAGE..size).or_else(|| match footer(expected) {
            Some(NoFooter::Damaged(fault)) => Some(fault.to_string()),
            Some(NoFooter::NeverSealed) => must_be_there.then(|| "it is missing".into()),
            None => None,
        });
        if let Some(why) = header {
            self.fault(volume, 0, Damage::BlockHeader, why);
        }
        if let Some(why) = footer {
            self.fault(volume, size - FOOTER_TRAILER_SIZE, Damage::Footer, why);
        }
    }

    /// A part of a checkpoint must prove itself like a record.
    fn look_at_checkpoint(&mut self, volume: &Volume) {
        let Some(id) = self.checkpoint else { return };
        let unreadable = self.reader.unreadable.first().map(|(_, error)| error.cause.to_string());
        let parsed = PartHeader::parse(&self.reader.bytes, id, self.place.salt(self.before.epoch));
        if let Some(why) = unreadable.or_else(|| parsed.err().map(|fault| fault.to_string())) {
            self.fault(volume, PART_PAYLOAD, Damage::Checkpoint(id), why);
        }
    }

    fn look_at_device_headers(&mut self, volume: &Volume) {
        for copy in 0..DEVICE_HEADER_COPIES as u32 {
            let pos = copy * HEADER_PAGE as u32;
            let error = self.reader.error_in(pos..pos + PAGE).map(|error| error.cause.to_string());
            let parsed = DeviceHeader::parse(&self.reader.bytes[pos as usize..]);
            if let Some(why) = error.or_else(|| parsed.err().map(|fault| fault.to_string())) {
                self.fault(volume, pos, Damage::DeviceHeader, why);
            }
        }
    }

    fn fault(&mut self, volume: &Volume, pos: u32, damage: Damage, why: String) {
        let (pass, device, block) = (self.pass, volume.geometry().name.clone(), self.block.0);
        let offset = u64::from(block) * u64::from(volume.block_size()) + u64::from(pos);
        let fault = ScrubFault { pass, device, block, offset, damage, why };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn location(&self, pos: u32) -> Location {
        let offset = u64::from(self.block.0) * u64::from(self.place.block_size) + u64::from(pos);
        Location { device: self.member, unit: offset / Location::UNIT_SIZE }
    }

    /// Holds one listed version against the index.
    fn judge(&mut self, core: &Core, volume: &Volume, at: usize) {
        let Listed { partition, tag, pos, epoch, sequence, flags } = self.list[at];
        let here = self.location(pos);
        if self.is_hunting && !flags.has(RecordFlags::TOMBSTONE) {
            core.keep_tombstone(partition, tag, here, epoch);
        }
        if self.is_proving()
            && epoch == self.before.epoch
            && let Some(entry) = core.entry_at(partition, tag, here, epoch)
        {
            self.live_size += u64::from(entry.size_class().bytes());
            self.prove(core, volume, partition, entry, Some(sequence));
        }
    }

    /// Looks whether the record that an entry points at proves itself.
    fn prove(
        &mut self,
        core: &Core,
        volume: &Volume,
        partition: PartitionId,
        entry: Entry,
        sequence: Option<u64>,
    ) {
        let (_, pos) = volume.place(entry.location());
        let epoch = self.before.epoch;
        let name = Wanted { partition, tag: entry.tag(), digest: None }.name();
        let unreadable = self.reader.error_in(pos..pos.saturating_add(entry.size_class().bytes()));
        let why =
            match unreadable {
                Some(error) => Some(error.cause.to_string()),
                None => {
                    let salt = self.place.salt(epoch);
                    match listed_record(&self.reader.bytes, salt, pos, &name.as_bytes()[..10]) {
                        Ok(record) => sequence.filter(|&sequence| sequence != record.header().sequence).map(
                            |sequence| format!("it is version {}, not {sequence}", record.header().sequence),
                        ),
                        Err(fault) => Some(fault.to_string()),
                    }
                }
            };
        // What changed meanwhile is no fault: the entry is the same, so the bytes should have been.
        if let Some(why) = why
            && core.entry_at(partition, entry.tag(), entry.location(), epoch) == Some(entry)
        {
            self.fault(volume, pos, Damage::Record(name), why);
        }
    }

    /// Whether index entries point into the block that the list does not name. Live bytes of a sealed block only
    /// fall, so what was counted on the way is never too little for this question.
    fn lacks_live_bytes(&self, volume: &Volume) -> bool {
        let now = volume.blocks.info(self.block);
        self.is_proving()
            && now.state == BlockState::Sealed
            && now.epoch == self.before.epoch
            && u64::from(now.used_size) > self.live_size
    }

    /// Proves whatever this partition has in the block.
    fn search(&mut self, core: &Core, volume: &Volume, id: PartitionId) {
        let first = self.location(0).unit;
        let units = first..first + u64::from(self.place.block_size / UNIT);
        let is_here =
            |entry: &Entry| entry.location().device == self.member && units.contains(&entry.location().unit);
        let found: Vec<Entry> = core.index.lock(id).iter_from(None).filter(is_here).collect();
        for entry in found {
            if core.entry_at(id, entry.tag(), entry.location(), self.before.epoch) == Some(entry) {
                self.prove(core, volume, id, entry, None);
            }
        }
    }

    /// Tells what was found.
    fn finish(&mut self, core: &Core, volume: &Volume) -> Outcome {
        let now = volume.blocks.info(self.block);
        let is_reused = now.epoch != self.before.epoch;
        for fault in std::mem::take(&mut self.faults) {
            let is_structure = matches!(fault.damage, Damage::BlockHeader | Damage::Footer);
            // A block that has been emptied has nothing that its header or footer would have to tell.
            if is_structure && (is_reused || now.used_size == 0) {
                continue;
            }
            let is_checkpoint = matches!(fault.damage, Damage::Checkpoint(_));
            if is_checkpoint && core.checkpoint_in(self.member, self.block) != self.checkpoint {
                continue;
            }
            core.scrub_fault(fault);
            if is_structure {
                volume.evacuation.ask(self.block, now.epoch);
                core.upkeep_work.raise();
            }
        }
        let is_writing = |info: &BlockInfo| matches!(info.state, BlockState::Open | BlockState::Flushing);
        let was_written = is_writing(&self.before) || is_writing(&now) || is_reused;
        // Held, and of no checkpoint that counts: one that is being written.
        let is_unfinished =
            now.state == BlockState::Held && core.checkpoint_in(self.member, self.block).is_none();
        Outcome {
            is_certain: self.is_certain,
            is_unsettled: is_unfinished || (was_written && !self.is_certain),
            size: self.reader.asked_size,
            bytes: std::mem::take(&mut self.reader.bytes),
        }
    }
}
