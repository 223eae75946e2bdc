//! A stored record: a header of 64 bytes, then set name, user key and bins.
//!
//! ```text
//!  0 magic u16   2 kind u8   3 flags u8   4 length u32   8 checksum u64  16 sequence u64
//! 24 digest 20  44 generation u16        46 set_size u8  47 key_type u8
//! 48 expires_ms u48        54 last_update_ms u48         60 key_size u16 62 bin_count u16
//! 64 set name | user key | bins | zeros to the stored size
//! ```
//!
//! `length` counts header and content without the zeros. The checksum covers every one of those bytes
//! (all but itself) and the place that the record was written to. `EncodedRecord` is a record that has no
//! place yet; `RecordView` is one that has been read back and has proved itself.

use super::checksum::{BlockSalt, hash};
use super::{Fault, UNIT};
use crate::planted::{self, Bug};
use bytemuck::{Pod, Zeroable};
use std::mem::{offset_of, size_of};

/// Bytes of a record's header.
pub const RECORD_HEADER_SIZE: u32 = 64;
/// The longest user key that a record can carry, in bytes.
pub const MAX_USER_KEY_SIZE: usize = u16::MAX as usize;

/// Opens every record and every group frame.
pub const RECORD_MAGIC: u16 = 0x5EAE;
/// The `kind` of a record.
pub const KIND_RECORD: u8 = 1;

/// Bits of a record's flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordFlags(pub u8);

impl RecordFlags {
    /// Says that the key was deleted; has no bins.
    pub const TOMBSTONE: u8 = 1;
    /// A member of a group frame: valid only as long as the whole frame is.
    pub const IN_GROUP: u8 = 2;
    /// A fact of the system's own (a truncation threshold), hidden from users.
    pub const SYSTEM: u8 = 4;

    /// Whether all bits of `flag` are set.
    pub fn has(self, flag: u8) -> bool {
        self.0 & flag == flag
    }
}

/// Rounds up to whole units of 16 bytes.
pub fn unit_round(size: u32) -> u32 {
    size.next_multiple_of(UNIT)
}

/// The start of void-times: 2010-01-01 UTC in milliseconds since the Unix epoch (Aerospike's epoch).
pub const VOID_TIME_EPOCH_MS: u64 = 1_262_304_000_000;

/// The second in which a record is gone that expires at `expires_ms`: rounded up, so that a record is
/// never taken for expired while its exact millisecond is still ahead. 0 = never.
pub fn void_time(expires_ms: u64) -> u32 {
    if expires_ms == 0 {
        return 0;
    }
    let seconds = expires_ms.saturating_sub(VOID_TIME_EPOCH_MS).div_ceil(1000);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// A record's header, as it lies on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RecordHeader {
    /// Marks a record or a group frame.
    pub magic: u16,
    /// 1 = record.
    pub kind: u8,
    /// `RecordFlags`.
    pub flags: u8,
    /// Bytes of header and content, without padding.
    pub length: u32,
    /// `hash(bytes 0..8, bytes 16..length) ^ salt(place)`.
    pub checksum: u64,
    /// The version's number in its namespace: the highest wins (I5).
    pub sequence: u64,
    /// RIPEMD-160 over set, key type and key.
    pub digest: [u8; 20],
    /// Counts the updates of this key, from 1; after 65535 comes 1.
    pub generation: u16,
    /// Bytes of the set's name.
    pub set_size: u8,
    /// The user key's particle type; 0 = no user key.
    pub key_type: u8,
    /// When the record expires, in milliseconds since the Unix epoch; 0 = never.
    pub expires_ms: [u8; 6],
    /// When it was last written, in milliseconds since the Unix epoch.
    pub last_update_ms: [u8; 6],
    /// Bytes of the user key.
    pub key_size: u16,
    /// How many bins follow.
    pub bin_count: u16,
}

const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_SIZE as usize);
const _: () = assert!(offset_of!(RecordHeader, checksum) == 8 && offset_of!(RecordHeader, sequence) == 16);

pub(super) fn u48(value: u64) -> [u8; 6] {
    let bytes = value.min((1 << 48) - 1).to_le_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
}

pub(super) fn from_u48(b: [u8; 6]) -> u64 {
    u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0])
}

impl RecordHeader {
    /// When the record expires, in milliseconds since the Unix epoch; 0 = never.
    pub fn expires_ms(&self) -> u64 {
        from_u48(self.expires_ms)
    }

    /// When the record was last written, in milliseconds since the Unix epoch.
    pub fn last_update_ms(&self) -> u64 {
        from_u48(self.last_update_ms)
    }

    /// The flags.
    pub fn flags(&self) -> RecordFlags {
        RecordFlags(self.flags)
    }

    /// Reads a header and checks that its lengths fit each other and `limit` bytes.
    fn parse(bytes: &[u8], limit: usize) -> Result<Self, Fault> {
        let bytes = bytes.get(..RECORD_HEADER_SIZE as usize).ok_or(Fault::Short)?;
        let header: RecordHeader = bytemuck::pod_read_unaligned(bytes);
        if header.magic != RECORD_MAGIC || header.kind != KIND_RECORD {
            return Err(Fault::Magic);
        }
        let fixed = RECORD_HEADER_SIZE as usize + usize::from(header.set_size) + usize::from(header.key_size);
        if header.length as usize > limit || (header.length as usize) < fixed {
            return Err(Fault::Length);
        }
        Ok(header)
    }
}

/// A record in the form it is written in, before it has a place.
#[derive(Clone, Debug)]
pub struct EncodedRecord {
    bytes: Vec<u8>,
    /// The checksum without the salt; set by `complete`.
    hash: u64,
}

impl EncodedRecord {
    /// Begins a record; bins are then appended to `body`.
    ///
    /// # Panics
    /// If the set's name exceeds 255 bytes or the key 65535: keys are checked when they are made.
    pub fn begin(digest: &[u8; 20], set: &[u8], key_type: u8, key: &[u8], bins_size: usize) -> Self {
        let size = RECORD_HEADER_SIZE as usize + set.len() + key.len() + bins_size;
        let mut bytes = Vec::with_capacity(unit_round(size as u32) as usize);
        let header = RecordHeader {
            magic: RECORD_MAGIC,
            kind: KIND_RECORD,
            digest: *digest,
            set_size: u8::try_from(set.len()).expect("a set's name is at most 63 bytes"),
            key_type,
            key_size: u16::try_from(key.len()).expect("a user key is at most 65535 bytes"),
            ..Zeroable::zeroed()
        };
        bytes.extend_from_slice(bytemuck::bytes_of(&header));
        bytes.extend_from_slice(set);
        bytes.extend_from_slice(key);
        EncodedRecord { bytes, hash: 0 }
    }

    /// Where bins are appended, in the encoding of the record room.
    pub fn body(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// A record that was read back, to be written again elsewhere.
    pub fn copy_of(record: &RecordView<'_>) -> Self {
        EncodedRecord { bytes: record.bytes.to_vec(), hash: 0 }
    }

    /// Fills in what is known only when the record is applied, and hashes the whole.
    pub fn complete(
        &mut self,
        sequence: u64,
        generation: u16,
        expires_ms: u64,
        last_update_ms: u64,
        flags: RecordFlags,
        bin_count: u16,
    ) {
        let length = self.length();
        let header: &mut RecordHeader =
            bytemuck::from_bytes_mut(&mut self.bytes[..RECORD_HEADER_SIZE as usize]);
        header.length = length;
        header.sequence = sequence;
        header.generation = generation;
        header.expires_ms = u48(expires_ms);
        header.last_update_ms = u48(last_update_ms);
        header.flags = flags.0;
        header.bin_count = bin_count;
        self.hash = record_hash(&self.bytes);
    }

    /// Hashes again with other flags, all else unchanged: for a copy that leaves or joins a group.
    pub fn set_flags(&mut self, flags: RecordFlags) {
        self.bytes[offset_of!(RecordHeader, flags)] = flags.0;
        self.hash = record_hash(&self.bytes);
    }

    /// Bytes of header and content so far.
    pub fn length(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// The header as it stands.
    pub fn header(&self) -> RecordHeader {
        bytemuck::pod_read_unaligned(&self.bytes[..RECORD_HEADER_SIZE as usize])
    }

    /// The set's name.
    pub fn set(&self) -> &[u8] {
        &self.bytes[RECORD_HEADER_SIZE as usize..][..usize::from(self.header().set_size)]
    }

    /// Writes the record to the start of `target` with the checksum that belongs to `pos`, and zeros after it.
    ///
    /// # Panics
    /// If `target` is smaller than the record.
    pub fn place(&self, target: &mut [u8], salt: BlockSalt, pos: u32) {
        let (used, pad) = target.split_at_mut(self.bytes.len());
        used.copy_from_slice(&self.bytes);
        used[8..16].copy_from_slice(&(self.hash ^ salt.at(pos)).to_le_bytes());
        pad.fill(0);
    }
}

fn record_hash(bytes: &[u8]) -> u64 {
    let head = u64::from_le_bytes(bytes[..8].try_into().expect("a header is longer than 8 bytes"));
    hash(head, &bytes[16..])
}

/// A record read back, whole and in its place.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    header: RecordHeader,
    bytes: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Reads the record at the start of `bytes` and proves it: length, then checksum for its place.
    pub fn parse(bytes: &'a [u8], salt: BlockSalt, pos: u32) -> Result<Self, Fault> {
        let view = Self::parse_trusted(bytes)?;
        let is_right = record_hash(view.bytes) ^ salt.at(pos) == view.header.checksum;
        if !is_right && !planted::is(Bug::RecordChecksumIgnored) {
            return Err(Fault::Checksum);
        }
        Ok(view)
    }

    /// Reads a record that was copied out of our own memory, whose checksum need not be computed again.
    pub fn parse_trusted(bytes: &'a [u8]) -> Result<Self, Fault> {
        let header = RecordHeader::parse(bytes, bytes.len())?;
        Ok(RecordView { header, bytes: &bytes[..header.length as usize] })
    }

    /// The header.
    pub fn header(&self) -> &RecordHeader {
        &self.header
    }

    /// Header and content, without padding.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The set's name.
    pub fn set(&self) -> &'a [u8] {
        &self.bytes[RECORD_HEADER_SIZE as usize..][..usize::from(self.header.set_size)]
    }

    /// The user key's bytes; its type is `header().key_type`.
    pub fn user_key(&self) -> &'a [u8] {
        let start = RECORD_HEADER_SIZE as usize + usize::from(self.header.set_size);
        &self.bytes[start..][..usize::from(self.header.key_size)]
    }

    /// The encoded bins.
    pub fn bins(&self) -> &'a [u8] {
        let start = RECORD_HEADER_SIZE as usize
            + usize::from(self.header.set_size)
            + usize::from(self.header.key_size);
        &self.bytes[start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, BlockSalt) {
        let salt = BlockSalt::new(&[3; 16], 0, 1, 2);
        let mut record = EncodedRecord::begin(&[9; 20], b"users", 3, b"alice", 3);
        record.body().extend_from_slice(b"xyz");
        record.complete(77, 4, 1_700_000_000_123, 1_600_000_000_001, RecordFlags(0), 1);
        let mut bytes = vec![0xFF; 96];
        record.place(&mut bytes, salt, 128);
        (bytes, salt)
    }

    #[test]
    fn a_record_round_trips() {
        let (bytes, salt) = sample();
        let view = RecordView::parse(&bytes, salt, 128).unwrap();
        assert_eq!((view.set(), view.user_key(), view.bins()), (&b"users"[..], &b"alice"[..], &b"xyz"[..]));
        assert_eq!(view.header().expires_ms(), 1_700_000_000_123);
        assert_eq!(view.header().last_update_ms(), 1_600_000_000_001);
        assert_eq!((view.header().sequence, view.header().generation), (77, 4));
        assert_eq!(&bytes[77..], &[0; 19]);
    }

    #[test]
    fn every_flipped_bit_every_cut_and_every_other_place_is_seen() {
        let (bytes, salt) = sample();
        let used = 77;
        for bit in 0..used * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(RecordView::parse(&bad, salt, 128).is_err(), "bit {bit}");
        }
        for size in 0..used {
            assert!(RecordView::parse(&bytes[..size], salt, 128).is_err());
        }
        assert_eq!(RecordView::parse(&bytes, salt, 144).unwrap_err(), Fault::Checksum);
        let elsewhere = BlockSalt::new(&[3; 16], 0, 1, 3);
        assert_eq!(RecordView::parse(&bytes, elsewhere, 128).unwrap_err(), Fault::Checksum);
    }
}
