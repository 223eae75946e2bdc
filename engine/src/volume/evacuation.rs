//! Blocks that should be rewritten elsewhere although they are not garbage: a scrub found their header or their
//! footer damaged. Their records are whole, but a restart might no longer find them.
//!
//! Scrub puts blocks in, defrag takes them out when it has no more urgent work. A block is named with its life, so
//! that one which has been emptied and reused meanwhile is left alone. It is in the queue once at most, so the
//! queue is never longer than the device has blocks (I9).

use super::block_table::BlockId;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// The queue of one volume.
#[derive(Default)]
pub struct Evacuation(Mutex<VecDeque<(BlockId, u64)>>);

impl Evacuation {
    /// Asks for life `epoch` of a block to be rewritten elsewhere.
    pub fn ask(&self, id: BlockId, epoch: u64) {
        let mut queue = self.0.lock();
        queue.retain(|(asked, _)| *asked != id);
        queue.push_back((id, epoch));
    }

    /// The block that was asked for first, and its life.
    pub fn take(&self) -> Option<(BlockId, u64)> {
        self.0.lock().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_waits_once_and_in_its_last_life() {
        let queue = Evacuation::default();
        queue.ask(BlockId(3), 1);
        queue.ask(BlockId(4), 2);
        queue.ask(BlockId(3), 5);
        assert_eq!(queue.take(), Some((BlockId(4), 2)));
        assert_eq!(queue.take(), Some((BlockId(3), 5)));
        assert_eq!(queue.take(), None);
    }
}
