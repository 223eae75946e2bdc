//! The 20 bytes a record is found by.
//!
//! RIPEMD-160 over the set name, one byte of key type and the key's bytes, exactly as Aerospike's clients
//! compute it: a client sends the digest, and the server believes it. A Redis or memcached key is a string
//! key of a configured set, so all protocols meet at the same digest.
//!
//! The digest is uniform, so its bits serve as they are: the low 12 of its first little-endian u16 name the
//! partition, and the index takes its tag from others. It is no proof of identity against somebody who
//! searches for collisions (2^80 work).

use std::fmt;

use bytemuck::{Pod, Zeroable};
use ripemd::{Digest as _, Ripemd160};

/// How many partitions a namespace has; [`Digest::partition`] is below it.
pub const PARTITION_COUNT: u16 = 4096;

/// RIPEMD-160 of a key: what the index, the log and the wire call a record by.
///
/// ```
/// use aerolith_engine::record::{Digest, particle};
///
/// let digest = Digest::of(b"demo", particle::STRING, b"k1");
/// assert_eq!(digest.to_string(), "b747f5854d0b33259928d0cfab7fad81d6abfbf6");
/// assert_eq!(digest.partition(), 0x7b7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Digest(pub [u8; 20]);

const _: () = assert!(size_of::<Digest>() == 20 && align_of::<Digest>() == 1);

impl Digest {
    /// The digest of `set` ‖ `particle_type` ‖ `key`. An integer or float key is its 8 bytes big-endian; a
    /// string or blob key is its bytes; the null set is empty.
    ///
    /// Up to 54 bytes of set and key together fit one block of the hash, which is the usual case: 0.23 us, and
    /// 0.42 us for two blocks (`digest_cost` below, a shared cloud core).
    pub fn of(set: &[u8], particle_type: u8, key: &[u8]) -> Digest {
        let mut hash = Ripemd160::new();
        hash.update(set);
        hash.update([particle_type]);
        hash.update(key);
        Digest(hash.finalize().into())
    }

    /// The partition this record belongs to, below [`PARTITION_COUNT`].
    pub fn partition(&self) -> u16 {
        u16::from_le_bytes([self.0[0], self.0[1]]) & (PARTITION_COUNT - 1)
    }

    /// The bytes, as they go on the wire and on the device.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl From<[u8; 20]> for Digest {
    fn from(bytes: [u8; 20]) -> Digest {
        Digest(bytes)
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_key_hashes_as_aerospike_clients_hash_it() {
        let digest = Digest::of(b"demo", 3, b"k1");
        assert_eq!(digest.to_string(), "b747f5854d0b33259928d0cfab7fad81d6abfbf6");
        assert_eq!(format!("{digest:?}"), format!("Digest({digest})"));
    }

    #[test]
    fn the_digest_is_plain_ripemd_160_over_the_concatenation() {
        // Vectors of the hash's authors, with the key type's byte cut out of the message.
        assert_eq!(Digest::of(b"", b'a', b"").to_string(), "0bdc9d2d256b3ee9daae347be6f4dc835a467ffe");
        assert_eq!(Digest::of(b"a", b'b', b"c").to_string(), "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc");
        assert_eq!(
            Digest::of(b"message ", b'd', b"igest").to_string(),
            "5d0689ef49d2fae572b881b123a85ffa21595f36"
        );
    }

    #[test]
    fn the_partition_is_the_low_twelve_bits_little_endian() {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&[0x77, 0x84]);
        assert_eq!(Digest(bytes).partition(), 1143, "the pair observed on a stock server");
        assert_eq!(Digest([0xff; 20]).partition(), PARTITION_COUNT - 1);
    }

    /// `cargo test -p aerolith-engine --release digest_cost -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement, not a claim"]
    fn digest_cost() {
        let rounds = 2_000_000_u64;
        for key in ["user:12345", "session:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b82"] {
            let started = std::time::Instant::now();
            let mut sum = 0_u64;
            for round in 0..rounds {
                let set = [b's', round as u8];
                sum += u64::from(Digest::of(&set, 3, std::hint::black_box(key.as_bytes())).partition());
            }
            let nanoseconds = started.elapsed().as_nanos() as f64 / rounds as f64;
            println!("key of {} bytes: {nanoseconds:.0} ns a digest ({sum})", key.len());
        }
    }
}
