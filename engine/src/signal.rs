//! Waiting for something to change, and saying that something did, without a runtime.

use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

/// Writers wait here for space. Read `turn`, try, and if that failed wait for the turn to pass: what happens
/// in between is not missed.
#[derive(Default)]
pub struct Gate {
    turn: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    /// The current turn.
    pub fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// Lets everybody try again.
    pub fn open(&self) {
        self.turn.fetch_add(1, Ordering::AcqRel);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Resolves when `turn` has passed.
    pub fn wait(&self, turn: u64) -> Wait<'_> {
        Wait { gate: self, turn }
    }
}

/// See `Gate::wait`.
pub struct Wait<'a> {
    gate: &'a Gate,
    turn: u64,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.gate.waiting.lock();
        if self.gate.turn() != self.turn {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Tells a job that there is work: cheap when it knows already.
#[derive(Default)]
pub struct Signal {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    /// There is work.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel)
            && let Some(waker) = self.waker.lock().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Whether there was work since the last call.
    pub fn take(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }

    /// Who is to be woken.
    pub fn connect(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }
}
