//! One block: its header, its footer, every record and group frame, held against each other.
//!
//! ```text
//! a life with a footer     each entry's record must prove itself and be what the entry says
//! a life without one       what a scan finds counts; what proves nothing is told, and may never have been written
//! a part of a checkpoint   header and payload must prove themselves
//! ```
//!
//! What is read is read by the engine's own listing, so that nothing here sees more or less than a cold start would.

use super::findings::{Finding, Kind, Totals, named};
use super::roots::{PartState, state_of};
use super::versions::void_time_ms;
use crate::source::{PAGE, Pages, Source};
use aerolith_engine::format::{
    BLOCK_HEADER_SIZE, FOOTER_TRAILER_SIZE, Footer, GROUP_HEADER_SIZE, KIND_GROUP, KIND_RECORD, LogItem,
    PART_PAYLOAD, PartHeader, RECORD_MAGIC, RecordFlags, RecordView, scan_log, void_time,
};
use aerolith_engine::index::SizeClass;
use aerolith_engine::volume::{
    BlockLife, NoFooter, Seen, Version, listed_record, listed_versions, logged_versions,
};
use std::collections::HashSet;
use std::ops::Range;

/// How the versions of a block are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lists {
    /// It has no log.
    Nothing,
    /// By the footer of this life.
    Footer(u64),
    /// By what a scan of this life found: the positions.
    Scan(u64, HashSet<u32>),
}

/// What looking at a block has led to.
pub struct Looked {
    pub faults: Vec<Finding>,
    pub notes: Vec<Finding>,
    pub totals: Totals,
    pub lists: Lists,
    /// How the part of the checkpoint that should be here was found.
    pub part: Option<PartState>,
    /// The highest epoch in it.
    pub epoch: u64,
}

/// A block on its way through the check.
struct Block<'a> {
    source: &'a Source,
    block: u32,
    pages: &'a Pages,
    out: Looked,
}

/// What is known of a block before it is looked at.
#[derive(Clone, Copy, Default)]
pub struct Expected {
    /// The checkpoint that it holds a part of, and the life in which it does.
    pub part: Option<(u64, u64)>,
    /// The life in which the checkpoint's entries point into it.
    pub epoch: Option<u64>,
}

/// Looks at a block. `pages` are the whole block, or only its first page and its last where that is all there is.
pub fn look_at(source: &Source, block: u32, pages: &Pages, expected: Expected) -> Looked {
    let out = Looked {
        faults: Vec::new(),
        notes: Vec::new(),
        totals: Totals::default(),
        lists: Lists::Nothing,
        part: None,
        epoch: 0,
    };
    let mut block = Block { source, block, pages, out };
    block.look(expected);
    block.out
}

impl Block<'_> {
    fn look(&mut self, expected: Expected) {
        for (range, error) in &self.pages.unreadable {
            let why = format!("bytes {} to {} of the block: {}", range.start, range.end, error.cause);
            let fault = self.finding(Kind::Unreadable, range.start, why);
            self.out.faults.push(Finding { errno: error.errno(), ..fault });
        }
        let (first, last) = self.edges();
        let place = self.source.place(self.block);
        let seen = place.life(first, last);
        if let Some((id, epoch)) = expected.part
            && self.part(id, epoch, seen)
        {
            return;
        }
        match seen {
            Seen::Blank => self.out.totals.blank_blocks += 1,
            Seen::Misplaced(header) => {
                self.out.totals.damaged_blocks += 1;
                let why = format!(
                    "the header is that of block {} of member {}: it was written here instead of there",
                    header.block_id,
                    header.member_index + 1
                );
                self.fault(Kind::Misplaced, 0, why);
                self.scan_unknown(expected.epoch);
            }
            Seen::Damaged(fault) => {
                self.out.totals.damaged_blocks += 1;
                if self.pages.error_in(0..PAGE).is_none() {
                    let why = format!("{fault}, and no footer tells which life it was");
                    self.fault(Kind::BlockHeader, 0, why);
                }
                self.scan_unknown(expected.epoch);
            }
            Seen::Life(life) => self.life(life),
        }
    }

    fn edges(&self) -> (&[u8], &[u8]) {
        let bytes = &self.pages.bytes[..];
        (&bytes[..PAGE as usize], &bytes[bytes.len() - PAGE as usize..])
    }

    fn finding(&self, kind: Kind, position: u32, why: String) -> Finding {
        let offset = self.source.offset(self.block, position);
        let finding = Finding::on_device(kind, self.source.name(), offset, why);
        Finding { block: Some(self.block), position: Some(position), ..finding }
    }

    fn fault(&mut self, kind: Kind, position: u32, why: String) {
        let fault = self.finding(kind, position, why);
        self.out.faults.push(fault);
    }

    fn note(&mut self, kind: Kind, position: u32, why: String) {
        let note = self.finding(kind, position, why);
        self.out.notes.push(note);
    }

    /// Looks at a part of the checkpoint that counts. False: the block has gone on to another life.
    fn part(&mut self, id: u64, epoch: u64, seen: Seen) -> bool {
        let salt = self.source.place(self.block).salt(epoch);
        let fault = PartHeader::parse(&self.pages.bytes, id, salt).err();
        let state = fault.map_or(PartState::Whole, |_| state_of(seen, epoch));
        self.out.part = Some(state);
        self.out.epoch = epoch;
        match (state, fault) {
            (PartState::GivenUp, _) => return false,
            (PartState::Damaged, Some(fault)) => {
                self.out.totals.damaged_blocks += 1;
                let why = format!("its part of checkpoint {id}: {fault}");
                self.fault(Kind::Checkpoint, PART_PAYLOAD, why);
            }
            (PartState::Damaged, None) | (PartState::Whole, _) => self.out.totals.checkpoint_blocks += 1,
        }
        match seen {
            Seen::Life(BlockLife { header: Ok(_), .. }) => {}
            Seen::Life(BlockLife { header: Err(fault), .. }) | Seen::Damaged(fault) => {
                self.fault(Kind::BlockHeader, 0, format!("{fault}, in a block of checkpoint {id}"));
            }
            Seen::Blank | Seen::Misplaced(_) => {
                self.fault(Kind::BlockHeader, 0, format!("it is not that of a block of checkpoint {id}"));
            }
        }
        true
    }

    fn life(&mut self, life: BlockLife) {
        self.out.epoch = life.epoch;
        if life.is_checkpoint() {
            return self.other_part(life.epoch);
        }
        if let Err(fault) = life.header
            && self.pages.error_in(0..PAGE).is_none()
        {
            let why = format!("{fault}; its footer stands in for it");
            self.fault(Kind::BlockHeader, 0, why);
        }
        let size = self.source.header.block_size;
        match self.source.place(self.block).footer(life.epoch, &self.pages.bytes) {
            Ok(footer) => {
                self.out.totals.sealed_blocks += 1;
                self.out.lists = Lists::Footer(life.epoch);
                self.listed(life.epoch, &footer);
            }
            Err(NoFooter::Damaged(fault)) => {
                self.out.totals.damaged_blocks += 1;
                let why = format!(
                    "{fault}: damage, or power that failed while it was written; the block is known only by what of \
                     its log proves itself"
                );
                self.fault(Kind::Footer, size - FOOTER_TRAILER_SIZE, why);
                self.logged(life.epoch);
            }
            Err(NoFooter::NeverSealed) => {
                self.out.totals.open_blocks += 1;
                let end = self.logged(life.epoch);
                if self.pages.error_in(size - PAGE..size).is_none() {
                    let why = format!(
                        "no footer: it was open when its writer ended; a record in it that had rotted would look like \
                         one that never arrived; its log ends at {end}{}",
                        if self.has_odd_end(life.epoch) {
                            "; the bytes at its end are no footer of any life: older than the device's use here, or a \
                             footer that is gone"
                        } else {
                            ""
                        }
                    );
                    self.note(Kind::Open, 0, why);
                }
            }
        }
    }

    /// Whether the block ends neither with zeros nor with the footer of an earlier life.
    fn has_odd_end(&self, epoch: u64) -> bool {
        let bytes = &self.pages.bytes;
        let trailer = &bytes[bytes.len() - FOOTER_TRAILER_SIZE as usize..];
        let is_earlier = self.source.place(self.block).earlier_trailer(epoch, bytes).is_some();
        trailer.iter().any(|&byte| byte != 0) && !is_earlier
    }

    /// A part of a checkpoint that does not count: an older one, or one that a crash has cut off.
    fn other_part(&mut self, epoch: u64) {
        self.out.totals.checkpoint_blocks += 1;
        let place = self.source.place(self.block);
        let at = BLOCK_HEADER_SIZE as usize + 8;
        let id = self.pages.bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        if PartHeader::parse(&self.pages.bytes, id, place.salt(epoch)).is_err() {
            let why = "it held a part of a checkpoint that does not count, and that part is not whole";
            self.note(Kind::Checkpoint, PART_PAYLOAD, why.into());
        }
    }

    /// Proves what a footer lists.
    fn listed(&mut self, epoch: u64, footer: &Footer) {
        let salt = self.source.place(self.block).salt(epoch);
        let pages = self.pages;
        let mut damaged = HashSet::new();
        for version in listed_versions(footer) {
            let end = version.pos.saturating_add(version.class.bytes());
            let unreadable = pages.error_in(version.pos..end);
            let found = match unreadable {
                Some(error) => Err((Kind::Record, error.cause.to_string(), error.errno())),
                None => match listed_record(&pages.bytes, salt, version.pos, &version.digest[..10]) {
                    Ok(record) => {
                        differs(&version, &record).map_or(Ok(()), |why| Err((Kind::Entry, why, None)))
                    }
                    Err(fault) => Err((Kind::Record, fault.to_string(), None)),
                },
            };
            match found {
                Ok(()) => self.count(&version),
                Err((kind, why, errno)) => {
                    damaged.insert(version.pos);
                    let fault = self.of_version(kind, &version, why);
                    self.out.faults.push(Finding { errno, ..fault });
                }
            }
        }
        self.look_beside(epoch, footer, &damaged);
    }

    /// Looks for what a footer cannot tell: frames that are not whole, and records that it does not list.
    fn look_beside(&mut self, epoch: u64, footer: &Footer, damaged: &HashSet<u32>) {
        let salt = self.source.place(self.block).salt(epoch);
        let mut frames: Vec<Range<u32>> = Vec::new();
        let mut records: Vec<(u32, [u8; 20], u64)> = Vec::new();
        scan_log(&self.pages.bytes[..footer.trailer.data_end as usize], salt, |item| {
            if let LogItem::Group(pos, group) = item {
                frames.push(pos..pos + group.length);
            } else if let LogItem::Record(pos, record) = item {
                records.push((pos, record.header().digest, record.header().sequence));
            }
        });
        let listed: HashSet<u32> = listed_versions(footer).map(|version| version.pos).collect();
        for (pos, digest, sequence) in records.iter().filter(|(pos, ..)| !listed.contains(pos)) {
            let why = "it does not list the whole record here: a start will not find it".to_owned();
            let fault = self.finding(Kind::Footer, *pos, why);
            let (digest, sequence) = (Some(named(digest)), Some(*sequence));
            self.out.faults.push(Finding { digest, sequence, ..fault });
        }
        // Members of one frame lie one behind the other; its header is right before the first of them.
        let mut run: Option<(u32, u32, bool)> = None;
        let mut broken = Vec::new();
        for version in listed_versions(footer).filter(|version| version.flags.has(RecordFlags::IN_GROUP)) {
            let end = version.pos.saturating_add(version.class.bytes());
            let is_framed = frames.iter().any(|frame| frame.contains(&version.pos) && end <= frame.end);
            let is_damaged = damaged.contains(&version.pos);
            if is_framed {
                continue;
            }
            run = match run {
                Some((start, before, has_damage)) if before == version.pos => {
                    Some((start, end, has_damage || is_damaged))
                }
                other => {
                    broken.extend(other);
                    Some((version.pos, end, is_damaged))
                }
            };
        }
        broken.extend(run);
        for (start, end, has_damage) in broken {
            // A frame around a damaged record cannot prove itself: that has been told.
            if !has_damage {
                let pos = start.saturating_sub(GROUP_HEADER_SIZE);
                let why = format!("the frame of the records from {start} to {end} does not prove itself");
                self.fault(Kind::Group, pos, why);
            }
        }
    }

    /// Counts what a scan of the log finds, and tells what in it proves nothing. Returns where the log ends.
    fn logged(&mut self, epoch: u64) -> u32 {
        let (bytes, place) = (&self.pages.bytes, self.source.place(self.block));
        let salt = place.salt(epoch);
        let mut taken: Vec<Range<u32>> = Vec::new();
        scan_log(bytes, salt, |item| match item {
            LogItem::Group(pos, _) => taken.push(pos..pos + GROUP_HEADER_SIZE),
            LogItem::Mark(pos, mark) => taken.push(pos..pos + mark.header.length),
            LogItem::Record(..) | LogItem::Stray(..) => {}
        });
        let mut positions = HashSet::new();
        let mut counted = Vec::new();
        let damage = logged_versions(bytes, salt, |version| {
            positions.insert(version.pos);
            taken.push(version.pos..version.pos + version.class.bytes());
            counted.push((version.flags, version.class));
        });
        let mut faults = Vec::new();
        if !damage.named.is_empty() {
            logged_versions(bytes, salt, |version| {
                if damage.named.contains(&version.pos) {
                    let why = "it was on the device, and does not prove itself".to_owned();
                    faults.push(self.of_version(Kind::Record, &version, why));
                }
            });
        }
        for run in &damage.unnamed {
            let why =
                format!("{} bytes that were on the device prove nothing: whose they are is lost", run.len());
            faults.push(self.finding(Kind::Record, run.start, why));
            taken.push(run.clone());
        }
        self.out.faults.extend(faults);
        counted.iter().for_each(|(flags, class)| self.count_one(*flags, *class));
        self.out.lists = Lists::Scan(epoch, positions);
        taken.sort_by_key(|range| range.start);
        let mut end = BLOCK_HEADER_SIZE;
        for range in &taken {
            let gap = end..range.start.max(end);
            let bytes = &self.pages.bytes[gap.start as usize..gap.end as usize];
            if bytes.iter().any(|&byte| byte != 0) && self.pages.error_in(gap.clone()).is_none() {
                let why = format!(
                    "{} bytes within the log prove nothing: a write that never arrived, or damage",
                    gap.end - gap.start
                );
                self.note(Kind::Hole, gap.start, why);
            }
            end = end.max(range.end);
        }
        if let Some(at) = self.torn_at(epoch, end) {
            let why = "a record begins here that is not whole: cut off by the end of its writer, or damage";
            self.note(Kind::TornTail, at, why.into());
        }
        end
    }

    /// Where, right behind the log, a record of this life seems to begin.
    fn torn_at(&self, epoch: u64, end: u32) -> Option<u32> {
        let (bytes, place) = (&self.pages.bytes, self.source.place(self.block));
        let earlier = place.earlier_trailer(epoch, bytes).map(|trailer| place.salt(trailer.epoch));
        [end, end.next_multiple_of(PAGE)].into_iter().find(|&at| {
            let Some(head) = bytes.get(at as usize..at as usize + 4) else { return false };
            let begins = u16::from_le_bytes([head[0], head[1]]) == RECORD_MAGIC
                && [KIND_RECORD, KIND_GROUP].contains(&head[2]);
            let is_earlier =
                earlier.is_some_and(|salt| RecordView::parse(&bytes[at as usize..], salt, at).is_ok());
            begins && !is_earlier
        })
    }

    /// A block whose life only the checkpoint knows: what of that life proves itself.
    fn scan_unknown(&mut self, epoch: Option<u64>) {
        let Some(epoch) = epoch.filter(|&epoch| epoch != 0) else { return };
        let mut positions = HashSet::new();
        let salt = self.source.place(self.block).salt(epoch);
        logged_versions(&self.pages.bytes, salt, |version| {
            positions.insert(version.pos);
        });
        self.out.lists = Lists::Scan(epoch, positions);
    }

    fn count(&mut self, version: &Version<'_>) {
        self.count_one(version.flags, version.class);
    }

    fn count_one(&mut self, flags: RecordFlags, class: SizeClass) {
        let totals = &mut self.out.totals;
        totals.record_bytes += u64::from(class.bytes());
        match flags {
            _ if flags.has(RecordFlags::TOMBSTONE) => totals.tombstones += 1,
            _ if flags.has(RecordFlags::SYSTEM) => totals.system_records += 1,
            _ => totals.records += 1,
        }
    }

    fn of_version(&self, kind: Kind, version: &Version<'_>, why: String) -> Finding {
        let what = if version.flags.has(RecordFlags::TOMBSTONE) { "a tombstone: " } else { "" };
        Finding {
            digest: Some(named(&version.digest)),
            set: Some(String::from_utf8_lossy(version.set).into_owned()),
            sequence: Some(version.sequence),
            stale_from: version.sequence,
            expires_ms: void_time_ms(version.void_time),
            is_tombstone: version.flags.has(RecordFlags::TOMBSTONE),
            ..self.finding(kind, version.pos, format!("{what}{why}"))
        }
    }
}

/// In what a record is not what its footer's entry says.
fn differs(version: &Version<'_>, record: &RecordView<'_>) -> Option<String> {
    let header = record.header();
    let class = SizeClass::for_size(header.length.min(SizeClass::MAX_SIZE));
    let pairs = [
        ("sequence", header.sequence, version.sequence),
        ("generation", header.generation.into(), version.generation.into()),
        ("void-time", void_time(header.expires_ms()).into(), version.void_time.into()),
        ("flags", header.flags.into(), version.flags.0.into()),
        ("size class", class.get().into(), version.class.get().into()),
    ];
    let other = pairs.iter().find(|(_, is, listed)| is != listed);
    let set = (record.set() != version.set).then(|| "it is of another set than the footer says".to_owned());
    other.map(|(what, is, listed)| format!("the record has {what} {is}, the footer says {listed}")).or(set)
}
