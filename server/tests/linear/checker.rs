//! Whether a history of one key is linearizable across a crash: whether there is an order of its operations in which each
//! one takes effect at one moment between its call and its answer, in which a single-threaded map would have
//! answered the same, and which explains what was found after the crash.
//!
//! The search is Wing and Gong's with Lowe's memory: take any operation that none of the others still left was answered
//! before the call of, apply it, go on where the answer fits. A pair of which operations have been taken and which
//! state they led to is visited once. Operations without an answer may be taken with whatever answer, or left.
//! Keys are independent, so each is judged by itself.
//!
//! A server that acknowledges a write when it is durable may still show it to readers earlier. If the crash then takes the
//! write, a reader has seen what never came to be, though nothing acknowledged was lost. [`Reads`] says whether that is
//! allowed: with `OfAnything` the crash may undo the end of the order, as far back as the last acknowledged write;
//! with `OfDurable` it undoes nothing, which is linearizability in the full sense.

use super::history::{Operation, State};
use std::collections::{HashMap, HashSet};

/// What a read may have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Only what survives.
    OfDurable,
    /// Also a write that was not acknowledged and that the crash took.
    OfAnything,
}

/// The search was given up: the history is too entangled to be judged.
#[derive(Debug, PartialEq, Eq)]
pub struct TooHard;

/// Nodes after which a search is given up.
const NODES: usize = 500_000;

/// Which operations have been taken, a bit each.
type Taken = Vec<u64>;

fn has(taken: &Taken, at: usize) -> bool {
    taken[at / 64] >> (at % 64) & 1 == 1
}

/// The states that the key can be in after `operations` and a crash, if it was in `start` before; none if no order
/// explains the answers.
pub fn after_crash(start: &State, operations: &[Operation], reads: Reads) -> Result<HashSet<State>, TooHard> {
    let mut order: Vec<&Operation> = operations.iter().collect();
    order.sort_by_key(|operation| operation.called);
    let must = |wanted: fn(&Operation) -> bool| -> Taken {
        let mut bits = vec![0; order.len().div_ceil(64)];
        for (at, operation) in order.iter().enumerate().filter(|(_, operation)| wanted(operation)) {
            bits[at / 64] |= u64::from(operation.answered.is_some()) << (at % 64);
        }
        bits
    };
    let all_answered = must(|_| true);
    let all_written = must(Operation::has_written);
    let holds = |taken: &Taken, needed: &Taken| taken.iter().zip(needed).all(|(a, b)| a & b == *b);

    let mut numbers = HashMap::new();
    let mut nodes: Vec<(Taken, State)> = Vec::new();
    // For each node, those it was reached from.
    let mut parents: Vec<Vec<usize>> = Vec::new();
    let mut open = vec![0];
    let first = (vec![0; order.len().div_ceil(64)], start.clone());
    numbers.insert(first.clone(), 0);
    nodes.push(first);
    parents.push(Vec::new());
    while let Some(number) = open.pop() {
        let (taken, state) = nodes[number].clone();
        let left = || order.iter().enumerate().filter(|(at, _)| !has(&taken, *at));
        // Nobody who was called after the first answer among those left can come before it.
        let ends = left().filter_map(|(_, operation)| operation.answered.as_ref().map(|(at, _)| *at));
        let first_end = ends.min().unwrap_or(u64::MAX);
        for (at, operation) in left().take_while(|(_, operation)| operation.called < first_end) {
            let (next, answer) = operation.apply(&state);
            if operation.answered.as_ref().is_some_and(|(_, given)| *given != answer) {
                continue;
            }
            let mut with = taken.clone();
            with[at / 64] |= 1 << (at % 64);
            let node = (with, next);
            let new = *numbers.entry(node.clone()).or_insert_with(|| {
                nodes.push(node);
                parents.push(Vec::new());
                open.push(nodes.len() - 1);
                nodes.len() - 1
            });
            parents[new].push(number);
        }
        if nodes.len() > NODES {
            return Err(TooHard);
        }
    }
    // Only what leads on to an order with all answers in it counts.
    let mut is_sound = vec![false; nodes.len()];
    let mut back: Vec<usize> = (0..nodes.len()).filter(|&at| holds(&nodes[at].0, &all_answered)).collect();
    while let Some(at) = back.pop() {
        if !std::mem::replace(&mut is_sound[at], true) {
            back.extend(&parents[at]);
        }
    }
    let needed = match reads {
        Reads::OfDurable => all_answered,
        Reads::OfAnything => all_written,
    };
    let found = nodes.into_iter().zip(is_sound).filter(|((taken, _), sound)| *sound && holds(taken, &needed));
    Ok(found.map(|((_, state), _)| state).collect())
}
