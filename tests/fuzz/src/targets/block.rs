//! A block of 64 KiB: its header, the scan of its log, its footer.
//!
//! An input is a recipe: what is put where, whole or not, over zeros. What was put there whole and was not written over
//! must be found; what is found must be whole, in its place, and, of a group, in a frame that is.

use super::record::{check, make_whole, sample};
use crate::bytes::{bounded, recipe};
use aerolith_engine::format::{
    BLOCK_HEADER_SIZE, BlockHeader, BlockSalt, Footer, FooterEntry, FooterTrailer, GROUP_HEADER_SIZE,
    GroupHeader, LogItem, RecordFlags, UNIT, footer_size, hash, scan_log, seal_group, unit_round,
};
use arbitrary::Arbitrary;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

const SIZE: u32 = 64 << 10;
const EPOCH: u64 = 5;

fn salt() -> BlockSalt {
    BlockSalt::new(&[9; 16], 1, 3, EPOCH)
}

#[derive(Arbitrary, Debug)]
enum Put {
    /// A block header with these fields.
    Header { block: u32, epoch: u64, stream: u8 },
    /// A record that is whole.
    Record { unit: u16, sequence: u64, flags: u8 },
    /// A group frame of records.
    Group { unit: u16, members: u8, sequence: u64 },
    /// Any bytes.
    Bytes { at: u16, bytes: Vec<u8> },
    /// Any bytes, then made whole as a record or frame.
    Forged { unit: u16, bytes: Vec<u8> },
    /// A footer of records at these places.
    Footer { data_end: u16, entries: Vec<(u16, u64, u16, u16)>, names: Vec<u8> },
    /// Any bytes as the footer's body, and any trailer, with right checksums.
    ForgedFooter { entry_count: u32, pages: u8, data_end: u32, names_size: u32, body: Vec<u8> },
}

/// Puts `bytes` to a place, as far as they fit, and forgets what they harm.
fn put(block: &mut [u8], whole: &mut Vec<Range<usize>>, at: usize, bytes: &[u8]) {
    let end = (at + bytes.len()).min(block.len());
    block[at..end].copy_from_slice(&bytes[..end - at]);
    whole.retain(|range| range.end <= at || range.start >= end);
}

fn place(unit: u16) -> usize {
    (usize::from(unit) * UNIT as usize % (SIZE - BLOCK_HEADER_SIZE) as usize) + BLOCK_HEADER_SIZE as usize
}

impl Put {
    fn apply(self, block: &mut [u8], whole: &mut Vec<Range<usize>>) {
        match self {
            Put::Header { block: block_id, epoch, stream } => {
                let header = BlockHeader { block_id, epoch, stream, ..bytemuck::Zeroable::zeroed() };
                let bytes = header.encode();
                let read = BlockHeader::parse(&bytes).expect("what was encoded is whole");
                assert_eq!((read.block_id, read.epoch, read.stream), (block_id, epoch, stream));
                put(block, whole, 0, &bytes);
            }
            Put::Record { unit, sequence, flags } => {
                let at = place(unit);
                let flags = flags & !RecordFlags::IN_GROUP;
                let bytes = sample(sequence, flags, salt(), at as u32);
                put(block, whole, at, &bytes);
                if at + bytes.len() <= block.len() {
                    whole.push(at..at + bytes.len());
                }
            }
            Put::Group { unit, members, sequence } => {
                let (at, mut bytes) = (place(unit), vec![0; GROUP_HEADER_SIZE as usize]);
                let members = members % 5;
                for member in 0..members {
                    let pos = (at + bytes.len()) as u32;
                    let sequence = sequence.wrapping_add(u64::from(member));
                    bytes.extend_from_slice(&sample(sequence, RecordFlags::IN_GROUP, salt(), pos));
                }
                if at + bytes.len() <= block.len() {
                    seal_group(&mut bytes, u32::from(members), sequence, salt(), at as u32);
                    put(block, whole, at, &bytes);
                    // A group counts as one: harm to any of it is harm to all.
                    whole.push(at..at + bytes.len());
                }
            }
            Put::Bytes { at, bytes } => put(block, whole, usize::from(at), &bytes),
            Put::Forged { unit, mut bytes } => {
                let at = place(unit);
                bytes.truncate(block.len() - at);
                make_whole(&mut bytes, salt(), at as u32);
                put(block, whole, at, &bytes);
            }
            Put::Footer { data_end, entries, names } => {
                let entry = |&(position, sequence, class, set): &(u16, u64, u16, u16)| FooterEntry {
                    position: u32::from(position),
                    sequence,
                    class_and_flags: class,
                    set_index: set,
                    ..bytemuck::Zeroable::zeroed()
                };
                let entries: Vec<_> = entries.iter().take(500).map(entry).collect();
                let names: Vec<Box<str>> = names
                    .iter()
                    .take(entries.len())
                    .map(|name| format!("set{name}").into_boxed_str())
                    .collect();
                let names_size: usize = names.iter().map(|name| name.len() + 1).sum();
                let size = footer_size(entries.len() as u32, names_size as u32);
                let data_end = u32::from(data_end) / 4096 * 4096;
                if data_end + size <= SIZE {
                    let mut bytes = block.to_vec();
                    Footer::encode_into(&mut bytes, salt(), EPOCH, data_end, 6, &entries, &names);
                    let at = (SIZE - size) as usize;
                    put(block, whole, at, &bytes[at..]);
                    let trailer =
                        FooterTrailer::parse(block, salt(), EPOCH, SIZE).expect("it was just written");
                    let read = Footer::parse(block, trailer).expect("what was encoded is whole");
                    let told: Vec<Box<str>> =
                        read.set_names.iter().map(|name| name.as_str().into()).collect();
                    assert_eq!((read.entries, told), (entries, names));
                }
            }
            Put::ForgedFooter { entry_count, pages, data_end, names_size, body } => {
                let size = (usize::from(pages % 16) + 1) * 4096;
                let mut bytes = vec![0; size - 64];
                let body = &body[..body.len().min(bytes.len())];
                bytes[..body.len()].copy_from_slice(body);
                let mut trailer = FooterTrailer {
                    magic: *b"AEROFTR1",
                    epoch: EPOCH,
                    entry_count,
                    footer_size: size as u32,
                    data_end,
                    names_size,
                    max_sequence: 0,
                    sealed_epoch: 0,
                    body_checksum: hash(0, &bytes),
                    checksum: 0,
                };
                trailer.checksum = xxh3_64(&bytemuck::bytes_of(&trailer)[..56]) ^ salt().at(SIZE - 64);
                bytes.extend_from_slice(bytemuck::bytes_of(&trailer));
                put(block, whole, SIZE as usize - size, &bytes);
            }
        }
    }
}

fn scan(block: &[u8], whole: &[Range<usize>]) {
    let mut items = Vec::new();
    bounded("scan", 4096, || scan_log(block, salt(), |_| {}));
    scan_log(block, salt(), |item| items.push(item));
    let (mut frames, mut last): (Vec<Range<u32>>, u32) = (Vec::new(), 0);
    for item in &items {
        let pos = match item {
            LogItem::Group(pos, group) => {
                let frame = &block[*pos as usize..][..group.length as usize];
                assert_eq!(GroupHeader::parse(frame, salt(), *pos).ok().as_ref(), Some(group));
                frames.push(*pos..*pos + group.length);
                *pos
            }
            LogItem::Record(pos, record) => {
                check(record, salt(), *pos);
                let end = pos + unit_round(record.header().length);
                let is_framed = frames.iter().any(|frame| frame.start < *pos && end <= frame.end);
                let in_group = record.header().flags().has(RecordFlags::IN_GROUP);
                assert!(!in_group || is_framed, "a member counts without its frame");
                *pos
            }
            LogItem::Stray(pos, record) => {
                check(record, salt(), *pos);
                assert!(record.header().flags().has(RecordFlags::IN_GROUP), "a record alone is no stray");
                *pos
            }
            LogItem::Mark(pos, mark) => {
                assert!(pos + mark.header.length <= SIZE && mark.header.durable_end <= *pos);
                *pos
            }
        };
        assert!(pos.is_multiple_of(UNIT) && pos > last, "items come by position");
        last = pos;
    }
    // What lies behind a forged record's head is that record's: it is stepped over as a whole.
    let inside = |at: usize| {
        items.iter().any(|item| match item {
            LogItem::Record(pos, record) | LogItem::Stray(pos, record) => {
                (*pos as usize) < at && at < *pos as usize + unit_round(record.header().length) as usize
            }
            LogItem::Mark(pos, mark) => (*pos as usize) < at && at < (*pos + mark.header.length) as usize,
            LogItem::Group(..) => false,
        })
    };
    for range in whole.iter().filter(|range| !inside(range.start)) {
        let found = items.iter().any(|item| match item {
            LogItem::Record(pos, _) | LogItem::Group(pos, _) => *pos as usize == range.start,
            LogItem::Stray(..) | LogItem::Mark(..) => false,
        });
        assert!(found, "what lies whole at {range:?} was not found");
    }
}

pub fn run(data: &[u8]) {
    let Some(recipe) = recipe::<Vec<Put>>(data) else { return };
    let (mut block, mut whole) = (vec![0; SIZE as usize], Vec::new());
    recipe.into_iter().take(64).for_each(|put| put.apply(&mut block, &mut whole));
    let header = bounded("block header", 1024, || BlockHeader::parse(&block));
    if let Ok(header) = header {
        assert_eq!(header.encode()[..], block[..BLOCK_HEADER_SIZE as usize]);
    }
    scan(&block, &whole);
    let Ok(trailer) = FooterTrailer::parse(&block, salt(), EPOCH, SIZE) else { return };
    let footer =
        bounded("footer", 4 * trailer.footer_size as usize + 1024, || Footer::parse(&block, trailer));
    if let Ok(footer) = footer {
        assert_eq!(footer.entries.len(), trailer.entry_count as usize);
        let start = block.len() - trailer.footer_size as usize;
        assert_eq!(hash(0, &block[start..block.len() - 64]), trailer.body_checksum);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    // The recipe's own encoding: what arbitrary makes of random bytes, in lengths that bring several steps.
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    let mut rng = StdRng::seed_from_u64(1);
    (0..12)
        .map(|i| {
            let mut bytes = vec![0; 200 + 150 * i];
            rng.fill(&mut bytes[..]);
            bytes
        })
        .collect()
}
