//! `aerolith check`: everything that a device set holds, read once and proved, without changing a bit of it.
//!
//! ```text
//! headers, set ---> roots, summary ---> every block in turn ---> (damaged versions?) a second look at the lists
//! ```
//!
//! One thread reads a device from its first block to its last, another proves what was read; of blocks that
//! were never used only the first and the last page are looked at. Unreadable sectors are told and stepped over.
//!
//! What always holds: nothing is written, a device that a server has open is refused, and the exit code is 0 only
//! if everything that was given was checked and is sound.

mod block;
mod devices;
mod findings;
mod roots;
#[cfg(test)]
mod tests;
mod versions;

use crate::source::{PAGE, Pages, Source};
use aerolith_engine::device::AlignedBuffer;
use aerolith_engine::format::CheckpointRoot;
use aerolith_engine::volume::Seen;
use block::{Expected, Lists, Looked, look_at};
use findings::{CheckpointFound, Finding, Findings, Kind, Totals};
use indicatif::{ProgressBar, ProgressStyle};
use roots::{Checkpoint, PartState};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::{Instant, SystemTime};

/// Blocks that are read ahead of the one that is being proved.
const AHEAD: usize = 2;

/// Proves everything that data files or devices hold, without changing it. Name all devices of a set.
///
/// Exit code 0: all is sound; 1: there are faults; 2: not everything could be checked (not Aerolith's, in use, a
/// member of the set not given).
#[derive(clap::Args)]
pub struct Check {
    /// The data files or block devices.
    #[arg(required = true)]
    devices: Vec<PathBuf>,
    /// Tell it as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Appends to `out` what was found, and returns the exit code.
    pub fn run(&self, out: &mut String) -> u8 {
        let mut found = Findings::default();
        let sources = devices::claim(&self.devices, &mut found);
        check(&sources, &mut found, &progress(&sources));
        *out += &if self.json { found.json() } else { found.text() };
        found.exit_code()
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress(sources: &[Source]) -> ProgressBar {
    let size = sources.iter().map(|source| source.header.device_size).sum();
    let bar = ProgressBar::new(size);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} {msg}")
    {
        bar.set_style(style);
    }
    bar
}

/// Checks devices that have been claimed.
fn check(sources: &[Source], found: &mut Findings, bar: &ProgressBar) {
    let start = Instant::now();
    let bytes_before: u64 = sources.iter().map(read_bytes).sum();
    let roots = roots::roots(sources, found);
    let is_whole_set =
        sources.first().is_some_and(|first| sources.len() == usize::from(first.header.member_count));
    let newest =
        roots.first().filter(|_| is_whole_set).map(|&root| (root, roots::newest(sources, root, found)));
    let checkpoint = newest.as_ref().and_then(|(_, checkpoint)| checkpoint.as_ref().ok());
    let summary_part = newest.as_ref().filter(|(_, checkpoint)| checkpoint.is_err()).map(|(root, _)| root);
    let mut lists = Vec::new();
    let mut state = newest.as_ref().map(|(_, checkpoint)| match checkpoint {
        Ok(_) => PartState::Whole,
        Err(state) => *state,
    });
    let mut highest_epoch = 0;
    for source in sources {
        let expected = |block| expected(source, block, checkpoint, summary_part);
        let mut of_source = vec![Lists::Nothing];
        each_block(source, bar, |block, pages| {
            let Some(pages) = pages else {
                found.totals.missing_blocks += 1;
                of_source.push(Lists::Nothing);
                return;
            };
            let looked = look_at(source, block, pages, expected(block));
            let Looked { faults, notes, totals, lists, part, epoch } = looked;
            found.faults.extend(faults);
            found.notes.extend(notes);
            add(&mut found.totals, &totals);
            of_source.push(lists);
            highest_epoch = highest_epoch.max(epoch);
            state = state.map(|state| worst(state, part.unwrap_or(PartState::Whole)));
        });
        lists.push(of_source);
    }
    older_copies(sources, highest_epoch >> 40, &roots, found);
    if let (Some(checkpoint), Some(PartState::Whole)) = (checkpoint, state) {
        bar.set_message("checkpoint");
        versions::missing(sources, &lists, checkpoint, found);
    }
    bar.set_message("versions");
    let now_ms = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
    versions::settle(sources, &lists, checkpoint, found, now_ms);
    tell_checkpoints(&roots, state, is_whole_set, found);
    bar.finish_and_clear();
    found.totals.read_bytes = sources.iter().map(read_bytes).sum::<u64>() - bytes_before;
    found.totals.elapsed_ms = start.elapsed().as_millis() as u64;
}

fn read_bytes(source: &Source) -> u64 {
    source.device.counters().snapshot().read_bytes
}

/// What is known of a block before it is looked at.
fn expected(
    source: &Source,
    block: u32,
    checkpoint: Option<&Checkpoint>,
    unread: Option<&CheckpointRoot>,
) -> Expected {
    let member = source.header.member_index;
    if let Some(root) = unread {
        // Of a checkpoint whose summary cannot be read only the summary's first block is known.
        let is_here = (root.summary_member, root.summary_block) == (member, block);
        return Expected { part: is_here.then_some((root.id, root.summary_epoch)), epoch: None };
    }
    let Some(checkpoint) = checkpoint else { return Expected::default() };
    let part = checkpoint.blocks.get(&(member, block)).map(|&epoch| (checkpoint.root.id, epoch));
    let summary = checkpoint.summary.members.get(usize::from(member));
    Expected { part, epoch: summary.and_then(|summary| summary.epochs.get(block as usize).copied()) }
}

/// Hands every block but the header's to `visit`, in order; none where the device ends before it.
fn each_block(source: &Source, bar: &ProgressBar, mut visit: impl FnMut(u32, Option<&Pages>)) {
    let (send, receive) = sync_channel::<(u32, Option<Pages>)>(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut was_blank = false;
            for block in 1..source.header.block_count {
                let pages = source.has(block).then(|| pages_of(source, block, &mut was_blank));
                if send.send((block, pages)).is_err() {
                    return;
                }
            }
        });
        bar.inc(u64::from(source.header.block_size));
        for (block, pages) in receive {
            visit(block, pages.as_ref());
            bar.inc(u64::from(source.header.block_size));
        }
    });
}

/// A block's bytes. Behind a blank one the edges are read first: the next is likely blank, too.
fn pages_of(source: &Source, block: u32, was_blank: &mut bool) -> Pages {
    let size = source.header.block_size;
    let is_blank = |first: &[u8], last: &[u8]| source.place(block).life(first, last) == Seen::Blank;
    if *was_blank {
        let (first, last) = (source.pages(block, 0..PAGE), source.pages(block, size - PAGE..size));
        if first.unreadable.is_empty() && last.unreadable.is_empty() && is_blank(&first.bytes, &last.bytes) {
            let mut bytes = AlignedBuffer::for_read(2 * PAGE as usize);
            bytes[..PAGE as usize].copy_from_slice(&first.bytes);
            bytes[PAGE as usize..].copy_from_slice(&last.bytes);
            return Pages { bytes, unreadable: Vec::new() };
        }
    }
    let pages = source.pages(block, 0..size);
    let (first, last) = (&pages.bytes[..PAGE as usize], &pages.bytes[(size - PAGE) as usize..]);
    *was_blank = pages.unreadable.is_empty() && is_blank(first, last);
    pages
}

fn add(totals: &mut Totals, more: &Totals) {
    totals.sealed_blocks += more.sealed_blocks;
    totals.open_blocks += more.open_blocks;
    totals.checkpoint_blocks += more.checkpoint_blocks;
    totals.blank_blocks += more.blank_blocks;
    totals.damaged_blocks += more.damaged_blocks;
    totals.records += more.records;
    totals.tombstones += more.tombstones;
    totals.system_records += more.system_records;
    totals.record_bytes += more.record_bytes;
}

fn worst(a: PartState, b: PartState) -> PartState {
    match (a, b) {
        (PartState::Damaged, _) | (_, PartState::Damaged) => PartState::Damaged,
        (PartState::GivenUp, _) | (_, PartState::GivenUp) => PartState::GivenUp,
        (PartState::Whole, PartState::Whole) => PartState::Whole,
    }
}

/// A member whose header knows fewer openings than any block, root or other member, as a start refuses it.
fn older_copies(sources: &[Source], in_blocks: u64, roots: &[CheckpointRoot], found: &mut Findings) {
    let in_roots = roots.iter().map(|root| root.incarnation);
    let confirmed = sources.iter().map(|source| source.header.confirmed);
    let highest = in_roots.chain(confirmed).fold(in_blocks, u64::max);
    for source in sources {
        let opened = source.header.incarnation;
        if opened < highest {
            let why = format!(
                "its header says that it was opened {opened} times, but its set was opened in run {highest}: it is an \
                 older copy of itself, and a start refuses it"
            );
            found.faults.push(Finding::on_device(Kind::OlderCopy, source.name(), 0, why));
        }
    }
}

fn tell_checkpoints(
    roots: &[CheckpointRoot],
    state: Option<PartState>,
    is_whole_set: bool,
    found: &mut Findings,
) {
    for (nth, root) in roots.iter().enumerate() {
        let state = match (nth, state) {
            _ if !is_whole_set => "not checked: it lies on all devices of the set",
            (0, Some(PartState::Whole)) => "whole: the next start begins from it",
            (0, Some(PartState::GivenUp)) => {
                "given up, its blocks have been used again: the next start does without it"
            }
            (0, _) => "damaged: the next start does without it",
            _ => "an older one: its blocks may have been used again",
        };
        found.checkpoints.push(CheckpointFound { id: root.id, entries: root.entry_count, state });
    }
}
