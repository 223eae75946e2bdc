//! `aerolith inspect`: what a device holds, read with the engine's own parsers and nothing else.
//!
//! The device is opened for reading only, under a lock shared with other readers: a device that a server has
//! open is refused. Bytes are believed as the engine believes them, after length and checksum (I7), so a
//! damaged device is told as what it is: every header, root, block and record is either shown or has its fault
//! named. A block that was open when its writer ended has no footer; it is read whole, as a cold start does.
//! Whether everything that a device holds is sound is `check`'s question; this shows what is there.

use crate::block::BlockState;
use crate::map;
use crate::report::{self, BlockRow, Totals};
use crate::source::{HeaderCopy, PAGE, Source, header_copies, open, read};
use aerolith_engine::device::{Device, DeviceError, OpenError};
use aerolith_engine::format::{
    CheckpointRoot, Fault, Footer, LogItem, ROOT_OFFSET, ROOT_SLOTS, RecordView, scan_log,
};
use aerolith_engine::volume::{HeaderError, Version, listed_record, listed_versions, read_header};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// Shows what a data file or device holds, without changing it.
///
/// Device header, roots of checkpoints, geometry and totals; with more options, the blocks, a map of them, and the
/// records of one block. Exit code 1 says that something is damaged.
#[derive(clap::Args)]
pub struct Inspect {
    /// The data file or block device.
    device: PathBuf,
    /// Show every block that has been used.
    #[arg(long)]
    blocks: bool,
    /// Show how full the blocks are, one character a block.
    #[arg(long)]
    map: bool,
    /// Show every record of this block, and whether it proves itself.
    #[arg(long, value_name = "BLOCK", conflicts_with_all = ["blocks", "map"])]
    records: Option<u32>,
    /// Tell it as one JSON object.
    #[arg(long)]
    json: bool,
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

/// One record of a block, as it is or as its footer's entry describes it.
pub enum Found<'a> {
    /// It proves itself.
    Sound(RecordView<'a>),
    /// It does not; this is what the footer knows.
    Damaged(Fault, Version<'a>),
}

/// What was found in the slot of a root: nothing, a root, or why it is none.
pub type RootSlot = Option<Result<CheckpointRoot, String>>;

impl Inspect {
    /// Appends to `out` what was found, and returns how many things are damaged.
    pub fn run(&self, out: &mut String) -> Result<u64, InspectError> {
        let mut object = json!({});
        let found = self.look(out, &mut object);
        if self.json {
            *out = format!("{object:#}\n");
        }
        found
    }

    /// Shows everything both as text and as JSON.
    fn look(&self, out: &mut String, object: &mut Value) -> Result<u64, InspectError> {
        let device: Arc<dyn Device> = Arc::new(open(&self.device)?);
        let mut damage = show_header_copies(device.as_ref(), out, object)?;
        let Some(header) = read_header(device.as_ref())? else {
            return Err(InspectError::Blank(device.geometry().name.to_string()));
        };
        let source = Source { device, header };
        damage += report::geometry(&source, out, object);
        let roots = roots(&source)?;
        damage += report::roots(&roots, out, object);
        if let Some(block) = self.records {
            return Ok(damage + records(&source, block, out, object)?);
        }
        let mut totals = Totals::default();
        let (mut rows, mut cells) = (Vec::new(), vec![map::HEADER]);
        for block in 1..header.block_count {
            let state = BlockState::of(&source, block);
            totals.add(&state);
            cells.push(map::cell(&state, header.block_size));
            if self.blocks && !matches!(state, BlockState::Blank) {
                rows.push(BlockRow::of(block, &state));
            }
        }
        if self.blocks {
            report::blocks(&rows, out, object);
        }
        if self.map {
            map::show(&cells, out, object);
        }
        report::totals(&totals, &source, out, object);
        Ok(damage + totals.damaged)
    }
}

/// Shows both copies of the device header. Returns how many are not good.
fn show_header_copies(device: &dyn Device, out: &mut String, object: &mut Value) -> Result<u64, DeviceError> {
    let mut damage = 0;
    for (copy, (_, found)) in header_copies(device).into_iter().enumerate() {
        let found: HeaderCopy = found;
        damage += u64::from(!matches!(found, Ok(Ok(_))));
        report::header_copy(copy, &found, out, object);
    }
    Ok(damage)
}

fn roots(source: &Source) -> Result<Vec<RootSlot>, DeviceError> {
    let of_slot = |slot: u64| {
        let offset = ROOT_OFFSET + slot * u64::from(PAGE);
        if offset + u64::from(PAGE) > source.device.geometry().size {
            return None;
        }
        match read(source.device.as_ref(), offset, PAGE as usize) {
            Err(error) => Some(Err(error.cause.to_string())),
            Ok(page) => match CheckpointRoot::parse(&page) {
                Ok(root) if root.set_uuid != source.header.set_uuid => None,
                Ok(root) => Some(Ok(root)),
                Err(_) if page.iter().all(|&byte| byte == 0) => None,
                Err(fault) => Some(Err(fault.to_string())),
            },
        }
    };
    Ok((0..ROOT_SLOTS).map(of_slot).collect())
}

/// Shows the records of a block. Returns how many of them are damaged.
fn records(source: &Source, block: u32, out: &mut String, object: &mut Value) -> Result<u64, InspectError> {
    let last = source.header.block_count.saturating_sub(1);
    if block == 0 || block > last {
        return Err(InspectError::NoBlock { asked: block, last });
    }
    let state = BlockState::of(source, block);
    let no_log = |why| Err(InspectError::NoLog(block, why));
    let (epoch, footer): (u64, Option<&Footer>) = match &state {
        BlockState::Blank => return no_log("it has never been used"),
        BlockState::CutOff => return no_log("the device ends before it does"),
        BlockState::Damaged(_) => return no_log("its header and its footer are damaged"),
        BlockState::Misplaced(_) => return no_log("it has the header of another block"),
        BlockState::Checkpoint { .. } => return no_log("it holds a part of a checkpoint"),
        BlockState::Unreadable(error) => return Err(error.clone().into()),
        BlockState::Open { life, .. } => (life.epoch, None),
        BlockState::Sealed { life, footer } => (life.epoch, Some(footer)),
    };
    let salt = source.place(block).salt(epoch);
    let bytes = read(source.device.as_ref(), source.offset(block, 0), source.header.block_size as usize)?;
    let mut found = Vec::new();
    match footer {
        Some(footer) => found.extend(listed_versions(footer).map(|version| {
            let found = match listed_record(&bytes, salt, version.pos, &version.digest[..10]) {
                Ok(record) if record.header().sequence == version.sequence => Found::Sound(record),
                other => Found::Damaged(other.err().unwrap_or(Fault::Checksum), version),
            };
            (version.pos, found)
        })),
        None => scan_log(&bytes, salt, |item| {
            if let LogItem::Record(pos, record) = item {
                found.push((pos, Found::Sound(record)));
            }
        }),
    }
    Ok(report::records(block, &state, &found, out, object))
}
