//! The settings of a namespace that can change while it is open.
//!
//! Verbs and jobs ask for them each time; what is under way goes on as it began. `NamespaceConfig` keeps what the namespace was
//! opened with.

use super::core::Core;
use super::handle::AsyncNamespace;
use crate::config::{Durability, NamespaceConfig};
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// See the head of this file. The fields are those of `NamespaceConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunable {
    /// When a write is acknowledged, unless its policy says otherwise.
    pub durability: Durability,
    /// How long a relaxed write may wait in RAM, in whole milliseconds.
    pub flush_max: Duration,
    /// Bytes a second that the scrub reads; 0: none.
    pub scrub_rate: u64,
    /// Above which share of the space records are evicted, in percent; 0: never. An engine without threads that was
    /// opened with 0 has no such job.
    pub evict_above: u8,
    /// How often a checkpoint is written; `None`: only when asked for.
    pub checkpoint_period: Option<Duration>,
}

/// The settings as they are now.
pub(crate) struct Tunables {
    is_group: AtomicBool,
    flush_max_ms: AtomicU64,
    scrub_rate: AtomicU64,
    evict_above: AtomicU8,
    /// The others are read one at a time, on the path of a write or a job's step; this is the whole.
    whole: Mutex<Tunable>,
}

impl Tunables {
    /// What a namespace is opened with.
    pub fn of(config: &NamespaceConfig) -> Self {
        let whole = Tunable {
            durability: config.durability,
            flush_max: config.flush_max,
            scrub_rate: config.scrub_rate,
            evict_above: config.evict_above,
            checkpoint_period: config.checkpoint_period,
        };
        let tunables = Tunables {
            is_group: AtomicBool::default(),
            flush_max_ms: AtomicU64::default(),
            scrub_rate: AtomicU64::default(),
            evict_above: AtomicU8::default(),
            whole: Mutex::new(whole),
        };
        tunables.set(whole);
        tunables
    }

    fn set(&self, tunable: Tunable) {
        let mut whole = self.whole.lock();
        self.is_group.store(tunable.durability == Durability::Group, Ordering::Relaxed);
        self.flush_max_ms.store(tunable.flush_max.as_millis() as u64, Ordering::Relaxed);
        self.scrub_rate.store(tunable.scrub_rate, Ordering::Relaxed);
        self.evict_above.store(tunable.evict_above, Ordering::Relaxed);
        *whole = tunable;
    }

    pub fn durability(&self) -> Durability {
        if self.is_group.load(Ordering::Relaxed) { Durability::Group } else { Durability::Relaxed }
    }

    pub fn flush_max_ms(&self) -> u64 {
        self.flush_max_ms.load(Ordering::Relaxed)
    }

    pub fn scrub_rate(&self) -> u64 {
        self.scrub_rate.load(Ordering::Relaxed)
    }

    pub fn evict_above(&self) -> u8 {
        self.evict_above.load(Ordering::Relaxed)
    }

    pub fn checkpoint_period(&self) -> Option<Duration> {
        self.whole.lock().checkpoint_period
    }
}

impl Core {
    fn tune(&self, tunable: Tunable) -> Result<()> {
        // Said in one place: what could not be opened with cannot be set either.
        let config = NamespaceConfig {
            durability: tunable.durability,
            flush_max: tunable.flush_max,
            scrub_rate: tunable.scrub_rate,
            evict_above: tunable.evict_above,
            checkpoint_period: tunable.checkpoint_period,
            ..self.config.clone()
        };
        config.check()?;
        if tunable.flush_max.as_millis() == 0 {
            return Err(Error::Config("flush_max is less than a millisecond".into()));
        }
        self.tunables.set(tunable);
        self.flush_work.raise();
        self.upkeep_work.raise();
        Ok(())
    }
}

impl AsyncNamespace {
    /// The settings that can change, as they are now.
    pub fn tunable(&self) -> Tunable {
        *self.core.tunables.whole.lock()
    }

    /// Changes settings, from now on and until the namespace is closed.
    ///
    /// # Errors
    /// `Config` for what the namespace could not be opened with.
    pub fn tune(&self, tunable: Tunable) -> Result<()> {
        self.core.tune(tunable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::config::Config;
    use crate::{Engine, Key, WritePolicy};
    use std::sync::Arc;
    use std::task::{Context, Waker};

    #[test]
    fn what_is_tuned_holds_from_then_on() {
        let clock = Arc::new(ManualClock::at(Timestamp(1_767_225_600_000)));
        let config = Config::of(NamespaceConfig::in_memory("test", 64 << 20));
        let mut engine = Engine::open_by_hand(config, clock.clone(), 1).unwrap();
        let test = engine.namespace("test").unwrap().to_async();
        let key = Key::new("set", 1).unwrap();
        let is_acknowledged_at_once = || {
            let (bins, policy) = ([("n", 1.into())], WritePolicy::default());
            let mut put = Box::pin(test.put(&key, &bins, &policy));
            put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        assert!(is_acknowledged_at_once());
        let relaxed = test.tunable();
        test.tune(Tunable { durability: Durability::Group, ..relaxed }).unwrap();
        assert!(!is_acknowledged_at_once(), "it waits for the device");
        test.tune(Tunable { flush_max: Duration::from_secs(60), ..relaxed }).unwrap();
        while engine.step() {}
        assert!(is_acknowledged_at_once());
        clock.advance(Duration::from_secs(59));
        engine.step();
        assert_eq!(test.stats().oldest_unflushed_ms, 59_000);
        test.tune(Tunable { flush_max: Duration::from_secs(1), ..relaxed }).unwrap();
        engine.step();
        engine.step();
        assert_eq!(test.stats().oldest_unflushed_ms, 0);

        let wrong = Tunable { evict_above: 95, ..relaxed };
        assert!(matches!(test.tune(wrong), Err(Error::Config(_))));
        let wrong = Tunable { flush_max: Duration::from_micros(1), ..relaxed };
        assert!(matches!(test.tune(wrong), Err(Error::Config(_))));
        assert_eq!(test.tunable(), Tunable { flush_max: Duration::from_secs(1), ..relaxed });
        engine.close().unwrap();
    }
}
