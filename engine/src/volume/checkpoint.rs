//! What a volume knows of checkpoints: its border, blocks for their parts, and their roots.
//!
//! A checkpoint begins with a border through every stream: what was appended before lies below it, all else is
//! tail. Taking it freezes the tails, so that nothing below it changes in place any more. Parts go into free blocks, roots
//! into two pages of block 0 that nothing else uses.

use super::block_table::BlockId;
use super::{AppendContext, Volume};
use crate::device::{AlignedBuffer, Device, DeviceError, Request, Ticket};
use crate::format::{
    BLOCK_HEADER_SIZE, BlockHeader, CHECKPOINT_STREAM, CheckpointRoot, HEADER_PAGE, MemberSummary, PartPlace,
    ROOT_OFFSET, ROOT_SLOTS,
};
use crate::index::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where the log of a volume ended at one moment.
pub struct Border {
    /// Blocks with this epoch or a later one were opened since.
    pub begin_epoch: u64,
    /// Blocks that were open, and from which position on they were filled since.
    pub open: Vec<(u32, u32)>,
}

/// A block for a part of a checkpoint, with the block header in its place.
pub struct HeldBlock {
    /// Where it is.
    pub place: PartPlace,
    /// Its bytes to be.
    pub bytes: AlignedBuffer,
}

impl Volume {
    /// Hands the tails of all streams to the device.
    pub fn freeze_tails(&self) {
        for stream in self.streams() {
            stream.lock().commit_tail();
        }
        self.flush_work.raise();
    }

    /// Asks for everything appended up to `number` to be committed now rather than when it is due.
    pub fn hasten(&self, number: u64) {
        for stream in self.streams() {
            let mut state = stream.lock();
            if state.open.as_ref().is_some_and(|open| open.first_unfrozen <= number) {
                state.commit_wanted = true;
            }
        }
        self.flush_work.raise();
    }

    /// The border between what has been appended and what will be. The caller holds all partitions, so nobody
    /// appends meanwhile.
    pub fn border(&self) -> Border {
        self.freeze_tails();
        let open = self.streams().iter().filter_map(|stream| {
            let state = stream.lock();
            state.open.as_ref().map(|open| (open.id.0, open.border()))
        });
        Border { open: open.collect(), begin_epoch: self.next_epoch.load(Ordering::Relaxed) }
    }

    /// The border as a checkpoint keeps it, with the life of every block.
    pub fn summary(&self) -> MemberSummary {
        let Border { open, begin_epoch } = self.border();
        let epochs = (0..self.blocks.count()).map(|id| self.blocks.epoch(BlockId(id))).collect();
        MemberSummary { begin_epoch, open, epochs }
    }

    /// Whether what an entry points at was appended before `border` was taken. The caller holds the entry's partition, so
    /// its block is in the life in which the entry was made.
    pub fn is_below(&self, border: &Border, location: Location) -> bool {
        let (block, pos) = self.place(location);
        let open = border.open.iter().find(|(id, _)| *id == block.0);
        self.blocks.epoch(block) < border.begin_epoch && open.is_none_or(|(_, frozen)| pos < *frozen)
    }

    /// Takes a block for a part of a checkpoint; none if no more than `context.floor` blocks would be left.
    pub fn hold_block(&self, context: AppendContext) -> Option<HeldBlock> {
        let epoch = self.next_epoch.fetch_add(1, Ordering::Relaxed);
        let block = self.blocks.hold(context.floor, epoch, context.sequence)?.0;
        let header = BlockHeader {
            block_id: block,
            member_index: self.header.member_index,
            stream: CHECKPOINT_STREAM,
            epoch,
            first_sequence: context.sequence,
            opened_ms: context.now_ms,
            set_uuid: self.header.set_uuid,
            ..bytemuck::Zeroable::zeroed()
        };
        let mut bytes = AlignedBuffer::zeroed(self.block_size() as usize);
        bytes[..BLOCK_HEADER_SIZE as usize].copy_from_slice(&header.encode());
        let place = PartPlace { epoch, block, member: self.header.member_index, reserved: 0 };
        Some(HeldBlock { place, bytes })
    }

    /// Starts the durable write of a checkpoint's root.
    pub fn write_root(&self, root: &CheckpointRoot) -> Ticket {
        let mut page = AlignedBuffer::zeroed(HEADER_PAGE as usize);
        let bytes = root.encode();
        page[..bytes.len()].copy_from_slice(&bytes);
        let range = 0..page.len();
        let offset = CheckpointRoot::offset_of(root.id);
        self.device.submit(Request::Write { offset, data: Arc::new(page), range, durable: true })
    }
}

/// The good roots of a device, in the order of their slots. A slot that cannot be read is an error of its own: a cut in
/// the write of one root must not take the other one with it.
pub fn read_roots(device: &dyn Device) -> Vec<Result<CheckpointRoot, DeviceError>> {
    let slots = (0..ROOT_SLOTS).map(|slot| ROOT_OFFSET + slot * HEADER_PAGE);
    let is_there = |offset: &u64| offset + HEADER_PAGE <= device.geometry().size;
    let read = |offset: u64| {
        let buffer = AlignedBuffer::zeroed(HEADER_PAGE as usize);
        match device.submit(Request::Read { offset, buffer }).wait().into_buffer() {
            Ok(page) => CheckpointRoot::parse(&page).ok().map(Ok),
            Err(error) => Some(Err(error)),
        }
    };
    slots.filter(is_there).filter_map(read).collect()
}
