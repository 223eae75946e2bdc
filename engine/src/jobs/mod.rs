//! What happens by itself: flush, defrag, sweep, scrub, eviction, checkpoint. And the only place above the devices that knows threads.
//!
//! A job's `step` does bounded work, never waits, and says when it wants to be called again (I10). The
//! threads here call steps; a test or a simulation calls them itself, in an order of its own.

mod checkpoint;
mod defrag;
mod evict;
mod flush;
mod scrub;
mod sweep;

pub(crate) use checkpoint::Checkpoint;
pub(crate) use defrag::Defrag;
pub(crate) use evict::Evict;
pub(crate) use flush::Flush;
pub(crate) use scrub::Scrub;
pub(crate) use sweep::Sweep;

use crate::device::{LocalRing, context};
use crate::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

/// When a job wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once: there is more to do.
    Now,
    /// When something happens, or after so many milliseconds.
    Within(u64),
}

impl Next {
    /// The sooner of two.
    pub fn min(self, other: Next) -> Next {
        match (self, other) {
            (Next::Within(a), Next::Within(b)) => Next::Within(a.min(b)),
            (Next::Now, _) | (_, Next::Now) => Next::Now,
        }
    }
}

/// Background work, cut into steps.
pub trait Job: Send + Sync {
    /// Does a bounded piece of work.
    fn step(&mut self) -> Next;

    /// Does a piece of what should be done before the engine ends, when no verb runs any more. True if nothing is left.
    fn wind_up(&mut self) -> bool {
        true
    }
}

/// The longest that a thread sleeps, in milliseconds: a lost signal costs no more than this.
const LONGEST_SLEEP_MS: u64 = 100;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Job for Box<dyn Job> {
    fn step(&mut self) -> Next {
        (**self).step()
    }

    fn wind_up(&mut self) -> bool {
        (**self).wind_up()
    }
}

/// A thread that steps jobs until it is told to stop, and then gives them back.
pub(crate) struct JobThread<J> {
    stop: Arc<AtomicBool>,
    signals: Vec<Arc<Signal>>,
    thread: JoinHandle<Vec<J>>,
}

impl<J: Job + 'static> JobThread<J> {
    /// Starts the thread. `signals` wake it.
    pub fn start(
        name: &str,
        mut jobs: Vec<J>,
        signals: Vec<Arc<Signal>>,
        with_ring: bool,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, connected) = (stop.clone(), signals.clone());
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let sleeper = Sleeper::new(with_ring);
            connected.iter().for_each(|signal| signal.connect(sleeper.waker()));
            while !stopping.load(Ordering::Acquire) {
                connected.iter().for_each(|signal| {
                    signal.take();
                });
                let next =
                    jobs.iter_mut().map(|job| job.step()).fold(Next::Within(LONGEST_SLEEP_MS), Next::min);
                sleeper.sleep(next);
            }
            // The ring goes first: then every request of the jobs has been answered.
            drop(sleeper);
            jobs
        })?;
        Ok(JobThread { stop, signals, thread })
    }

    /// Tells the thread to stop, waits for it, and takes its jobs back.
    pub fn stop(self) -> Vec<J> {
        self.stop.store(true, Ordering::Release);
        self.signals.iter().for_each(|signal| {
            signal.take();
            signal.raise();
        });
        self.thread.join().unwrap_or_else(|_| {
            tracing::error!("a job thread has panicked");
            Vec::new()
        })
    }
}

/// How a job thread waits: on its ring, which carries its I/O too, or parked.
enum Sleeper {
    Ring(LocalRing),
    Parked,
}

impl Sleeper {
    fn new(with_ring: bool) -> Self {
        match with_ring.then(|| LocalRing::install(64)) {
            Some(Ok(ring)) => Sleeper::Ring(ring),
            _ => Sleeper::Parked,
        }
    }

    fn waker(&self) -> Waker {
        match self {
            Sleeper::Ring(ring) => ring.waker(),
            Sleeper::Parked => Waker::from(Arc::new(Unpark(thread::current()))),
        }
    }

    fn sleep(&self, next: Next) {
        let waited = match (self, next) {
            (Sleeper::Ring(ring), Next::Now) => {
                let submitted = ring.submit();
                ring.reap();
                submitted
            }
            (Sleeper::Ring(ring), Next::Within(ms)) => {
                ring.wait(Some(Duration::from_millis(ms.max(1)))).map(drop)
            }
            (Sleeper::Parked, Next::Now) => Ok(()),
            (Sleeper::Parked, Next::Within(ms)) => {
                thread::park_timeout(Duration::from_millis(ms.max(1)));
                Ok(())
            }
        };
        if let Err(error) = waited {
            tracing::error!("a job thread cannot drive its ring: {error}");
            thread::sleep(Duration::from_millis(LONGEST_SLEEP_MS));
        }
    }
}

/// Runs `work(0..count)` on up to `threads` threads, each item once; I/O is done in place.
pub(crate) fn in_parallel(threads: usize, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let run = || {
        context::blocking(|| {
            while let Some(item) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&item| item < count) {
                work(item);
            }
        });
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            scope.spawn(run);
        }
        run();
    });
}
