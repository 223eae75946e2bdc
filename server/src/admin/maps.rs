//! Two maps that the page draws: every write block of a device, and every partition of the index.
//!
//! A map is one character a cell, so that thousands of cells stay a few kilobytes: blocks as one letter for the state and
//! one digit each for fill and age, partitions as one digit for the load. Digits are `0` to `9` and `A` to `Z`, 0 to 35.

use crate::figures::Shown;
use crate::shared::Shared;
use serde::Serialize;

/// Cells of a map of blocks at most; a larger device shows several blocks as one.
const MAX_CELLS: usize = 16_384;

/// The write blocks of a device, the header's left out.
#[derive(Debug, Serialize)]
pub(super) struct BlockMap {
    pub(super) device: usize,
    /// How many there are.
    pub(super) blocks: usize,
    /// How many are shown as one cell; the cell's state is that of the most telling one.
    pub(super) blocks_per_cell: usize,
    /// One letter a cell: f(ree) o(pen) w(riting) s(ealed) t (settling) c(heckpoint) d(efrag) x (damaged).
    pub(super) states: String,
    /// One digit a cell: live bytes of all bytes, Z is full.
    pub(super) fill: String,
    /// One digit a cell: how long ago it was opened, in order, 0 is the newest and Z the oldest; a dot for none.
    pub(super) age: String,
}

/// How full each of the 4096 partitions of the index is.
#[derive(Debug, Serialize)]
pub(super) struct IndexMap {
    pub(super) partitions: usize,
    /// The mean of those that have slots, 0 to 1.
    pub(super) mean: f64,
    pub(super) lowest: f32,
    pub(super) highest: f32,
    /// One digit a partition: Z is 1.0, a dot one without slots.
    pub(super) load: String,
}

/// A share, 0.0 to 1.0, as a digit.
fn digit(share: f64) -> char {
    let value = (share.clamp(0.0, 1.0) * 35.0).round() as u32;
    char::from_digit(value, 36).unwrap_or('0').to_ascii_uppercase()
}

fn letter(shown: Shown) -> char {
    match shown {
        Shown::Free => 'f',
        Shown::Open => 'o',
        Shown::Flushing => 'w',
        Shown::Sealed => 's',
        Shown::Settling => 't',
        Shown::Checkpoint => 'c',
        Shown::Defrag => 'd',
        Shown::Damaged => 'x',
    }
}

/// The larger, the more it should be seen.
fn weight(shown: Shown) -> u8 {
    match shown {
        Shown::Free => 0,
        Shown::Sealed => 1,
        Shown::Settling => 2,
        Shown::Checkpoint => 3,
        Shown::Flushing => 4,
        Shown::Open => 5,
        Shown::Defrag => 6,
        Shown::Damaged => 7,
    }
}

/// The map of a device; none if there is no such device, or no data yet.
pub(super) fn blocks(shared: &Shared, device: usize) -> Option<BlockMap> {
    let store = shared.opening.store()?;
    let block_size = store.stats().engine.devices.get(device)?.block_size as f64;
    let blocks = store.blocks(device);
    // Epochs in order, newest first: a block's age is its place among them.
    let mut epochs: Vec<u64> =
        blocks.iter().map(|block| block.info.epoch).filter(|&epoch| epoch > 0).collect();
    epochs.sort_unstable_by(|a, b| b.cmp(a));
    let age = |epoch: u64| {
        let place = epochs.partition_point(|&other| other > epoch);
        place as f64 / epochs.len().saturating_sub(1).max(1) as f64
    };
    let blocks_per_cell = blocks.len().div_ceil(MAX_CELLS).max(1);
    let mut map = BlockMap {
        device,
        blocks: blocks.len(),
        blocks_per_cell,
        states: String::new(),
        fill: String::new(),
        age: String::new(),
    };
    for cell in blocks.chunks(blocks_per_cell) {
        let telling = cell.iter().max_by_key(|block| weight(Shown::of(block)))?;
        let shown = Shown::of(telling);
        let used: f64 = cell.iter().map(|block| f64::from(block.info.used_size)).sum();
        map.states.push(letter(shown));
        map.fill.push(digit(used / block_size / cell.len() as f64));
        let is_blank = shown == Shown::Free || telling.info.epoch == 0;
        map.age.push(if is_blank { '.' } else { digit(age(telling.info.epoch)) });
    }
    Some(map)
}

/// The map of the index; empty until the data is there.
pub(super) fn index(shared: &Shared) -> IndexMap {
    let loads = shared.opening.store().map(|store| store.partition_loads()).unwrap_or_default();
    let with_slots: Vec<f32> = loads.iter().copied().filter(|&load| load > 0.0).collect();
    let sum: f64 = with_slots.iter().map(|&load| f64::from(load)).sum();
    IndexMap {
        partitions: loads.len(),
        mean: if with_slots.is_empty() { 0.0 } else { sum / with_slots.len() as f64 },
        lowest: with_slots.iter().copied().reduce(f32::min).unwrap_or(0.0),
        highest: with_slots.iter().copied().reduce(f32::max).unwrap_or(0.0),
        load: loads.iter().map(|&load| if load > 0.0 { digit(f64::from(load)) } else { '.' }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_digits() {
        assert_eq!([0.0, 0.5, 1.0, 2.0, f64::NAN].map(digit), ['0', 'I', 'Z', 'Z', '0']);
    }
}
