//! The bytes of a disk, in RAM: sparse, and shared between copies until one of them is written.
//!
//! A rig keeps several images of one disk at a time: what is durable, what reads see, what survived the last cut,
//! the fresh file system that each chain begins with. Most of their bytes are equal, and most of a fresh file
//! system is holes, so an image is a list of chunks, each a hole or shared by reference count. A copy costs a
//! reference count a chunk; the first write to a shared chunk copies that chunk alone. Zeros written into a hole
//! leave the hole.

use std::sync::Arc;

/// Bytes of a chunk.
const CHUNK: u64 = 64 << 10;

/// A disk's bytes. Cheap to clone.
#[derive(Clone)]
pub struct Image {
    size: u64,
    chunks: Vec<Option<Arc<[u8]>>>,
}

impl Image {
    /// A disk of `size` bytes, all zeros.
    pub fn new(size: u64) -> Self {
        Image { size, chunks: vec![None; size.div_ceil(CHUNK) as usize] }
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are held in RAM, holes not counted, shared chunks counted in each image.
    pub fn resident_size(&self) -> u64 {
        self.chunks.iter().flatten().count() as u64 * CHUNK
    }

    /// Fills `into` with the bytes from `offset`.
    ///
    /// # Panics
    /// Beyond the end.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        assert!(offset + into.len() as u64 <= self.size, "a read beyond the end of the disk");
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let (chunk, from, length) = part(at, rest.len());
            let (now, later) = rest.split_at_mut(length);
            match &self.chunks[chunk] {
                Some(bytes) => now.copy_from_slice(&bytes[from..from + length]),
                None => now.fill(0),
            }
            rest = later;
            at += length as u64;
        }
    }

    /// The `length` bytes from `offset`.
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes);
        bytes
    }

    /// Puts `bytes` at `offset`.
    ///
    /// # Panics
    /// Beyond the end.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= self.size, "a write beyond the end of the disk");
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (chunk, from, length) = part(at, rest.len());
            let (now, later) = rest.split_at(length);
            let place = &mut self.chunks[chunk];
            if place.is_some() || now.iter().any(|&byte| byte != 0) {
                let shared = place.get_or_insert_with(|| Arc::from(vec![0; CHUNK as usize]));
                Arc::make_mut(shared)[from..from + length].copy_from_slice(now);
            }
            rest = later;
            at += length as u64;
        }
    }

    /// Writes it to a file, holes as holes.
    pub fn save(&self, path: &std::path::Path) -> std::io::Result<()> {
        let file = std::fs::File::create(path)?;
        file.set_len(self.size)?;
        for (i, chunk) in self.chunks.iter().enumerate() {
            let offset = i as u64 * CHUNK;
            let length = CHUNK.min(self.size - offset) as usize;
            if let Some(chunk) = chunk {
                std::os::unix::fs::FileExt::write_all_at(&file, &chunk[..length], offset)?;
            }
        }
        Ok(())
    }

    /// Makes `offset..offset + length` what it is in `other`.
    pub fn copy_from(&mut self, other: &Image, offset: u64, length: usize) {
        self.write(offset, &other.bytes(offset, length));
    }
}

/// The chunk of `offset`, the place in it, and how many of `length` bytes lie in it.
fn part(offset: u64, length: usize) -> (usize, usize, usize) {
    let from = offset % CHUNK;
    ((offset / CHUNK) as usize, from as usize, length.min((CHUNK - from) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_over_chunk_borders() {
        let mut image = Image::new(3 * CHUNK + 512);
        let bytes: Vec<u8> = (0..CHUNK as usize + 1024).map(|i| (i % 251) as u8 + 1).collect();
        image.write(CHUNK - 512, &bytes);
        assert_eq!(image.bytes(CHUNK - 512, bytes.len()), bytes);
        assert_eq!(image.bytes(0, 512), [0; 512]);
        assert_eq!(image.bytes(3 * CHUNK, 512), [0; 512]);
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut image = Image::new(CHUNK);
        image.write(0, &[1; 512]);
        let copy = image.clone();
        image.write(0, &[2; 512]);
        assert_eq!(copy.bytes(0, 512), [1; 512]);
        assert_eq!(image.bytes(0, 512), [2; 512]);
    }

    #[test]
    fn zeros_in_a_hole_take_no_memory_and_zeros_over_data_count() {
        let mut image = Image::new(4 * CHUNK);
        image.write(0, &vec![0; 4 * CHUNK as usize]);
        assert_eq!(image.resident_size(), 0);
        image.write(512, &[7; 512]);
        image.write(512, &[0; 512]);
        assert_eq!(image.bytes(512, 512), [0; 512]);
    }
}
