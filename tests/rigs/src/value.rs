//! Values that say what they are: key, version, seed and length, in bytes that nothing else has.
//!
//! A value is worked out again from its own first bytes and compared whole, so a value of another key, of another
//! run, cut short or mixed from two is seen without trusting the engine's checksums.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Marks a value of the rigs.
const MAGIC: u64 = 0x4145_524f_5249_4753;
const HEADER: usize = 32;
/// The largest value, in bytes: it must fit into a block with its record's header.
const LARGEST: u64 = 40 << 10;

/// How many bytes this version of this key has: mostly some hundred, now and then many.
fn length(seed: u64, key: u32, version: u64) -> usize {
    let chance = hash(seed, key, version, 0);
    let more = match chance % 100 {
        0 => LARGEST - HEADER as u64,
        1..10 => 14 << 10,
        10..40 => 4 << 10,
        _ => 900,
    };
    HEADER + ((chance >> 32) % more) as usize
}

fn hash(seed: u64, key: u32, version: u64, part: u64) -> u64 {
    let mut words = [0; 24];
    words[..8].copy_from_slice(&u64::from(key).to_le_bytes());
    words[8..16].copy_from_slice(&version.to_le_bytes());
    words[16..].copy_from_slice(&part.to_le_bytes());
    xxh3_64_with_seed(&words, seed)
}

/// The bytes of a version.
pub fn value(seed: u64, key: u32, version: u64) -> Vec<u8> {
    let length = length(seed, key, version);
    let mut bytes = Vec::with_capacity(length + 8);
    for word in [MAGIC ^ u64::from(key), version, seed, length as u64] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    let mut state = hash(seed, key, version, 1);
    while bytes.len() < length {
        // Splitmix64: any change of the state changes all that follows.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Which version of `key` these bytes are; none if they are not exactly one.
pub fn version_of(seed: u64, key: u32, bytes: &[u8]) -> Option<u64> {
    let version = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes == value(seed, key, version)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_version() {
        for version in 1..500 {
            let bytes = value(3, 9, version);
            assert_eq!(version_of(3, 9, &bytes), Some(version));
            assert!(bytes.len() <= LARGEST as usize);
        }
    }

    #[test]
    fn what_is_changed_is_seen() {
        let bytes = value(3, 9, 77);
        assert_eq!(version_of(3, 8, &bytes), None, "another key");
        assert_eq!(version_of(4, 9, &bytes), None, "another run");
        assert_eq!(version_of(3, 9, &bytes[..bytes.len() - 1]), None, "cut short");
        assert_eq!(version_of(3, 9, &[]), None);
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_eq!(version_of(3, 9, &wrong), None, "byte {at}");
        }
    }
}
