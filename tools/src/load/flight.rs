//! Requests in flight on a ring: futures of one thread, and how it waits for their answers.
//!
//! What always holds: requests go before their ring does, and what was queued is sent before a poll returns.

use super::LoadError;
use super::clock::{Clock, gap};
use aerolith_engine::LocalRing;
use futures_util::stream::{FuturesUnordered, Stream};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Futures on the ring of the thread that made it.
pub struct Flight<F> {
    flying: FuturesUnordered<F>,
    ring: LocalRing,
    clock: Arc<dyn Clock>,
}

impl<F: Future> Flight<F> {
    /// None yet.
    pub fn new(ring: LocalRing, clock: Arc<dyn Clock>) -> Flight<F> {
        Flight { flying: FuturesUnordered::new(), ring, clock }
    }

    /// One more.
    pub fn push(&mut self, request: F) {
        self.flying.push(request);
    }

    /// As [`Lane::poll`](super::lane::Lane::poll); each answer comes with the moment at which it was there.
    pub fn poll(&mut self, until_ns: u64, mut answered: impl FnMut(u64, F::Output)) -> Result<(), LoadError> {
        let failed = |error| LoadError(format!("io_uring: {error}"));
        let waker = self.ring.waker();
        let mut context = Context::from_waker(&waker);
        let mut any = false;
        loop {
            while let Poll::Ready(Some(answer)) = Pin::new(&mut self.flying).poll_next(&mut context) {
                any = true;
                answered(self.clock.now_ns(), answer);
            }
            let wait = gap(self.clock.now_ns(), until_ns);
            if any || wait.is_zero() {
                // What was queued meanwhile must not wait for the next time there is nothing else to do.
                return self.ring.submit().map_err(failed);
            }
            self.ring.wait(Some(wait)).map_err(failed)?;
        }
    }
}
