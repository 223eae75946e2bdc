//! The footer of a sealed block: one entry a record, so that a cold start reads this instead of data.
//!
//! It is written only after all data of the block is durable. A record that the footer lists and that
//! does not verify is therefore damage of that key, never a torn tail, and never rolled back silently.
//!
//! ```text
//! block end - size | entry 32 | entry 32 | ... | set names: (u8 length, bytes)* | zeros | trailer 64 |
//!
//! entry    0 sequence u64        8 position u32 (units of 16)  12 void_time u32 (seconds since 2010)
//!         16 digest_prefix 10   26 generation u16  28 class_and_flags u16 (10 + 6 bits)  30 set_index u16
//! trailer  0 magic 8             8 epoch u64  16 entry_count u32  20 footer_size u32
//!         24 data_end u32       28 names_size u32  32 max_sequence u64  40 sealed_epoch u64
//!         48 body_checksum u64  56 checksum u64 (salted)
//! ```

use super::checksum::{BlockSalt, hash};
use super::{COMMIT_ALIGNMENT, Fault};
use bytemuck::{Pod, Zeroable};
use std::mem::size_of;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the trailer, the last of the block.
pub const FOOTER_TRAILER_SIZE: u32 = 64;
/// Bytes of a footer entry.
pub const FOOTER_ENTRY_SIZE: u32 = 32;
/// Opens the trailer of every footer.
pub const FOOTER_MAGIC: [u8; 8] = *b"AEROFTR1";
const CLASS_BITS: u16 = 10;

/// What the footer says of one record: all that the index needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FooterEntry {
    /// The record's sequence number.
    pub sequence: u64,
    /// Where the record starts in the block, in units of 16 bytes.
    pub position: u32,
    /// When it expires, in seconds since 2010-01-01 UTC, rounded up; 0 = never.
    pub void_time: u32,
    /// The first 10 bytes of the digest: partition and tag.
    pub digest_prefix: [u8; 10],
    /// The record's generation.
    pub generation: u16,
    /// The size class in the lower 10 bits, `RecordFlags` in the upper 6.
    pub class_and_flags: u16,
    /// Which of the footer's set names is the record's.
    pub set_index: u16,
}

const _: () = assert!(size_of::<FooterEntry>() == FOOTER_ENTRY_SIZE as usize);
const _: () = assert!(size_of::<FooterTrailer>() == FOOTER_TRAILER_SIZE as usize);

impl FooterEntry {
    /// Packs a size class (below 1024) and flags (below 64).
    pub fn pack(class: u16, flags: u8) -> u16 {
        assert!(class < 1 << CLASS_BITS && flags < 64, "class {class} or flags {flags} out of range");
        class | u16::from(flags) << CLASS_BITS
    }

    /// The size class.
    pub fn class(&self) -> u16 {
        self.class_and_flags & ((1 << CLASS_BITS) - 1)
    }

    /// The record flags, as a number.
    pub fn flags(&self) -> u8 {
        (self.class_and_flags >> CLASS_BITS) as u8
    }
}

/// The trailer, as it lies on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FooterTrailer {
    /// `AEROFTR1`.
    pub magic: [u8; 8],
    /// The life of the block that this footer closes.
    pub epoch: u64,
    /// How many entries.
    pub entry_count: u32,
    /// Bytes from the first entry to the block's end.
    pub footer_size: u32,
    /// Bytes of the block that hold log, from its start.
    pub data_end: u32,
    /// Bytes of the set names.
    pub names_size: u32,
    /// The highest sequence number among the entries.
    pub max_sequence: u64,
    /// Drawn from the device's epochs when the block was sealed. Of two copies of one version, defrag made the one
    /// whose block was sealed later.
    pub sealed_epoch: u64,
    /// Hash of the footer's bytes before the trailer.
    pub body_checksum: u64,
    /// Salted hash of the trailer's bytes before it.
    pub checksum: u64,
}

impl FooterTrailer {
    /// Reads the trailer from `bytes`, which end with the block, and checks it against the block's salt.
    pub fn parse(bytes: &[u8], salt: BlockSalt, epoch: u64, block_size: u32) -> Result<Self, Fault> {
        let start = bytes.len().checked_sub(FOOTER_TRAILER_SIZE as usize).ok_or(Fault::Short)?;
        let bytes = &bytes[start..];
        let trailer: FooterTrailer = bytemuck::pod_read_unaligned(bytes);
        if trailer.magic != FOOTER_MAGIC {
            return Err(Fault::Magic);
        }
        let salted = xxh3_64(&bytes[..56]) ^ salt.at(block_size - FOOTER_TRAILER_SIZE);
        if salted != trailer.checksum || trailer.epoch != epoch {
            return Err(Fault::Checksum);
        }
        let body =
            u64::from(trailer.entry_count) * u64::from(FOOTER_ENTRY_SIZE) + u64::from(trailer.names_size);
        let fits = u64::from(trailer.footer_size) >= body + u64::from(FOOTER_TRAILER_SIZE)
            && trailer.footer_size <= block_size
            && trailer.data_end <= block_size - trailer.footer_size;
        if fits { Ok(trailer) } else { Err(Fault::Length) }
    }
}

/// Bytes of a footer with `entry_count` entries and `names_size` bytes of set names: whole physical sectors.
pub fn footer_size(entry_count: u32, names_size: u32) -> u32 {
    (entry_count * FOOTER_ENTRY_SIZE + names_size + FOOTER_TRAILER_SIZE).next_multiple_of(COMMIT_ALIGNMENT)
}

/// A footer, read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Footer {
    /// The trailer.
    pub trailer: FooterTrailer,
    /// One entry a record, by position.
    pub entries: Vec<FooterEntry>,
    /// The names that `set_index` chooses from.
    pub set_names: Vec<String>,
}

impl Footer {
    /// Writes a footer over the end of `block`, and returns its size in bytes.
    ///
    /// # Panics
    /// If it would overlap the log: the writer keeps room for it (`footer_size`).
    pub fn encode_into(
        block: &mut [u8],
        salt: BlockSalt,
        epoch: u64,
        data_end: u32,
        sealed_epoch: u64,
        entries: &[FooterEntry],
        set_names: &[Box<str>],
    ) -> u32 {
        let block_size = block.len() as u32;
        let names = encode_names(set_names);
        let size = footer_size(entries.len() as u32, names.len() as u32);
        assert!(data_end + size <= block_size, "a footer of {size} bytes does not fit after {data_end}");
        let footer = &mut block[(block_size - size) as usize..];
        let body_end = footer.len() - FOOTER_TRAILER_SIZE as usize;
        let entry_bytes = bytemuck::cast_slice::<_, u8>(entries);
        footer[..entry_bytes.len()].copy_from_slice(entry_bytes);
        footer[entry_bytes.len()..][..names.len()].copy_from_slice(&names);
        footer[entry_bytes.len() + names.len()..].fill(0);
        let mut trailer = FooterTrailer {
            magic: FOOTER_MAGIC,
            epoch,
            entry_count: entries.len() as u32,
            footer_size: size,
            data_end,
            names_size: names.len() as u32,
            max_sequence: entries.iter().map(|e| e.sequence).max().unwrap_or(0),
            sealed_epoch,
            body_checksum: hash(0, &footer[..body_end]),
            checksum: 0,
        };
        trailer.checksum =
            xxh3_64(&bytemuck::bytes_of(&trailer)[..56]) ^ salt.at(block_size - FOOTER_TRAILER_SIZE);
        footer[body_end..].copy_from_slice(bytemuck::bytes_of(&trailer));
        size
    }

    /// Reads the footer whose bytes are `bytes` (they end with the block and begin at or before the
    /// footer), given its trailer.
    pub fn parse(bytes: &[u8], trailer: FooterTrailer) -> Result<Self, Fault> {
        let start = bytes.len().checked_sub(trailer.footer_size as usize).ok_or(Fault::Short)?;
        let body = &bytes[start..bytes.len() - FOOTER_TRAILER_SIZE as usize];
        if hash(0, body) != trailer.body_checksum {
            return Err(Fault::Checksum);
        }
        let (entries, set_names) = parse_body(body, trailer.entry_count, trailer.names_size)?;
        Ok(Footer { trailer, entries, set_names: set_names.into_iter().map(str::to_owned).collect() })
    }
}

/// Set names as they follow the entries.
pub(super) fn encode_names<S: AsRef<str>>(set_names: &[S]) -> Vec<u8> {
    let names = set_names.iter().map(AsRef::as_ref);
    names.flat_map(|name| std::iter::once(name.len() as u8).chain(name.bytes())).collect()
}

/// The entries and the set names at the start of `body`.
pub(super) fn parse_body(
    body: &[u8],
    entry_count: u32,
    names_size: u32,
) -> Result<(Vec<FooterEntry>, Vec<&str>), Fault> {
    let entries_size = entry_count as usize * FOOTER_ENTRY_SIZE as usize;
    let (entry_bytes, rest) = body.split_at_checked(entries_size).ok_or(Fault::Length)?;
    let mut names = rest.get(..names_size as usize).ok_or(Fault::Length)?;
    let entries: Vec<FooterEntry> =
        entry_bytes.chunks_exact(FOOTER_ENTRY_SIZE as usize).map(bytemuck::pod_read_unaligned).collect();
    let mut set_names = Vec::new();
    while let Some((&size, rest)) = names.split_first() {
        // Each name is there for an entry's sake: a million empty ones would only take memory.
        if set_names.len() == entries.len() {
            return Err(Fault::Length);
        }
        let (name, rest) = rest.split_at_checked(usize::from(size)).ok_or(Fault::Length)?;
        set_names.push(std::str::from_utf8(name).map_err(|_| Fault::Length)?);
        names = rest;
    }
    Ok((entries, set_names))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = 16384;

    fn sample() -> (Vec<u8>, BlockSalt) {
        let salt = BlockSalt::new(&[1; 16], 0, 5, 9);
        let entries: Vec<_> = (0..40u32)
            .map(|i| FooterEntry {
                sequence: u64::from(i) + 100,
                position: 4 + i * 8,
                class_and_flags: FooterEntry::pack(7, 1),
                ..FooterEntry::zeroed()
            })
            .collect();
        let mut block = vec![0xAA; SIZE as usize];
        Footer::encode_into(&mut block, salt, 9, 6000, 1, &entries, &["".into(), "users".into()]);
        (block, salt)
    }

    #[test]
    fn a_footer_round_trips() {
        let (block, salt) = sample();
        let trailer = FooterTrailer::parse(&block, salt, 9, SIZE).unwrap();
        let footer = Footer::parse(&block, trailer).unwrap();
        assert_eq!(footer.entries.len(), 40);
        assert_eq!(footer.set_names, ["", "users"]);
        assert_eq!((footer.entries[3].class(), footer.entries[3].flags()), (7, 1));
        assert_eq!(footer.trailer.max_sequence, 139);
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let (block, salt) = sample();
        let start = block.len() - footer_size(40, 7) as usize;
        for bit in (start * 8)..(block.len() * 8) {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let read = FooterTrailer::parse(&bad, salt, 9, SIZE).and_then(|t| Footer::parse(&bad, t));
            assert!(read.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn more_names_than_entries_are_refused() {
        let (mut block, salt) = sample();
        Footer::encode_into(&mut block, salt, 9, 6000, 1, &[], &["".into()]);
        let trailer = FooterTrailer::parse(&block, salt, 9, SIZE).unwrap();
        assert_eq!(Footer::parse(&block, trailer), Err(Fault::Length));
    }

    #[test]
    fn a_footer_of_another_life_is_refused() {
        let (block, _) = sample();
        let salt = BlockSalt::new(&[1; 16], 0, 5, 10);
        assert_eq!(FooterTrailer::parse(&block, salt, 10, SIZE), Err(Fault::Checksum));
    }
}
