//! The device header: who this device is, and how its blocks are laid out.
//!
//! Two copies, in the first two pages of block 0, written in turn: a torn write costs the newer copy and
//! leaves the older one. Each opening for writing raises `incarnation` durably before anything else is
//! written; block epochs carry it in their upper bits, so no epoch is ever used twice, also when a crash
//! swallowed the header of the block that had it. Once all members have the number it is written as `confirmed`, and only
//! then is the set written to: a member whose incarnation is below what another one has confirmed is an older copy.
//!
//! ```text
//!   0 magic 8          8 version u32      12 block_size u32
//!  16 set_uuid 16
//!  32 member_index u16 34 member_count u16 36 block_count u32
//!  40 device_size u64  48 incarnation u64  56 created_ms u64  64 copy_sequence u64
//!  72 namespace 32 (zero-padded)          104 confirmed u64   112 reserved 8
//! 120 checksum u64
//! ```

use super::{FORMAT_VERSION, Fault};
use bytemuck::{Pod, Zeroable};
use std::mem::{offset_of, size_of};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of one copy of the header.
pub const DEVICE_HEADER_SIZE: usize = 128;
/// Each copy has a page of its own: a sector-sized fault cannot take both.
pub const HEADER_PAGE: u64 = 4096;
/// The number of copies, at offsets `0` and `HEADER_PAGE`.
pub const DEVICE_HEADER_COPIES: u64 = 2;

/// Opens each copy of the device header.
pub const DEVICE_MAGIC: [u8; 8] = *b"AEROLITH";

/// One copy of the device header, as it lies on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DeviceHeader {
    /// `AEROLITH`.
    pub magic: [u8; 8],
    /// The format version of the whole device.
    pub version: u32,
    /// Bytes of a block; a power of two.
    pub block_size: u32,
    /// The set of devices that together hold one namespace.
    pub set_uuid: [u8; 16],
    /// Which member of the set this is, from 0.
    pub member_index: u16,
    /// How many members the set has.
    pub member_count: u16,
    /// Blocks on this device, block 0 included.
    pub block_count: u32,
    /// Bytes of the device that are in use: `block_size * block_count`.
    pub device_size: u64,
    /// How often the device has been opened for writing.
    pub incarnation: u64,
    /// When the device was formatted, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The copy with the higher number is the newer one.
    pub copy_sequence: u64,
    /// The namespace's name, padded with zeros.
    pub namespace: [u8; 32],
    /// An incarnation that the headers of all members have, or have had.
    pub confirmed: u64,
    /// Zero.
    pub reserved: [u8; 8],
    /// xxh3 of the bytes before it.
    pub checksum: u64,
}

const _: () = assert!(size_of::<DeviceHeader>() == DEVICE_HEADER_SIZE);
const _: () = assert!(offset_of!(DeviceHeader, checksum) == DEVICE_HEADER_SIZE - 8);

impl DeviceHeader {
    /// A header with magic, version and `namespace` filled in, the rest zero.
    ///
    /// `namespace` is cut at 31 bytes; the configuration refuses longer names before.
    pub fn new(namespace: &str) -> Self {
        let mut name = [0; 32];
        let size = namespace.len().min(31);
        name[..size].copy_from_slice(&namespace.as_bytes()[..size]);
        DeviceHeader { magic: DEVICE_MAGIC, version: FORMAT_VERSION, namespace: name, ..Zeroable::zeroed() }
    }

    /// The header as bytes, with its checksum.
    pub fn encode(mut self) -> [u8; DEVICE_HEADER_SIZE] {
        self.checksum = xxh3_64(&bytemuck::bytes_of(&self)[..DEVICE_HEADER_SIZE - 8]);
        bytemuck::cast(self)
    }

    /// Reads one copy from the start of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let bytes = bytes.get(..DEVICE_HEADER_SIZE).ok_or(Fault::Short)?;
        let header: DeviceHeader = bytemuck::pod_read_unaligned(bytes);
        if header.magic != DEVICE_MAGIC {
            return Err(Fault::Magic);
        }
        if xxh3_64(&bytes[..DEVICE_HEADER_SIZE - 8]) != header.checksum {
            return Err(Fault::Checksum);
        }
        if header.version != FORMAT_VERSION {
            return Err(Fault::Version(header.version));
        }
        let fits = header.block_size.is_power_of_two()
            && header.block_size >= 2 * HEADER_PAGE as u32
            && header.member_index < header.member_count
            && header.device_size == u64::from(header.block_size) * u64::from(header.block_count);
        if fits { Ok(header) } else { Err(Fault::Length) }
    }

    /// The namespace's name; empty if it is not UTF-8.
    pub fn namespace_name(&self) -> &str {
        let end = self.namespace.iter().position(|&b| b == 0).unwrap_or(self.namespace.len());
        std::str::from_utf8(&self.namespace[..end]).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> DeviceHeader {
        DeviceHeader {
            block_size: 1 << 16,
            member_count: 2,
            member_index: 1,
            block_count: 10,
            device_size: 10 << 16,
            incarnation: 3,
            ..DeviceHeader::new("test")
        }
    }

    #[test]
    fn a_header_round_trips() {
        let parsed = DeviceHeader::parse(&sample().encode()).unwrap();
        assert_eq!(parsed.namespace_name(), "test");
        assert_eq!(parsed.block_count, 10);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(DeviceHeader::parse(&bad).is_err(), "bit {bit}");
        }
        for size in 0..bytes.len() {
            assert_eq!(DeviceHeader::parse(&bytes[..size]), Err(Fault::Short));
        }
    }
}
