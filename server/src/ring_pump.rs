//! Keeps a worker's ring going: submits what its commands have queued, and reaps what the device has answered.
//!
//! A command that needs the device only puts its request into the ring's queue. The pump waits until the tasks
//! that are ready have all run, then submits everything in one system call: the reads of a pipeline, and of all
//! connections that had something to say in this turn of the loop, go out together. The ring's descriptor
//! becomes readable when there are completions; reaping them wakes the tasks that wait.
//!
//! What always holds: a queued request is submitted in the turn that queued it; readiness is cleared before
//! reaping, so a completion that comes during it is not missed.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// What the pump needs of a ring. All of it is called on the worker's own thread.
pub trait Ring {
    /// The descriptor that is readable while completions wait.
    fn as_raw_fd(&self) -> RawFd;
    /// Hands queued requests to the kernel, without waiting. `WouldBlock` or `ResourceBusy` means: reap first.
    fn submit(&self) -> io::Result<()>;
    /// Takes the completions that are there and wakes who waits for them. Returns how many.
    fn reap(&self) -> usize;
    /// Sets what is called when a request was queued. It may be called for each of them: it must be cheap.
    fn on_queued(&self, call: Box<dyn Fn()>);
}

impl Ring for aerolith_engine::LocalRing {
    fn as_raw_fd(&self) -> RawFd {
        aerolith_engine::LocalRing::as_raw_fd(self)
    }

    fn submit(&self) -> io::Result<()> {
        aerolith_engine::LocalRing::submit(self)
    }

    fn reap(&self) -> usize {
        aerolith_engine::LocalRing::reap(self)
    }

    fn on_queued(&self, call: Box<dyn Fn()>) {
        aerolith_engine::LocalRing::on_queued(self, call);
    }
}

struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// Runs until dropped. Spawn it on the worker's `LocalSet`; it returns only when the runtime cannot watch the
/// descriptor.
pub async fn pump<R: Ring + 'static>(ring: Rc<R>) -> io::Result<()> {
    // The registration that is not deprecated is unsafe, because the descriptor must stay open as long as it is
    // watched. It does: `ring` owns it and is dropped after `completions`.
    #[expect(deprecated)]
    let completions = AsyncFd::with_interest(Descriptor(ring.as_raw_fd()), Interest::READABLE)?;
    let queued = Rc::new(Notify::new());
    let is_queued = Rc::new(Cell::new(true));
    let (call, flag) = (queued.clone(), is_queued.clone());
    ring.on_queued(Box::new(move || {
        // Only the first request of a turn needs to wake the pump.
        if !flag.replace(true) {
            call.notify_one();
        }
    }));
    loop {
        if is_queued.replace(false) {
            match ring.submit() {
                Ok(()) => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy) =>
                {
                    is_queued.set(true);
                }
                Err(error) => tracing::error!(%error, "io_uring submit"),
            }
        }
        // Completions often are there already: reads from a device's own cache, buffered files.
        let reaped = ring.reap();
        if reaped > 0 || is_queued.get() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            biased;
            ready = completions.readable() => ready?.clear_ready(),
            () = queued.notified() => {
                // The tasks that are ready queue theirs first; then one submit serves all.
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// A ring whose kernel is a socket pair: submitted requests complete as bytes.
    struct FakeRing {
        kernel: UnixStream,
        ring: UnixStream,
        queued: Cell<usize>,
        submits: RefCell<Vec<usize>>,
        reaped: Cell<usize>,
        call: RefCell<Option<Box<dyn Fn()>>>,
    }

    impl FakeRing {
        fn queue(&self) {
            self.queued.set(self.queued.get() + 1);
            if let Some(call) = &*self.call.borrow() {
                call();
            }
        }
    }

    impl Ring for FakeRing {
        fn as_raw_fd(&self) -> RawFd {
            AsRawFd::as_raw_fd(&self.ring)
        }

        fn submit(&self) -> io::Result<()> {
            let count = self.queued.take();
            if count > 0 {
                self.submits.borrow_mut().push(count);
                (&self.kernel).write_all(&vec![0; count])?;
            }
            Ok(())
        }

        fn reap(&self) -> usize {
            let count = (&self.ring).read(&mut [0; 64]).unwrap_or(0);
            self.reaped.set(self.reaped.get() + count);
            count
        }

        fn on_queued(&self, call: Box<dyn Fn()>) {
            *self.call.borrow_mut() = Some(call);
        }
    }

    #[test]
    fn requests_of_one_turn_are_submitted_together_and_all_are_reaped() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (kernel, ring) = UnixStream::pair().unwrap();
            ring.set_nonblocking(true).unwrap();
            let ring = Rc::new(FakeRing {
                kernel,
                ring,
                queued: Cell::new(0),
                submits: RefCell::default(),
                reaped: Cell::new(0),
                call: RefCell::default(),
            });
            tokio::task::spawn_local(pump(ring.clone()));
            tokio::task::yield_now().await;
            for turn in 1..=3 {
                for _ in 0..8 {
                    let ring = ring.clone();
                    tokio::task::spawn_local(async move { ring.queue() });
                }
                while ring.reaped.get() < turn * 8 {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                assert_eq!(ring.submits.borrow().len(), turn, "{:?}", ring.submits.borrow());
            }
        });
    }
}
