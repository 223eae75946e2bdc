//! Reading a block's log without its footer.
//!
//! A block that was open when the process ended has no footer. Its log is read from the header on, and
//! whatever proves itself counts. Commits are durable in any order while several are in flight, so there
//! may be holes; the scan steps over whatever does not verify, unit by unit, and goes on behind it. What
//! an earlier life of the block left there has another epoch in its salt and never verifies.
//!
//! What is damaged and what never arrived look alike here. The marks that a scan meets tell them apart (`mark.rs`).
//!
//! The same bytes always give the same items: nothing here writes, so a second recovery sees the same.

use super::checksum::BlockSalt;
use super::record::RECORD_MAGIC;
use super::{
    BLOCK_HEADER_SIZE, COMMIT_ALIGNMENT, DurableMark, GROUP_HEADER_SIZE, GroupHeader, RecordFlags,
    RecordView, UNIT, unit_round,
};

/// Something that a scan found.
#[derive(Clone, Debug)]
pub enum LogItem<'a> {
    /// A record, at this position of the block in bytes.
    Record(u32, RecordView<'a>),
    /// The header of a group frame; its members follow as records.
    Group(u32, GroupHeader),
    /// A member of a frame that is not whole. It does not count, unless the frame is known to have been durable.
    Stray(u32, RecordView<'a>),
    /// What was known to be durable when a commit was cut off.
    Mark(u32, DurableMark<'a>),
}

/// How often, on average, each byte of a block may be hashed for something that turns out not to be there. Values
/// can hold any number of headers that promise much; a scan gets among them only where the record around them is torn.
const FAILED_HASHES: u64 = 16;

/// Calls `visit` for each record, frame and mark of the block whose bytes are `block`, by position.
pub fn scan_log<'a>(block: &'a [u8], salt: BlockSalt, mut visit: impl FnMut(LogItem<'a>)) {
    let mut pos = BLOCK_HEADER_SIZE;
    let mut frame_end = 0;
    let mut budget = FAILED_HASHES * block.len() as u64;
    while let Some(bytes) = block.get(pos as usize..).filter(|b| b.len() >= GROUP_HEADER_SIZE as usize) {
        if let Ok(group) = GroupHeader::parse(bytes, salt, pos) {
            visit(LogItem::Group(pos, group));
            frame_end = pos + group.length;
            pos += GROUP_HEADER_SIZE;
            continue;
        }
        if let Ok(mark) = DurableMark::parse(bytes, salt, pos) {
            let length = mark.header.length;
            visit(LogItem::Mark(pos, mark));
            pos += length;
            continue;
        }
        match RecordView::parse(bytes, salt, pos) {
            Ok(record) => {
                let end = pos + unit_round(record.header().length);
                let in_group = record.header().flags().has(RecordFlags::IN_GROUP);
                let is_whole = !in_group || end <= frame_end;
                visit(if is_whole { LogItem::Record(pos, record) } else { LogItem::Stray(pos, record) });
                pos = end;
            }
            Err(_) => {
                budget = budget.saturating_sub(promised_length(bytes));
                // Commits begin with a page, so what was durable is found from there on, whatever lies before it.
                pos += if budget > 0 { UNIT } else { COMMIT_ALIGNMENT - pos % COMMIT_ALIGNMENT };
            }
        }
    }
}

/// How many bytes what begins here claims to have, and so how many were hashed in vain; 0 if it claims nothing.
fn promised_length(bytes: &[u8]) -> u64 {
    let magic = u16::from_le_bytes([bytes[0], bytes[1]]);
    let length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
    if magic == RECORD_MAGIC && length <= bytes.len() { length as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{EncodedRecord, seal_group};

    fn salt() -> BlockSalt {
        BlockSalt::new(&[3; 16], 0, 1, 2)
    }

    fn record(sequence: u64, flags: u8) -> EncodedRecord {
        let mut record = EncodedRecord::begin(&[sequence as u8; 20], b"", 0, b"", 0);
        record.body().extend_from_slice(&[1; 40]);
        record.complete(sequence, 1, 0, 0, RecordFlags(flags), 1);
        record
    }

    /// Three records of 112 bytes, the last two as a group, then another one.
    fn block() -> Vec<u8> {
        let mut block = vec![0; 4096];
        record(1, 0).place(&mut block[64..176], salt(), 64);
        let frame = 176 + GROUP_HEADER_SIZE;
        record(2, RecordFlags::IN_GROUP).place(&mut block[frame as usize..][..112], salt(), frame);
        record(3, RecordFlags::IN_GROUP).place(
            &mut block[frame as usize + 112..][..112],
            salt(),
            frame + 112,
        );
        seal_group(&mut block[176..][..32 + 224], 2, 2, salt(), 176);
        let last = frame + 224;
        record(4, 0).place(&mut block[last as usize..][..112], salt(), last);
        block
    }

    fn sequences(block: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        scan_log(block, salt(), |item| {
            if let LogItem::Record(_, record) = item {
                found.push(record.header().sequence);
            }
        });
        found
    }

    fn strays(block: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        scan_log(block, salt(), |item| {
            if let LogItem::Stray(_, record) = item {
                found.push(record.header().sequence);
            }
        });
        found
    }

    #[test]
    fn a_scan_finds_every_record() {
        assert_eq!(sequences(&block()), [1, 2, 3, 4]);
    }

    #[test]
    fn a_torn_group_is_gone_as_a_whole_and_nothing_else_is() {
        for at in 176..176 + 32 + 224 {
            let mut torn = block();
            torn[at] ^= 0x40;
            assert_eq!(sequences(&torn), [1, 4], "byte {at}");
            let whole: &[u64] = match at {
                ..208 => &[2, 3],
                208..320 => &[3],
                _ => &[2],
            };
            // Padding is under the frame's checksum and not under the member's own.
            let is_padding = [311..320, 423..432].iter().any(|padding| padding.contains(&at));
            assert!(is_padding || strays(&torn) == whole, "byte {at}: {:?}", strays(&torn));
        }
    }

    #[test]
    fn a_hole_does_not_hide_what_follows() {
        let mut holed = block();
        holed[70] ^= 1;
        assert_eq!(sequences(&holed), [2, 3, 4]);
    }

    #[test]
    fn a_value_full_of_false_headers_hides_no_commit_behind_it_and_costs_little() {
        const SIZE: usize = 1 << 20;
        let mut block = vec![0; SIZE];
        for pos in (64..SIZE / 2).step_by(16) {
            block[pos..pos + 4].copy_from_slice(&[0xAE, 0x5E, 1 + (pos / 16 % 3) as u8, 0]);
            block[pos + 4..pos + 8].copy_from_slice(&((SIZE - pos) as u32).to_le_bytes());
        }
        for (sequence, pos) in [(1, SIZE as u32 / 2), (2, SIZE as u32 / 2 + 112), (3, SIZE as u32 - 4096)] {
            record(sequence, 0).place(&mut block[pos as usize..][..112], salt(), pos);
        }
        // Without a bound this would hash 32767 times half a megabyte and more: a minute, and not a moment.
        assert_eq!(sequences(&block), [1, 2, 3]);
    }

    #[test]
    fn a_cut_block_gives_a_prefix() {
        let whole = block();
        for size in 0..whole.len() {
            let found = sequences(&whole[..size]);
            assert!([1, 2, 3, 4].starts_with(&found), "{size}: {found:?}");
        }
    }
}
