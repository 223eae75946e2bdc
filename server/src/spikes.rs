//! Latency spikes: which kinds of events took longer than a threshold, when, and how long at most in that second.
//!
//! Switched off unless `latency-monitor-threshold` is set. What always holds: at most [`KEPT`] seconds of each kind are kept (I9).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Seconds of an event that are kept, as in Redis.
const KEPT: usize = 160;

/// The spikes of one kind of event.
#[derive(Debug, Default, Clone)]
pub(crate) struct Event {
    /// When, in seconds since the Unix epoch, and the longest in that second, in ms; oldest first.
    pub(crate) history: VecDeque<(u64, u64)>,
    /// The longest ever, in ms.
    pub(crate) longest_ms: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Spikes {
    /// In ms; 0: nothing is a spike.
    pub(crate) threshold_ms: AtomicU64,
    events: Mutex<BTreeMap<&'static str, Event>>,
}

impl Spikes {
    pub(crate) fn new(threshold_ms: u64) -> Spikes {
        Spikes { threshold_ms: AtomicU64::new(threshold_ms), events: Mutex::default() }
    }

    /// Whether something that took so long is one.
    #[inline]
    pub(crate) fn is_one(&self, time: Duration) -> bool {
        let threshold_ms = self.threshold_ms.load(Relaxed);
        threshold_ms != 0 && time >= Duration::from_millis(threshold_ms)
    }

    /// Takes a spike in.
    pub(crate) fn note(&self, event: &'static str, time: Duration) {
        let (at_s, ms) =
            (crate::clock::unix_ms() / 1000, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let mut events = self.events();
        let event = events.entry(event).or_default();
        event.longest_ms = event.longest_ms.max(ms);
        match event.history.back_mut() {
            Some((second, longest)) if *second == at_s => *longest = ms.max(*longest),
            _ => event.history.push_back((at_s, ms)),
        }
        if event.history.len() > KEPT {
            event.history.pop_front();
        }
    }

    /// All events, by name.
    pub(crate) fn all(&self) -> BTreeMap<&'static str, Event> {
        self.events().clone()
    }

    /// Forgets the events that `wanted` names. How many these were.
    pub(crate) fn forget(&self, wanted: impl Fn(&str) -> bool) -> usize {
        let mut events = self.events();
        let before = events.len();
        events.retain(|name, _| !wanted(name));
        before - events.len()
    }

    fn events(&self) -> MutexGuard<'_, BTreeMap<&'static str, Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_a_second_is_kept() {
        let spikes = Spikes::new(0);
        assert!(!spikes.is_one(Duration::from_secs(9)));
        spikes.threshold_ms.store(10, Relaxed);
        assert!(spikes.is_one(Duration::from_millis(10)) && !spikes.is_one(Duration::from_micros(9999)));
        for ms in [20, 40, 30] {
            spikes.note("command", Duration::from_millis(ms));
        }
        let event = &spikes.all()["command"];
        assert_eq!(event.longest_ms, 40);
        assert!(event.history.iter().map(|&(_, ms)| ms).max() == Some(40) && event.history.len() <= 2);
        assert_eq!(spikes.forget(|name| name == "other"), 0);
        assert_eq!(spikes.forget(|_| true), 1);
        assert!(spikes.all().is_empty());
    }
}
