//! The checkpoints of a set: their roots, the summary that a root names, and the parts that a summary names.
//!
//! Only the newest checkpoint of which every device has the root must be whole. The blocks of the one before were
//! given back when it was written, and a running server gives even the newest one up when records need the space: then
//! its blocks are in other lives, which is told and is no fault. That a block of a checkpoint is still in its
//! life and does not prove itself is one.

use super::findings::{CheckpointFound, Finding, Findings, Kind};
use crate::source::{PAGE, Source, read};
use aerolith_engine::format::{
    CheckpointRoot, PartHeader, PartPlace, ROOT_OFFSET, ROOT_SLOTS, Summary, hash,
};
use aerolith_engine::volume::Seen;
use std::collections::HashMap;

/// A root that all devices have, and what its summary says.
pub struct Checkpoint {
    pub root: CheckpointRoot,
    pub summary: Summary,
    /// The blocks that hold it, with their epochs, by member and block.
    pub blocks: HashMap<(u16, u32), u64>,
}

/// How a block of a checkpoint was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    /// It proves itself.
    Whole,
    /// The block has been used again, or given up.
    GivenUp,
    /// It should prove itself and does not.
    Damaged,
}

/// Reads the roots of all sources. Returns those that all of them have, newest first.
pub fn roots(sources: &[Source], found: &mut Findings) -> Vec<CheckpointRoot> {
    let mut common: Option<Vec<CheckpointRoot>> = None;
    let mut all: Vec<CheckpointRoot> = Vec::new();
    for source in sources {
        let here = roots_of(source, found);
        all.extend(here.iter().filter(|root| !all.contains(root)).copied().collect::<Vec<_>>());
        common = Some(match common {
            None => here,
            Some(before) => before.into_iter().filter(|root| here.contains(root)).collect(),
        });
    }
    let mut common = common.unwrap_or_default();
    common.sort_by_key(|root| std::cmp::Reverse(root.id));
    for root in all.iter().filter(|root| !common.contains(root)) {
        // A crash between the roots leaves that, and so does the loss of one: `Kind::Root` tells the latter.
        let why = "not all devices have its root: it does not count";
        found.checkpoints.push(CheckpointFound { id: root.id, entries: root.entry_count, state: why });
    }
    common
}

fn roots_of(source: &Source, found: &mut Findings) -> Vec<CheckpointRoot> {
    let mut roots = Vec::new();
    for slot in 0..ROOT_SLOTS {
        let offset = ROOT_OFFSET + slot * u64::from(PAGE);
        if offset + u64::from(PAGE) > source.device.geometry().size {
            continue;
        }
        let mut fault = |why: String, errno| {
            let why = format!("the root in slot {slot}: {why}");
            found
                .faults
                .push(Finding { errno, ..Finding::on_device(Kind::Root, source.name(), offset, why) });
        };
        let page = match read(source.device.as_ref(), offset, PAGE as usize) {
            Ok(page) => page,
            Err(error) => {
                fault(error.cause.to_string(), error.errno());
                continue;
            }
        };
        match CheckpointRoot::parse(&page) {
            // What an earlier use of the device left.
            Ok(root) if root.set_uuid != source.header.set_uuid => {}
            Ok(root) if CheckpointRoot::offset_of(root.id) != offset => {
                fault(format!("it is that of checkpoint {}, which has the other slot", root.id), None);
            }
            Ok(root) => roots.push(root),
            Err(_) if page.iter().all(|&byte| byte == 0) => {}
            Err(why) => fault(why.to_string(), None),
        }
    }
    roots
}

/// Reads the summary of the checkpoint that must be whole.
pub fn newest(
    sources: &[Source],
    root: CheckpointRoot,
    found: &mut Findings,
) -> Result<Checkpoint, PartState> {
    let mut bytes = Vec::new();
    let mut blocks = HashMap::new();
    let mut next = PartPlace {
        epoch: root.summary_epoch,
        block: root.summary_block,
        member: root.summary_member,
        reserved: 0,
    };
    while (bytes.len() as u64) < root.summary_size {
        let Some(source) = source_of(sources, next) else {
            return Err(damaged(sources, found, root.id, "its summary names a block that no device has"));
        };
        let pages = source.pages(next.block, 0..source.header.block_size);
        let salt = source.place(next.block).salt(next.epoch);
        let Ok((header, payload)) = PartHeader::parse(&pages.bytes, root.id, salt) else {
            // The fault itself is told where the block is looked at.
            let page = PAGE as usize;
            let (first, last) = (&pages.bytes[..page], &pages.bytes[pages.bytes.len() - page..]);
            return Err(state_of(source.place(next.block).life(first, last), next.epoch));
        };
        if payload.is_empty() || blocks.insert((next.member, next.block), next.epoch).is_some() {
            return Err(damaged(sources, found, root.id, "the parts of its summary do not end"));
        }
        bytes.extend_from_slice(payload);
        next = header.next;
    }
    let is_right = bytes.len() as u64 == root.summary_size && hash(0, &bytes) == root.summary_checksum;
    let summary = match Summary::parse(&bytes) {
        Ok(summary) if is_right && fits(sources, &root, &summary) => summary,
        _ => return Err(damaged(sources, found, root.id, "its summary is not the one that the root names")),
    };
    blocks.extend(summary.parts.iter().map(|part| ((part.member, part.block), part.epoch)));
    Ok(Checkpoint { root, summary, blocks })
}

fn damaged(sources: &[Source], found: &mut Findings, id: u64, why: &str) -> PartState {
    let device = sources.first().map(Source::name).unwrap_or_default();
    let why = format!("checkpoint {id}: {why}");
    found.faults.push(Finding::on_device(Kind::Checkpoint, device, CheckpointRoot::offset_of(id), why));
    PartState::Damaged
}

fn source_of(sources: &[Source], place: PartPlace) -> Option<&Source> {
    let source = sources.iter().find(|source| source.header.member_index == place.member)?;
    ((1..source.header.block_count).contains(&place.block) && source.has(place.block)).then_some(source)
}

/// Whether a summary speaks of these devices.
fn fits(sources: &[Source], root: &CheckpointRoot, summary: &Summary) -> bool {
    let entries: u64 = summary.partitions.iter().map(|partition| u64::from(partition.entry_count)).sum();
    summary.members.len() == sources.len()
        && entries == root.entry_count
        && summary.parts.iter().all(|part| source_of(sources, *part).is_some())
        && summary
            .members
            .iter()
            .zip(sources)
            .all(|(member, source)| member.epochs.len() == source.header.block_count as usize)
}

/// What it means that a part in a block of this life, which should be `epoch`, does not prove itself.
pub fn state_of(seen: Seen, epoch: u64) -> PartState {
    match seen {
        Seen::Life(life) if life.epoch != epoch => PartState::GivenUp,
        Seen::Blank => PartState::GivenUp,
        Seen::Life(_) | Seen::Misplaced(_) | Seen::Damaged(_) => PartState::Damaged,
    }
}
