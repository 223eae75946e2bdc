//! What damage of the medium may lead to (R12): which keys it has hit, and what nobody can know.
//!
//! The rig remembers beside the damaged devices what they should hold. So it can list every record that is really there, and
//! say of each key whether a damaged sector has hit its newest version. What may then be answered:
//!
//! | the newest version | may be answered |
//! |---|---|
//! | not hit | what it is |
//! | hit | what it is, or that it is damaged |
//! | in a block that damage has hit and that has no whole footer | also an older version, or nothing |
//!
//! | in the footer of an earlier life of a block that has lost the header of its present one | also that older version |
//!
//! The last two rows are the exemptions, and [`Books::can_be_known`] states them. Without a footer a block is listed by a scan,
//! and a scan cannot tell a record that has rotted from one that never arrived. A mark of how far an open block was durable
//! would narrow that to blocks whose footer was there and is damaged. And without its header a block that was not sealed yet is
//! taken for what its old footer says; what that lists may have been forgotten since.

use super::device::{Damaged, Shape};
use super::media::{Media, SECTOR};
use aerolith_engine::format::{
    BLOCK_HEADER_SIZE, BlockHeader, BlockSalt, CHECKPOINT_STREAM, COMMIT_ALIGNMENT, DeviceHeader,
    FOOTER_TRAILER_SIZE, Footer, FooterTrailer, HEADER_PAGE, LogItem, RecordFlags, scan_log,
};
use std::collections::{BTreeMap, BTreeSet};

/// What one block really holds.
struct Block {
    member: usize,
    /// In sectors of the device.
    first: usize,
    /// Where its footer begins, in bytes; none: it has not been sealed.
    footer: Option<usize>,
    has_threshold: bool,
    /// Digest prefixes in the footer that an earlier life has left behind, if the present one has not been sealed.
    left_behind: BTreeSet<[u8; 10]>,
}

/// A version of a key on the devices.
struct Copy {
    block: usize,
    pos: usize,
    length: usize,
}

/// What is on the devices, and what of it is damaged.
pub struct Books {
    shape: Shape,
    blocks: Vec<Block>,
    /// For each digest the highest sequence number, and where that version lies.
    newest: BTreeMap<[u8; 20], (u64, Vec<Copy>)>,
    /// By device: damaged sectors.
    damage: Vec<BTreeSet<usize>>,
}

/// What the footer at the end of a block lists, whatever life it is of.
fn left_behind(bytes: &[u8], number: usize, device: &DeviceHeader) -> BTreeSet<[u8; 10]> {
    let at = bytes.len() - FOOTER_TRAILER_SIZE as usize + 8;
    let epoch = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let salt = BlockSalt::new(&device.set_uuid, device.member_index, number as u32, epoch);
    let trailer = FooterTrailer::parse(bytes, salt, epoch, bytes.len() as u32);
    let footer = trailer.and_then(|trailer| Footer::parse(bytes, trailer));
    footer.map_or_else(|_| BTreeSet::new(), |of| of.entries.iter().map(|entry| entry.digest_prefix).collect())
}

/// The header of a device.
fn header_of(media: &Media) -> Option<DeviceHeader> {
    let pages = media.bytes().chunks(HEADER_PAGE as usize).take(2);
    pages.filter_map(|page| DeviceHeader::parse(page).ok()).max_by_key(|header| header.copy_sequence)
}

impl Books {
    /// Reads what the devices should hold, and compares with what they do.
    pub fn of(shape: &Shape, damaged: &Damaged) -> Self {
        let Damaged { right, media, .. } = damaged;
        let damage = media.iter().zip(right).map(|(media, right)| media.damage(right)).collect();
        let mut books = Books { shape: shape.clone(), blocks: Vec::new(), newest: BTreeMap::new(), damage };
        for (member, media) in right.iter().enumerate() {
            let Some(header) = header_of(media) else { continue };
            for (number, bytes) in media.bytes().chunks_exact(shape.block_size).enumerate().skip(1) {
                books.list(member, number, bytes, &header);
            }
        }
        books
    }

    fn list(&mut self, member: usize, number: usize, bytes: &[u8], device: &DeviceHeader) {
        let Ok(header) = BlockHeader::parse(bytes) else { return };
        if header.set_uuid != device.set_uuid {
            return;
        }
        let salt = BlockSalt::new(&device.set_uuid, device.member_index, number as u32, header.epoch);
        let size = bytes.len();
        let trailer = FooterTrailer::parse(bytes, salt, header.epoch, size as u32);
        let footer = trailer.ok().map(|trailer| size - trailer.footer_size as usize);
        let first = number * size / SECTOR;
        let left_behind = if footer.is_none() { left_behind(bytes, number, device) } else { BTreeSet::new() };
        let mut block = Block { member, first, footer, has_threshold: false, left_behind };
        if header.stream == CHECKPOINT_STREAM {
            self.blocks.push(block);
            return;
        }
        scan_log(bytes, salt, |item| {
            let LogItem::Record(pos, record) = item else { return };
            let header = record.header();
            block.has_threshold |= header.flags & RecordFlags::SYSTEM != 0;
            let found = self.newest.entry(header.digest).or_default();
            if found.0 < header.sequence {
                *found = (header.sequence, Vec::new());
            }
            if found.0 == header.sequence {
                let (block, pos, length) = (self.blocks.len(), pos as usize, header.length as usize);
                found.1.push(Copy { block, pos, length });
            }
        });
        self.blocks.push(block);
    }

    /// Damaged sectors between two positions of a block, as far as a read of the device's own sectors touches them.
    fn hits(&self, block: &Block, from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let unit = self.shape.sector_size as usize;
        let sectors = from / unit * unit / SECTOR..to.next_multiple_of(unit) / SECTOR;
        let (member, first) = (block.member, block.first);
        self.damage[member]
            .range(first + sectors.start..first + sectors.end)
            .map(move |&sector| (member, sector))
    }

    fn is_hit(&self, block: &Block, from: usize, to: usize) -> bool {
        self.hits(block, from, to).next().is_some()
    }

    /// Whether a start can know what a block holds: nothing in it is damaged, or its footer is whole.
    fn is_known(&self, block: &Block) -> bool {
        let size = self.shape.block_size;
        !self.is_hit(block, 0, size) || block.footer.is_some_and(|footer| !self.is_hit(block, footer, size))
    }

    fn copies(&self, digest: &[u8; 20]) -> &[Copy] {
        self.newest.get(digest).map_or(&[], |(_, copies)| copies)
    }

    /// The damaged sectors that the newest version of a key has: of its record, or of what says where its block begins.
    pub fn damage_of(&self, digest: &[u8; 20]) -> Vec<(usize, usize)> {
        let of_copy = |copy: &Copy| {
            let block = &self.blocks[copy.block];
            let record: Vec<_> = self.hits(block, copy.pos, copy.pos + copy.length).collect();
            let header = self.hits(block, 0, BLOCK_HEADER_SIZE as usize).collect::<Vec<_>>();
            let size = self.shape.block_size;
            let is_lost = !header.is_empty()
                && (block.footer.is_none() || self.is_hit(block, size - COMMIT_ALIGNMENT as usize, size));
            if is_lost { [record, header].concat() } else { record }
        };
        self.copies(digest).iter().flat_map(of_copy).collect()
    }

    /// Whether a start can know what the newest version of a key is. Where a truncation's threshold cannot be known, nothing
    /// can. These are the exemptions.
    pub fn can_be_known(&self, digest: &[u8; 20]) -> bool {
        let comes_back = |block: &Block| {
            digest.first_chunk().is_some_and(|prefix| block.left_behind.contains(prefix))
                && self.is_hit(block, 0, BLOCK_HEADER_SIZE as usize)
        };
        !self.blocks.iter().any(comes_back)
            && self.blocks.iter().all(|block| !block.has_threshold || self.is_known(block))
            && self.copies(digest).iter().all(|copy| self.is_known(&self.blocks[copy.block]))
    }

    /// Where the newest version of a key lies, and what of its block is damaged.
    pub fn tell(&self, digest: &[u8; 20]) -> String {
        let size = self.shape.block_size;
        let of_copy = |copy: &Copy| {
            let block = &self.blocks[copy.block];
            let number = block.first * SECTOR / size;
            let footer = match block.footer {
                None => "not sealed".to_owned(),
                Some(footer) => format!("footer at {footer}"),
            };
            let hits: Vec<_> = self.hits(block, 0, size).map(|(_, sector)| sector - block.first).collect();
            let (member, pos, length) = (block.member, copy.pos, copy.length);
            format!("device {member} block {number} {pos}+{length} ({footer}; sectors {hits:?} damaged)")
        };
        self.copies(digest).iter().map(of_copy).collect::<Vec<_>>().join(" and ")
    }

    /// Whether a set with this damage may be refused as a whole: its own headers or a threshold are damaged.
    pub fn may_be_refused(&self) -> bool {
        let header =
            self.damage.iter().any(|damage| damage.range(..self.shape.block_size / SECTOR).next().is_some());
        let size = self.shape.block_size;
        header || self.blocks.iter().any(|block| block.has_threshold && self.is_hit(block, 0, size))
    }

    /// Whether anything is damaged at all.
    pub fn is_damaged(&self) -> bool {
        self.damage.iter().any(|damage| !damage.is_empty())
    }
}
