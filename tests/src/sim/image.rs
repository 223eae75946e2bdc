//! One image, opened in every way and held against the oracle.
//!
//! An image is what the devices hold after a cut or a kill. It is opened as it is, read out whole, compared with what
//! the oracle allows, its books are counted afresh (R8); it is opened again without its checkpoint (R10), and once
//! more as the first opening left it (R9). Any opening may itself be cut: the moment goes back to the caller.

use super::coverage::Coverage;
use super::device::{Moment, Rack};
use super::host::{Host, Observation, Plan};
use super::media::Media;
use super::oracle::{Oracle, Violation};
use super::version::Seen;
use aerolith_engine::{Error, Timestamp};
use rand::RngExt;
use rand::rngs::StdRng;

/// An image that has been checked.
pub struct Checked {
    /// The engine that was opened on it.
    pub host: Host,
    /// The set as it was at some write or flush of the opening, if there was one with the number drawn.
    pub in_opening: Option<Moment>,
}

/// Who checks images: what they have in common.
pub struct Examiner<'a> {
    /// How the engine is configured.
    pub plan: &'a Plan,
    /// Every key.
    pub keys: &'a [u32],
    /// What is counted.
    pub coverage: &'a mut Coverage,
    /// Chance.
    pub rng: &'a mut StdRng,
}

fn refused(error: &Error) -> Violation {
    Violation::new(2, "NOT OPENED", format!("an image of a crash is refused: {error}"))
}

impl Examiner<'_> {
    /// Checks an image, and tells the oracle what was seen.
    pub fn check(
        &mut self,
        media: Vec<Media>,
        now: Timestamp,
        oracle: &mut Oracle,
    ) -> Result<Checked, Violation> {
        let rack = Rack::holding(&self.plan.shape, media.clone(), self.rng.random());
        rack.watch(self.rng.random_range(0..6));
        let host = Host::open(self.plan, rack, now).map_err(|error| refused(&error))?;
        let in_opening = host.rack.take_watched();
        let seen = host.observe(self.keys.iter().copied())?;
        oracle.recover(&seen.seen, host.now_ms())?;
        host.verify()?;
        self.count(&host);
        self.compare_sweep(media, now, oracle, &seen, &host)?;
        if self.rng.random_range(0..4) == 0 {
            self.compare_again(now, &seen, &host)?;
        }
        Ok(Checked { host, in_opening })
    }

    fn count(&mut self, host: &Host) {
        let found = &host.recovery;
        self.coverage.add("images", 1);
        self.coverage.add("started from a checkpoint", u64::from(found.checkpoint.is_some()));
        self.coverage.add("checkpoints rejected", found.rejected_checkpoints);
        self.coverage.add("blocks read by footer", found.listed_blocks);
        self.coverage.add("blocks scanned", found.scanned_blocks);
        self.coverage.add("tombstones recovered", found.tombstones);
        self.coverage.add("expired at recovery", found.expired);
        self.coverage.add("truncated at recovery", found.truncated);
    }

    /// R10: the checkpoint changes how long a start takes, not what it finds.
    fn compare_sweep(
        &mut self,
        media: Vec<Media>,
        now: Timestamp,
        oracle: &Oracle,
        seen: &Observation,
        host: &Host,
    ) -> Result<(), Violation> {
        if host.recovery.checkpoint.is_none() {
            return Ok(());
        }
        let rack = Rack::holding(&self.plan.shape, media, self.rng.random());
        let other = Host::open_with(self.plan, rack, now, |config| config.use_checkpoint = false);
        let other = other.map_err(|error| refused(&error))?;
        let swept = other.observe(self.keys.iter().copied())?;
        other.verify()?;
        for (key, with) in &seen.seen {
            let without = swept.seen.get(key).unwrap_or(&Seen::Absent);
            // Where the wall clock was set back, what had expired may be there or not.
            let is_excused = oracle.has_lapsed(*key) && (*with == Seen::Absent || *without == Seen::Absent);
            if with != without && !is_excused {
                let story = format!(
                    "key {key} at {}: {with:?} from checkpoint {:?}, {without:?} from the blocks; {}",
                    now.0,
                    host.recovery.checkpoint,
                    oracle.tell(*key, with, now.0)
                );
                return Err(Violation::new(10, "CHECKPOINT DIFFERS", story));
            }
        }
        self.coverage.add("checkpoint and sweep compared", 1);
        Ok(())
    }

    /// R9: what one recovery leaves, another finds.
    fn compare_again(&mut self, now: Timestamp, seen: &Observation, host: &Host) -> Result<(), Violation> {
        let again = Host::of_image(self.plan, host.settled(), now, self.rng.random());
        let again = again.map_err(|error| refused(&error))?.observe(self.keys.iter().copied())?;
        if let Some((key, first)) = seen.seen.iter().find(|(key, seen)| again.seen.get(key) != Some(seen)) {
            let story = format!("key {key}: first {first:?}, recovered again {:?}", again.seen.get(key));
            return Err(Violation::new(9, "NOT THE SAME", story));
        }
        self.coverage.add("recovered twice, same answer", 1);
        Ok(())
    }
}
