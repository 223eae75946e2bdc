//! A device in RAM: it never fails, and forgets everything when it is dropped.
//!
//! Memory is taken in pages of 1 MiB when they are first written, so a large device costs nothing until it is
//! used. Requests are carried out in place, whatever the thread. Each page has a lock of its own; a request over
//! several pages is not atomic, which no device promises.

use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use super::{Counters, Device, Geometry, Request, Ticket};

const PAGE_SIZE: usize = 1 << 20;

type Page = OnceLock<RwLock<Box<[u8]>>>;

/// Bytes in RAM behind the same trait as a file, with sectors of 512 bytes.
#[derive(Debug)]
pub struct MemoryDevice {
    geometry: Geometry,
    counters: Counters,
    pages: Box<[Page]>,
}

impl MemoryDevice {
    /// A device of `size` bytes, rounded down to a multiple of 4096. They read as zeros.
    pub fn new(name: &str, size: u64) -> Self {
        let geometry = Geometry {
            name: Arc::from(name),
            size: size - size % 4096,
            sector_size: 512,
            physical_size: 4096,
            direct: false,
        };
        let pages = (0..geometry.size.div_ceil(PAGE_SIZE as u64)).map(|_| OnceLock::new()).collect();
        Self { geometry, counters: Counters::default(), pages }
    }

    /// What has been taken from the system for pages, in bytes.
    pub fn memory_size(&self) -> u64 {
        self.pages.iter().filter(|page| page.get().is_some()).count() as u64 * PAGE_SIZE as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut at = offset;
        for part in parts(offset, buffer.len()) {
            let (page, pos) = place(at);
            match self.pages[page].get() {
                Some(bytes) => buffer[part.clone()].copy_from_slice(&bytes.read()[pos..pos + part.len()]),
                None => buffer[part.clone()].fill(0),
            }
            at += part.len() as u64;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut at = offset;
        for part in parts(offset, data.len()) {
            let (page, pos) = place(at);
            let bytes = self.pages[page].get_or_init(|| RwLock::new(vec![0; PAGE_SIZE].into_boxed_slice()));
            bytes.write()[pos..pos + part.len()].copy_from_slice(&data[part.clone()]);
            at += part.len() as u64;
        }
    }
}

impl Device for MemoryDevice {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn submit(&self, mut request: Request) -> Ticket {
        let result = self.geometry.check(&request);
        if result.is_ok() {
            match &mut request {
                Request::Read { offset, buffer } => self.read(*offset, buffer),
                Request::Write { offset, data, range, .. } => self.write(*offset, &data[range.clone()]),
                Request::Flush => {}
            }
        }
        self.counters.count(&request, result.is_ok());
        Ticket::answered(request.answer(result))
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}

fn place(offset: u64) -> (usize, usize) {
    ((offset / PAGE_SIZE as u64) as usize, (offset % PAGE_SIZE as u64) as usize)
}

/// Cuts `len` bytes from `offset` at page borders: ranges of the request's own bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let (_, pos) = place(offset + from as u64);
        let part = from..len.min(from + PAGE_SIZE - pos);
        from = part.end;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::super::AlignedBuffer;
    use super::*;

    #[test]
    fn a_large_device_costs_what_is_written() {
        let device = MemoryDevice::new("m", 4 << 30);
        assert_eq!(device.memory_size(), 0);
        let buffer =
            device.submit(Request::Read { offset: 3 << 30, buffer: AlignedBuffer::copy_of(&[9; 4096]) });
        assert_eq!(buffer.wait().into_buffer().unwrap()[..], [0; 4096]);
        assert_eq!(device.memory_size(), 0, "reading takes no memory");
        let data = Arc::new(AlignedBuffer::copy_of(&vec![5; 8192]));
        let write = Request::Write { offset: (1 << 20) - 4096, data, range: 0..8192, durable: false };
        device.submit(write).wait().result.unwrap();
        assert_eq!(device.memory_size(), 2 << 20, "one write over the border of two pages");
    }

    #[test]
    fn parts_cover_the_request_and_stop_at_pages() {
        for offset in [0, 512, PAGE_SIZE as u64 - 512, PAGE_SIZE as u64, 5 * PAGE_SIZE as u64 + 1024] {
            for len in [0, 512, PAGE_SIZE - 512, PAGE_SIZE, PAGE_SIZE + 512, 3 * PAGE_SIZE] {
                let cut: Vec<_> = parts(offset, len).collect();
                assert_eq!(cut.iter().map(|part| part.len()).sum::<usize>(), len);
                for part in cut {
                    let (first, last) = (offset + part.start as u64, offset + part.end as u64 - 1);
                    assert_eq!(place(first).0, place(last).0);
                }
            }
        }
    }
}
