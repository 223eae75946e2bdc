//! A life: one seed's chain of runs, cuts, kills, recoveries and cuts in those, each crash checked in several images.
//!
//! Everything is drawn from the seed: who is polled, which job takes a step, which request is answered when, what the
//! clocks do. In the midst of a run the power is cut on paper: images of the moment are checked against a copy of
//! the oracle, and the run goes on as if nothing had happened. At the end of a link it is cut (or killed, or closed)
//! in earnest, and the next link begins on one of the images.

use super::client::{Client, Excuses, Turn};
use super::coverage::Coverage;
use super::device::{Moment, Rack, Shape, mix};
use super::faults::Theme;
use super::host::{Host, Plan};
use super::image::Examiner;
use super::media::Media;
use super::oracle::{Oracle, Violation};
use super::survival::Survival;
use super::target::Target;
use super::workload::{Verb, Workload};
use crate::START;
use aerolith_engine::{Durability, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// How far behind `flush_max` an accepted write may be on devices that keep up, in milliseconds: a tick, a commit
/// before it, and the device's own time.
const SLACK_MS: u64 = 300;
/// Of a hundred cuts so many leave a sector in flight as garbage or unreadable.
const SHEAR_PERCENT: u32 = 3;
/// Rounds in which everything under way must come to an end when nothing fails.
const PATIENCE: usize = 5_000;

/// What may lag behind in a life: nothing, as a rule.
const LAGGARDS: [Option<Target>; 12] = [
    None,
    None,
    None,
    None,
    None,
    None,
    None,
    Some(Target::Data),
    Some(Target::MovedData),
    Some(Target::Footer),
    Some(Target::CheckpointBody),
    Some(Target::CheckpointRoot),
];

/// What became of a life.
pub struct Outcome {
    /// What it met.
    pub coverage: Coverage,
    /// A hash over all that happened and all that the devices held.
    pub hash: u64,
    /// What the oracle objects to, if anything.
    pub violation: Option<Violation>,
}

/// Which faults a life meets, and so what is owed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Crashes, and devices that say that they fail: nothing acknowledged may be lost.
    Crashes,
    /// Media that damage what they hold (`damaged_life.rs`): all damage must be seen.
    Media,
}

/// Lives the life of a seed.
pub fn live(class: Class, seed: u64) -> Outcome {
    let mut life = Life::new(class, seed);
    let violation = match class {
        Class::Crashes => life.run().err(),
        Class::Media => life.run_damaged().err(),
    };
    life.clients.clear();
    life.coverage.add("lives", 1);
    life.coverage.add("versions accepted", life.oracle.accepted);
    life.coverage.add("versions promised", life.oracle.promised);
    let faults = life.host.rack.with_faults(|faults| faults.injected.clone());
    life.coverage.add_faults(&faults);
    let hash = mix(life.hash, &life.host.rack.event_hash().to_le_bytes());
    Outcome { coverage: life.coverage, hash, violation }
}

pub(super) struct Life {
    class: Class,
    pub(super) plan: Plan,
    theme: Theme,
    workload: Workload,
    pub(super) keys: Vec<u32>,
    pub(super) oracle: Oracle,
    pub(super) coverage: Coverage,
    pub(super) rng: StdRng,
    // Before the host: they hold on to its engine.
    pub(super) clients: Vec<Client>,
    pub(super) host: Host,
    most_clients: usize,
    crashes: usize,
    appended: u64,
    /// Checkpoints that this engine has written, as of the last step.
    checkpoints: u64,
    was_killed: bool,
    hash: u64,
}

fn plan(class: Class, seed: u64, rng: &mut StdRng) -> Plan {
    let block_size = if rng.random_bool(0.75) { 16 << 10 } else { 32 << 10 };
    let is_of_crashes = class == Class::Crashes;
    let blocks = rng.random_range(14..=28);
    let shape = Shape {
        count: rng.random_range(1..=2),
        size: blocks * block_size,
        block_size,
        sector_size: if rng.random_bool(0.3) { 4096 } else { 512 },
        is_file: rng.random_bool(0.5),
    };
    Plan {
        seed,
        shape,
        durability: if rng.random_bool(0.5) { Durability::Relaxed } else { Durability::Group },
        flush_max_ms: [20, 200, 1000][rng.random_range(0..3)],
        default_ttl_ms: [0, 0, 0, 4_000][rng.random_range(0..4)],
        checkpoint_ms: [0, 50, 200, 1_000][rng.random_range(0..4)],
        // A device of this size is read in a tenth of a second. Where media lie, what the scrub removes is not what it should.
        scrub_rate: if is_of_crashes && rng.random_bool(0.4) { 8 << 20 } else { 0 },
        lagging: LAGGARDS[rng.random_range(0..LAGGARDS.len())].filter(|_| is_of_crashes),
        is_set_back: is_of_crashes && rng.random_bool(0.4),
        read_cache_size: 0,
    }
}

impl Life {
    fn new(class: Class, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let plan = plan(class, seed, &mut rng);
        let workload = Workload::new(seed, &mut rng);
        let host =
            Host::open(&plan, Rack::new(&plan.shape, rng.random()), START).expect("blank devices open");
        let keys = workload.all_keys().collect();
        let theme = if class == Class::Media { Theme::Media } else { Theme::draw(&mut rng) };
        let most_clients = rng.random_range(1..=24);
        Life {
            class,
            plan,
            theme,
            workload,
            keys,
            oracle: Oracle::default(),
            coverage: Coverage::default(),
            rng,
            clients: Vec::new(),
            host,
            most_clients,
            crashes: 0,
            appended: 0,
            checkpoints: 0,
            was_killed: false,
            hash: seed,
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        let links = self.rng.random_range(6..=12);
        for link in 0..links {
            self.link().map_err(|violation| violation.within(&format!("link {link} of {links}")))?;
        }
        Ok(())
    }

    fn link(&mut self) -> Result<(), Violation> {
        self.host.rack.hold(true);
        self.host.rack.with_faults(|faults| {
            faults.set(self.theme.rates());
            faults.lagging = self.plan.lagging;
        });
        let steps = match self.rng.random_range(0..6) {
            // Nothing at all: what a kill left in a cache is cut next.
            0 => self.rng.random_range(0..20),
            1 | 2 => self.rng.random_range(20..400),
            _ => self.rng.random_range(400..2_500),
        };
        for _ in 0..steps {
            self.step()?;
            let rarity = self.rarity();
            if self.rng.random_range(0..rarity) == 0 {
                self.cut_on_paper()?;
            }
        }
        let is_drained = self.keeps_up() && self.rng.random_bool(0.3);
        if is_drained {
            self.drain()?;
        }
        let appended = self.host.store().stats();
        self.appended += appended.fresh_size + appended.moved_size;
        match self.rng.random_range(0..10) {
            0 if is_drained => self.close(),
            0..=2 => self.kill(),
            _ => self.cut(),
        }
    }

    /// One step in how many is followed by a cut on paper. A checkpoint comes to its end in few of them.
    fn rarity(&mut self) -> u32 {
        if self.host.rack.is_pending(Target::CheckpointRoot) {
            return 20;
        }
        let written = self.host.store().stats().checkpoints_written;
        if std::mem::replace(&mut self.checkpoints, written) != written {
            return 4;
        }
        if self.host.rack.is_pending(Target::CheckpointBody) { 100 } else { 500 }
    }

    /// Whether devices answer in their time, so that a relaxed write is durable after its time.
    fn keeps_up(&self) -> bool {
        matches!(self.theme, Theme::Healthy | Theme::Reads | Theme::Media) && self.plan.lagging.is_none()
    }

    pub(super) fn step(&mut self) -> Result<(), Violation> {
        match self.rng.random_range(0..100) {
            0..=29 if self.clients.len() < self.most_clients => self.begin(),
            0..=54 if !self.clients.is_empty() => {
                let at = self.rng.random_range(0..self.clients.len());
                return self.poll(at);
            }
            0..=74 => self.step_job(),
            75..=91 => {
                let count = self.host.rack.pending_count();
                if count > 0 {
                    self.host.rack.complete(self.rng.random_range(0..count));
                }
            }
            92..=97 => self.tick(),
            98 => self.host.rack.write_back(self.rng.random_range(1..60)),
            _ => self.move_wall_clock(),
        }
        Ok(())
    }

    fn begin(&mut self) {
        let op = self.workload.draw(&self.oracle, Timestamp(self.host.now_ms()), &mut self.rng);
        let doing = self.workload.start(&op, self.host.store());
        self.clients.push(Client::new(op, doing, &self.oracle, &self.host));
    }

    fn poll(&mut self, at: usize) -> Result<(), Violation> {
        let has_latched = self.host.has_latched();
        let is_damaged = self.class == Class::Media;
        let reads_fail = self.theme == Theme::Reads || is_damaged;
        let excuses = Excuses { reads_fail, writes_fail: has_latched, is_damaged };
        let turn = self.clients[at].poll(&mut self.oracle, &self.host, excuses, self.plan.durability)?;
        if let Turn::Done { is_told } = turn {
            self.clients.swap_remove(at);
            self.coverage.add("live answers checked", 1);
            self.coverage.add("live reads that told of damage", u64::from(is_told));
        }
        Ok(())
    }

    fn step_job(&mut self) {
        let engine = self.host.world.engine();
        // Of its jobs the scrub is the fourth. It waits for the device at every block, so it gets more turns.
        let is_scrub = self.plan.scrub_rate > 0 && self.rng.random_bool(0.5);
        let at = if is_scrub { 3 } else { self.rng.random_range(0..engine.job_count()) };
        // A pass of the scrub takes hundreds of steps, so a job may get many in a row.
        let most = if self.rng.random_range(0..4) == 0 { self.rng.random_range(1..=256) } else { 1 };
        let _ = (0..most).take_while(|_| engine.step_job(at)).count();
    }

    /// Time goes on: the device answers what is due, and the flush job gets its turn.
    fn tick(&mut self) {
        self.host.world.clock.advance(Duration::from_millis(self.rng.random_range(1..=20)));
        self.host.rack.set_time(self.host.mono_ms());
        self.host.rack.complete_due();
        self.host.world.engine().step_job(0);
    }

    fn move_wall_clock(&mut self) {
        let now = self.host.now_ms();
        let to = match self.rng.random_range(0..8) {
            0 if self.plan.is_set_back => self.back(now),
            0..=2 => now + self.rng.random_range(0..10_000),
            _ => now + self.rng.random_range(0..600),
        };
        self.host.world.clock.set(Timestamp(to));
        let then = self.host.now_ms();
        for client in &mut self.clients {
            client.see_time(now);
            client.see_time(then);
        }
    }

    fn back(&mut self, now: u64) -> u64 {
        self.coverage.add("wall clock set back", 1);
        now - self.rng.random_range(1..5_000)
    }

    /// R11: with devices that answer, everything under way comes to an end.
    fn drain(&mut self) -> Result<(), Violation> {
        for _ in 0..PATIENCE {
            if self.clients.is_empty() {
                self.coverage.add("alive after recovery", u64::from(self.crashes > 0));
                return Ok(());
            }
            self.tick();
            self.host.world.engine().step();
            for at in (0..self.clients.len()).rev() {
                self.poll(at)?;
            }
        }
        let stuck: Vec<_> =
            self.clients.iter().map(|client| (client.op.verb, client.op.keys.clone())).collect();
        let stats = self.host.store().stats();
        let story = format!("after {PATIENCE} rounds still under way: {stuck:?}; {stats:?}");
        Err(Violation::new(11, "STUCK", story))
    }

    /// What healthy devices owe by now.
    pub(super) fn settle_promises(&mut self) {
        if self.keeps_up() && !self.host.has_latched() {
            let until = self.host.mono_ms().checked_sub(self.plan.flush_max_ms + SLACK_MS);
            if let Some(until) = until {
                self.oracle.promise_until(until);
            }
        }
        self.oracle.forget_settled_groups();
    }

    fn count_cut(&mut self, moment: &Moment) {
        self.coverage.add("cut moments", 1);
        self.coverage.add_cut(&moment.targets);
        let pending = |of: fn(&Verb) -> bool| {
            let is = |client: &Client| of(&client.op.verb) && client.applied.is_some();
            u64::from(self.clients.iter().any(is))
        };
        let truncations = pending(|verb| *verb == Verb::Truncate);
        let groups = pending(|verb| matches!(verb, Verb::PutMany | Verb::UpdateMany));
        self.coverage.add("cut after a truncation, not yet durable", truncations);
        self.coverage.add("cut while a group was pending", groups);
    }

    /// Checks one image against `oracle`, and images of cuts in its opening.
    fn check(
        &mut self,
        media: Vec<Media>,
        now: u64,
        oracle: &mut Oracle,
        depth: u32,
    ) -> Result<Host, Violation> {
        let before = oracle.clone();
        let mut examiner =
            Examiner { plan: &self.plan, keys: &self.keys, coverage: &mut self.coverage, rng: &mut self.rng };
        let checked =
            examiner.check(media, Timestamp(now), oracle).map_err(|violation| violation.within("image"))?;
        self.coverage
            .add("images of chains with two crashes or more", u64::from(self.crashes > 0 || depth > 0));
        let size = (self.plan.shape.size * self.plan.shape.count) as u64;
        self.coverage.add("images with reused blocks", u64::from(self.appended > size));
        if let Some(moment) = checked.in_opening.filter(|_| depth < 3 && self.rng.random_range(0..3) == 0) {
            self.coverage.add_cut(&moment.targets);
            self.coverage.add("images cut in a recovery", 1);
            let media = self.torn(&moment);
            let mut before = before;
            let cut = self.check(media, now, &mut before, depth + 1);
            cut.map_err(|violation| violation.within("cut in its recovery"))?;
        }
        Ok(checked.host)
    }

    /// What a cut at this moment leaves.
    fn torn(&mut self, moment: &Moment) -> Vec<Media> {
        // Now and then one sector in flight is neither old nor new: garbage, or unreadable.
        let shear = self.rng.random_range(0..100) < SHEAR_PERCENT;
        let (media, torn) = moment.cut(Survival::draw(&mut self.rng), shear, &mut self.rng);
        self.coverage.add("torn writes", torn.writes as u64);
        self.coverage.add("sectors torn to garbage", torn.sectors as u64);
        media
    }

    fn cut_on_paper(&mut self) -> Result<(), Violation> {
        self.settle_promises();
        let moment = self.host.moment();
        self.count_cut(&moment);
        let now = self.host.now_ms();
        for _ in 0..3 {
            let media = self.torn(&moment);
            let later = now + [0, 0, 1_000, 30_000][self.rng.random_range(0..4)];
            let mut oracle = self.oracle.clone();
            self.check(media, later, &mut oracle, 0)?;
        }
        Ok(())
    }

    /// The wall clock after a restart: later, as a rule.
    fn next_wall(&mut self) -> u64 {
        let now = self.host.now_ms();
        match self.rng.random_range(0..10) {
            0 if self.plan.is_set_back => {
                // Nothing on the devices need speak of the last moments.
                self.oracle.lapse(now);
                self.back(now)
            }
            0 | 1 => now + 30_000,
            2..=5 => now + self.rng.random_range(0..3_000),
            _ => now,
        }
    }

    /// The power goes. The life goes on with one of the images.
    fn cut(&mut self) -> Result<(), Violation> {
        self.coverage.add("kill, restart, then cut", u64::from(self.was_killed));
        self.cut_on_paper()?;
        let moment = self.host.moment();
        let media = self.torn(&moment);
        self.go_on(media)?;
        self.was_killed = false;
        Ok(())
    }

    /// The process is killed. The devices keep what they have cached, and may still lose it.
    fn kill(&mut self) -> Result<(), Violation> {
        self.settle_promises();
        let moment = self.host.moment();
        self.count_cut(&moment);
        let media = moment.kill(&mut self.rng);
        self.go_on(media)?;
        self.was_killed = true;
        Ok(())
    }

    fn go_on(&mut self, media: Vec<Media>) -> Result<(), Violation> {
        self.count_host();
        let now = self.next_wall();
        let mut oracle = std::mem::take(&mut self.oracle);
        let checked = self.check(media, now, &mut oracle, 0);
        self.oracle = oracle;
        self.clients.clear();
        self.host = checked?;
        self.crashes += 1;
        Ok(())
    }

    fn count_host(&mut self) {
        self.count_removed();
        self.coverage.add("devices latched", u64::from(self.host.has_latched()));
        self.count_closed();
    }

    fn count_removed(&mut self) {
        let counters = self.host.store().stats().counters;
        let removed = counters.tombstones_removed;
        self.coverage.add("scrub passes", counters.scrub_passes);
        self.coverage.add("tombstones removed by scrub", removed);
    }

    /// What can be counted of a host whose engine has been closed.
    pub(super) fn count_closed(&mut self) {
        let faults = self.host.rack.with_faults(|faults| std::mem::take(&mut faults.injected));
        self.coverage.add_faults(&faults);
        self.hash = mix(self.hash, &self.host.rack.event_hash().to_le_bytes());
    }

    /// A clean end: everything accepted is durable, whatever was asked for.
    fn close(&mut self) -> Result<(), Violation> {
        self.count_removed();
        self.host.rack.with_faults(|faults| faults.set(&[]));
        self.host.rack.hold(false);
        let now = self.host.now_ms();
        self.host
            .world
            .try_close()
            .map_err(|error| Violation::new(11, "CLOSE", format!("a close fails: {error}")))?;
        let everything = self.oracle.everything();
        self.oracle.promise(&everything);
        self.coverage.add("clean closes", 1);
        // And then the power goes: a clean close owes nothing to a cache.
        let moment = self.host.moment();
        let media = self.torn(&moment);
        self.count_closed();
        let mut oracle = std::mem::take(&mut self.oracle);
        let checked = self.check(media, now, &mut oracle, 0);
        self.oracle = oracle;
        self.host = checked?;
        self.reopen()
    }

    /// R9: nothing happens between a start and a clean close, so the next start finds the same, and the same accounts.
    fn reopen(&mut self) -> Result<(), Violation> {
        let seen = self.host.observe(self.keys.iter().copied())?;
        let accounts = self.host.accounts()?;
        let now = Timestamp(self.host.now_ms());
        let close = self.host.world.try_close();
        close.map_err(|error| Violation::new(11, "CLOSE", format!("an idle close fails: {error}")))?;
        let media = self.host.settled();
        let again = Host::of_image(&self.plan, media, now, self.rng.random());
        self.host = again
            .map_err(|error| Violation::new(2, "NOT OPENED", format!("after a clean close: {error}")))?;
        let then = self.host.observe(self.keys.iter().copied())?;
        let found = self.host.accounts()?;
        if seen != then || accounts != found {
            let story = format!("before a clean close {accounts:?}, after it {found:?}; {seen:?}; {then:?}");
            return Err(Violation::new(9, "NOT THE SAME", story));
        }
        self.coverage.add("closed and opened, same accounts", 1);
        Ok(())
    }
}
