//! A life of class M: media that rot, lose writes, put them elsewhere and read what was there before.
//!
//! One node cannot repair that. What is owed is that it is seen (R12): a key whose newest version was hit gives that
//! version or an error, never an older one, never other bytes; every other key is what it was. A link runs with faults and its answers
//! are checked as in class C, but word of damage is allowed. Then the process ends, and the damaged devices are
//! opened, with and without their checkpoint, and compared with an engine on the devices as they should be (`damage.rs` says what
//! may differ). Sets with a member that was swapped, blanked or brought back from an older copy must be refused.
//! The life goes on on the devices as they should be, so each link begins healthy.

use super::damage::Books;
use super::device::{Damaged, Rack};
use super::faults::{Fault, Theme};
use super::host::{Host, Observation};
use super::life::Life;
use super::media::Media;
use super::oracle::Violation;
use super::version::{Seen, key_of};
use aerolith_engine::{Error, Timestamp};
use rand::RngExt;
use std::collections::BTreeSet;

/// What rots where it lies.
const ROT: [Fault; 3] = [Fault::BitRot, Fault::SectorRot, Fault::Unreadable];

/// The counters of a kind of fault: keys hit, and of these, those that were told or right.
fn names_of(fault: Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::LostWrite => ("keys hit by a lost write", "seen: lost write"),
        Fault::Misdirected => ("keys hit by a misdirected write", "seen: misdirected write"),
        Fault::BitRot => ("keys hit by bit rot", "seen: bit rot"),
        Fault::SectorRot => ("keys hit by rot of a sector", "seen: rot of a sector"),
        Fault::Unreadable => ("keys hit by an unreadable sector", "seen: unreadable sector"),
        other => unreachable!("{other:?} leaves nothing behind"),
    }
}

impl Life {
    /// Lives it.
    pub(super) fn run_damaged(&mut self) -> Result<(), Violation> {
        let links = self.rng.random_range(4..=8);
        let mut older = None;
        for link in 0..links {
            let right = self.damaged_link(older.as_deref());
            older = Some(right.map_err(|violation| violation.within(&format!("link {link} of {links}")))?);
        }
        Ok(())
    }

    /// `older`: what the devices held before this run of theirs was opened. Returns what they should hold after it.
    fn damaged_link(&mut self, older: Option<&[Media]>) -> Result<Vec<Media>, Violation> {
        self.host.rack.remember_right();
        self.host.rack.hold(true);
        self.host.rack.with_faults(|faults| faults.set(Theme::Media.rates()));
        let rarity = self.rng.random_range(200..1_000);
        for _ in 0..self.rng.random_range(100..2_000) {
            self.step()?;
            if self.rng.random_range(0..rarity) == 0 {
                self.host.rack.strike(ROT[self.rng.random_range(0..3)]);
            }
        }
        self.settle_promises();
        // What is on its way arrives; then the process is killed, or closes.
        let is_closed = self.rng.random_bool(0.3);
        self.host.rack.hold(false);
        let now = self.host.now_ms();
        if is_closed {
            // A close may find a device damaged, and say so; what it acknowledged before is durable all the same.
            let _ = self.host.world.try_close();
        }
        self.clients.clear();
        for _ in 0..self.rng.random_range(0..3) {
            self.host.rack.strike(ROT[self.rng.random_range(0..3)]);
        }
        let damaged = self.host.rack.damaged();
        self.count_closed();
        self.refuse_wrong_members(older, &damaged.right, now)?;
        let right = damaged.right.clone();
        self.examine(damaged, now)?;
        Ok(right)
    }

    /// Compares an engine on damaged devices with one on the same devices as they should be.
    fn examine(&mut self, damaged: Damaged, now: u64) -> Result<(), Violation> {
        let healthy = Host::of_image(&self.plan, damaged.right.clone(), Timestamp(now), self.rng.random());
        let healthy = healthy
            .map_err(|error| Violation::new(2, "NOT OPENED", format!("undamaged devices: {error}")))?;
        let right = healthy.observe(self.keys.iter().copied())?;
        self.oracle.recover(&right.seen, healthy.now_ms())?;
        self.coverage.add("images", 1);
        let books = Books::of(&self.plan.shape, &damaged);
        if books.is_damaged() {
            for use_checkpoint in [true, false] {
                self.examine_one(&damaged, &books, &right, now, use_checkpoint)?;
            }
        }
        self.host = healthy;
        Ok(())
    }

    fn examine_one(
        &mut self,
        damaged: &Damaged,
        books: &Books,
        right: &Observation,
        now: u64,
        use_checkpoint: bool,
    ) -> Result<(), Violation> {
        let rack = Rack::holding(&self.plan.shape, damaged.media.clone(), self.rng.random());
        let host = Host::open_with(&self.plan, rack, Timestamp(now), |config| {
            config.use_checkpoint = use_checkpoint;
        });
        let host = match host {
            Ok(host) => host,
            Err(error) => {
                self.coverage.add("damaged images refused", 1);
                let is_clear = matches!(error, Error::Header(_) | Error::Corrupt { .. } | Error::Device(_));
                return if is_clear && books.may_be_refused() {
                    Ok(())
                } else {
                    Err(Violation::new(12, "NOT OPENED", format!("for damage of records: {error}")))
                };
            }
        };
        let name = if use_checkpoint {
            "damaged images opened"
        } else {
            "damaged images opened without a checkpoint"
        };
        self.coverage.add(name, 1);
        let seen = host.observe(self.keys.iter().copied())?;
        host.verify()?;
        for (&key, is) in &seen.seen {
            self.judge(key, is, &right.seen[&key], books, damaged, host.recovery.checkpoint)?;
        }
        Ok(())
    }

    /// R12 for one key.
    fn judge(
        &mut self,
        key: u32,
        is: &Seen,
        should: &Seen,
        books: &Books,
        damaged: &Damaged,
        checkpoint: Option<u64>,
    ) -> Result<(), Violation> {
        let digest = key_of(key).digest().0;
        let hits = books.damage_of(&digest);
        let can_be_known = books.can_be_known(&digest);
        let kinds: BTreeSet<Fault> = hits.iter().filter_map(|at| damaged.struck.get(at)).copied().collect();
        let wrong = |rule, name, why: &str| {
            let story = format!(
                "key {key} from checkpoint {checkpoint:?}: {is:?}, it was {should:?}; {why}; struck by {kinds:?}; the newest \
                 is on {}",
                books.tell(&digest) + &self.oracle.tell(key, is, 0)
            );
            Err(Violation::new(rule, name, story))
        };
        let is_right = is == should;
        if let Seen::Garbage(_) = is {
            return wrong(12, "GARBAGE", "these are not its bytes");
        }
        if hits.is_empty() {
            let is_excused = is_right || !can_be_known;
            self.coverage.add("keys hit that nobody can know of", u64::from(!is_right && is_excused));
            return if is_excused { Ok(()) } else { wrong(12, "UNTOUCHED", "no damage has hit it") };
        }
        let is_told = matches!(is, Seen::Refused(_));
        if !is_right && !is_told && can_be_known {
            return wrong(12, "SILENT", "nothing tells of the damage");
        }
        self.coverage.add("keys hit by damage", 1);
        let outcome = match (is_right, is_told) {
            (true, _) => "keys hit: right all the same",
            (_, true) => "keys hit: told",
            _ => "keys hit that nobody can know of",
        };
        self.coverage.add(outcome, 1);
        for (hit, seen) in kinds.iter().map(|&fault| names_of(fault)) {
            self.coverage.add(hit, 1);
            self.coverage.add(seen, u64::from(is_right || is_told));
        }
        Ok(())
    }

    /// A set in which one of two members is not what it should be is refused, and nothing is written to it; with the right
    /// devices it opens (`examine` does that next).
    fn refuse_wrong_members(
        &mut self,
        older: Option<&[Media]>,
        right: &[Media],
        now: u64,
    ) -> Result<(), Violation> {
        let [first, second] = right else { return Ok(()) };
        let member = self.rng.random_range(0..2);
        let other = if member == 0 { second } else { first };
        let (name, wrong) = match self.rng.random_range(0..3) {
            0 => {
                // The set was opened once more since, whether or not it has written anything.
                let Some(older) = older.map(|older| &older[member]) else { return Ok(()) };
                ("member replaced by an older copy", older.clone())
            }
            1 => (
                "member replaced by a blank one",
                Media::blank(self.plan.shape.size, self.plan.shape.is_file),
            ),
            _ => ("member replaced by another's copy", other.clone()),
        };
        let mut set = right.to_vec();
        set[member] = wrong;
        let rack = Rack::holding(&self.plan.shape, set.clone(), self.rng.random());
        let opened = Host::open(&self.plan, rack.clone(), Timestamp(now));
        let error = match opened {
            Ok(_) => return Err(Violation::new(12, "ACCEPTED", format!("{name}: the set opens"))),
            Err(error) => error,
        };
        let names_it = error.to_string().contains("sim-");
        let after = rack.moment().media;
        let is_untouched = set.iter().zip(&after).all(|(before, after)| before.bytes() == after.bytes());
        if !matches!(error, Error::Header(_)) || !names_it || !is_untouched {
            let story = format!("{name}: {error} (written to: {})", !is_untouched);
            return Err(Violation::new(12, "REFUSED BADLY", story));
        }
        self.coverage.add("sets with a wrong member refused", 1);
        self.coverage.add(name, 1);
        Ok(())
    }
}
