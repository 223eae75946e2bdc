//! A durable mark: what of an open block was known to be on the device when a commit of that block was cut off.
//!
//! A block that was open when the process ended has no footer, and in its log a record that has rotted looks like one
//! that never arrived. So each commit ends with a mark, in the zeros that would fill its last page: everything below
//! `durable_end` had been answered as durable by then, so what does not prove itself there is damage. The entries are
//! those that the footer will have, of records below `durable_end` that no earlier mark lists: they name the keys.
//!
//! ```text
//!  0 magic u16          2 kind u8 (3)         3 flags u8            4 length u32   8 checksum u64
//! 16 durable_end u32   20 entry_count u32    24 names_size u32     28 reserved u32
//! 32 entry 32 | entry 32 | ... | set names: (u8 size, bytes)* | zeros to a unit
//! ```
//!
//! Marks list the past only: the commit that carries one, and those in flight beside it, are not below its `durable_end`.
//! So a record and the mark that names it never share a page.

use super::checksum::BlockSalt;
use super::footer::{encode_names, parse_body};
use super::group::frame_hash;
use super::{BLOCK_HEADER_SIZE, FOOTER_ENTRY_SIZE, Fault, FooterEntry, UNIT, record, unit_round};
use bytemuck::{Pod, Zeroable};
use std::mem::size_of;

/// Bytes of a mark's header.
pub const MARK_HEADER_SIZE: u32 = 32;
/// The `kind` of a durable mark.
pub const KIND_MARK: u8 = 3;

/// A mark's header, as it lies on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct MarkHeader {
    /// The same as a record's.
    pub magic: u16,
    /// 3 = durable mark.
    pub kind: u8,
    /// Zero.
    pub flags: u8,
    /// Bytes of the mark, header and zeros at its end included.
    pub length: u32,
    /// `hash(bytes 0..8, bytes 16..length) ^ salt(place)`.
    pub checksum: u64,
    /// Bytes of the block, from its start, that were known to be durable. Not above the mark's own position.
    pub durable_end: u32,
    /// How many entries.
    pub entry_count: u32,
    /// Bytes of the set names.
    pub names_size: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<MarkHeader>() == MARK_HEADER_SIZE as usize);

/// Bytes of a mark with so many entries and bytes of set names: whole units.
pub fn mark_size(entry_count: u32, names_size: u32) -> u32 {
    unit_round(MARK_HEADER_SIZE + entry_count * FOOTER_ENTRY_SIZE + names_size)
}

/// Writes a mark over the whole of `target`, which has the size that `mark_size` gives and belongs to `pos`.
///
/// # Panics
/// If entries and names do not fit.
pub fn seal_mark<S: AsRef<str>>(
    target: &mut [u8],
    durable_end: u32,
    entries: &[FooterEntry],
    set_names: &[S],
    salt: BlockSalt,
    pos: u32,
) {
    let names = encode_names(set_names);
    let mut header = MarkHeader {
        magic: record::RECORD_MAGIC,
        kind: KIND_MARK,
        length: target.len() as u32,
        durable_end,
        entry_count: entries.len() as u32,
        names_size: names.len() as u32,
        ..Zeroable::zeroed()
    };
    let (head, body) = target.split_at_mut(MARK_HEADER_SIZE as usize);
    head.copy_from_slice(bytemuck::bytes_of(&header));
    let (listed, rest) = body.split_at_mut(size_of_val(entries));
    listed.copy_from_slice(bytemuck::cast_slice(entries));
    let (named, zeros) = rest.split_at_mut(names.len());
    named.copy_from_slice(&names);
    zeros.fill(0);
    header.checksum = frame_hash(target) ^ salt.at(pos);
    target[8..16].copy_from_slice(&header.checksum.to_le_bytes());
}

/// A mark, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableMark<'a> {
    /// Its header.
    pub header: MarkHeader,
    /// One entry a record, by position.
    pub entries: Vec<FooterEntry>,
    /// The names that `set_index` chooses from.
    pub set_names: Vec<&'a str>,
}

impl<'a> DurableMark<'a> {
    /// Reads the mark at the start of `bytes` and proves it.
    pub fn parse(bytes: &'a [u8], salt: BlockSalt, pos: u32) -> Result<Self, Fault> {
        let head = bytes.get(..MARK_HEADER_SIZE as usize).ok_or(Fault::Short)?;
        let header: MarkHeader = bytemuck::pod_read_unaligned(head);
        if header.magic != record::RECORD_MAGIC || header.kind != KIND_MARK {
            return Err(Fault::Magic);
        }
        let length = header.length as usize;
        if length < MARK_HEADER_SIZE as usize || !length.is_multiple_of(UNIT as usize) {
            return Err(Fault::Length);
        }
        let mark = bytes.get(..length).ok_or(Fault::Length)?;
        if frame_hash(mark) ^ salt.at(pos) != header.checksum {
            return Err(Fault::Checksum);
        }
        let body = &mark[MARK_HEADER_SIZE as usize..];
        let (entries, set_names) = parse_body(body, header.entry_count, header.names_size)?;
        let durable = BLOCK_HEADER_SIZE / UNIT..header.durable_end / UNIT;
        let is_sane = header.durable_end <= pos && entries.iter().all(|e| durable.contains(&e.position));
        if is_sane { Ok(DurableMark { header, entries, set_names }) } else { Err(Fault::Length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POS: u32 = 8192;

    fn salt() -> BlockSalt {
        BlockSalt::new(&[3; 16], 0, 1, 2)
    }

    fn sample(position: u32, durable_end: u32) -> Vec<u8> {
        let entry = FooterEntry { sequence: 9, position, set_index: 1, ..FooterEntry::zeroed() };
        let mut bytes = vec![0xEE; mark_size(1, 7) as usize];
        seal_mark(&mut bytes, durable_end, &[entry], &["", "users"], salt(), POS);
        bytes
    }

    #[test]
    fn a_mark_round_trips() {
        let bytes = sample(4, 4096);
        assert_eq!(bytes.len(), 80);
        let mark = DurableMark::parse(&bytes, salt(), POS).unwrap();
        assert_eq!((mark.header.durable_end, mark.entries[0].sequence), (4096, 9));
        assert_eq!(mark.set_names, ["", "users"]);
    }

    #[test]
    fn every_flipped_bit_every_cut_and_every_other_place_is_seen() {
        let bytes = sample(4, 4096);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(DurableMark::parse(&bad, salt(), POS).is_err(), "bit {bit}");
        }
        for size in 0..bytes.len() {
            assert!(DurableMark::parse(&bytes[..size], salt(), POS).is_err(), "size {size}");
        }
        assert_eq!(DurableMark::parse(&bytes, salt(), POS + 16).err(), Some(Fault::Checksum));
        let elsewhere = BlockSalt::new(&[3; 16], 0, 1, 3);
        assert_eq!(DurableMark::parse(&bytes, elsewhere, POS).err(), Some(Fault::Checksum));
    }

    #[test]
    fn a_mark_that_speaks_of_what_lies_behind_it_is_no_mark() {
        for (position, durable_end) in [(3, 4096), (256, 4096), (u32::MAX, 4096), (4, POS + 16)] {
            let bytes = sample(position, durable_end);
            assert_eq!(DurableMark::parse(&bytes, salt(), POS).err(), Some(Fault::Length));
        }
    }
}
