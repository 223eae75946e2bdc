//! What a write is for, told from where it goes and what it begins with: so that cuts can be counted by what they hit.

use aerolith_engine::format::{BlockHeader, FOOTER_MAGIC, FOOTER_TRAILER_SIZE, HEADER_PAGE};
use std::collections::HashMap;

/// The stream number that a checkpoint's blocks carry.
pub const CHECKPOINT_STREAM: u8 = 255;

/// What a request to a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A read.
    Read,
    /// A flush of the device's cache.
    Flush,
    /// One of the copies of the device header.
    DeviceHeader,
    /// A root of a checkpoint, behind the device header.
    CheckpointRoot,
    /// Blocks that a checkpoint fills.
    CheckpointBody,
    /// Records of a stream that users fill.
    Data,
    /// Records that defrag moves.
    MovedData,
    /// A block's footer.
    Footer,
    /// Zeros ahead of use.
    Zeroing,
}

/// Remembers which stream fills which block.
#[derive(Clone, Default)]
pub struct Targets {
    streams: HashMap<u64, u8>,
    first_moved: u8,
}

impl Targets {
    /// For a device of so many blocks: small ones have one stream of moved records, others four.
    pub fn new(block_count: u64) -> Self {
        Targets { streams: HashMap::new(), first_moved: if block_count < 96 { 1 } else { 2 } }
    }

    /// What a write of `content` at `offset` is for.
    pub fn of_write(&mut self, block_size: u64, offset: u64, content: &[u8]) -> Target {
        let (block, pos) = (offset / block_size, offset % block_size);
        if block == 0 {
            let is_header = offset < 2 * HEADER_PAGE;
            return if is_header { Target::DeviceHeader } else { Target::CheckpointRoot };
        }
        if pos == 0 {
            match BlockHeader::parse(content) {
                Ok(header) => {
                    self.streams.insert(block, header.stream);
                }
                Err(_) if content.iter().all(|&byte| byte == 0) => return Target::Zeroing,
                Err(_) => {}
            }
        }
        let stream = self.streams.get(&block).copied().unwrap_or(0);
        let ends_block = pos + content.len() as u64 == block_size;
        let trailer = content.len() - content.len().min(FOOTER_TRAILER_SIZE as usize);
        if stream == CHECKPOINT_STREAM {
            Target::CheckpointBody
        } else if ends_block && content[trailer..].starts_with(&FOOTER_MAGIC) {
            Target::Footer
        } else if stream >= self.first_moved {
            Target::MovedData
        } else {
            Target::Data
        }
    }
}
