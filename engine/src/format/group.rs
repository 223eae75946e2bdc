//! A group frame: records that were written together and count only together.
//!
//! Several keys updated as one are one contiguous run in one block: a frame header, then the members, each
//! an ordinary record with the flag `IN_GROUP`. The frame's checksum covers all members, so a torn
//! frame is no frame, and a member whose frame is not whole does not count. Once the block is sealed the
//! footer lists the members singly, and from then on they live and move singly.
//!
//! ```text
//!  0 magic u16  2 kind u8 (2)  3 flags u8   4 length u32   8 checksum u64
//! 16 member_count u32         20 reserved u32             24 first_sequence u64
//! 32 member | member | ...
//! ```

use super::checksum::{BlockSalt, hash};
use super::{Fault, record};
use crate::planted::{self, Bug};
use bytemuck::{Pod, Zeroable};
use std::mem::size_of;

/// Bytes of a frame's header.
pub const GROUP_HEADER_SIZE: u32 = 32;
/// The `kind` of a group frame.
pub const KIND_GROUP: u8 = 2;

/// A frame's header, as it lies on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct GroupHeader {
    /// The same as a record's.
    pub magic: u16,
    /// 2 = group frame.
    pub kind: u8,
    /// Zero.
    pub flags: u8,
    /// Bytes of the frame, header included.
    pub length: u32,
    /// `hash(bytes 0..8, bytes 16..length) ^ salt(place)`.
    pub checksum: u64,
    /// How many records.
    pub member_count: u32,
    /// Zero.
    pub reserved: u32,
    /// The lowest sequence number of the members.
    pub first_sequence: u64,
}

const _: () = assert!(size_of::<GroupHeader>() == GROUP_HEADER_SIZE as usize);

/// Writes the header of the frame that fills `frame`, whose members are already in their places.
pub fn seal_group(frame: &mut [u8], member_count: u32, first_sequence: u64, salt: BlockSalt, pos: u32) {
    let mut header = GroupHeader {
        magic: record::RECORD_MAGIC,
        kind: KIND_GROUP,
        length: frame.len() as u32,
        member_count,
        first_sequence,
        ..Zeroable::zeroed()
    };
    frame[..GROUP_HEADER_SIZE as usize].copy_from_slice(bytemuck::bytes_of(&header));
    header.checksum = frame_hash(frame) ^ salt.at(pos);
    frame[8..16].copy_from_slice(&header.checksum.to_le_bytes());
}

/// The hash, without salt, of a frame or a mark: everything but its checksum.
pub(super) fn frame_hash(frame: &[u8]) -> u64 {
    let head = u64::from_le_bytes(frame[..8].try_into().expect("a frame is longer than 8 bytes"));
    hash(head, &frame[16..])
}

impl GroupHeader {
    /// Reads the frame at the start of `bytes` and proves it whole.
    pub fn parse(bytes: &[u8], salt: BlockSalt, pos: u32) -> Result<Self, Fault> {
        let head = bytes.get(..GROUP_HEADER_SIZE as usize).ok_or(Fault::Short)?;
        let header: GroupHeader = bytemuck::pod_read_unaligned(head);
        if header.magic != record::RECORD_MAGIC || header.kind != KIND_GROUP {
            return Err(Fault::Magic);
        }
        let length = header.length as usize;
        if length < GROUP_HEADER_SIZE as usize || !length.is_multiple_of(super::UNIT as usize) {
            return Err(Fault::Length);
        }
        let frame = bytes.get(..length).ok_or(Fault::Length)?;
        let is_right = frame_hash(frame) ^ salt.at(pos) == header.checksum;
        if !is_right && !planted::is(Bug::GroupChecksumIgnored) {
            return Err(Fault::Checksum);
        }
        Ok(header)
    }
}
