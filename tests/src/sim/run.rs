//! Many lives on all cores, and what they add up to.

use super::coverage::Coverage;
use super::life::{Class, Outcome, live};
use super::oracle::Violation;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a run is to do.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// What the lives meet.
    pub class: Class,
    /// The first seed.
    pub first_seed: u64,
    /// No further seed is begun once so many images have been checked.
    pub images: u64,
    /// At most so many seeds.
    pub most_seeds: u64,
    /// How many run at a time.
    pub threads: usize,
}

/// What a run has shown.
#[derive(Debug, Default)]
pub struct Totals {
    /// What it met.
    pub coverage: Coverage,
    /// Seeds that were run.
    pub seeds: u64,
    /// Seeds that found something, in order.
    pub violations: Vec<(u64, Violation)>,
}

/// Lives a seed's life; a panic is a violation too.
pub fn outcome_of(class: Class, seed: u64) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| live(class, seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of another kind");
        let violation = Violation::new(11, "PANIC", text);
        Outcome { coverage: Coverage::default(), hash: 0, violation: Some(violation) }
    })
}

/// Runs seeds in order. `tell` hears of every violation as it is found.
pub fn run(order: Order, tell: impl Fn(u64, &Violation) + Sync) -> Totals {
    let (next, images) = (AtomicU64::new(0), AtomicU64::new(0));
    let totals = Mutex::new(Totals::default());
    let work = || {
        while images.load(Ordering::Relaxed) < order.images {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= order.most_seeds {
                break;
            }
            let seed = order.first_seed + at;
            let outcome = outcome_of(order.class, seed);
            images.fetch_add(outcome.coverage.get("images"), Ordering::Relaxed);
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.seeds += 1;
            totals.coverage.merge(&outcome.coverage);
            if let Some(violation) = outcome.violation {
                tell(seed, &violation);
                totals.violations.push((seed, violation));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..order.threads {
            scope.spawn(work);
        }
    });
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.violations.sort_by_key(|(seed, _)| *seed);
    totals
}
