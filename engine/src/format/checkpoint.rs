//! A checkpoint: the index as it was, so that a start reads this and the log behind it instead of every block.
//!
//! ```text
//! block 0          | header A | header B | root 0 | root 1 | ...
//! checkpoint block | block header 64 | part header 64 | payload | zeros to a page
//! payloads         body: entries of partition 0, of partition 1, ...      (one stream over the body's blocks)
//!                  summary: what the body holds, and where the log goes on behind it
//! ```
//!
//! Blocks of a checkpoint are ordinary blocks whose header says stream 255. The root is written last, to every
//! device, when all else is durable; roots alternate between two pages, so the older one is whole until the newer one is.
//! The part header's checksums are salted like a record's: a block that has been used again since cannot be taken for
//! a part of the checkpoint.
//!
//! Entries are the index's own three words, with set numbers as listed in the summary and without parity.

use super::checksum::{BlockSalt, hash};
use super::{BLOCK_HEADER_SIZE, Fault};
use crate::planted::{self, Bug};
use bytemuck::{Pod, Zeroable};
use std::mem::{offset_of, size_of};
use xxhash_rust::xxh3::xxh3_64;

/// Opens a root.
pub const ROOT_MAGIC: [u8; 8] = *b"AEROROOT";
/// Bytes of a root.
pub const ROOT_SIZE: usize = 128;
/// Roots on each device. Checkpoint number `n` has its root in slot `n % 2`.
pub const ROOT_SLOTS: u64 = 2;
/// Where the first root lies, in bytes from the device's start; the second follows a page later.
pub const ROOT_OFFSET: u64 = 8192;
/// The stream in the header of a block that holds a part of a checkpoint.
pub const CHECKPOINT_STREAM: u8 = 255;
/// Opens a part header.
pub const PART_MAGIC: [u8; 8] = *b"AEROPART";
/// Bytes of a part header; it follows the block header.
pub const PART_HEADER_SIZE: u32 = 64;
/// Where a part's payload begins in its block.
pub const PART_PAYLOAD: u32 = BLOCK_HEADER_SIZE + PART_HEADER_SIZE;
/// Bytes of an entry in the body.
pub const CHECKPOINT_ENTRY_SIZE: u32 = 24;

/// Names a checkpoint as valid, and says where its summary begins.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CheckpointRoot {
    /// `AEROROOT`.
    pub magic: [u8; 8],
    /// The checkpoint's number: one more than the last.
    pub id: u64,
    /// The device set.
    pub set_uuid: [u8; 16],
    /// The run that wrote it.
    pub incarnation: u64,
    /// When, in milliseconds since the Unix epoch. Informative.
    pub written_ms: u64,
    /// How many entries the body has.
    pub entry_count: u64,
    /// Bytes of the summary, over all its parts.
    pub summary_size: u64,
    /// Hash of the summary's bytes.
    pub summary_checksum: u64,
    /// The device of the summary's first part.
    pub summary_member: u16,
    /// Zero.
    pub reserved_a: u16,
    /// The block of the summary's first part.
    pub summary_block: u32,
    /// The epoch of that block.
    pub summary_epoch: u64,
    /// Zero.
    pub reserved: [u8; 32],
    /// xxh3 of the bytes before it.
    pub checksum: u64,
}

const _: () = assert!(size_of::<CheckpointRoot>() == ROOT_SIZE);
const _: () = assert!(offset_of!(CheckpointRoot, checksum) == ROOT_SIZE - 8);

impl CheckpointRoot {
    /// Where a checkpoint's root lies on each device, in bytes.
    pub const fn offset_of(id: u64) -> u64 {
        ROOT_OFFSET + id % ROOT_SLOTS * super::HEADER_PAGE
    }

    /// The root as bytes, with magic and checksum.
    pub fn encode(mut self) -> [u8; ROOT_SIZE] {
        self.magic = ROOT_MAGIC;
        self.checksum = xxh3_64(&bytemuck::bytes_of(&self)[..ROOT_SIZE - 8]);
        bytemuck::cast(self)
    }

    /// Reads a root from the start of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let bytes = bytes.get(..ROOT_SIZE).ok_or(Fault::Short)?;
        let root: CheckpointRoot = bytemuck::pod_read_unaligned(bytes);
        if root.magic != ROOT_MAGIC {
            return Err(Fault::Magic);
        }
        if xxh3_64(&bytes[..ROOT_SIZE - 8]) != root.checksum {
            return Err(Fault::Checksum);
        }
        Ok(root)
    }
}

/// Where a part of a checkpoint lies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PartPlace {
    /// The epoch of the block.
    pub epoch: u64,
    /// The block.
    pub block: u32,
    /// The device.
    pub member: u16,
    /// Zero.
    pub reserved: u16,
}

/// What stands before the payload of a checkpoint's block.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PartHeader {
    /// `AEROPART`.
    pub magic: [u8; 8],
    /// The checkpoint's number.
    pub id: u64,
    /// The next part of the summary; epoch 0: there is none.
    pub next: PartPlace,
    /// Bytes of the payload.
    pub payload_size: u32,
    /// Zero.
    pub reserved: u32,
    /// Hash of the payload, salted with its place.
    pub payload_checksum: u64,
    /// Zero.
    pub reserved_b: u64,
    /// Hash of the bytes before it, salted with their place.
    pub checksum: u64,
}

const _: () = assert!(size_of::<PartHeader>() == PART_HEADER_SIZE as usize);
const _: () = assert!(offset_of!(PartHeader, checksum) == PART_HEADER_SIZE as usize - 8);

impl PartHeader {
    /// The bytes of payload that a part has room for, in blocks of `block_size` bytes.
    pub const fn capacity(block_size: u32) -> u32 {
        block_size - PART_PAYLOAD
    }

    /// Seals the part whose payload of `payload_size` bytes stands in `block` already.
    pub fn seal(block: &mut [u8], id: u64, next: PartPlace, payload_size: u32, salt: BlockSalt) {
        let payload = &block[PART_PAYLOAD as usize..][..payload_size as usize];
        let mut header = PartHeader {
            magic: PART_MAGIC,
            id,
            next,
            payload_size,
            payload_checksum: hash(0, payload) ^ salt.at(PART_PAYLOAD),
            ..Zeroable::zeroed()
        };
        header.checksum = header_hash(bytemuck::bytes_of(&header)) ^ salt.at(BLOCK_HEADER_SIZE);
        block[BLOCK_HEADER_SIZE as usize..PART_PAYLOAD as usize].copy_from_slice(bytemuck::bytes_of(&header));
    }

    /// Reads the part in `block` (its bytes from the block header on), and proves header and payload.
    pub fn parse(block: &[u8], id: u64, salt: BlockSalt) -> Result<(Self, &[u8]), Fault> {
        let header = Self::parse_header(block, id, salt)?;
        let payload = block.get(PART_PAYLOAD as usize..).ok_or(Fault::Short)?;
        let payload = payload.get(..header.payload_size as usize).ok_or(Fault::Length)?;
        let is_right = hash(0, payload) ^ salt.at(PART_PAYLOAD) == header.payload_checksum;
        if !is_right && !planted::is(Bug::RootBeforeParts) {
            return Err(Fault::Checksum);
        }
        Ok((header, payload))
    }

    fn parse_header(block: &[u8], id: u64, salt: BlockSalt) -> Result<Self, Fault> {
        let bytes = block.get(BLOCK_HEADER_SIZE as usize..PART_PAYLOAD as usize).ok_or(Fault::Short)?;
        let header: PartHeader = bytemuck::pod_read_unaligned(bytes);
        if header.magic != PART_MAGIC {
            return Err(Fault::Magic);
        }
        if header_hash(bytes) ^ salt.at(BLOCK_HEADER_SIZE) != header.checksum || header.id != id {
            return Err(Fault::Checksum);
        }
        Ok(header)
    }
}

fn header_hash(bytes: &[u8]) -> u64 {
    xxh3_64(&bytes[..PART_HEADER_SIZE as usize - 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_root_is_seen() {
        let root = CheckpointRoot { id: 7, entry_count: 9, ..Zeroable::zeroed() };
        let bytes = root.encode();
        assert_eq!(CheckpointRoot::parse(&bytes).unwrap().id, 7);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(CheckpointRoot::parse(&bad).is_err(), "bit {bit}");
        }
        for size in 0..bytes.len() {
            assert_eq!(CheckpointRoot::parse(&bytes[..size]), Err(Fault::Short));
        }
    }

    #[test]
    fn a_part_proves_itself_in_its_place_and_nowhere_else() {
        let salt = BlockSalt::new(&[1; 16], 0, 3, 9);
        let mut block = vec![0; 4096];
        block[PART_PAYLOAD as usize..][..100].fill(7);
        PartHeader::seal(&mut block, 5, PartPlace::default(), 100, salt);
        let (header, payload) = PartHeader::parse(&block, 5, salt).unwrap();
        assert_eq!((header.payload_size, payload), (100, &[7; 100][..]));
        assert!(PartHeader::parse(&block, 6, salt).is_err());
        assert!(PartHeader::parse(&block, 5, BlockSalt::new(&[1; 16], 0, 3, 10)).is_err());
        let first = BLOCK_HEADER_SIZE as usize;
        for bit in first * 8..(PART_PAYLOAD as usize + 100) * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(PartHeader::parse(&bad, 5, salt).is_err(), "bit {bit}");
        }
        for size in 0..PART_PAYLOAD as usize + 100 {
            assert!(PartHeader::parse(&block[..size], 5, salt).is_err(), "size {size}");
        }
    }
}
