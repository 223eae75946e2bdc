//! One thread with a ring, for all threads that have none: an embedded async program's way to its devices.
//!
//! Requests wait in a queue until the ring's thread, woken when it sleeps, takes all of them at once. The queue
//! has a bound: beyond it, a request is carried out by the thread that makes it, which slows exactly the threads
//! that ask for too much.

use std::mem;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::slots::Op;
use super::unpark::Unpark;
use super::{LocalRing, RingError, setup};

/// Operations in the kernel's hands at once: more does not make an SSD faster, it makes each request slower.
const ENTRIES: u32 = 256;

/// Operations that may wait for the ring's thread.
const QUEUE_LIMIT: usize = 16_384;

/// The engine's ring thread. It ends, when all its requests are answered, with its last handle.
#[derive(Debug)]
pub struct SharedRing {
    /// None where io_uring is not to be had: then every request is carried out in place.
    lane: Option<Lane>,
}

#[derive(Debug)]
struct Lane {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    ring: Arc<Unpark>,
}

struct State {
    waiting: Vec<Op>,
    closed: bool,
}

impl SharedRing {
    /// Starts the thread. Where io_uring is not available this says so, once, in the log, and requests are
    /// carried out in place by the threads that make them.
    pub fn start() -> Arc<Self> {
        let lane = match Lane::start() {
            Ok(lane) => Some(lane),
            Err(error) => {
                setup::warn_refused(&error);
                None
            }
        };
        Arc::new(Self { lane })
    }

    /// Whether there is a ring behind it; false where io_uring was refused.
    pub fn is_ring(&self) -> bool {
        self.lane.is_some()
    }

    pub(super) fn send(&self, op: Op) {
        let refused = match &self.lane {
            Some(lane) => lane.queue.push(op),
            None => Some(op),
        };
        if let Some(op) = refused {
            op.run();
        }
    }
}

impl Lane {
    fn start() -> Result<Self, RingError> {
        let (told, telling) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("aerolith-ring".into())
            .spawn(move || match LocalRing::install(ENTRIES) {
                Ok(ring) => {
                    let state = State { waiting: Vec::new(), closed: false };
                    let queue = Arc::new(Queue { state: Mutex::new(state), ring: ring.unpark() });
                    let _ = told.send(Ok(queue.clone()));
                    queue.serve(&ring);
                }
                Err(error) => {
                    let _ = told.send(Err(error));
                }
            })
            .map_err(|source| RingError::Refused { source })?;
        let queue = telling.recv().expect("the ring's thread tells before it ends")?;
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.ring.notify();
        let Some(thread) = self.thread.take() else { return };
        // An answer may hold the last handle, and then this is the ring's thread, which ends by itself.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Gives the operation back when the queue is full or its thread has ended.
    fn push(&self, op: Op) -> Option<Op> {
        let mut state = self.state.lock();
        if state.closed || state.waiting.len() >= QUEUE_LIMIT {
            return Some(op);
        }
        state.waiting.push(op);
        drop(state);
        self.ring.notify();
        None
    }

    fn serve(&self, ring: &LocalRing) {
        let _closing = Closing(self);
        let mut batch = Vec::new();
        loop {
            let closed = {
                let mut state = self.state.lock();
                mem::swap(&mut batch, &mut state.waiting);
                state.closed
            };
            batch.drain(..).for_each(|op| ring.queue(op));
            if closed {
                return;
            }
            if let Err(error) = ring.wait(None) {
                tracing::error!(%error, "the shared ring has failed; requests go on in place");
                return;
            }
        }
    }
}

/// However the thread ends, nobody may wait for it in vain: what still waits is carried out here.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.state.lock();
            state.closed = true;
            mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Op::run);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}
