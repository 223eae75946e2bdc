//! An engine on a rack of simulated devices: opened, read out whole, and dropped without a trace.

use super::device::{Moment, Rack, Shape};
use super::media::Media;
use super::oracle::Violation;
use super::target::Target;
use super::version::{Seen, seen_of, set_of};
use super::workload::walk;
use crate::World;
use aerolith_engine::{
    AsyncNamespace, Clock, Durability, Error, NamespaceConfig, Recovery, Timestamp, Verified,
};
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What does not change in the course of a life: how the namespace is configured, and on what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names everything.
    pub seed: u64,
    /// The devices.
    pub shape: Shape,
    /// When writes are acknowledged.
    pub durability: Durability,
    /// How long a relaxed write may wait, in milliseconds.
    pub flush_max_ms: u64,
    /// The namespace's own time to live, in milliseconds; 0: none.
    pub default_ttl_ms: u64,
    /// How often checkpoints are written without being asked for, in milliseconds; 0: never.
    pub checkpoint_ms: u64,
    /// Bytes a second that the scrub reads; 0: no scrub.
    pub scrub_rate: u64,
    /// Writes for this, if any, are often overtaken by others.
    pub lagging: Option<Target>,
    /// Whether somebody sets the wall clock back now and then.
    pub is_set_back: bool,
    /// Bytes of the read cache: none, or more than everything takes, so that chance has no say in it.
    pub read_cache_size: u64,
}

/// An engine and its devices.
pub struct Host {
    /// The devices.
    pub rack: Rack,
    /// The engine.
    pub world: World,
    /// What the start found.
    pub recovery: Recovery,
    seed: u64,
}

/// Everything that an engine says of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What each key has.
    pub seen: BTreeMap<u32, Seen>,
    /// Records by the engine's own count, for each set.
    pub counts: [u64; 2],
}

impl Drop for Host {
    /// An engine that is dropped closes, and would wait for its devices, or change them.
    fn drop(&mut self) {
        self.rack.die();
    }
}

impl Host {
    /// Opens an engine on what these devices hold. `now`: the wall clock.
    pub fn open(plan: &Plan, rack: Rack, now: Timestamp) -> Result<Self, Error> {
        Self::open_with(plan, rack, now, |_| {})
    }

    /// As `open`, with another configuration.
    pub fn open_with(
        plan: &Plan,
        rack: Rack,
        now: Timestamp,
        change: impl FnOnce(&mut NamespaceConfig),
    ) -> Result<Self, Error> {
        let mut world = World::on(rack.devices(), plan.shape.block_size as u32);
        world.clock.set(now);
        world.config.durability = plan.durability;
        world.config.flush_max = Duration::from_millis(plan.flush_max_ms);
        world.config.default_ttl =
            (plan.default_ttl_ms > 0).then(|| Duration::from_millis(plan.default_ttl_ms));
        world.config.read_cache_size = plan.read_cache_size;
        world.config.scrub_rate = plan.scrub_rate;
        world.config.checkpoint_period =
            (plan.checkpoint_ms > 0).then(|| Duration::from_millis(plan.checkpoint_ms));
        change(&mut world.config);
        let engine = world.try_open();
        let recovery = engine.map(|engine| engine.recovery("test").cloned().unwrap_or_default());
        match recovery {
            Ok(recovery) => Ok(Host { rack, world, recovery, seed: plan.seed }),
            Err(error) => {
                rack.die();
                Err(error)
            }
        }
    }

    /// Opens an image.
    pub fn of_image(plan: &Plan, media: Vec<Media>, now: Timestamp, salt: u64) -> Result<Self, Error> {
        Self::open(plan, Rack::holding(&plan.shape, media, salt), now)
    }

    /// The namespace.
    pub fn store(&self) -> AsyncNamespace {
        self.world.namespace()
    }

    /// The time as the engine sees it: the wall clock, but never less than before.
    pub fn now_ms(&self) -> u64 {
        self.store().now().0
    }

    /// The monotonic clock.
    pub fn mono_ms(&self) -> u64 {
        self.world.clock.mono_ms()
    }

    /// The result of a future that needs no jobs: the devices answer at once.
    fn at_once<F: Future>(future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("a reading waits although the devices answer at once"),
        }
    }

    /// Reads every one of `keys` in every way there is, and compares the ways (R8). The devices must answer at once.
    pub fn observe(&self, keys: impl Iterator<Item = u32>) -> Result<Observation, Violation> {
        let store = self.store();
        let now_ms = self.now_ms();
        let mut seen = BTreeMap::new();
        for key in keys {
            let read = Self::at_once(store.get(&super::version::key_of(key)));
            let found = match read {
                Ok(record) => record.map_or(Seen::Absent, |record| seen_of(self.seed, key, &record)),
                Err(error) => Seen::Refused(error.to_string()),
            };
            let known = Self::at_once(store.exists(&super::version::key_of(key)));
            let agrees = match (&found, &known) {
                (Seen::Present(content), Ok(Some(known))) => content.generation == known.generation,
                (Seen::Absent, Ok(None)) | (Seen::Refused(_) | Seen::Garbage(_), _) => true,
                _ => false,
            };
            if !agrees {
                let story = format!("key {key}: get says {found:?}, exists says {known:?}");
                return Err(Violation::new(8, "DISAGREE", story));
            }
            seen.insert(key, found);
        }
        self.compare_scan(&store, &seen)?;
        let counts = ["a", "b"].map(|set| store.count(set));
        for (at, set) in ["a", "b"].into_iter().enumerate() {
            // The index knows ends by the second: a record in its last one may count and be gone.
            let is_known = |key: u32| store.peek(&super::version::key_of(key)).is_some();
            let counted = |(key, seen): &(&u32, &Seen)| {
                set_of(**key) == set && (!matches!(seen, Seen::Absent) || is_known(**key))
            };
            let there = seen.iter().filter(counted).count() as u64;
            if counts[at] != there {
                let story = format!("at {now_ms} set {set} counts {}, {there} are there", counts[at]);
                return Err(Violation::new(8, "COUNT", story));
            }
        }
        Ok(Observation { seen, counts })
    }

    fn compare_scan(&self, store: &AsyncNamespace, seen: &BTreeMap<u32, Seen>) -> Result<(), Violation> {
        let walked = Self::at_once(walk(store, self.seed));
        let walked = walked.map_err(|error| Violation::new(8, "SCAN", format!("a scan fails: {error}")))?;
        let mut there: BTreeMap<u32, &Seen> =
            seen.iter().filter(|(_, seen)| matches!(seen, Seen::Present(_))).map(|(&k, s)| (k, s)).collect();
        for (key, found) in &walked {
            let Some(key) = key else { continue };
            if there.remove(key) != Some(found) {
                let story = format!("the scan has key {key} as {found:?}, get says {:?}", seen.get(key));
                return Err(Violation::new(8, "SCAN", story));
            }
        }
        match there.first_key_value() {
            None => Ok(()),
            Some((key, seen)) => {
                Err(Violation::new(8, "SCAN", format!("the scan misses key {key}, get says {seen:?}")))
            }
        }
    }

    /// The books, counted afresh, as every way of starting must find them.
    pub fn accounts(&self) -> Result<Verified, Violation> {
        let verified = self.store().verify().map_err(|wrong| Violation::new(8, "BOOKS", wrong))?;
        Ok(verified.without_masks())
    }

    /// Counts the books afresh (R8).
    pub fn verify(&self) -> Result<(), Violation> {
        self.store().verify().map(drop).map_err(|wrong| Violation::new(8, "BOOKS", wrong))
    }

    /// What is on the devices, once they have written everything back.
    pub fn settled(&self) -> Vec<Media> {
        let mut media = self.rack.moment().media;
        media.iter_mut().for_each(Media::settle_all);
        media
    }

    /// The set at this moment.
    pub fn moment(&self) -> Moment {
        self.rack.moment()
    }

    /// Whether a device of the engine takes no more writes.
    pub fn has_latched(&self) -> bool {
        self.store().stats().failed_devices > 0
    }
}
