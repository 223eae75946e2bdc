//! Checksums: xxh3, salted with the place that the bytes belong to.
//!
//! A record's checksum is `hash(its bytes) ^ salt(its place)`. The hash can be computed before the place
//! is known, outside the write buffer's lock; the place enters with one XOR. Two different places
//! have different salts, so bytes that are whole but in the wrong place fail like damaged ones.

use crate::planted::{self, Bug};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// An odd factor (2^64 divided by the golden ratio): multiplication by it loses no bit.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of `bytes`, eight of which may stand apart from the rest (`head`).
///
/// Every change of `head` changes the result, because multiplication by an odd number is a bijection.
pub fn hash(head: u64, bytes: &[u8]) -> u64 {
    xxh3_64(bytes).wrapping_add(head.wrapping_mul(SPREAD))
}

/// What sets one life of one block apart from every other place on every device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSalt(u64);

impl BlockSalt {
    /// The salt of block `block_id` of member `member_index` of the device set `set_uuid`, in the life
    /// that began with `epoch`.
    pub fn new(set_uuid: &[u8; 16], member_index: u16, block_id: u32, epoch: u64) -> Self {
        let epoch = if planted::is(Bug::EpochNotInChecksum) { 0 } else { epoch };
        let mut place = [0u8; 32];
        place[..16].copy_from_slice(set_uuid);
        place[16..18].copy_from_slice(&member_index.to_le_bytes());
        place[20..24].copy_from_slice(&block_id.to_le_bytes());
        place[24..].copy_from_slice(&epoch.to_le_bytes());
        BlockSalt(xxh3_64_with_seed(&place, SPREAD))
    }

    /// The salt of position `pos` (bytes from the block's start).
    #[inline]
    pub fn at(self, pos: u32) -> u64 {
        // The finaliser of splitmix64: cheap, and each position gets an unrelated value.
        let mut z = self.0 ^ u64::from(pos).wrapping_add(1).wrapping_mul(SPREAD);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_of_neighbouring_places_differ() {
        let uuid = [7; 16];
        let mut seen = std::collections::HashSet::new();
        for member in 0..3 {
            for block in 0..10 {
                for epoch in 0..10 {
                    for pos in (0..1024).step_by(16) {
                        assert!(seen.insert(BlockSalt::new(&uuid, member, block, epoch).at(pos)));
                    }
                }
            }
        }
    }

    #[test]
    fn every_bit_of_the_head_counts() {
        let whole = hash(0, b"bytes");
        for bit in 0..64 {
            assert_ne!(hash(1 << bit, b"bytes"), whole);
        }
    }
}
