//! Values that prove themselves: key, run, version and size in the head, a checksum over all of it.
//!
//! ```text
//! 0         8      12     16      24    28        32
//! | checksum | magic | size | key | run | version | filling ...
//! ```
//! The checksum is XXH3 of everything behind it. The filling is a slice of a pool of random bytes, from a place that key and
//! version decide; zeros in the pool make it compressible. Whoever returns another key's value, an older layout, a torn
//! or a damaged one is found out by the value alone.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the head: the smallest value that can prove itself.
pub const HEAD: usize = 32;
const MAGIC: [u8; 4] = *b"AeLd";
/// Bytes of the pool beyond the largest value: so many different fillings there are.
const POOL: usize = 1 << 20;
/// Zeros and random bytes take turns in pieces of this size, so that small values are compressible too.
const PIECE: usize = 64;

/// What a value says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Whose value it is.
    pub key: u64,
    /// Which run wrote it.
    pub run: u32,
    /// Which version of the key in that run, from 1.
    pub version: u32,
}

/// Why a value is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Wrong {
    #[error("{size} bytes are no value of this tool: it has at least {HEAD}")]
    Short { size: usize },
    #[error("the checksum does not fit: damaged, torn, or not written by this tool with --check")]
    Checksum,
    #[error("it begins like no value of this tool")]
    Magic,
    #[error("it says that it has {said} bytes, and has {size}")]
    Size { said: u32, size: usize },
    #[error("it is the value of record {found}")]
    Key { found: u64 },
}

/// Makes values.
pub struct Maker {
    pool: Vec<u8>,
    run: u32,
    proves: bool,
}

impl Maker {
    /// For values of up to `largest` bytes of which `compressible_pct` percent are zeros; with heads or without.
    pub fn new(largest: u64, compressible_pct: f64, run: u32, proves: bool, seed: u64) -> Maker {
        let mut pool = vec![0; POOL + largest as usize];
        let mut rng = SmallRng::seed_from_u64(seed);
        let zeros = (PIECE as f64 * compressible_pct / 100.0).round() as usize;
        for piece in pool.chunks_mut(PIECE) {
            let zeros = zeros.min(piece.len());
            rng.fill_bytes(&mut piece[zeros..]);
        }
        Maker { pool, run, proves }
    }

    /// The value of a key in a version, `size` bytes of it.
    pub fn make(&self, key: u64, version: u32, size: u64) -> Vec<u8> {
        let size = size as usize;
        // Any mixing will do that sends neighbours to different places.
        let mixed = (key ^ u64::from(version) << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
        let place = mixed as usize % POOL;
        if !self.proves {
            return self.pool[place..place + size].to_vec();
        }
        assert!(size >= HEAD, "the flags are checked: a value of {size} bytes has no room for its head");
        let mut value = Vec::with_capacity(size);
        value.extend_from_slice(&[0; 8]);
        value.extend_from_slice(&MAGIC);
        value.extend_from_slice(&(size as u32).to_le_bytes());
        value.extend_from_slice(&key.to_le_bytes());
        value.extend_from_slice(&self.run.to_le_bytes());
        value.extend_from_slice(&version.to_le_bytes());
        value.extend_from_slice(&self.pool[place..place + size - HEAD]);
        let checksum = xxh3_64(&value[8..]);
        value[..8].copy_from_slice(&checksum.to_le_bytes());
        value
    }
}

/// What a value says of itself, if it is whole and, where `key` is known, the right one.
pub fn verify(value: &[u8], key: Option<u64>) -> Result<Stamp, Wrong> {
    let word = |at: usize| u32::from_le_bytes(value[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(value[at..at + 8].try_into().expect("eight bytes"));
    if value.len() < HEAD {
        return Err(Wrong::Short { size: value.len() });
    }
    if long(0) != xxh3_64(&value[8..]) {
        return Err(Wrong::Checksum);
    }
    if value[8..12] != MAGIC {
        return Err(Wrong::Magic);
    }
    if word(12) as usize != value.len() {
        return Err(Wrong::Size { said: word(12), size: value.len() });
    }
    let stamp = Stamp { key: long(16), run: word(24), version: word(28) };
    match key {
        Some(key) if key != stamp.key => Err(Wrong::Key { found: stamp.key }),
        _ => Ok(stamp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_again_and_every_flipped_bit_and_every_cut_is_seen() {
        let maker = Maker::new(300, 30.0, 77, true, 1);
        for size in [32, 33, 100, 300] {
            let value = maker.make(41, 7, size);
            assert_eq!(value.len() as u64, size);
            assert_eq!(verify(&value, Some(41)), Ok(Stamp { key: 41, run: 77, version: 7 }));
            assert_eq!(verify(&value, None), Ok(Stamp { key: 41, run: 77, version: 7 }));
            assert_eq!(verify(&value, Some(42)), Err(Wrong::Key { found: 41 }));
            for bit in 0..value.len() * 8 {
                let mut flipped = value.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(verify(&flipped, Some(41)), Err(Wrong::Checksum), "bit {bit} of {size} bytes");
            }
            (0..value.len()).for_each(|cut| assert!(verify(&value[..cut], None).is_err(), "cut at {cut}"));
        }
    }

    #[test]
    fn versions_and_keys_have_fillings_of_their_own() {
        let maker = Maker::new(200, 0.0, 1, true, 1);
        let fillings = [(1, 1), (1, 2), (2, 1), (3, 1)]
            .map(|(key, version)| maker.make(key, version, 200).split_off(HEAD));
        for (i, one) in fillings.iter().enumerate() {
            assert!(fillings[i + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn so_many_bytes_are_zeros_as_were_asked_for() {
        for pct in [0.0, 25.0, 50.0, 100.0] {
            let value = Maker::new(64 << 10, pct, 1, false, 1).make(5, 1, 64 << 10);
            let zeros = value.iter().filter(|&&byte| byte == 0).count() as f64 / value.len() as f64;
            // A random byte is zero once in 256 times.
            let expected = pct / 100.0 + (1.0 - pct / 100.0) / 256.0;
            assert!((zeros - expected).abs() < 0.01, "{pct} %: {zeros}");
        }
    }
}
