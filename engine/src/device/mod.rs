//! Where the bytes lie: the [`Device`] trait, its drivers, and the buffers they move.
//!
//! A device is asked by [`Device::submit`]: the buffer goes in by value and comes back in the answer, so nobody
//! can free memory that the kernel still writes to. Every request is answered exactly once, with all its bytes
//! moved or with an error; short transfers, EINTR, EAGAIN and full queues are settled in the driver and never
//! seen above. Devices know no record, and promise no order between requests that are under way together: a
//! [`Request::Flush`] covers the writes that were answered before it was submitted.
//!
//! | driver | is | for |
//! |---|---|---|
//! | ring | io_uring | servers ([`LocalRing`], one a worker) and async programs ([`SharedRing`], one an engine) |
//! | blocking | pread, pwritev2 on the caller's thread | blocking programs, and where io_uring is forbidden |
//! | memory | [`MemoryDevice`] | tests, and namespaces that live in RAM only |
//!
//! Where a [`FileDevice`] carries a request out depends on the thread that submits it: see [`context`].
//!
//! ```
//! use aerolith_engine::device::{AlignedBuffer, Device, MemoryDevice, Request};
//!
//! let device = MemoryDevice::new("scratch", 1 << 20);
//! let data = AlignedBuffer::copy_of(&[7; 4096]).into();
//! device.submit(Request::Write { offset: 8192, data, range: 0..4096, durable: true }).wait().result?;
//! let read = Request::Read { offset: 8192, buffer: AlignedBuffer::for_read(4096) };
//! assert_eq!(device.submit(read).wait().into_buffer()?[..], [7; 4096]);
//! # Ok::<(), aerolith_engine::device::DeviceError>(())
//! ```

pub mod context;

mod blocking;
mod buffer;
mod counters;
mod error;
mod file;
mod handle;
mod memory;
mod ring;
mod setup;
mod shared;
mod slots;
mod sys;
mod table;
mod ticket;
mod transfer;
mod unpark;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::sync::Arc;

pub use buffer::{ALIGNMENT, AlignedBuffer};
pub use counters::{Counters, CountersSnapshot};
pub use error::{Cause, DeviceError, OpenError, Operation, RingError};
pub use file::{DeviceOptions, Driver, FileDevice};
pub use memory::MemoryDevice;
pub use ring::LocalRing;
pub use shared::SharedRing;
pub use ticket::{Answer, Completer, Ticket};

/// Bytes that survive, at offsets from 0 to a fixed size.
pub trait Device: Send + Sync + 'static {
    /// Name, size and alignment. They do not change while the device is open, so keep them.
    fn geometry(&self) -> Geometry;

    /// Starts a request and promises its answer. Never blocks longer than the blocking driver's own I/O, and
    /// never panics over a request: one that [`Geometry::check`] refuses is answered with an error.
    fn submit(&self, request: Request) -> Ticket;

    /// Makes sure that `size` bytes from `offset` have room, so that a full file system shows before data is
    /// accepted. A device that has its room by nature does nothing. Blocks.
    fn reserve(&self, _offset: u64, _size: u64) -> io::Result<()> {
        Ok(())
    }

    /// What the device has done since it was opened.
    fn counters(&self) -> &Counters;
}

/// What a device is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// For messages: a path, or what a test calls it.
    pub name: Arc<str>,
    /// In bytes; a multiple of `physical_size`.
    pub size: u64,
    /// Offsets, lengths and places in buffers are multiples of this many bytes: 512 or 4096, a power of two.
    pub sector_size: u32,
    /// What the medium writes at once, in bytes: 4096 or more. A durable write that shares one of these with
    /// data acknowledged earlier puts that data at risk.
    pub physical_size: u32,
    /// Whether transfers go past the page cache (`O_DIRECT`).
    pub direct: bool,
}

/// What a device can be asked.
#[derive(Debug)]
pub enum Request {
    /// Fills the buffer with the bytes from `offset`.
    Read {
        /// In bytes from the start of the device.
        offset: u64,
        /// Its length is how many bytes to read.
        buffer: AlignedBuffer,
    },
    /// Writes the buffer's bytes in `range` to `offset`.
    Write {
        /// In bytes from the start of the device.
        offset: u64,
        /// Shared, so that a write buffer can be read while it is being written.
        data: Arc<AlignedBuffer>,
        /// Which bytes of `data`.
        range: Range<usize>,
        /// Answer only when these bytes are on the medium. Says nothing about earlier writes.
        durable: bool,
    },
    /// Answers when every write that was answered before is on the medium.
    Flush,
}

impl Request {
    /// What is asked.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Read { .. } => Operation::Read,
            Self::Write { durable: false, .. } => Operation::Write,
            Self::Write { durable: true, .. } => Operation::DurableWrite,
            Self::Flush => Operation::Flush,
        }
    }

    /// Where, in bytes from the start of the device; 0 for a flush.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Read { offset, .. } | Self::Write { offset, .. } => *offset,
            Self::Flush => 0,
        }
    }

    /// How many bytes; 0 for a flush.
    pub fn length(&self) -> usize {
        match self {
            Self::Read { buffer, .. } => buffer.len(),
            Self::Write { range, .. } => range.len(),
            Self::Flush => 0,
        }
    }

    /// The answer to this request: a read's buffer goes back.
    pub fn answer(self, result: Result<(), DeviceError>) -> Answer {
        match self {
            Self::Read { buffer, .. } => Answer { result, buffer: Some(buffer) },
            Self::Write { .. } | Self::Flush => Answer { result, buffer: None },
        }
    }
}

impl Geometry {
    /// Whether a device of this geometry can carry the request out: it must be within the device and its buffer,
    /// and offset, length and place in the buffer must be multiples of the sector.
    pub fn check(&self, request: &Request) -> Result<(), DeviceError> {
        let (offset, length) = (request.offset(), request.length() as u64);
        let misaligned = |bytes: u64| !bytes.is_multiple_of(self.sector_size.into());
        if let Request::Write { data, range, .. } = request {
            if range.end > data.len() || range.start > range.end {
                return Err(self.error(request, Cause::OutOfBuffer(data.len() as u64)));
            }
            if misaligned(range.start as u64) {
                return Err(self.error(request, Cause::Misaligned(self.sector_size)));
            }
        }
        if misaligned(offset) || misaligned(length) {
            return Err(self.error(request, Cause::Misaligned(self.sector_size)));
        }
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(self.error(request, Cause::OutOfBounds(self.size)));
        }
        Ok(())
    }

    /// The error that says what of this device failed and why.
    pub fn error(&self, request: &Request, cause: Cause) -> DeviceError {
        DeviceError {
            device: self.name.clone(),
            operation: request.operation(),
            offset: request.offset(),
            length: request.length() as u64,
            cause,
        }
    }
}
