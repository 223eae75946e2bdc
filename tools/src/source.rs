//! A device as the tools read it: opened for reading only, in large reads, and past what cannot be read.
//!
//! The lock is shared with other readers, so a device that a server has open is refused. A read that fails is taken
//! apart into pieces and then into pages: a bad sector costs its page, and its error is kept with the place.

use aerolith_engine::device::{
    AlignedBuffer, Device, DeviceError, DeviceOptions, Driver, FileDevice, OpenError, Request,
};
use aerolith_engine::format::{DEVICE_HEADER_COPIES, DeviceHeader, Fault, HEADER_PAGE};
use aerolith_engine::volume::{BlockId, BlockPlace};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The smallest read, in bytes.
pub const PAGE: u32 = HEADER_PAGE as u32;
/// Reads that failed as a whole are tried in pieces of this many bytes, then in pages.
const PIECE: u32 = 1 << 20;

/// A device whose header has been read.
pub struct Source {
    /// The device, read-only.
    pub device: Arc<dyn Device>,
    /// The newer good copy of its header.
    pub header: DeviceHeader,
}

/// A run of bytes of a block.
pub struct Pages {
    /// The bytes. Where a page cannot be read they are 0xFF, which nothing takes for a blank block.
    pub bytes: AlignedBuffer,
    /// What cannot be read, by position in the block; neighbours are one range.
    pub unreadable: Vec<(Range<u32>, DeviceError)>,
}

/// Opens a file or block device, for reading only.
pub fn open(path: &Path) -> Result<FileDevice, OpenError> {
    FileDevice::open(DeviceOptions { read_only: true, driver: Driver::Blocking, ..DeviceOptions::new(path) })
}

/// Bytes of a device.
pub fn read(device: &dyn Device, offset: u64, size: usize) -> Result<AlignedBuffer, DeviceError> {
    device.submit(Request::Read { offset, buffer: AlignedBuffer::for_read(size) }).wait().into_buffer()
}

/// What was found where a copy of a device's header should be, if it could be read.
pub type HeaderCopy = Result<Result<DeviceHeader, Fault>, DeviceError>;

/// Both copies of a device's header, and where they are.
pub fn header_copies(device: &dyn Device) -> [(u64, HeaderCopy); 2] {
    const { assert!(DEVICE_HEADER_COPIES == 2) };
    [0, HEADER_PAGE].map(|offset| {
        if offset + HEADER_PAGE > device.geometry().size {
            return (offset, Ok(Err(Fault::Short)));
        }
        (offset, read(device, offset, PAGE as usize).map(|page| DeviceHeader::parse(&page)))
    })
}

impl Source {
    /// The device's name.
    pub fn name(&self) -> String {
        self.device.geometry().name.to_string()
    }

    /// A block as the engine's listing knows it.
    pub fn place(&self, block: u32) -> BlockPlace {
        BlockPlace::new(&self.header, BlockId(block))
    }

    /// Where a position of a block is on the device, in bytes.
    pub fn offset(&self, block: u32, pos: u32) -> u64 {
        u64::from(block) * u64::from(self.header.block_size) + u64::from(pos)
    }

    /// Whether the device is long enough for the block.
    pub fn has(&self, block: u32) -> bool {
        (u64::from(block) + 1) * u64::from(self.header.block_size) <= self.device.geometry().size
    }

    /// A range of a block, in whole pages, in one read if the device can do that.
    pub fn pages(&self, block: u32, range: Range<u32>) -> Pages {
        let size = (range.end - range.start) as usize;
        if let Ok(bytes) = read(self.device.as_ref(), self.offset(block, range.start), size) {
            return Pages { bytes, unreadable: Vec::new() };
        }
        let mut bytes = AlignedBuffer::zeroed(size);
        let mut unreadable: Vec<(Range<u32>, DeviceError)> = Vec::new();
        let mut fill = |range: &Range<u32>, at: Range<u32>, is_last: bool| {
            let target = &mut bytes[(at.start - range.start) as usize..(at.end - range.start) as usize];
            match read(self.device.as_ref(), self.offset(block, at.start), target.len()) {
                Ok(read) => target.copy_from_slice(&read),
                Err(_) if !is_last => return false,
                Err(error) => {
                    target.fill(0xFF);
                    match unreadable.last_mut() {
                        Some((before, first)) if before.end == at.start && first.cause == error.cause => {
                            before.end = at.end;
                        }
                        _ => unreadable.push((at, error)),
                    }
                }
            }
            true
        };
        for start in range.clone().step_by(PIECE as usize) {
            let piece = start..range.end.min(start + PIECE);
            if fill(&range, piece.clone(), false) {
                continue;
            }
            for start in piece.clone().step_by(PAGE as usize) {
                fill(&range, start..piece.end.min(start + PAGE), true);
            }
        }
        Pages { bytes, unreadable }
    }
}

impl Pages {
    /// Why a part of the block could not be read, if it could not.
    pub fn error_in(&self, range: Range<u32>) -> Option<&DeviceError> {
        let meets = |other: &Range<u32>| range.start < other.end && other.start < range.end;
        self.unreadable.iter().find(|(other, _)| meets(other)).map(|(_, error)| error)
    }
}
