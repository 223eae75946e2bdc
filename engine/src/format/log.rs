//! Reading a block's log without its footer.
//!
//! A block that was open when the process ended has no footer. Its log is read from the header on, and
//! whatever proves itself counts. Commits are durable in any order while several are in flight, so there
//! may be holes; the scan steps over whatever does not verify, unit by unit, and goes on behind it. What
//! an earlier life of the block left there has another epoch in its salt and never verifies.
//!
//! The same bytes always give the same items: nothing here writes, so a second recovery sees the same.

use super::checksum::BlockSalt;
use super::{BLOCK_HEADER_SIZE, GROUP_HEADER_SIZE, GroupHeader, RecordFlags, RecordView, UNIT, unit_round};

/// Something that a scan found.
#[derive(Clone, Copy, Debug)]
pub enum LogItem<'a> {
    /// A record, at this position of the block in bytes.
    Record(u32, RecordView<'a>),
    /// The header of a group frame; its members follow as records.
    Group(u32, GroupHeader),
}

/// Calls `visit` for each record and each frame of the block whose bytes are `block`, by position.
///
/// Members of a frame that is not whole are not visited.
pub fn scan_log<'a>(block: &'a [u8], salt: BlockSalt, mut visit: impl FnMut(LogItem<'a>)) {
    let mut pos = BLOCK_HEADER_SIZE;
    let mut frame_end = 0;
    while let Some(bytes) = block.get(pos as usize..).filter(|b| b.len() >= GROUP_HEADER_SIZE as usize) {
        if let Ok(group) = GroupHeader::parse(bytes, salt, pos) {
            visit(LogItem::Group(pos, group));
            frame_end = pos + group.length;
            pos += GROUP_HEADER_SIZE;
            continue;
        }
        match RecordView::parse(bytes, salt, pos) {
            Ok(record) => {
                let end = pos + unit_round(record.header().length);
                let in_group = record.header().flags().has(RecordFlags::IN_GROUP);
                if !in_group || end <= frame_end {
                    visit(LogItem::Record(pos, record));
                }
                pos = end;
            }
            Err(_) => pos += UNIT,
        }
    }
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
        }
    }

    #[test]
    fn a_hole_does_not_hide_what_follows() {
        let mut holed = block();
        holed[70] ^= 1;
        assert_eq!(sequences(&holed), [2, 3, 4]);
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
