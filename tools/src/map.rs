//! A map of a device: one character a block, as many in a line as the terminal is wide.
//!
//! ```text
//! H header   . never used   o open   0-9 sealed, by tenths of the block that were written   C checkpoint   X damaged
//! ```
//!
//! How much of a block is still alive only the index knows; a sealed block may hold nothing that counts any more.

use crate::block::BlockState;
use crate::report::put;
use serde_json::{Value, json};

/// The cell of block 0.
pub const HEADER: char = 'H';
/// Cells in a line where there is no terminal to fit them to.
const WIDTH: usize = 64;
/// Bytes of a line that are not cells: the number of its first block.
const MARGIN: usize = 10;

/// What stands for a block.
pub fn cell(state: &BlockState, block_size: u32) -> char {
    match state {
        _ if state.is_damaged() => 'X',
        BlockState::Blank => '.',
        BlockState::Checkpoint { .. } => 'C',
        BlockState::Open { .. } => 'o',
        BlockState::Sealed { footer, .. } => {
            let written = u64::from(footer.trailer.data_end) + u64::from(footer.trailer.footer_size);
            let tenths = written * 10 / u64::from(block_size.max(1));
            char::from(b'0' + tenths.min(9) as u8)
        }
        BlockState::CutOff
        | BlockState::Unreadable(_)
        | BlockState::Misplaced(_)
        | BlockState::Damaged(_) => 'X',
    }
}

/// Shows the map with its legend and how many there are of each.
pub fn show(cells: &[char], out: &mut String, object: &mut Value) {
    object["map"] = json!(cells.iter().collect::<String>());
    let columns = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    let width = columns.map_or(WIDTH, |columns| columns.saturating_sub(MARGIN).max(1));
    put(out, format_args!(""));
    for (line, cells) in cells.chunks(width).enumerate() {
        put(out, format_args!("{:>9} {}", line * width, cells.iter().collect::<String>()));
    }
    put(out, format_args!(""));
    let count = |wanted: &dyn Fn(char) -> bool| cells.iter().filter(|&&cell| wanted(cell)).count();
    let of = |wanted: char| count(&|cell| cell == wanted);
    let sealed = count(&|cell| cell.is_ascii_digit());
    put(
        out,
        format_args!(
            "H header 1, . never used {}, o open {}, 0-9 sealed by tenths written {sealed}, C checkpoint {}, X damaged {}",
            of('.'),
            of('o'),
            of('C'),
            of('X')
        ),
    );
}
