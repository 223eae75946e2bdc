//! What happened in the last seconds: counts noted once a second, and compared with those of now.

use crate::figures::{Recent, Sample, sample};
use crate::shared::Shared;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many seconds "the last seconds" are.
const SECONDS: usize = 10;

/// The counts of the last seconds, oldest first; never empty.
pub(super) struct Window(Mutex<VecDeque<Sample>>);

impl Window {
    /// A window that begins now.
    pub(super) fn new(shared: &Shared) -> Window {
        Window(Mutex::new(VecDeque::from([sample(shared)])))
    }

    /// Notes the counts of now. Called once a second.
    pub(super) fn note(&self, shared: &Shared) {
        let now = sample(shared);
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(now);
        while samples.len() > SECONDS {
            samples.pop_front();
        }
    }

    /// What has happened since the oldest counts.
    pub(super) fn recent(&self, shared: &Shared) -> Recent {
        let now = sample(shared);
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Recent::between(samples.front().unwrap_or(&now), &now)
    }
}
