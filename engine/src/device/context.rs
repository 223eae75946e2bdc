//! Where a thread's requests go.
//!
//! A [`FileDevice`](super::FileDevice) looks at the thread that submits:
//!
//! 1. in a [`blocking`] scope the request is carried out in place, and the ticket comes back answered;
//! 2. on a thread with a [`LocalRing`](super::LocalRing) it is queued there;
//! 3. anywhere else it goes to the device's [`SharedRing`], or is carried out in place if there is none.
//!
//! So the same code serves a server's worker, an embedded async program and the blocking API, and none of them
//! passes an executor around.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::ring::Core;
use super::slots::Op;
use super::transfer::Transfer;
use super::{SharedRing, Ticket, blocking as driver};

/// Runs `work` with every request of this thread carried out in place, also on a thread that has a ring.
/// Scopes may nest.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    let _scope = Scope::enter();
    work()
}

/// Runs a future to its end on this thread. With a ring on this thread, its requests are queued there and the
/// ring is driven; without, they are carried out in place, and the thread sleeps when the future waits for
/// anything else. May be called within itself.
pub fn block_on<F: Future>(future: F) -> F::Output {
    if let Some(core) = ring() {
        return core.block_on(future);
    }
    let _scope = Scope::enter();
    let parked = Arc::new(Parked { thread: thread::current(), woken: AtomicBool::new(true) });
    let waker = Waker::from(parked.clone());
    let mut context = task::Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        // The thread's own token may have been spent by a block_on within: `woken` is what counts.
        if parked.woken.swap(false, Ordering::SeqCst) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
        } else {
            thread::park();
        }
    }
}

/// Sends a transfer where this thread's requests go.
pub(super) fn submit(transfer: Transfer, shared: Option<&SharedRing>) -> Ticket {
    if is_blocking() {
        return Ticket::answered(driver::run(transfer));
    }
    let (completer, ticket) = Ticket::pair();
    let op = Op { transfer, completer };
    match (ring(), shared) {
        (Some(core), _) => core.queue(op),
        (None, Some(shared)) => shared.send(op),
        (None, None) => op.run(),
    }
    ticket
}

impl Op {
    /// Carries the operation out in place.
    pub(super) fn run(self) {
        self.completer.complete(driver::run(self.transfer));
    }
}

thread_local! {
    static HERE: Here = const { Here { scopes: Cell::new(0), ring: RefCell::new(None) } };
}

struct Here {
    /// Blocking scopes entered and not left.
    scopes: Cell<usize>,
    ring: RefCell<Option<Rc<Core>>>,
}

/// Puts a ring on this thread, unless it has one.
pub(super) fn install(core: &Rc<Core>) -> bool {
    HERE.with(|here| {
        let mut ring = here.ring.borrow_mut();
        let vacant = ring.is_none();
        if vacant {
            *ring = Some(core.clone());
        }
        vacant
    })
}

/// Takes this thread's ring away. A thread that is ending may have lost it already.
pub(super) fn uninstall() {
    let core = HERE.try_with(|here| here.ring.borrow_mut().take());
    drop(core);
}

/// Has this thread's ring let go of files that have been closed: it hears of it only when it is driven.
pub(super) fn tidy() {
    if let Some(core) = ring() {
        core.tidy();
    }
}

fn ring() -> Option<Rc<Core>> {
    HERE.try_with(|here| here.ring.borrow().clone()).ok().flatten()
}

fn is_blocking() -> bool {
    HERE.try_with(|here| here.scopes.get() > 0).unwrap_or(true)
}

struct Scope;

impl Scope {
    fn enter() -> Self {
        let _ = HERE.try_with(|here| here.scopes.set(here.scopes.get() + 1));
        Self
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = HERE.try_with(|here| here.scopes.set(here.scopes.get() - 1));
    }
}

struct Parked {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}
