//! The second look: what a damaged version means for reads, and what only the checkpoint knows to be missing.
//!
//! The first look goes block by block and remembers no keys, so that it needs the same memory for any device. If it has
//! found damaged versions, all lists are read once more, and for those keys alone the other versions are noted:
//!
//! | of a damaged version there is | then |
//! |---|---|
//! | a newer one, or a copy that defrag made; or it has expired, or a truncation has taken it | it is stale: no read comes to it |
//! | only older ones | reads of the key answer that it is damaged; the older one is not served |
//! | nothing else | reads of the key answer that it is damaged |
//!
//! A stale one may never have been damaged: when power fails while the first write of a block's next life is under way,
//! all of it may have arrived but the header, and then the footer of the life before lists what is not there. So
//! stale ones are notes. A deletion is told by its footer even where its own record is not whole: with nothing
//! older to hide it is stale, too.
//!
//! Entries of the newest checkpoint that point into a block without a footer are held against what the scan of that
//! block found: what is missing there was durable once, and is damage that nothing else would show.
//!
//! What this does not know: versions that neither a footer, a scan nor the checkpoint shows.

use super::block::Lists;
use super::findings::{Finding, Findings, Kind, named};
use super::roots::Checkpoint;
use crate::source::Source;
use aerolith_engine::Value;
use aerolith_engine::format::{CHECKPOINT_ENTRY_SIZE, PartHeader, RecordFlags, VOID_TIME_EPOCH_MS};
use aerolith_engine::index::{Entry, Flags};
use aerolith_engine::record::{Bins, particle};
use aerolith_engine::volume::{Version, listed_record, listed_versions, logged_versions};
use std::collections::{HashMap, HashSet};

/// Of each source, how each block is listed.
pub type AllLists = Vec<Vec<Lists>>;

/// What the second look has seen.
#[derive(Default)]
struct Seen {
    /// Of each key with a damaged version the newest whole one: sequence number, device, block.
    newest: HashMap<String, Option<(u64, String, u32)>>,
    /// Of each such key one that was written behind the newest checkpoint's border: it stands for whatever the
    /// checkpoint knows of the key.
    behind: HashMap<String, (String, u32)>,
    /// Of each truncated set, or of all of them, the number below which versions are gone.
    below: HashMap<Option<String>, u64>,
}

/// What a damaged version means.
enum Standing {
    Stale(String),
    Current(String),
}

/// Tells of each damaged version what it means. Those that no read comes to become notes.
pub fn settle(
    sources: &[Source],
    lists: &AllLists,
    checkpoint: Option<&Checkpoint>,
    found: &mut Findings,
    now_ms: u64,
) {
    let damaged: Vec<&Finding> = found.faults.iter().filter(|fault| key_of(fault).is_some()).collect();
    if damaged.is_empty() {
        return;
    }
    let seen = look_again(sources, lists, checkpoint, &damaged);
    let mut frames = Vec::new();
    for mut fault in std::mem::take(&mut found.faults) {
        match seen.standing(&fault, now_ms) {
            Some(Standing::Stale(meaning)) => {
                (fault.kind, fault.meaning) = (Kind::Stale, Some(meaning));
                found.notes.push(fault);
            }
            Some(Standing::Current(_)) if fault.kind == Kind::Entry => {
                let why = "the newest version listed: a start goes by the footer, a read by the record";
                fault.meaning = Some(why.to_owned());
                found.faults.push(fault);
            }
            Some(Standing::Current(meaning)) => {
                fault.meaning = Some(meaning);
                found.faults.push(fault);
            }
            None if fault.kind == Kind::Group => frames.push(fault),
            None => found.faults.push(fault),
        }
    }
    // Where a block's next life has begun to lie over it, a frame goes the same way as the records.
    let place = |finding: &Finding| (finding.device.clone(), finding.block);
    let overlaid: HashSet<_> =
        found.notes.iter().filter(|note| note.kind == Kind::Stale).map(place).collect();
    for frame in frames {
        let side = if overlaid.contains(&place(&frame)) { &mut found.notes } else { &mut found.faults };
        side.push(frame);
    }
}

/// The key of a damaged version.
fn key_of(fault: &Finding) -> Option<&String> {
    fault.digest.as_ref().filter(|_| matches!(fault.kind, Kind::Record | Kind::Entry))
}

fn look_again(
    sources: &[Source],
    lists: &AllLists,
    checkpoint: Option<&Checkpoint>,
    damaged: &[&Finding],
) -> Seen {
    let keys = damaged.iter().filter_map(|fault| key_of(fault));
    let mut seen = Seen { newest: keys.map(|key| (key.clone(), None)).collect(), ..Seen::default() };
    let places: HashSet<(&str, u64)> =
        damaged.iter().map(|fault| (fault.device.as_str(), fault.offset)).collect();
    for (source, lists) in sources.iter().zip(lists) {
        let name = source.name();
        for (block, list) in (0..).zip(lists) {
            list_again(source, block, list, |version| {
                if version.flags.has(RecordFlags::SYSTEM)
                    && let Some((set, below)) = threshold(source, block, list, version.pos)
                {
                    let known = seen.below.entry(set).or_default();
                    *known = below.max(*known);
                }
                let Some(newest) = seen.newest.get_mut(&named(&version.digest)) else { return };
                if places.contains(&(name.as_str(), source.offset(block, version.pos))) {
                    return;
                }
                let is_behind = |checkpoint: &Checkpoint| {
                    epoch_of(list).is_some_and(|epoch| {
                        !is_before(checkpoint, source.header.member_index, block, epoch, version.pos)
                    })
                };
                if checkpoint.is_some_and(is_behind) {
                    seen.behind.insert(named(&version.digest), (name.clone(), block));
                }
                let is_newer = newest.as_ref().is_none_or(|(newest, ..)| version.sequence > *newest);
                if is_newer {
                    *newest = Some((version.sequence, name.clone(), block));
                }
            });
        }
    }
    seen
}

impl Seen {
    fn standing(&self, fault: &Finding, now_ms: u64) -> Option<Standing> {
        let newest = self.newest.get(key_of(fault)?)?;
        let below = |set: &Option<String>| self.below.get(set).copied().unwrap_or(0);
        let is_truncated = |sequence: u64| sequence < below(&fault.set).max(below(&None));
        Some(match newest {
            Some((newest, device, block)) if *newest >= fault.stale_from => {
                let which = if fault.sequence == Some(*newest) { "a copy of it" } else { "a newer version" };
                Standing::Stale(format!(
                    "{which} is whole in block {block} of {device}, no read comes to this one"
                ))
            }
            _ if fault.sequence.is_none() && self.behind.contains_key(key_of(fault)?) => {
                let (device, block) = &self.behind[key_of(fault)?];
                Standing::Stale(format!(
                    "a copy of it or a newer version is whole in block {block} of {device}, no read comes to this one"
                ))
            }
            _ if fault.sequence.is_some_and(is_truncated) => {
                Standing::Stale("its set was truncated since, no read comes to it".to_owned())
            }
            _ if fault.expires_ms != 0 && fault.expires_ms <= now_ms => {
                Standing::Stale("it has expired, no read comes to it".to_owned())
            }
            None if fault.is_tombstone => Standing::Stale(
                "a deletion with nothing left to hide, told by its footer in any case".to_owned(),
            ),
            Some((older, device, block)) if fault.is_tombstone => Standing::Current(format!(
                "a deletion that is told by its footer alone; it hides version {older} in block {block} of {device}"
            )),
            Some((other, device, block)) if fault.sequence.is_none() => Standing::Current(format!(
                "version {other} in block {block} of {device} is whole; whether that is a copy that defrag made or an \
                 older version cannot be told"
            )),
            Some((older, device, block)) => Standing::Current(format!(
                "the newest version listed: reads of the key answer that it is damaged; version {older} in block \
                 {block} of {device} is whole, and is not served"
            )),
            None => Standing::Current(
                "the only version listed: reads of the key answer that it is damaged".to_owned(),
            ),
        })
    }
}

fn epoch_of(list: &Lists) -> Option<u64> {
    match list {
        Lists::Nothing => None,
        Lists::Footer(epoch) | Lists::Scan(epoch, _) => Some(*epoch),
    }
}

/// Whether a position of a block in this life lies before the checkpoint's border: what was there then, it knows.
fn is_before(checkpoint: &Checkpoint, member: u16, block: u32, epoch: u64, pos: u32) -> bool {
    let Some(summary) = checkpoint.summary.members.get(usize::from(member)) else { return false };
    let border = summary.open.iter().find(|(open, _)| *open == block);
    summary.epochs.get(block as usize) == Some(&epoch)
        && epoch < summary.begin_epoch
        && pos < border.map_or(u32::MAX, |&(_, position)| position)
}

/// The truncation that a record of the system's own stands for: which set, or all; and below which number.
fn threshold(source: &Source, block: u32, list: &Lists, pos: u32) -> Option<(Option<String>, u64)> {
    let epoch = epoch_of(list)?;
    let place = source.place(block);
    let pages = source.pages(block, 0..place.block_size);
    let record = listed_record(&pages.bytes, place.salt(epoch), pos, &[]).ok()?;
    let set = (record.header().key_type == particle::STRING)
        .then(|| String::from_utf8_lossy(record.user_key()).into_owned());
    match Bins::new(record.bins()).find("below") {
        Ok(Some(Value::Integer(below))) => Some((set, below as u64)),
        _ => None,
    }
}

/// Calls `visit` for every version that a block lists, reading no more of it than is needed.
fn list_again(source: &Source, block: u32, list: &Lists, mut visit: impl FnMut(Version<'_>)) {
    let size = source.header.block_size;
    let place = source.place(block);
    match list {
        Lists::Nothing => {}
        Lists::Footer(epoch) => {
            let last = source.pages(block, size - crate::source::PAGE..size);
            let Ok(trailer) = place.trailer(*epoch, &last.bytes) else { return };
            let start = (size - trailer.footer_size) / crate::source::PAGE * crate::source::PAGE;
            if let Ok(footer) = place.footer(*epoch, &source.pages(block, start..size).bytes) {
                listed_versions(&footer).for_each(&mut visit);
            }
        }
        Lists::Scan(epoch, _) => {
            logged_versions(&source.pages(block, 0..size).bytes, place.salt(*epoch), &mut visit);
        }
    }
}

/// Holds the checkpoint's entries against the blocks that have no footer.
pub fn missing(sources: &[Source], lists: &AllLists, checkpoint: &Checkpoint, found: &mut Findings) {
    if !lists.iter().flatten().any(|list| matches!(list, Lists::Scan(..))) {
        return;
    }
    let sets: HashMap<u16, &str> =
        checkpoint.summary.sets.iter().map(|(number, name)| (*number, name.as_str())).collect();
    let mut partitions = checkpoint.summary.partitions.iter().flat_map(|partition| {
        std::iter::repeat_n((partition.partition, partition.sequence), partition.entry_count as usize)
    });
    for part in &checkpoint.summary.parts {
        let Some(source) = sources.get(usize::from(part.member)) else { return };
        let pages = source.pages(part.block, 0..source.header.block_size);
        let salt = source.place(part.block).salt(part.epoch);
        let Ok((_, payload)) = PartHeader::parse(&pages.bytes, checkpoint.root.id, salt) else { return };
        for bytes in payload.chunks_exact(CHECKPOINT_ENTRY_SIZE as usize) {
            let Some((partition, sequence)) = partitions.next() else { return };
            let words = [0, 8, 16].map(|at| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes));
            let Some(entry) = Entry::from_words(words) else { continue };
            if let Some(mut fault) = missing_entry(sources, lists, checkpoint, &entry) {
                fault.digest = Some(named(&prefix(partition, &entry)));
                fault.stale_from = sequence;
                fault.is_tombstone = entry.flags().contains(Flags::TOMBSTONE);
                fault.expires_ms = void_time_ms(entry.void_time());
                fault.set = sets.get(&entry.set_id()).map(|name| (*name).to_owned());
                found.faults.push(fault);
            }
        }
    }
}

/// The fault, if an entry that counts points at nothing in a block without a footer.
fn missing_entry(
    sources: &[Source],
    lists: &AllLists,
    checkpoint: &Checkpoint,
    entry: &Entry,
) -> Option<Finding> {
    let location = entry.location();
    let member = usize::from(location.device);
    let source = sources.get(member)?;
    let size = u64::from(source.header.block_size);
    let (block, pos) = ((location.offset() / size) as u32, (location.offset() % size) as u32);
    let Lists::Scan(epoch, positions) = lists.get(member)?.get(block as usize)? else { return None };
    if !is_before(checkpoint, source.header.member_index, block, *epoch, pos) || positions.contains(&pos) {
        return None;
    }
    let what = if entry.flags().contains(Flags::TOMBSTONE) { "a tombstone" } else { "a record" };
    let why = format!("{what} that checkpoint {} has here does not prove itself", checkpoint.root.id);
    let finding = Finding::on_device(Kind::Record, source.name(), location.offset(), why);
    Some(Finding { block: Some(block), position: Some(pos), ..finding })
}

/// A void-time in milliseconds since the Unix epoch; 0: never.
pub fn void_time_ms(void_time: u32) -> u64 {
    if void_time == 0 { 0 } else { VOID_TIME_EPOCH_MS + u64::from(void_time) * 1000 }
}

/// The first ten bytes of the digest, from partition and tag.
fn prefix(partition: u16, entry: &Entry) -> [u8; 10] {
    let (tag, [low, high]) = (entry.tag(), partition.to_le_bytes());
    let mut digest = [0; 10];
    digest[0] = low;
    digest[1] = high | tag.low() << 4;
    digest[2..].copy_from_slice(&tag.high().to_be_bytes());
    digest
}
