//! What a block's bytes say that the block holds: whose life it is in, and which versions of records.
//!
//! Who reads blocks back reads them here, so that nobody sees more or less than another: a cold start; defrag, which
//! moves what is alive; scrub, which proves what is gone.
//!
//! ```text
//! first page: header of life e   --->  footer of e at the end?  yes: its entries   no: a scan of the log
//!             damaged            --->  the life that the trailer at the end names, if that proves itself
//!             older than the footer --> the footer's: the write of the newer header was lost
//!             zeros, another set's --> blank
//! ```
//!
//! A scan goes by the marks in the log, too (`format/mark.rs`). They say up to where the block was certainly on the
//! device, and name what lies there. What they name and a scan does not find is damaged, and is listed all the same: its key
//! must answer with an error, not with an older version. Damage there that no mark names is told as a run of bytes.
//!
//! A block can show two lives: the header's, and at its end the footer of the life before, which stays there until
//! the present one is sealed. While the header is whole the earlier life does not count. It is told apart here
//! (`earlier_trailer`) for those who must know what a damaged header would bring back.
//!
//! What always holds: these are pure functions of bytes. Nothing is believed before its length and checksum are
//! (I7), a position lies within its block, and the same bytes always give the same list.

use super::block_table::BlockId;
use crate::format::{
    BLOCK_HEADER_SIZE, BlockHeader, BlockSalt, CHECKPOINT_STREAM, DeviceHeader, FOOTER_TRAILER_SIZE, Fault,
    Footer, FooterEntry, FooterTrailer, LogItem, RECORD_HEADER_SIZE, RecordFlags, RecordView, UNIT, scan_log,
    unit_round, void_time,
};
use crate::index::SizeClass;
use std::ops::Range;

/// Which block of which device a run of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// The device set.
    pub set_uuid: [u8; 16],
    /// Which member of it.
    pub member_index: u16,
    /// Which block.
    pub block: BlockId,
    /// Bytes of a block.
    pub block_size: u32,
}

/// The life that a block shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLife {
    /// Which life.
    pub epoch: u64,
    /// Its header; or why it is damaged, when the trailer at the block's end stands in for it.
    pub header: Result<BlockHeader, Fault>,
}

impl BlockLife {
    /// Whether the block holds a part of a checkpoint, and no records.
    pub fn is_checkpoint(&self) -> bool {
        self.header.is_ok_and(|header| header.stream == CHECKPOINT_STREAM)
    }
}

/// What the first and the last page of a block say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never used in this device set, or the first write of a life never arrived.
    Blank,
    /// A life.
    Life(BlockLife),
    /// The whole header of another block of this set: it was written here instead of there.
    Misplaced(BlockHeader),
    /// Neither header nor trailer proves itself.
    Damaged(Fault),
}

/// Why a life has no footer to list it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFooter {
    /// There is none: the block was open when its writer ended.
    NeverSealed,
    /// There is one, and it is damaged.
    Damaged(Fault),
}

impl BlockPlace {
    /// Block `block` of the device with this header.
    pub fn new(header: &DeviceHeader, block: BlockId) -> Self {
        let DeviceHeader { set_uuid, member_index, block_size, .. } = *header;
        BlockPlace { set_uuid, member_index, block, block_size }
    }

    /// The salt of one life of the block.
    pub fn salt(&self, epoch: u64) -> BlockSalt {
        BlockSalt::new(&self.set_uuid, self.member_index, self.block.0, epoch)
    }

    /// Which life the block shows. `first` begins with the block, `last` ends with it; a page each is enough.
    pub fn life(&self, first: &[u8], last: &[u8]) -> Seen {
        let trailer = self.any_trailer(last);
        let header = BlockHeader::parse(first);
        let fault = match (header, trailer) {
            // A footer comes after everything else: the write of its life's header was lost, or landed elsewhere.
            (Ok(header), Some(trailer)) if !self.owns(&header) || header.epoch < trailer.epoch => {
                Fault::Magic
            }
            (Ok(header), _) if self.owns(&header) => {
                return Seen::Life(BlockLife { epoch: header.epoch, header: Ok(header) });
            }
            (Ok(header), _) if header.set_uuid == self.set_uuid => return Seen::Misplaced(header),
            // Another set's header is what an earlier use of the device left behind.
            (Ok(_), _) => return Seen::Blank,
            (Err(fault), _) => fault,
        };
        if let Some(trailer) = trailer {
            return Seen::Life(BlockLife { epoch: trailer.epoch, header: Err(fault) });
        }
        let head = first.get(..BLOCK_HEADER_SIZE as usize);
        let is_zero = head.is_some_and(|head| head.iter().all(|&byte| byte == 0));
        if is_zero { Seen::Blank } else { Seen::Damaged(fault) }
    }

    fn owns(&self, header: &BlockHeader) -> bool {
        header.set_uuid == self.set_uuid
            && header.member_index == self.member_index
            && header.block_id == self.block.0
    }

    /// The trailer at the end of `last`, of whatever life it is. It names its epoch; only if that is right does
    /// its salted checksum hold.
    fn any_trailer(&self, last: &[u8]) -> Option<FooterTrailer> {
        let at = last.len().checked_sub(FOOTER_TRAILER_SIZE as usize)? + 8;
        let epoch = u64::from_le_bytes(last.get(at..at + 8)?.try_into().ok()?);
        FooterTrailer::parse(last, self.salt(epoch), epoch, self.block_size).ok()
    }

    /// The trailer of life `epoch`. `last` ends with the block.
    pub fn trailer(&self, epoch: u64, last: &[u8]) -> Result<FooterTrailer, NoFooter> {
        match FooterTrailer::parse(last, self.salt(epoch), epoch, self.block_size) {
            Ok(trailer) => Ok(trailer),
            Err(Fault::Magic) => Err(NoFooter::NeverSealed),
            // The whole trailer of an earlier life says nothing about this one.
            Err(_) if self.any_trailer(last).is_some() => Err(NoFooter::NeverSealed),
            Err(fault) => Err(NoFooter::Damaged(fault)),
        }
    }

    /// The trailer of another life than `epoch` at the block's end: what a cold start would go by if the header
    /// were damaged.
    pub fn earlier_trailer(&self, epoch: u64, last: &[u8]) -> Option<FooterTrailer> {
        self.any_trailer(last).filter(|trailer| trailer.epoch != epoch)
    }

    /// The footer of life `epoch`. `end` ends with the block and holds the whole footer.
    pub fn footer(&self, epoch: u64, end: &[u8]) -> Result<Footer, NoFooter> {
        let trailer = self.trailer(epoch, end)?;
        let footer = Footer::parse(end, trailer).map_err(NoFooter::Damaged)?;
        let units = self.block_size / UNIT;
        if footer.entries.iter().any(|entry| entry.position >= units) {
            return Err(NoFooter::Damaged(Fault::Length));
        }
        Ok(footer)
    }
}

/// One version of one record, as a footer or a scan tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// The digest; a footer knows only its first ten bytes, which name the record, and the rest is zero.
    pub digest: [u8; 20],
    /// Where it starts in the block, in bytes: below the block's size.
    pub pos: u32,
    /// Its stored size.
    pub class: SizeClass,
    /// Its number in the namespace.
    pub sequence: u64,
    /// Its generation.
    pub generation: u16,
    /// When it expires, in seconds since 2010-01-01 UTC; 0 is never.
    pub void_time: u32,
    /// When it was written, in Unix milliseconds; 0 where a footer or a mark lists it, which do not know.
    pub last_update_ms: u64,
    /// What it is.
    pub flags: RecordFlags,
    /// The set's name.
    pub set: &'a [u8],
}

impl<'a> Version<'a> {
    /// What a footer or a mark says of a record.
    fn listed(entry: &FooterEntry, set: &'a str) -> Self {
        let mut digest = [0; 20];
        digest[..10].copy_from_slice(&entry.digest_prefix);
        Version {
            digest,
            pos: entry.position.saturating_mul(UNIT),
            class: SizeClass::new(entry.class()),
            sequence: entry.sequence,
            generation: entry.generation,
            void_time: entry.void_time,
            last_update_ms: 0,
            flags: RecordFlags(entry.flags()),
            set: set.as_bytes(),
        }
    }

    /// What a whole record says of itself; none if it has a length without a class: the engine did not write it.
    fn logged(pos: u32, record: &RecordView<'a>) -> Option<Self> {
        let header = record.header();
        (header.length <= SizeClass::MAX_SIZE).then(|| Version {
            digest: header.digest,
            pos,
            class: SizeClass::for_size(header.length),
            sequence: header.sequence,
            generation: header.generation,
            void_time: void_time(header.expires_ms()),
            last_update_ms: header.last_update_ms(),
            flags: header.flags(),
            set: record.set(),
        })
    }

    fn end(&self) -> u32 {
        self.pos + self.class.bytes()
    }
}

/// The versions that a footer lists, by position.
pub fn listed_versions(footer: &Footer) -> impl Iterator<Item = Version<'_>> {
    footer.entries.iter().map(|entry| {
        let set = footer.set_names.get(usize::from(entry.set_index));
        Version::listed(entry, set.map_or("", |name| name))
    })
}

/// What of a scanned log is not as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogDamage {
    /// Bytes of the block, from its start, that were certainly on the device.
    pub durable_end: u32,
    /// Where in the block the damaged versions are that marks name.
    pub named: Vec<u32>,
    /// What else is damaged below `durable_end`: it is not known what was there.
    pub unnamed: Vec<Range<u32>>,
}

/// The versions that a scan of a block's log finds, by position, and behind them those that are damaged.
pub fn logged_versions<'a>(
    block: &'a [u8],
    salt: BlockSalt,
    mut visit: impl FnMut(Version<'a>),
) -> LogDamage {
    let mut damage = LogDamage { durable_end: BLOCK_HEADER_SIZE, ..LogDamage::default() };
    let (mut found, mut strays, mut marks) = (Vec::new(), Vec::new(), Vec::new());
    // What is accounted for, in order of the positions until damaged versions are added.
    let mut known: Vec<Range<u32>> = Vec::new();
    scan_log(block, salt, |item| match item {
        LogItem::Record(pos, record) => {
            known.push(pos..pos + unit_round(record.header().length));
            if let Some(version) = Version::logged(pos, &record) {
                found.push(pos);
                visit(version);
            }
        }
        LogItem::Stray(pos, record) => strays.extend(Version::logged(pos, &record)),
        LogItem::Group(pos, group) => known.push(pos..pos + group.length),
        LogItem::Mark(pos, mark) => {
            known.push(pos..pos + mark.header.length);
            damage.durable_end = damage.durable_end.max(mark.header.durable_end);
            marks.push(mark);
        }
    });
    // Their frame was whole once, and so they count, each for itself, as they will when a footer lists them.
    for version in strays.into_iter().filter(|version| version.end() <= damage.durable_end) {
        found.push(version.pos);
        known.push(version.pos..version.end());
        visit(version);
    }
    found.sort_unstable();
    for (mark, entry) in marks.iter().flat_map(|mark| mark.entries.iter().map(move |entry| (mark, entry))) {
        let version = Version::listed(entry, mark.set_names.get(usize::from(entry.set_index)).unwrap_or(&""));
        if found.binary_search(&version.pos).is_err() {
            damage.named.push(version.pos);
            known.push(version.pos..version.end());
            visit(version);
        }
    }
    damage.unnamed = unaccounted(block, known, damage.durable_end);
    damage
}

/// The runs of bytes from the header to `end` that are neither `known` nor zeros, as padding is.
fn unaccounted(block: &[u8], mut known: Vec<Range<u32>>, end: u32) -> Vec<Range<u32>> {
    known.sort_unstable_by_key(|range| range.start);
    known.push(end..end);
    let (mut runs, mut at) = (Vec::new(), BLOCK_HEADER_SIZE);
    for range in known {
        let gap = block.get(at as usize..range.start.min(end) as usize).unwrap_or_default();
        let (first, last) = (gap.iter().position(|&byte| byte != 0), gap.iter().rposition(|&byte| byte != 0));
        if let (Some(first), Some(last)) = (first, last) {
            runs.push(at + first as u32..at + last as u32 + 1);
        }
        at = at.max(range.end);
    }
    runs
}

/// The record that a list places at `pos` of a block, proved: length, checksum for its place, digest.
pub fn listed_record<'a>(
    block: &'a [u8],
    salt: BlockSalt,
    pos: u32,
    digest_prefix: &[u8],
) -> Result<RecordView<'a>, Fault> {
    let bytes = block.get(pos as usize..).filter(|rest| rest.len() >= RECORD_HEADER_SIZE as usize);
    let record = RecordView::parse(bytes.ok_or(Fault::Short)?, salt, pos)?;
    let is_the_one = record.header().digest.starts_with(&digest_prefix[..digest_prefix.len().min(10)]);
    if is_the_one { Ok(record) } else { Err(Fault::Checksum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{EncodedRecord, mark_size, seal_group, seal_mark};
    use bytemuck::Zeroable;

    const SIZE: u32 = 16384;

    fn place() -> BlockPlace {
        BlockPlace { set_uuid: [5; 16], member_index: 1, block: BlockId(7), block_size: SIZE }
    }

    fn header(epoch: u64) -> BlockHeader {
        BlockHeader {
            block_id: 7,
            member_index: 1,
            set_uuid: [5; 16],
            epoch,
            stream: 2,
            ..BlockHeader::zeroed()
        }
    }

    /// A block in life `epoch` with one record; sealed if so wished.
    fn write(block: &mut [u8], epoch: u64, sequence: u64, is_sealed: bool) {
        block[..64].copy_from_slice(&header(epoch).encode());
        let salt = place().salt(epoch);
        let mut record = EncodedRecord::begin(&[9; 20], b"users", 0, b"", 0);
        record.complete(sequence, 3, 0, 0, RecordFlags(RecordFlags::TOMBSTONE), 0);
        record.place(&mut block[64..144], salt, 64);
        if is_sealed {
            let entry = FooterEntry {
                sequence,
                position: 4,
                digest_prefix: [9; 10],
                generation: 3,
                class_and_flags: FooterEntry::pack(SizeClass::for_size(69).get(), RecordFlags::TOMBSTONE),
                ..FooterEntry::zeroed()
            };
            Footer::encode_into(block, salt, epoch, 4096, epoch, &[entry], &["users".into()]);
        }
    }

    fn epoch(seen: Seen) -> Option<u64> {
        match seen {
            Seen::Life(life) => Some(life.epoch),
            Seen::Blank | Seen::Misplaced(_) | Seen::Damaged(_) => None,
        }
    }

    #[test]
    fn footer_and_scan_tell_the_same() {
        let mut block = vec![0; SIZE as usize];
        write(&mut block, 9, 40, true);
        let footer = place().footer(9, &block).unwrap();
        let listed: Vec<_> = listed_versions(&footer).collect();
        let mut logged = Vec::new();
        logged_versions(&block, place().salt(9), |version| logged.push(version));
        assert_eq!(logged.len(), 1);
        logged[0].digest[10..].fill(0);
        assert_eq!(listed, logged);
        assert!(listed_record(&block, place().salt(9), 64, &[9; 10]).is_ok());
        assert_eq!(listed_record(&block, place().salt(9), 64, &[8; 10]).err(), Some(Fault::Checksum));
        assert_eq!(listed_record(&block, place().salt(9), SIZE - 16, &[9; 10]).err(), Some(Fault::Short));
    }

    /// A record of 128 bytes with this sequence number as its digest's bytes.
    fn put(block: &mut [u8], pos: u32, sequence: u64, flags: u8) -> FooterEntry {
        let mut record = EncodedRecord::begin(&[sequence as u8; 20], b"users", 0, b"", 0);
        record.body().extend_from_slice(&[1; 59]);
        record.complete(sequence, 3, 0, 0, RecordFlags(flags), 1);
        record.place(&mut block[pos as usize..][..128], place().salt(9), pos);
        FooterEntry {
            sequence,
            position: pos / UNIT,
            digest_prefix: [sequence as u8; 10],
            generation: 3,
            class_and_flags: FooterEntry::pack(SizeClass::for_size(128).get(), flags),
            ..FooterEntry::zeroed()
        }
    }

    /// An open block of three commits: a record and a group of two, a record, and one with a mark that lists all
    /// before it but the last.
    fn open_block() -> Vec<u8> {
        let mut block = vec![0; SIZE as usize];
        block[..64].copy_from_slice(&header(9).encode());
        let mut entries = vec![put(&mut block, 64, 1, 0)];
        entries.push(put(&mut block, 192 + 32, 2, RecordFlags::IN_GROUP));
        entries.push(put(&mut block, 352, 3, RecordFlags::IN_GROUP));
        seal_group(&mut block[192..480], 2, 2, place().salt(9), 192);
        put(&mut block, 4096, 4, 0);
        put(&mut block, 8192, 5, 0);
        let size = mark_size(3, 6);
        let target = &mut block[8192 + 128..][..size as usize];
        seal_mark(target, 8192, &entries, &["users"], place().salt(9), 8192 + 128);
        block
    }

    fn logged(block: &[u8]) -> (Vec<u64>, LogDamage) {
        let mut sequences = Vec::new();
        let damage = logged_versions(block, place().salt(9), |version| {
            assert_eq!((version.set, version.generation), (&b"users"[..], 3));
            sequences.push(version.sequence);
        });
        sequences.sort_unstable();
        (sequences, damage)
    }

    #[test]
    fn what_a_mark_names_is_listed_though_it_is_damaged() {
        let whole = open_block();
        assert_eq!(
            logged(&whole),
            ([1, 2, 3, 4, 5].into(), LogDamage { durable_end: 8192, ..LogDamage::default() })
        );
        for (range, named) in [(64..191, 64), (224..351, 224), (352..479, 352)] {
            for at in range.clone() {
                let mut block = whole.clone();
                block[at] ^= 0x10;
                let (sequences, damage) = logged(&block);
                assert_eq!(sequences, [1, 2, 3, 4, 5], "byte {at}");
                assert_eq!(damage.named, [named], "byte {at}");
            }
            let mut block = whole.clone();
            block[range].fill(0);
            assert_eq!(logged(&block).1.named, [named]);
        }
    }

    #[test]
    fn damage_below_the_durable_end_that_no_mark_names_is_told_as_a_run() {
        let mut block = open_block();
        block[4096 + 70] ^= 1;
        let (sequences, damage) = logged(&block);
        assert_eq!((sequences.as_slice(), damage.named.len()), (&[1, 2, 3, 5][..], 0));
        assert_eq!(damage.unnamed, vec![4096..4096 + 128]);
        // Behind the durable end nothing is certain: a torn record is no damage.
        let mut block = open_block();
        block[8192 + 70] ^= 1;
        let (sequences, damage) = logged(&block);
        assert_eq!(
            (sequences.as_slice(), damage.named.len(), damage.unnamed),
            (&[1, 2, 3, 4][..], 0, vec![])
        );
    }

    #[test]
    fn without_its_mark_a_block_is_read_as_before_there_were_any() {
        let mut block = open_block();
        block[8192 + 140] ^= 1;
        assert_eq!(logged(&block).1, LogDamage { durable_end: 64, ..LogDamage::default() });
        block[224] ^= 1;
        assert_eq!(logged(&block).0, [1, 4, 5]);
    }

    #[test]
    fn a_reused_block_shows_its_header_and_keeps_the_earlier_footer() {
        let mut block = vec![0; SIZE as usize];
        assert_eq!(place().life(&block, &block), Seen::Blank);
        write(&mut block, 9, 40, true);
        write(&mut block, 12, 50, false);
        assert_eq!(epoch(place().life(&block, &block)), Some(12));
        assert_eq!(place().trailer(12, &block), Err(NoFooter::NeverSealed));
        assert_eq!(place().earlier_trailer(12, &block).map(|trailer| trailer.epoch), Some(9));
        // With its header damaged the block would be taken for its earlier self.
        block[20] ^= 1;
        let Seen::Life(life) = place().life(&block, &block) else { panic!("the trailer is whole") };
        assert_eq!((life.epoch, life.header.err()), (9, Some(Fault::Checksum)));
        block[SIZE as usize - 1] ^= 1;
        assert_eq!(place().life(&block, &block), Seen::Damaged(Fault::Checksum));
    }

    #[test]
    fn headers_of_other_places_are_told_apart() {
        let mut block = vec![0; SIZE as usize];
        block[..64].copy_from_slice(&BlockHeader { block_id: 8, ..header(3) }.encode());
        assert!(matches!(place().life(&block, &block), Seen::Misplaced(header) if header.block_id == 8));
        block[..64].copy_from_slice(&BlockHeader { set_uuid: [6; 16], ..header(3) }.encode());
        assert_eq!(place().life(&block, &block), Seen::Blank);
    }

    #[test]
    fn a_footer_that_points_out_of_its_block_is_damaged() {
        let mut block = vec![0; SIZE as usize];
        let salt = place().salt(4);
        for position in [SIZE / UNIT, u32::MAX] {
            let entry = FooterEntry { position, ..FooterEntry::zeroed() };
            Footer::encode_into(&mut block, salt, 4, 4096, 4, &[entry], &["".into()]);
            assert_eq!(place().footer(4, &block), Err(NoFooter::Damaged(Fault::Length)));
        }
    }
}
