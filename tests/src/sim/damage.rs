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
//! The last row is the one exemption, and [`Books::is_known`] states it: without a footer a block is listed by a scan, and
//! a scan cannot tell a record that has rotted from one that never arrived. A mark of how far an open block was durable would
//! narrow it to the blocks whose footer was there and is damaged.

use super::device::{Damaged, Shape};
use super::media::{Media, SECTOR};
use aerolith_engine::format::{
    BlockHeader, BlockSalt, CHECKPOINT_STREAM, COMMIT_ALIGNMENT, DeviceHeader, FooterTrailer, HEADER_PAGE,
    LogItem, RecordFlags, scan_log,
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
    /// The run in which it was opened.
    incarnation: u64,
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

/// The header of a device.
pub fn header_of(media: &Media) -> Option<DeviceHeader> {
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
        if header.set_uuid != device.set_uuid || header.stream == CHECKPOINT_STREAM {
            return;
        }
        let salt = BlockSalt::new(&device.set_uuid, device.member_index, number as u32, header.epoch);
        let size = bytes.len();
        let trailer = FooterTrailer::parse(bytes, salt, header.epoch, size as u32);
        let footer = trailer.ok().map(|trailer| size - trailer.footer_size as usize);
        let first = number * size / SECTOR;
        let incarnation = header.epoch >> 40;
        let mut block = Block { member, first, footer, has_threshold: false, incarnation };
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

    /// Whether a start can know what a block holds: nothing in it is damaged, or its footer is whole. This is the exemption.
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
            let header = self.hits(block, 0, COMMIT_ALIGNMENT as usize).collect::<Vec<_>>();
            let size = self.shape.block_size;
            let is_lost = !header.is_empty()
                && (block.footer.is_none() || self.is_hit(block, size - COMMIT_ALIGNMENT as usize, size));
            if is_lost { [record, header].concat() } else { record }
        };
        self.copies(digest).iter().flat_map(of_copy).collect()
    }

    /// Whether a start can know that the newest version of a key was there. Where a truncation's threshold cannot be known,
    /// nothing can.
    pub fn can_be_known(&self, digest: &[u8; 20]) -> bool {
        self.blocks.iter().all(|block| !block.has_threshold || self.is_known(block))
            && self.copies(digest).iter().all(|copy| self.is_known(&self.blocks[copy.block]))
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

    /// The last run that has opened a block.
    pub fn last_run(&self) -> u64 {
        self.blocks.iter().map(|block| block.incarnation).max().unwrap_or(0)
    }
}
