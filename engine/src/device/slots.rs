//! The operations that are in the kernel's hands, each in a slot that the kernel gives back by its token.
//!
//! A slot owns its operation, and with it the buffer, from before the kernel hears of it until after its last
//! word. A token carries the slot's generation, which changes with each operation: a completion that comes twice,
//! or late, finds another generation and stops the program instead of touching somebody else's buffer.

use super::ticket::Completer;
use super::transfer::Transfer;

/// A transfer and whom to tell.
pub(super) struct Op {
    pub(super) transfer: Transfer,
    pub(super) completer: Completer,
}

pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    op: Option<Op>,
}

/// Names one operation in one slot: the slot's index below, its generation above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(pub(super) u64);

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        let slots = (0..count).map(|_| Slot { generation: 0, op: None }).collect();
        Self { slots, free: (0..count).rev().collect() }
    }

    /// How many operations are in flight.
    pub(super) fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes the operation in. There must be room.
    pub(super) fn insert(&mut self, op: Op) -> Token {
        let index = self.free.pop().expect("the caller has looked for room");
        let slot = &mut self.slots[index as usize];
        slot.op = Some(op);
        Token(u64::from(slot.generation) << 32 | u64::from(index))
    }

    pub(super) fn get(&mut self, token: Token) -> &mut Op {
        self.slot(token).op.as_mut().expect("a slot of this generation is in use")
    }

    pub(super) fn remove(&mut self, token: Token) -> Op {
        let slot = self.slot(token);
        slot.generation = slot.generation.wrapping_add(1);
        let op = slot.op.take().expect("a slot of this generation is in use");
        self.free.push(token.0 as u32);
        op
    }

    /// All operations, when the ring is beyond help.
    pub(super) fn take_all(&mut self) -> Vec<Op> {
        self.slots.iter_mut().filter_map(|slot| slot.op.take()).collect()
    }

    fn slot(&mut self, token: Token) -> &mut Slot {
        let slot = &mut self.slots[token.0 as u32 as usize];
        let generation = (token.0 >> 32) as u32;
        assert_eq!(slot.generation, generation, "completed twice: slot {}", token.0 as u32);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Request, Ticket, handle::Handle};
    use super::*;

    fn op() -> Op {
        let transfer = Transfer::new(Handle::for_test("t", 4096), Request::Flush);
        Op { transfer, completer: Ticket::pair().0 }
    }

    #[test]
    #[should_panic(expected = "completed twice")]
    fn a_second_completion_is_noticed() {
        let mut slots = Slots::new(1);
        let token = slots.insert(op());
        drop(slots.remove(token));
        let again = slots.insert(op());
        assert_ne!(token, again);
        slots.get(token);
    }

    #[test]
    fn slots_are_used_again() {
        let mut slots = Slots::new(2);
        for _ in 0..10 {
            let tokens = [slots.insert(op()), slots.insert(op())];
            assert!(slots.is_full());
            tokens.into_iter().for_each(|token| drop(slots.remove(token)));
            assert_eq!(slots.used(), 0);
        }
    }
}
