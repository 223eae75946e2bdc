//! `aerolith inspect`: what a device holds, read with the engine's own parsers and nothing else.
//!
//! The device is opened for reading only, under a lock shared with other readers: a device that a server has
//! open is refused. Bytes are believed as the engine believes them, after length and checksum (I7), so a
//! damaged device is told as what it is: every header, block and record is either shown or has its fault named.
//! A block that was open when its writer ended has no footer; it is read whole, as a cold start does.

use crate::report;
use aerolith_engine::device::{
    AlignedBuffer, Device, DeviceError, DeviceOptions, Driver, FileDevice, OpenError, Request,
};
use aerolith_engine::format::{
    BLOCK_HEADER_SIZE, BlockHeader, BlockSalt, CHECKPOINT_STREAM, DEVICE_HEADER_COPIES, DeviceHeader,
    FOOTER_TRAILER_SIZE, Fault, Footer, FooterEntry, FooterTrailer, HEADER_PAGE, LogItem, RecordView, UNIT,
    scan_log, unit_round,
};
use aerolith_engine::volume::{HeaderError, read_header};
use std::path::PathBuf;

/// Shows what a data file or device holds, without changing it.
///
/// Device header, geometry and totals; with more options, the blocks and the records of one block. Exit code 1
/// says that something is damaged.
#[derive(clap::Args)]
pub struct Inspect {
    /// The data file or block device.
    device: PathBuf,
    /// Show every block that has been used.
    #[arg(long)]
    blocks: bool,
    /// Show every record of this block, and whether it proves itself.
    #[arg(long, value_name = "BLOCK")]
    records: Option<u32>,
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Read(#[from] DeviceError),
    #[error("device {0} is blank: nothing was ever written to it")]
    Blank(String),
    #[error("there is no block {asked}: records lie in blocks 1 to {last}")]
    NoBlock { asked: u32, last: u32 },
    #[error("block {0} has no log to show: {1}")]
    NoLog(u32, &'static str),
}

/// A device whose header has been read.
pub struct Opened {
    /// The device, read-only.
    pub device: FileDevice,
    /// The newer good copy of its header.
    pub header: DeviceHeader,
}

/// What is known of a block after its first and last page, or all of it, were read.
#[derive(Debug)]
pub enum BlockState {
    /// Never used in this device set.
    Blank,
    /// The device ends before the block does.
    CutOff,
    /// The device does not give its bytes.
    Unreadable(DeviceError),
    /// Neither its header nor its footer proves itself.
    Damaged(Fault),
    /// Its writer ended before it sealed the block, or its footer is damaged: known from its log.
    Open { header: BlockHeader, entries: u32, data_end: u32, fault: Option<Fault> },
    /// Closed by a footer. The header may be damaged: the footer tells the same.
    Sealed { epoch: u64, header: Result<BlockHeader, Fault>, footer: Footer },
}

/// One record of a block, as it is or as its footer's entry describes it.
pub enum Found<'a> {
    /// It proves itself.
    Sound(RecordView<'a>),
    /// It does not; this is what the footer knows, and the set's name.
    Damaged(Fault, FooterEntry, &'a str),
}

impl Inspect {
    /// Appends to `out` what was found, and returns how many things are damaged.
    pub fn run(&self, out: &mut String) -> Result<u64, InspectError> {
        let options =
            DeviceOptions { read_only: true, driver: Driver::Blocking, ..DeviceOptions::new(&self.device) };
        let device = FileDevice::open(options)?;
        let mut damage = header_copies(&device, out)?;
        let Some(header) = read_header(&device)? else {
            return Err(InspectError::Blank(device.geometry().name.to_string()));
        };
        let opened = Opened { device, header };
        damage += report::geometry(&opened, out);
        if let Some(block) = self.records {
            return Ok(damage + opened.records(block, out)?);
        }
        let blocks = (1..header.block_count).map(|block| (block, opened.block(block)));
        Ok(damage + report::blocks(blocks, &opened, self.blocks, out))
    }
}

/// Shows both copies of the device header. Returns how many are not good.
fn header_copies(device: &FileDevice, out: &mut String) -> Result<u64, InspectError> {
    let mut damage = 0;
    for copy in 0..DEVICE_HEADER_COPIES {
        let offset = copy * HEADER_PAGE;
        let parsed = if offset + HEADER_PAGE > device.geometry().size {
            Err(Fault::Short)
        } else {
            DeviceHeader::parse(&read(device, offset, HEADER_PAGE as usize)?)
        };
        damage += u64::from(parsed.is_err());
        report::header_copy(copy, &parsed, out);
    }
    Ok(damage)
}

fn read(device: &FileDevice, offset: u64, size: usize) -> Result<AlignedBuffer, DeviceError> {
    device.submit(Request::Read { offset, buffer: AlignedBuffer::zeroed(size) }).wait().into_buffer()
}

impl Opened {
    /// The state of a block.
    pub fn block(&self, block: u32) -> BlockState {
        let size = u64::from(self.header.block_size);
        if (u64::from(block) + 1) * size > self.device.geometry().size {
            return BlockState::CutOff;
        }
        self.look_at(block).unwrap_or_else(BlockState::Unreadable)
    }

    fn look_at(&self, block: u32) -> Result<BlockState, DeviceError> {
        let block_size = self.header.block_size;
        let first = self.read_block(block, 0, HEADER_PAGE as u32)?;
        let last = self.read_block(block, block_size - HEADER_PAGE as u32, HEADER_PAGE as u32)?;
        let header = BlockHeader::parse(&first);
        if let Ok(found) = header
            && !self.is_ours(&found, block)
        {
            // Another set's header is what an earlier use of the device left behind. One of this set was written
            // here instead of where it belongs.
            let is_misplaced = found.set_uuid == self.header.set_uuid;
            return Ok(if is_misplaced { BlockState::Damaged(Fault::Magic) } else { BlockState::Blank });
        }
        let epoch = header.map_or_else(|_| trailer_epoch(&last), |header| header.epoch);
        let footer = self.footer(block, epoch, &last)?;
        Ok(match (header, footer) {
            (header, Ok(footer)) => BlockState::Sealed { epoch, header, footer },
            // A part of a checkpoint: no log.
            (Ok(header), Err(_)) if header.stream == CHECKPOINT_STREAM => BlockState::Blank,
            (Ok(header), Err(fault)) => self.open_block(block, header, fault)?,
            (Err(_), Err(_)) if first[..BLOCK_HEADER_SIZE as usize].iter().all(|&byte| byte == 0) => {
                BlockState::Blank
            }
            (Err(fault), Err(_)) => BlockState::Damaged(fault),
        })
    }

    fn read_block(&self, block: u32, pos: u32, size: u32) -> Result<AlignedBuffer, DeviceError> {
        let start = u64::from(block) * u64::from(self.header.block_size);
        read(&self.device, start + u64::from(pos), size as usize)
    }

    fn is_ours(&self, header: &BlockHeader, block: u32) -> bool {
        header.set_uuid == self.header.set_uuid
            && header.member_index == self.header.member_index
            && header.block_id == block
    }

    fn salt(&self, block: u32, epoch: u64) -> BlockSalt {
        BlockSalt::new(&self.header.set_uuid, self.header.member_index, block, epoch)
    }

    /// The footer of the block's life `epoch`; `last` is the block's last page.
    fn footer(&self, block: u32, epoch: u64, last: &[u8]) -> Result<Result<Footer, Fault>, DeviceError> {
        let block_size = self.header.block_size;
        let trailer = match FooterTrailer::parse(last, self.salt(block, epoch), epoch, block_size) {
            Ok(trailer) => trailer,
            Err(fault) => return Ok(Err(fault)),
        };
        if trailer.footer_size as usize <= last.len() {
            return Ok(Footer::parse(last, trailer));
        }
        // Footers are whole sectors; one that says otherwise is read with what is before it.
        let size = trailer.footer_size.next_multiple_of(HEADER_PAGE as u32).min(block_size);
        Ok(Footer::parse(&self.read_block(block, block_size - size, size)?, trailer))
    }

    fn open_block(&self, block: u32, header: BlockHeader, footer: Fault) -> Result<BlockState, DeviceError> {
        let bytes = self.read_block(block, 0, self.header.block_size)?;
        let (mut entries, mut data_end) = (0, BLOCK_HEADER_SIZE);
        scan_log(&bytes, self.salt(block, header.epoch), |item| {
            if let LogItem::Record(pos, record) = item {
                entries += 1;
                data_end = pos + unit_round(record.header().length);
            }
        });
        // No magic number is no footer: the block was never sealed, or an earlier life's footer is gone.
        let fault = Some(footer).filter(|&fault| fault != Fault::Magic && !self.is_earlier(block, &bytes));
        Ok(BlockState::Open { header, entries, data_end, fault })
    }

    /// Whether the block ends with the footer of an earlier life, which says nothing about this one.
    fn is_earlier(&self, block: u32, bytes: &[u8]) -> bool {
        let epoch = trailer_epoch(bytes);
        FooterTrailer::parse(bytes, self.salt(block, epoch), epoch, self.header.block_size).is_ok()
    }

    /// Shows the records of a block. Returns how many of them are damaged.
    fn records(&self, block: u32, out: &mut String) -> Result<u64, InspectError> {
        let last = self.header.block_count.saturating_sub(1);
        if block == 0 || block > last {
            return Err(InspectError::NoBlock { asked: block, last });
        }
        let state = self.block(block);
        let (epoch, footer) = match &state {
            BlockState::Blank => return Err(InspectError::NoLog(block, "it has never been used")),
            BlockState::CutOff => return Err(InspectError::NoLog(block, "the device ends before it does")),
            BlockState::Damaged(_) => {
                return Err(InspectError::NoLog(block, "its header and its footer are damaged"));
            }
            BlockState::Unreadable(error) => return Err(error.clone().into()),
            BlockState::Open { header, .. } => (header.epoch, None),
            BlockState::Sealed { epoch, footer, .. } => (*epoch, Some(footer)),
        };
        let salt = self.salt(block, epoch);
        let bytes = self.read_block(block, 0, self.header.block_size)?;
        let mut found = Vec::new();
        match footer {
            Some(footer) => {
                let listed = footer.entries.iter();
                found.extend(listed.map(|entry| listed_record(&bytes, salt, entry, &footer.set_names)));
            }
            None => scan_log(&bytes, salt, |item| {
                if let LogItem::Record(pos, record) = item {
                    found.push((u64::from(pos), Found::Sound(record)));
                }
            }),
        }
        Ok(report::records(block, &state, &found, out))
    }
}

/// The epoch that the trailer at the end of `bytes` names; only if it is right does the checksum hold.
fn trailer_epoch(bytes: &[u8]) -> u64 {
    let start = bytes.len().saturating_sub(FOOTER_TRAILER_SIZE as usize) + 8;
    bytes.get(start..start + 8).and_then(|epoch| epoch.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The record that a footer's entry points at.
fn listed_record<'a>(
    block: &'a [u8],
    salt: BlockSalt,
    entry: &FooterEntry,
    set_names: &'a [String],
) -> (u64, Found<'a>) {
    let pos = u64::from(entry.position) * u64::from(UNIT);
    let parsed = u32::try_from(pos)
        .ok()
        .filter(|&pos| (pos as usize) < block.len())
        .map_or(Err(Fault::Length), |pos| RecordView::parse(&block[pos as usize..], salt, pos));
    let found = match parsed {
        Ok(record) if record.header().sequence == entry.sequence => Found::Sound(record),
        other => {
            let set = set_names.get(usize::from(entry.set_index)).map_or("?", String::as_str);
            Found::Damaged(other.err().unwrap_or(Fault::Checksum), *entry, set)
        }
    };
    (pos, found)
}
