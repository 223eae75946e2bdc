//! Writes the device full before it is measured: what was never written is answered without looking at the medium, and a drive
//! that is empty has an easy life.
//!
//! ACT writes the whole device twice, zeros and then random data, which takes hours. Fast is once, in large pieces at depth,
//! and only what will be read.

use super::flags::{Certify, Condition, Plan};
use super::lane::{Data, DeviceLane, Io};
use super::medium::Medium;
use crate::load::LoadError;
use crate::load::clock::MonoClock;
use crate::load::crew::{self, Event, Span, Station};
use crate::load::lane::Outcome;
use crate::load::recorder::Ended;
use crate::load::worker::{Verdict, Work};
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a write.
const PIECE: u64 = 1 << 20;
/// Writes in flight.
const DEPTH: usize = 8;

/// Writes from one offset to another.
struct Filling<'a> {
    next: u64,
    end: u64,
    zeros: bool,
    sizes: [u64; DEPTH],
    done: &'a AtomicU64,
    failed: Option<String>,
}

impl Work for Filling<'_> {
    type Request = Io;

    fn draw(&mut self, slot: usize) -> Option<(usize, Io)> {
        if self.next >= self.end || self.failed.is_some() {
            return None;
        }
        let (offset, size) = (self.next, PIECE.min(self.end - self.next));
        self.next += size;
        self.sizes[slot] = size;
        Some((0, Io::Write { offset, size, zeros: self.zeros, durable: false }))
    }

    fn judge(&mut self, slot: usize, outcome: Outcome<'_>) -> Verdict<Io> {
        match outcome {
            Outcome::Failed(message) => self.failed = Some(message.to_owned()),
            _ => {
                self.done.fetch_add(self.sizes[slot], Ordering::Relaxed);
            }
        }
        Verdict::Ended(Ended::Well)
    }

    fn give_up(&mut self, _: usize) {}
}

/// Writes the device full, as asked for.
pub fn condition(certify: &Certify, plan: &Plan, medium: &Medium) -> Result<(), LoadError> {
    let passes: &[bool] = match certify.condition {
        Condition::None => return Ok(()),
        Condition::Fast => &[false],
        Condition::Full => &[true, false],
    };
    // The first block has the mark.
    let start = plan.model.large_block;
    let data = Arc::new(Data::new(PIECE, plan.compressible_pct, certify.seed));
    for &zeros in passes {
        let done = AtomicU64::new(0);
        let style = "conditioning  {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
        let bar = match certify.quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(medium.size - start).with_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            ),
        };
        let clock = Arc::new(MonoClock::start());
        let make = |_| {
            let work = Filling {
                next: start,
                end: medium.size,
                zeros,
                sizes: [0; DEPTH],
                done: &done,
                failed: None,
            };
            Ok(Station {
                work,
                lane: DeviceLane::new(medium.device(), &data, clock.clone(), DEPTH)?,
                schedule: None,
            })
        };
        // It ends when all is written.
        let span = Span { warm_up_ns: 0, run_ns: u64::MAX / 4, drain_ns: 0 };
        let given = crew::run(&*clock, 1, &["write"], span, make, &mut |event| {
            if matches!(event, Event::Tick | Event::Second(..)) {
                bar.set_position(done.load(Ordering::Relaxed));
            }
        });
        bar.finish_and_clear();
        if let Some(error) = given.error {
            return Err(error);
        }
        if let Some(message) = given.work.into_iter().find_map(|work| work.failed) {
            return Err(LoadError(format!("conditioning: {message}")));
        }
    }
    Ok(())
}
