//! The block header: which block this is, and which of its lives.
//!
//! It opens the block's first commit, so a block whose header is missing holds nothing that was
//! acknowledged in that life.
//!
//! ```text
//!  0 magic 8   8 block_id u32  12 member_index u16  14 stream u8  15 reserved u8
//! 16 epoch u64            24 first_sequence u64  32 opened_ms u64
//! 40 set_uuid 16          56 checksum u64
//! ```

use super::Fault;
use bytemuck::{Pod, Zeroable};
use std::mem::size_of;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a block header; the first record follows at this position.
pub const BLOCK_HEADER_SIZE: u32 = 64;

/// Opens every block header.
pub const BLOCK_MAGIC: [u8; 8] = *b"AEROBLK1";

/// A block header, as it lies on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockHeader {
    /// `AEROBLK1`.
    pub magic: [u8; 8],
    /// The block's number on its device.
    pub block_id: u32,
    /// Which member of the device set wrote it.
    pub member_index: u16,
    /// The stream (class of expected lifetime) that filled it.
    pub stream: u8,
    /// Zero.
    pub reserved: u8,
    /// Increases with every block opened on the device: incarnation in the upper 24 bits, count below.
    pub epoch: u64,
    /// The namespace's sequence number when the block was opened: the age of what it holds.
    pub first_sequence: u64,
    /// When the block was opened, in milliseconds since the Unix epoch. Informative.
    pub opened_ms: u64,
    /// The device set.
    pub set_uuid: [u8; 16],
    /// xxh3 of the bytes before it.
    pub checksum: u64,
}

const _: () = assert!(size_of::<BlockHeader>() == BLOCK_HEADER_SIZE as usize);

impl BlockHeader {
    /// The header as bytes, with magic and checksum.
    pub fn encode(mut self) -> [u8; BLOCK_HEADER_SIZE as usize] {
        self.magic = BLOCK_MAGIC;
        self.checksum = xxh3_64(&bytemuck::bytes_of(&self)[..BLOCK_HEADER_SIZE as usize - 8]);
        bytemuck::cast(self)
    }

    /// Reads the header from the start of a block's bytes. The caller compares `set_uuid`,
    /// `member_index` and `block_id` with where it read.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let bytes = bytes.get(..BLOCK_HEADER_SIZE as usize).ok_or(Fault::Short)?;
        let header: BlockHeader = bytemuck::pod_read_unaligned(bytes);
        if header.magic != BLOCK_MAGIC {
            return Err(Fault::Magic);
        }
        if xxh3_64(&bytes[..BLOCK_HEADER_SIZE as usize - 8]) != header.checksum {
            return Err(Fault::Checksum);
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let header = BlockHeader { block_id: 9, epoch: 77, ..BlockHeader::zeroed() };
        let bytes = header.encode();
        assert_eq!(BlockHeader::parse(&bytes).unwrap().epoch, 77);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::parse(&bad).is_err(), "bit {bit}");
        }
        for size in 0..bytes.len() {
            assert_eq!(BlockHeader::parse(&bytes[..size]), Err(Fault::Short));
        }
    }
}
