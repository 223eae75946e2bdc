//! One multiple on the device itself: reads of records, reads of large blocks, writes of large blocks, each an open loop.

use super::flags::{Certify, Layout, Plan};
use super::lane::{Data, DeviceLane, Io};
use super::medium::Medium;
use super::report::{Trial, live_line};
use crate::load::LoadError;
use crate::load::clock::{MonoClock, SECOND, ns};
use crate::load::crew::{self, Event, Span, Station};
use crate::load::lane::Outcome;
use crate::load::recorder::Ended;
use crate::load::schedule::{Arrivals, Rate, Schedule};
use crate::load::worker::{Verdict, Work};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long requests may be behind at the end before the load counts as one that cannot be done: ACT's allowed lag.
pub const DRAIN_NS: u64 = 10 * SECOND;
/// The kinds of requests, by number.
pub const KINDS: [&str; 3] = ["read", "large read", "large write"];
/// What the criteria hold for.
pub const JUDGED: [&str; 1] = ["read"];

/// How long a trial is, in whole seconds.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Length {
    pub duration_s: u64,
    pub slice_s: u64,
}

/// One of the three streams, of one worker.
struct Streaming<'a> {
    kind: usize,
    rng: SmallRng,
    plan: &'a Plan,
    /// Large blocks that are used, the first one, which has the mark, not counted.
    blocks: u64,
    read_size: u64,
    sector: u64,
    layout: Layout,
    durable: bool,
    /// Where a log has come to.
    head: &'a AtomicU64,
    failed: Option<String>,
}

impl Streaming<'_> {
    fn block(&mut self) -> u64 {
        (1 + self.rng.random_range(0..self.blocks)) * self.plan.model.large_block
    }
}

impl Work for Streaming<'_> {
    type Request = Io;

    fn draw(&mut self, _: usize) -> Option<(usize, Io)> {
        let size = self.plan.model.large_block;
        let io = match self.kind {
            0 => {
                // Anywhere, a block's border is no border to it.
                let places = (self.blocks * size - self.read_size) / self.sector + 1;
                Io::Read {
                    offset: size + self.rng.random_range(0..places) * self.sector,
                    size: self.read_size,
                }
            }
            1 => Io::Read { offset: self.block(), size },
            _ => {
                let offset = match self.layout {
                    Layout::Random => self.block(),
                    Layout::Log => (1 + self.head.fetch_add(1, Ordering::Relaxed) % self.blocks) * size,
                };
                Io::Write { offset, size, zeros: false, durable: self.durable }
            }
        };
        Some((self.kind, io))
    }

    fn judge(&mut self, _: usize, outcome: Outcome<'_>) -> Verdict<Io> {
        Verdict::Ended(match outcome {
            Outcome::Failed(message) => {
                self.failed.get_or_insert_with(|| message.to_owned());
                Ended::Failed
            }
            _ => Ended::Well,
        })
    }

    fn give_up(&mut self, _: usize) {}
}

/// What each worker does: its kind, the rate of that, and which of how many workers that share it.
fn posts(plan: &Plan, multiple: u64) -> Vec<(usize, Rate, usize, usize)> {
    let rates = plan.model.rates(multiple);
    let mut posts = Vec::new();
    if let Some(rate) = rates.reads {
        posts.extend((0..plan.threads).map(|worker| (0, rate, worker, plan.threads)));
    }
    if let Some(rate) = rates.large {
        posts.extend([(1, rate, 0, 1), (2, rate, 0, 1)]);
    }
    posts
}

/// Runs it.
pub fn run(
    certify: &Certify,
    plan: &Plan,
    medium: &Medium,
    clock: &Arc<MonoClock>,
    multiple: u64,
    length: Length,
) -> Result<Trial, LoadError> {
    let posts = posts(plan, multiple);
    let data = Arc::new(Data::new(plan.model.large_block, plan.compressible_pct, certify.seed));
    let head = AtomicU64::new(0);
    let make = |id: usize| {
        let (kind, rate, worker, workers) = posts[id];
        let seed = certify.seed.wrapping_add(multiple << 32 | id as u64);
        let work = Streaming {
            kind,
            rng: SmallRng::seed_from_u64(seed),
            plan,
            blocks: medium.size / plan.model.large_block - 1,
            read_size: plan.model.read_size(medium.sector_size),
            sector: u64::from(medium.sector_size),
            layout: certify.layout,
            durable: !certify.no_dsync,
            head: &head,
            failed: None,
        };
        let depth = if kind == 0 { certify.depth } else { certify.large_depth };
        let lane = DeviceLane::new(medium.device(), &data, clock.clone(), depth)?;
        let schedule = Schedule::new(rate, Arrivals::Uniform, worker, workers, seed);
        Ok(Station { work, lane, schedule: Some(schedule) })
    };
    let span = Span { warm_up_ns: ns(plan.warm_up), run_ns: length.duration_s * SECOND, drain_ns: DRAIN_NS };
    let given = crew::run(&**clock, posts.len(), &KINDS, span, make, &mut |event| {
        if let (Event::Second(row, _), false) = (&event, certify.quiet) {
            eprintln!("{}", live_line(multiple, row, &JUDGED));
        }
    });
    if let Some(error) = given.error {
        return Err(error);
    }
    let failed = given.work.into_iter().filter_map(|work| work.failed).collect();
    Ok(Trial::new(multiple, length, given.series, failed, &JUDGED))
}
