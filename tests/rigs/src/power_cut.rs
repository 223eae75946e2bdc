//! The power-cut rig: chains of lives on one disk, each ended by a cut.
//!
//! ```text
//!   fresh file system --> [ set up --> engine opens --> all keys read --> load ] --> cut --> the image that survives
//!                              ^       |cut               |cut                                       |
//!                              +---------------------------------------------------------------------+
//! ```
//!
//! Most cuts come during the load; some while the kernel replays its journal, and some while the engine
//! recovers or its keys are being read, so that recovery itself is cut and begins again. A chain ends with a life
//! that is not cut: everything is read once more, and the engine is closed. After a broken promise the chain ends
//! too, so that one fault is not counted twice.
//!
//! The moment of a cut, its survival and the load's choices come from the seed; what the threads had done by then
//! is the scheduler's. A replay of a seed runs the same cuts, not the same race.

use crate::child::Child;
use crate::fuse::{Control, Served};
use crate::host::{Home, Setup, Stack};
use crate::image::Image;
use crate::load::{FLUSH_MAX, Options};
use crate::oracle::{Broken, Oracle};
use crate::planted::Planted;
use crate::survival::Shape;
use crate::wire::{Tag, mono_ns};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a recovery may take before it counts as one that does not end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Broken promises of one life that are printed; all are counted.
const PRINTED: usize = 6;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What lies between engine and disk.
    pub stack: Stack,
    /// Acknowledge in RAM.
    pub relaxed: bool,
    /// How many cuts.
    pub cuts: u32,
    /// Of everything that is drawn.
    pub seed: u64,
    /// Cuts of a chain.
    pub chain: u32,
    /// The longest load before a cut, in ms.
    pub load_ms: u64,
    /// A bug to plant: the run ends when it is seen.
    pub planted: Planted,
    /// Where to keep the images of broken promises.
    pub keep: Option<PathBuf>,
}

/// When a cut came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// While the file system was being mounted.
    Mount,
    /// Soon after the engine's start.
    Recovery,
    /// During the load.
    Load,
}

/// What came of it.
pub struct Outcome {
    /// Cuts made.
    pub cuts: u32,
    /// Of these while a file system was being mounted.
    pub mount_cuts: u32,
    /// Of these before all keys had been read.
    pub recovery_cuts: u32,
    /// Lives that were not cut and read everything.
    pub clean_ends: u32,
    /// Starts that rest on a checkpoint.
    pub checkpoint_starts: u64,
    /// Starts that were told to read all blocks, past any checkpoint.
    pub whole_scans: u64,
    /// Checkpoints that starts rejected, because a cut had left them in part.
    pub rejected_checkpoints: u64,
    /// Blocks that starts had to read whole, because a cut had left them open.
    pub scanned_blocks: u64,
    /// The longest start, in ms.
    pub longest_open_ms: u64,
    /// Writes and flushes that were in flight at a cut, over all cuts.
    pub in_flight: u64,
    /// Writes that were in the disk's cache at a cut, over all cuts.
    pub cached: u64,
    /// What the oracle has counted and found.
    pub oracle: Oracle,
    /// Seconds it took.
    pub elapsed: Duration,
}

impl Outcome {
    /// How often a kind of promise was broken.
    pub fn count(&self, kind: Broken) -> usize {
        self.oracle.broken.iter().filter(|(broken, _)| *broken == kind).count()
    }
}

/// The rig, set up once for all its cuts.
struct Rig<'a> {
    plan: &'a Plan,
    home: Home,
    control: Control,
    rng: StdRng,
    outcome: Outcome,
    life: u64,
    /// Fresh file systems, by sector size.
    fresh: Vec<(u32, Image)>,
}

/// Runs the plan. `stop` ends it early, between two cuts. An error is the rig's own or the machine's: nothing can
/// be said then.
pub fn run(plan: &Plan, stop: &dyn Fn() -> bool) -> Result<Outcome, String> {
    let began = Instant::now();
    let home = Home::new()?;
    let control = Control::new(plan.stack.disk_size());
    let served = Served::mount(&control, &home.fuse()).map_err(|error| format!("mounting FUSE: {error}"))?;
    let outcome = Outcome {
        cuts: 0,
        mount_cuts: 0,
        recovery_cuts: 0,
        clean_ends: 0,
        checkpoint_starts: 0,
        whole_scans: 0,
        rejected_checkpoints: 0,
        scanned_blocks: 0,
        longest_open_ms: 0,
        in_flight: 0,
        cached: 0,
        oracle: Oracle::new(plan.relaxed),
        elapsed: Duration::ZERO,
    };
    let rng = StdRng::seed_from_u64(plan.seed);
    let mut rig = Rig { plan, home, control, rng, outcome, life: 0, fresh: Vec::new() };
    let result = rig.chains(stop);
    let Rig { home, control, mut outcome, .. } = rig;
    drop(served);
    drop(home);
    result?;
    let asked = control.asked();
    outcome.in_flight = asked.in_flight;
    outcome.cached = asked.cached;
    outcome.elapsed = began.elapsed();
    Ok(outcome)
}

impl Rig<'_> {
    fn chains(&mut self, stop: &dyn Fn() -> bool) -> Result<(), String> {
        let mut chain = 0;
        while self.outcome.cuts < self.plan.cuts && !stop() {
            // Devices have small sectors or large ones; a file's device underneath has the engine's own 4096.
            let sector_size = if chain % 4 == 3 && self.plan.stack != Stack::Direct { 4096 } else { 512 };
            chain += 1;
            let mut image = self.fresh(sector_size)?;
            self.outcome.oracle.restart();
            let mut cuts = 0;
            loop {
                let last = cuts >= self.plan.chain || self.outcome.cuts >= self.plan.cuts || stop();
                let broken = self.outcome.oracle.broken.len();
                self.control.insert(image.clone(), sector_size, self.plan.planted == Planted::LyingDisk);
                let before = image.clone();
                image = if last {
                    self.clean_end(sector_size)?;
                    image
                } else {
                    self.life(sector_size, cuts == 0)?
                };
                cuts += 1;
                if self.outcome.oracle.broken.len() > broken {
                    self.keep(&before)?;
                    if self.plan.planted != Planted::None {
                        return Ok(());
                    }
                    break;
                }
                if last {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A fresh file system.
    fn fresh(&mut self, sector_size: u32) -> Result<Image, String> {
        if let Some((_, image)) = self.fresh.iter().find(|(size, _)| *size == sector_size) {
            return Ok(image.clone());
        }
        self.control.insert(Image::new(self.plan.stack.disk_size()), sector_size, false);
        Setup::format(&self.home, self.plan.stack, sector_size)?;
        let image = self.control.pull();
        self.fresh.push((sector_size, image.clone()));
        Ok(image)
    }

    fn options(&mut self, setup: &Setup, only_verify: bool) -> Options {
        self.life += 1;
        // Both ways must give the same answer, and one oracle holds them to it.
        let whole_scan = self.rng.random_range(0..4) == 0;
        self.outcome.whole_scans += u64::from(whole_scan);
        Options {
            path: setup.path.clone(),
            seed: self.plan.seed,
            life: self.life,
            relaxed: self.plan.relaxed,
            planted: self.plan.planted,
            whole_scan,
            only_verify,
        }
    }

    fn draw_moment(&mut self, first: bool) -> Moment {
        let has_mount = matches!(self.plan.stack, Stack::Ext4 | Stack::Xfs);
        match self.rng.random_range(0..24) {
            _ if first => Moment::Load,
            0..2 if has_mount => Moment::Mount,
            2..5 => Moment::Recovery,
            _ => Moment::Load,
        }
    }

    /// One life, ended by a cut. Returns the image that survives.
    fn life(&mut self, sector_size: u32, first: bool) -> Result<Image, String> {
        let moment = self.draw_moment(first);
        let shape = Shape::draw(&mut self.rng);
        let (seed, load_ms) = (self.rng.random(), self.rng.random_range(20..=self.plan.load_ms.max(20)));
        // A start takes some 20 ms.
        let recovery_ms = self.rng.random_range(0..40);
        let mount_us = self.rng.random_range(0..40_000);
        self.outcome.cuts += 1;
        let mounting = Setup::begin(&self.home, self.plan.stack, sector_size)?;
        if moment == Moment::Mount {
            std::thread::sleep(Duration::from_micros(mount_us));
            let (image, at_ns) = self.control.cut(shape, seed);
            self.outcome.mount_cuts += 1;
            // Mounted or not, either is right.
            drop(mounting.finish());
            self.outcome.oracle.cut(at_ns);
            return Ok(image);
        }
        let setup = mounting.finish()?;
        let child = Child::start(&self.options(&setup, false))?;
        let is_verified = if moment == Moment::Recovery {
            std::thread::sleep(Duration::from_millis(recovery_ms));
            child.count(Tag::Verified) > 0
        } else {
            let is_verified = child.wait_for(Tag::Verified, PATIENCE);
            if is_verified {
                std::thread::sleep(Duration::from_millis(load_ms));
            }
            is_verified
        };
        let (image, at_ns) = self.control.cut(shape, seed);
        self.outcome.recovery_cuts += u32::from(!is_verified);
        let (messages, errors) = child.kill()?;
        drop(setup);
        let context = format!(
            "cut {} of seed {} ({}, {moment:?}, {shape:?}, sectors of {sector_size})",
            self.outcome.cuts,
            self.plan.seed,
            self.plan.stack.name(),
        );
        self.listen(&messages, &errors, &context, moment == Moment::Load);
        self.outcome.oracle.note_open_groups();
        self.outcome.oracle.cut(at_ns);
        Ok(image)
    }

    /// A life that reads everything, closes the engine and is not cut.
    fn clean_end(&mut self, sector_size: u32) -> Result<(), String> {
        let setup = Setup::begin(&self.home, self.plan.stack, sector_size)?.finish()?;
        let child = Child::start(&self.options(&setup, true))?;
        child.wait_until(PATIENCE, |messages| {
            messages.iter().any(|message| matches!(message.tag, Tag::Closed | Tag::Refused))
        });
        let (messages, errors) = child.kill()?;
        drop(setup);
        let context = format!("after cut {} of seed {}", self.outcome.cuts, self.plan.seed);
        self.listen(&messages, &errors, &context, true);
        self.outcome.clean_ends += 1;
        self.outcome.oracle.cut(mono_ns());
        Ok(())
    }

    /// Lets the oracle hear what a child told. `whole`: the child had the time to read every key.
    fn listen(&mut self, messages: &[crate::wire::Message], errors: &str, context: &str, whole: bool) {
        let oracle = &mut self.outcome.oracle;
        let before = oracle.broken.len();
        for message in messages {
            oracle.hear(message);
            if message.tag == Tag::Opened {
                self.outcome.longest_open_ms = self.outcome.longest_open_ms.max(message.a);
                self.outcome.scanned_blocks += message.b;
                self.outcome.checkpoint_starts += message.c % 2;
                self.outcome.rejected_checkpoints += message.c / 2;
            }
        }
        let has = |tag: Tag| messages.iter().any(|message| message.tag == tag);
        if whole && !has(Tag::Verified) {
            oracle.broken.push((Broken::Refused, "the engine did not come up on what survived".into()));
        }
        for (_, what) in &mut oracle.broken[before..] {
            *what = format!("{context}: {what}");
        }
        for (broken, what) in oracle.broken[before..].iter().take(PRINTED) {
            eprintln!("{broken:?}: {what}");
        }
        if oracle.broken.len() > before + PRINTED {
            eprintln!("{context}: and {} more", oracle.broken.len() - before - PRINTED);
        }
        if oracle.broken.len() > before && !errors.is_empty() {
            eprintln!("the child said: {errors}");
        }
    }

    fn keep(&self, image: &Image) -> Result<(), String> {
        let Some(directory) = &self.plan.keep else { return Ok(()) };
        let name = format!("{}-{}-{}.img", self.plan.stack.name(), self.plan.seed, self.outcome.cuts);
        let path = directory.join(name);
        image.save(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("kept {}", path.display());
        Ok(())
    }
}

/// The loss window of relaxed writes that is aimed at, on a machine that is not loaded. What is longer is counted.
pub const AIMED_WINDOW: Duration = FLUSH_MAX.saturating_add(Duration::from_millis(50));
/// The longest one that is no violation. The window ends when the write is on the disk, so a busy machine's scheduler
/// is in it; ten times over, it is the engine that has let a write lie.
pub const WINDOW: Duration = FLUSH_MAX.saturating_mul(10);
