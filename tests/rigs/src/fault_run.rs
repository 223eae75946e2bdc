//! The fault rig: the engine under load on a disk that fails once, then a restart that shows what is there.
//!
//! ```text
//!   fresh --> set up --> load --> fault strikes --> reaction --> killed or cut --> set up --> all keys are read
//! ```
//!
//! The oracle of the power cuts says what the restart must show. What the engine must do besides, [`cases`] lists;
//! a failure of that is [`Broken::Conduct`]. On ext4 and XFS a fault can strike the file system's own metadata: then
//! the file system decides (XFS shuts down, ext4 may not even tell), and the case asks only for honest
//! acknowledgements. A case whose fault never struck is run again, and is not counted.
//!
//! [`cases`]: crate::cases

use crate::cases::{self, Case, Must, Trouble};
use crate::child::Child;
use crate::fault::Fault;
use crate::fuse::{Control, Served};
use crate::host::{self, Home, Setup, Stack};
use crate::image::Image;
use crate::load::Options;
use crate::oracle::{Broken, Oracle};
use crate::planted::Planted;
use crate::survival::Shape;
use crate::wire::{Message, Tag, mono_ns};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

/// What a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a reaction may take. No measurement: far beyond any, so that only its absence is one.
const REACTION: Duration = Duration::from_secs(15);
/// How long a fault may wait for a request to strike.
const STRIKE: Duration = Duration::from_secs(4);
/// Reads that must be right after a latch, on stacks where nothing but the engine could fail them.
const READS: usize = 200;
/// Sectors of all disks here, in bytes.
const SECTOR: u32 = 512;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Cases that struck.
    pub count: u32,
    /// Of everything that is drawn.
    pub seed: u64,
    /// Only kinds whose name has this in it; empty for all.
    pub kind: String,
}

/// What came of it.
pub struct Outcome {
    /// Faults that struck and were judged, by name and stack.
    pub struck: BTreeMap<String, u32>,
    /// Cases whose fault met no request.
    pub missed: u32,
    /// Cases in which the engine latched.
    pub latched: u32,
    /// Faults that a file system took without an error to the engine.
    pub absorbed: u32,
    /// Starts that were refused, as they must be.
    pub refused: u32,
    /// Reads that were right after a latch.
    pub reads_latched: u64,
    /// Writes tried after a latch; none may be acknowledged.
    pub writes_latched: u64,
    /// Cases that ended with a power cut; the others with a kill.
    pub cuts: u32,
    /// Kinds that cannot run here, with reasons.
    pub missing: Vec<String>,
    /// What the oracle has counted and found.
    pub oracle: Oracle,
    /// How long it took.
    pub elapsed: Duration,
}

impl Outcome {
    /// Faults that struck and were judged.
    pub fn count(&self) -> u32 {
        self.struck.values().sum()
    }
}

struct Rig {
    home: Home,
    rng: StdRng,
    fresh: BTreeMap<&'static str, Image>,
    control: Control,
    outcome: Outcome,
    life: u64,
    seed: u64,
}

/// Runs the plan on the stacks that are there. An error is the rig's own or the machine's.
pub fn run(plan: &Plan, stop: &dyn Fn() -> bool) -> Result<Outcome, String> {
    let began = Instant::now();
    let mut kinds = cases::all();
    kinds.retain(|case| format!("{}, {}", case.name, case.stack.name()).contains(&plan.kind));
    let mut missing = Vec::new();
    for stack in [Stack::Direct, Stack::Raw, Stack::Ext4, Stack::Xfs] {
        if let Some(reason) = stack.missing() {
            missing.push(format!("{}: {reason}", stack.name()));
            kinds.retain(|case| case.stack != stack);
        }
    }
    if kinds.is_empty() {
        return Err(format!("there is no kind of fault with {:?} in its name", plan.kind));
    }
    let home = Home::new()?;
    let control = Control::new(Stack::Direct.disk_size());
    let served = Served::mount(&control, &home.fuse()).map_err(|error| format!("mounting FUSE: {error}"))?;
    let outcome = Outcome {
        struck: BTreeMap::new(),
        missed: 0,
        latched: 0,
        absorbed: 0,
        refused: 0,
        reads_latched: 0,
        writes_latched: 0,
        cuts: 0,
        missing,
        oracle: Oracle::new(false),
        elapsed: Duration::ZERO,
    };
    let rng = StdRng::seed_from_u64(plan.seed);
    let mut rig = Rig { home, rng, fresh: BTreeMap::new(), control, outcome, life: 0, seed: plan.seed };
    let mut result = Ok(());
    let mut turn = 0;
    while rig.outcome.count() < plan.count && turn < 4 * plan.count as usize && !stop() && result.is_ok() {
        result = rig.case(cases::nth(&kinds, turn), turn);
        turn += 1;
    }
    let Rig { home, mut outcome, .. } = rig;
    drop(served);
    drop(home);
    result?;
    outcome.elapsed = began.elapsed();
    Ok(outcome)
}

/// What was seen of a life with a fault.
struct Seen {
    messages: Vec<Message>,
    /// How many of them came before the end. What comes after it tells of the end: a frozen disk gives EIO.
    in_time: usize,
    errors: String,
    struck: bool,
    /// How many acknowledgements had come when it struck.
    acknowledged: usize,
    /// Whether what must follow had come when the patience was over.
    reacted: bool,
}

impl Rig {
    fn fresh(&mut self, stack: Stack) -> Result<Image, String> {
        if let Some(image) = self.fresh.get(stack.name()) {
            return Ok(image.clone());
        }
        self.control.insert(Image::new(stack.disk_size()), SECTOR, false);
        Setup::format(&self.home, stack, SECTOR)?;
        let image = self.control.pull();
        self.fresh.insert(stack.name(), image.clone());
        Ok(image)
    }

    fn set_up(&self, stack: Stack, image: Image) -> Result<Setup, String> {
        self.control.insert(image, SECTOR, false);
        Setup::begin(&self.home, stack, SECTOR)?.finish()
    }

    fn start(&mut self, setup: &Setup, only_verify: bool) -> Result<Child, String> {
        self.life += 1;
        Child::start(&Options {
            path: setup.path.clone(),
            seed: self.seed,
            life: self.life,
            relaxed: false,
            planted: Planted::None,
            whole_scan: self.rng.random(),
            only_verify,
        })
    }

    /// Ends the power or only the process, and returns what is on the disk.
    fn end(&mut self) -> (Image, u64) {
        if self.rng.random() {
            self.outcome.cuts += 1;
            self.control.cut(Shape::draw(&mut self.rng), self.rng.random())
        } else {
            (self.control.pull(), mono_ns())
        }
    }

    fn case(&mut self, case: Case, turn: usize) -> Result<(), String> {
        let broken = self.outcome.oracle.broken.len();
        self.outcome.oracle.restart();
        let mut image = self.fresh(case.stack)?;
        if case.must == Must::Refuse {
            // Something that the refused start must leave as it is.
            let setup = self.set_up(case.stack, image)?;
            let child = self.start(&setup, false)?;
            child.wait_for(Tag::Verified, PATIENCE);
            self.pause(50..300);
            image = self.finish_life(child, setup)?.0;
        }
        let setup = self.set_up(case.stack, image)?;
        let (seen, image) = match case.must {
            Must::Refuse => self.refused(&case, setup)?,
            Must::Wait => self.without_room(&case, setup)?,
            Must::Latch | Must::GoOn => self.struck(&case, setup)?,
        };
        if !seen.struck {
            self.outcome.missed += 1;
            return Ok(());
        }
        *self.outcome.struck.entry(format!("{}, {}", case.name, case.stack.name())).or_default() += 1;
        self.judge(&case, &seen);
        let shown = self.restart(&case, image)?;
        let oracle = &mut self.outcome.oracle;
        for (_, what) in &mut oracle.broken[broken..] {
            *what =
                format!("case {turn} of seed {} ({}, {}): {what}", self.seed, case.name, case.stack.name());
        }
        for (broken, what) in oracle.broken[broken..].iter().take(6) {
            eprintln!("{broken:?}: {what}");
        }
        if oracle.broken.len() > broken {
            eprintln!("the child said: {}\nafter the restart: {shown}", seen.errors);
        }
        Ok(())
    }

    fn pause(&mut self, range_ms: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.rng.random_range(range_ms)));
    }

    fn finish_life(&mut self, child: Child, setup: Setup) -> Result<(Image, Vec<Message>, String), String> {
        let (image, at_ns) = self.end();
        let (messages, errors) = child.kill()?;
        drop(setup);
        let oracle = &mut self.outcome.oracle;
        messages.iter().for_each(|message| oracle.hear(message));
        oracle.note_open_groups();
        oracle.cut(at_ns);
        Ok((image, messages, errors))
    }

    /// A fault during the load.
    fn struck(&mut self, case: &Case, setup: Setup) -> Result<(Seen, Image), String> {
        let Trouble::Disk(fault) = case.trouble else { return Err("no fault of the disk".into()) };
        let child = self.start(&setup, false)?;
        child.wait_for(Tag::Verified, PATIENCE);
        self.pause(50..400);
        // The engine allocates a few blocks ahead and no more once all have been used.
        let most = if fault == Fault::AllocationFull { 4 } else { 30 };
        self.control.arm(fault, self.rng.random_range(1..most));
        let deadline = Instant::now() + STRIKE;
        while self.control.is_armed() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let struck = !self.control.is_armed();
        self.control.disarm();
        let acknowledged = child.count(Tag::Acknowledged);
        let is_own = matches!(case.stack, Stack::Direct | Stack::Raw);
        let reacted = struck
            && child.wait_until(REACTION, |messages| {
                let latch = messages.iter().position(|message| message.tag == Tag::Latched);
                let reads = |from: usize| messages[from..].iter().filter(|m| m.tag == Tag::ReadRight).count();
                let acks = messages.iter().filter(|message| message.tag == Tag::Acknowledged).count();
                match case.must {
                    Must::Latch if is_own => latch.is_some_and(|latch| reads(latch) >= READS),
                    // A file system may keep the fault to itself.
                    Must::Latch => latch.is_some() || acks > acknowledged + 2000,
                    _ => acks > acknowledged + 500,
                }
            });
        self.pause(20..150);
        let in_time = child.heard();
        let (image, messages, errors) = self.finish_life(child, setup)?;
        Ok((Seen { messages, in_time, errors, struck, acknowledged, reacted }, image))
    }

    /// A fault at the start.
    fn refused(&mut self, case: &Case, setup: Setup) -> Result<(Seen, Image), String> {
        let Trouble::Disk(fault) = case.trouble else { return Err("no fault of the disk".into()) };
        self.control.arm(fault, 1);
        let child = self.start(&setup, false)?;
        child.wait_until(PATIENCE, |messages| {
            messages.iter().any(|message| matches!(message.tag, Tag::Refused | Tag::Verified))
        });
        let struck = !self.control.is_armed();
        self.control.disarm();
        let reacted = child.count(Tag::Refused) > 0;
        let in_time = child.heard();
        let (image, messages, errors) = self.finish_life(child, setup)?;
        Ok((Seen { messages, in_time, errors, struck, acknowledged: 0, reacted }, image))
    }

    /// A file system that somebody else fills.
    fn without_room(&mut self, case: &Case, setup: Setup) -> Result<(Seen, Image), String> {
        let Trouble::Full(left) = case.trouble else { return Err("no full file system".into()) };
        let at = self.home.mount_point();
        let filler = at.join("filler").to_string_lossy().into_owned();
        let room = host::run("stat", &["-f", "-c", "%f %S", &at.to_string_lossy()])?;
        let numbers: Vec<u64> = room.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [blocks, size] = numbers[..] else { return Err(format!("stat -f says {room}")) };
        let length = (blocks * size).saturating_sub(left).to_string();
        host::run("fallocate", &["-l", &length, &filler])?;
        let child = self.start(&setup, false)?;
        let struck = child.wait_until(REACTION, |messages| {
            messages.iter().any(|message| matches!(message.tag, Tag::Failed | Tag::Refused))
        });
        self.pause(20..150);
        host::run("rm", &[&filler])?;
        let acknowledged = child.count(Tag::Acknowledged);
        let reacted = struck
            && child.wait_until(REACTION, |messages| {
                let acks = messages.iter().filter(|message| message.tag == Tag::Acknowledged).count();
                acks > acknowledged + 500
            });
        let in_time = child.heard();
        let (image, messages, errors) = self.finish_life(child, setup)?;
        Ok((Seen { messages, in_time, errors, struck, acknowledged, reacted }, image))
    }

    /// Holds the engine to what the case asks for, besides honest acknowledgements.
    fn judge(&mut self, case: &Case, seen: &Seen) {
        let messages = &seen.messages;
        let has = |tag: Tag| messages[..seen.in_time].iter().any(|message| message.tag == tag);
        let mut broken = Vec::new();
        let is_own = matches!(case.stack, Stack::Direct | Stack::Raw);
        let latch = messages[..seen.in_time].iter().position(|message| message.tag == Tag::Latched);
        if let Some(latch) = latch {
            self.outcome.latched += 1;
            let after = &messages[latch..];
            let begun: HashSet<(u16, u64)> = after
                .iter()
                .filter(|message| message.tag == Tag::Begin)
                .map(|message| (message.lane, message.a))
                .collect();
            let answered = after.iter().find(|message| {
                message.tag == Tag::Acknowledged && begun.contains(&(message.lane, message.a))
            });
            if let Some(message) = answered {
                broken.push(format!("version {} began after the latch and was acknowledged", message.a));
            }
            self.outcome.writes_latched += begun.len() as u64;
            self.outcome.reads_latched += after.iter().filter(|m| m.tag == Tag::ReadRight).count() as u64;
            if messages[latch].a == 0 {
                broken.push("the engine's statistics do not show the failed device".into());
            }
        }
        match case.must {
            Must::Latch if is_own && !has(Tag::Latched) => broken.push("no latch".into()),
            Must::Latch if is_own && !seen.reacted => {
                broken.push("reads do not go on after the latch".into())
            }
            Must::Latch if !is_own && !has(Tag::Latched) && has(Tag::Failed) => {
                broken.push("a write failed without a latch".into());
            }
            Must::Latch if !has(Tag::Latched) => self.outcome.absorbed += 1,
            Must::Latch => {}
            Must::GoOn if has(Tag::Latched) => broken.push("a latch, for nothing".into()),
            Must::GoOn | Must::Wait if !seen.reacted => {
                broken.push(format!("no writes go on after the first {}", seen.acknowledged));
            }
            Must::GoOn | Must::Wait => {}
            Must::Refuse if !seen.reacted => broken.push("opened over a flush that had failed".into()),
            Must::Refuse if seen.errors.trim().is_empty() => broken.push("refused without a reason".into()),
            Must::Refuse => self.outcome.refused += 1,
        }
        let broken = broken.into_iter().map(|what| (Broken::Conduct, what));
        self.outcome.oracle.broken.extend(broken);
    }

    /// Starts on what is on the disk, and reads everything. Returns what the child printed.
    fn restart(&mut self, case: &Case, image: Image) -> Result<String, String> {
        let setup = self.set_up(case.stack, image)?;
        let child = self.start(&setup, true)?;
        child.wait_until(PATIENCE, |messages| {
            messages.iter().any(|message| matches!(message.tag, Tag::Closed | Tag::Refused))
        });
        let (messages, errors) = child.kill()?;
        drop(setup);
        let oracle = &mut self.outcome.oracle;
        messages.iter().for_each(|message| oracle.hear(message));
        if !messages.iter().any(|message| message.tag == Tag::Verified) {
            oracle.broken.push((Broken::Refused, format!("no start after the fault: {}", errors.trim())));
        }
        Ok(errors)
    }
}
