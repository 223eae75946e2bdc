//! What a block is, as `inspect` shows it: looked at by itself, by the engine's own listing.

use crate::source::{PAGE, Source, read};
use aerolith_engine::device::DeviceError;
use aerolith_engine::format::{
    BLOCK_HEADER_SIZE, BlockHeader, Fault, Footer, LogItem, PartHeader, scan_log, unit_round,
};
use aerolith_engine::volume::{BlockLife, NoFooter, Seen};

/// What is known of a block after its first and last page, or all of it, were read.
#[derive(Debug)]
pub enum BlockState {
    /// Never used in this device set.
    Blank,
    /// The device ends before the block does.
    CutOff,
    /// The device does not give its bytes.
    Unreadable(DeviceError),
    /// It has the header of another block of the set.
    Misplaced(BlockHeader),
    /// Neither its header nor its footer proves itself.
    Damaged(Fault),
    /// A part of a checkpoint, of this number and with so many bytes, if it proves itself.
    Checkpoint { header: BlockHeader, part: Result<(u64, u32), Fault> },
    /// Its writer ended before it sealed the block, or its footer is damaged: known from its log.
    Open { life: BlockLife, entries: u32, data_end: u32, fault: Option<Fault> },
    /// Closed by a footer. The header may be damaged: the footer tells the same.
    Sealed { life: BlockLife, footer: Footer },
}

impl BlockState {
    /// Looks at a block. As much of it is read as is needed.
    pub fn of(source: &Source, block: u32) -> BlockState {
        if !source.has(block) {
            return BlockState::CutOff;
        }
        look_at(source, block).unwrap_or_else(BlockState::Unreadable)
    }

    /// Whether it is not what was written.
    pub fn is_damaged(&self) -> bool {
        match self {
            BlockState::Blank => false,
            BlockState::CutOff
            | BlockState::Unreadable(_)
            | BlockState::Misplaced(_)
            | BlockState::Damaged(_) => true,
            // What a crash has cut off of a checkpoint, or what an older one left, need not be whole.
            BlockState::Checkpoint { .. } => false,
            BlockState::Open { life, fault, .. } => fault.is_some() || life.header.is_err(),
            BlockState::Sealed { life, .. } => life.header.is_err(),
        }
    }
}

fn look_at(source: &Source, block: u32) -> Result<BlockState, DeviceError> {
    let size = source.header.block_size;
    let range = |pos: u32, size: u32| read(source.device.as_ref(), source.offset(block, pos), size as usize);
    let (first, last) = (range(0, PAGE)?, range(size - PAGE, PAGE)?);
    let place = source.place(block);
    let life = match place.life(&first, &last) {
        Seen::Blank => return Ok(BlockState::Blank),
        Seen::Misplaced(header) => return Ok(BlockState::Misplaced(header)),
        Seen::Damaged(fault) => return Ok(BlockState::Damaged(fault)),
        Seen::Life(life) => life,
    };
    if let (true, Ok(header)) = (life.is_checkpoint(), life.header) {
        let bytes = range(0, size)?;
        let at = BLOCK_HEADER_SIZE as usize + 8;
        let id = bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let part = PartHeader::parse(&bytes, id, place.salt(life.epoch));
        return Ok(BlockState::Checkpoint { header, part: part.map(|(part, _)| (id, part.payload_size)) });
    }
    let footer = match place.trailer(life.epoch, &last) {
        // Footers are whole pages; one that says otherwise is read with what is before it.
        Ok(trailer) => {
            let footer_size = trailer.footer_size.next_multiple_of(PAGE).min(size);
            place.footer(life.epoch, &range(size - footer_size, footer_size)?)
        }
        Err(why) => Err(why),
    };
    let fault = match footer {
        Ok(footer) => return Ok(BlockState::Sealed { life, footer }),
        Err(NoFooter::NeverSealed) => None,
        Err(NoFooter::Damaged(fault)) => Some(fault),
    };
    let bytes = range(0, size)?;
    let (mut entries, mut data_end) = (0, BLOCK_HEADER_SIZE);
    scan_log(&bytes, place.salt(life.epoch), |item| {
        if let LogItem::Record(pos, record) = item {
            entries += 1;
            data_end = pos + unit_round(record.header().length);
        }
    });
    Ok(BlockState::Open { life, entries, data_end, fault })
}
