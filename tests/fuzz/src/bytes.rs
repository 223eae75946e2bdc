//! What the targets share: recipes, a bound on memory, and mutations from a seed.

use allocation_counter::measure;
use arbitrary::{Arbitrary, Unstructured};
use rand::RngExt;
use rand::rngs::StdRng;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};

static SHOW: AtomicBool = AtomicBool::new(false);

/// From now on each recipe is printed before it is followed.
pub fn show_recipes() {
    SHOW.store(true, Ordering::Relaxed);
}

/// The recipe that an input is; none if it is too short for one.
pub fn recipe<'a, R: Arbitrary<'a> + Debug>(input: &'a [u8]) -> Option<R> {
    let recipe = R::arbitrary_take_rest(Unstructured::new(input)).ok()?;
    if SHOW.load(Ordering::Relaxed) {
        println!("{recipe:#?}");
    }
    Some(recipe)
}

/// Runs `work`, and panics if at any moment it held more than `limit` bytes of memory beyond what there was.
pub fn bounded<T>(what: &str, limit: usize, work: impl FnOnce() -> T) -> T {
    let mut done = None;
    let held = measure(|| done = Some(work())).bytes_max;
    assert!(held <= limit as u64, "{what}: {held} bytes were held at once, {limit} are allowed");
    done.expect("it was run")
}

/// Changes an input a little, in one of the ways that fuzzers do.
pub fn mutate(rng: &mut StdRng, input: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..6) {
        if input.is_empty() {
            input.push(rng.random());
            continue;
        }
        let at = rng.random_range(0..input.len());
        match rng.random_range(0..7) {
            0 => input[at] ^= 1 << rng.random_range(0..8),
            1 => input[at] = rng.random(),
            2 => input[at] = [0, 1, 0x7F, 0x80, 0xFF][rng.random_range(0..5)],
            3 => input.insert(at, rng.random()),
            4 => drop(input.remove(at)),
            5 => input.truncate(at),
            _ => {
                let size = rng.random_range(1..9).min(input.len() - at);
                let from = rng.random_range(0..=input.len() - size);
                input.copy_within(from..from + size, at);
            }
        }
    }
}
