//! The ring driver: one io_uring on one thread, driven by that thread alone.
//!
//! A request that is submitted on the thread becomes an entry in the ring's queue, and the kernel hears of it with
//! the next [`LocalRing::submit`], one system call for all that are queued. When the kernel is done,
//! [`LocalRing::reap`] takes its word, asks again for what is left of short transfers, and answers the tickets.
//! An outside event loop polls the ring's descriptor and calls these two; [`LocalRing::block_on`] does both itself.
//!
//! ```text
//!   queue --> slot --> submission queue --> kernel --> completion queue --> settle --> answer
//!     |        ^              ^                                               |
//!     +-> backlog (no slot)   +------------------ ask again ------------------+
//! ```
//!
//! What always holds:
//! * a buffer belongs to its slot from before the kernel hears of it until after its last word on it;
//! * a slot has at most one entry in the queues, and there is one slot fewer than places in the submission queue
//!   (the last is for the wake-up), so a push finds room, and completions cannot overflow;
//! * no borrow is held while tickets are answered: wakers may do anything, also submit, wait and drop the ring;
//! * nothing spins: the thread sleeps in the kernel, and a kernel short of memory is asked again in 1 ms.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use io_uring::types::{Fd, Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, SubmissionQueue, Submitter, opcode, squeue};

use super::setup::{Level, build};
use super::slots::{Op, Slots, Token};
use super::table::{Table, Target};
use super::ticket::Completer;
use super::transfer::{Progress, Rest};
use super::unpark::Unpark;
use super::{AlignedBuffer, Answer, RingError, context};

/// The wake-up's token: no slot has this index.
const WAKE: u64 = u64::MAX;

/// Operations that may wait for a slot; more are carried out in place, by the thread that asks for too much.
const BACKLOG_LIMIT: usize = 65_536;

/// Requests that may be queued before the kernel is told of them, where no outside loop decides that. The
/// device idles while a thread works through a batch of answers: with 4, an engine's reads a second rose from 0.88
/// to 1.00 of fio's at depth 8 and from 0.76 to 1.04 at depth 32, for 0.7 us of CPU a read (`embedded --fio`).
const SUBMIT_AT: usize = 4;

/// Calls to the kernel in one reap at the most: each takes what is ready, 20 completions or more.
const REAP_ROUNDS: usize = 64;

/// What a kernel that is short of memory is given to recover.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(1);

/// A ring on this thread. While it lives, requests that this thread submits to files go through it.
///
/// Dropping it takes it from the thread and waits until the kernel has given every buffer back.
pub struct LocalRing {
    core: Rc<Core>,
}

impl LocalRing {
    /// Puts a ring on this thread, with room for `entries` operations (rounded up to a power of two, 2 to 32768)
    /// at once, less one; further ones wait their turn.
    pub fn install(entries: u32) -> Result<Self, RingError> {
        Self::install_on(build(
            &[Level::Deferred, Level::Cooperative, Level::Plain],
            entries.clamp(2, 32_768),
        )?)
    }

    /// As `install`, for a thread that waits in an outside loop on [`as_raw_fd`](Self::as_raw_fd).
    ///
    /// Such a ring does without deferred completions: epoll was seen to miss them for good (Linux 6.18: reads
    /// done, their work waiting to be run, and no event, neither of the ring nor of a registered eventfd).
    pub fn install_for_loop(entries: u32) -> Result<Self, RingError> {
        Self::install_on(build(&[Level::Cooperative, Level::Plain], entries.clamp(2, 32_768))?)
    }

    /// As `install`, with completions delivered in a chosen way instead of the best.
    #[cfg(test)]
    pub(super) fn install_at(level: Level, entries: u32) -> Result<Self, RingError> {
        let uring = super::setup::build_at(level, entries);
        Self::install_on(uring.map_err(|source| RingError::Refused { source })?)
    }

    fn install_on(uring: IoUring) -> Result<Self, RingError> {
        let core = Rc::new(Core::new(uring)?);
        if !context::install(&core) {
            return Err(RingError::Installed);
        }
        Ok(Self { core })
    }

    /// The ring's descriptor, readable when there is something to [`reap`](Self::reap): for an outside loop's
    /// epoll, level or edge. With an edge, clear readiness first and reap then. Only for a ring from
    /// [`install_for_loop`](Self::install_for_loop).
    pub fn as_raw_fd(&self) -> RawFd {
        self.core.state.borrow().uring.as_raw_fd()
    }

    /// Tells the kernel of everything queued, in one system call; none when nothing is.
    pub fn submit(&self) -> io::Result<()> {
        self.core.submit()
    }

    /// Answers the tickets of what the kernel has done, and returns how many. Makes a system call only when the
    /// kernel has asked for one. What it asks the kernel again (rests, the backlog) is queued for the next
    /// [`submit`](Self::submit), and announced by [`on_queued`](Self::on_queued).
    pub fn reap(&self) -> usize {
        self.core.reap()
    }

    /// Operations that have no answer yet: queued, in flight, or waiting for a slot.
    pub fn pending(&self) -> usize {
        self.core.state.borrow().pending()
    }

    /// Has `call` called when the first operation since the last submit is queued, so that an outside loop
    /// submits once at the end of its turn. It may be called from within any submit or reap of this thread, and
    /// must not submit to the ring itself.
    pub fn on_queued(&self, call: impl Fn() + 'static) {
        *self.core.on_queued.borrow_mut() = Some(Rc::new(call));
    }

    /// Submits, then sleeps until something is done, the timeout has passed, or [`waker`](Self::waker) is woken;
    /// then reaps. Returns how many tickets were answered, 0 also when a signal came.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<usize> {
        self.core.wait(timeout)
    }

    /// Ends this thread's [`wait`](Self::wait), from any thread. A wake before the wait lets it return at once.
    pub fn waker(&self) -> Waker {
        Waker::from(self.unpark())
    }

    /// Runs a future to its end, driving the ring. Anything may wake it, on this thread or another. May be called
    /// within itself.
    ///
    /// # Panics
    /// If the kernel refuses to be asked at all, which no request can cause.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.core.block_on(future)
    }

    pub(super) fn queue(&self, op: Op) {
        self.core.queue(op);
    }

    pub(super) fn unpark(&self) -> Arc<Unpark> {
        self.core.unpark.clone()
    }
}

impl Drop for LocalRing {
    fn drop(&mut self) {
        context::uninstall();
        self.core.drain();
    }
}

/// What a thread's ring is made of; the thread's context has a share of it.
pub(super) struct Core {
    state: RefCell<State>,
    unpark: Arc<Unpark>,
    on_queued: RefCell<Option<Rc<dyn Fn()>>>,
}

struct State {
    uring: IoUring,
    desk: Desk,
}

/// All but the ring itself, which lends out its queues while the desk works.
struct Desk {
    slots: Slots,
    backlog: VecDeque<Op>,
    table: Table,
    answered: Vec<(Completer, Answer)>,
    unpark: Arc<Unpark>,
    /// What the wake-up reads into: 8 bytes, the kernel's while `wake_armed`.
    wake_buffer: AlignedBuffer,
    wake_armed: bool,
    /// Entries the kernel has not been told of.
    queued: usize,
    /// Whether `on_queued` has been called since the last submit.
    announced: bool,
}

impl Core {
    fn new(uring: IoUring) -> Result<Self, RingError> {
        let unpark = Unpark::new().map_err(|source| RingError::Refused { source })?;
        let desk = Desk {
            slots: Slots::new(uring.params().sq_entries() - 1),
            backlog: VecDeque::new(),
            table: Table::new(&uring.submitter()),
            answered: Vec::new(),
            unpark: unpark.clone(),
            wake_buffer: AlignedBuffer::zeroed(8),
            wake_armed: false,
            queued: 0,
            announced: false,
        };
        Ok(Self { state: RefCell::new(State { uring, desk }), unpark, on_queued: RefCell::new(None) })
    }

    pub(super) fn queue(&self, op: Op) {
        let mut state = self.state.borrow_mut();
        let State { uring, desk } = &mut *state;
        if !desk.slots.is_full() {
            let (submitter, mut entries, _) = uring.split();
            desk.start(op, &submitter, &mut entries);
            drop(entries);
            if desk.queued >= SUBMIT_AT && self.on_queued.borrow().is_none() {
                // Failing, it has told nothing; the next submit or wait meets the same error and returns it.
                let _ = state.enter(0, None);
                return;
            }
        } else if desk.backlog.len() < BACKLOG_LIMIT {
            desk.backlog.push_back(op);
        } else {
            drop(state);
            return op.run();
        }
        drop(state);
        self.announce();
    }

    fn submit(&self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        if state.desk.queued == 0 { Ok(()) } else { state.enter(0, None) }
    }

    fn reap(&self) -> usize {
        let mut state = self.state.borrow_mut();
        // One call runs a batch of the kernel's deferred work and may leave more. An outside loop hears of that
        // only once, so all of it is taken now.
        let mut rounds = 0;
        while state.kernel_asks() && rounds < REAP_ROUNDS {
            state.run_deferred();
            state.collect();
            rounds += 1;
        }
        state.collect();
        drop(state);
        self.deliver()
    }

    fn wait(&self, timeout: Option<Duration>) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        let sleeps = self.unpark.sleep();
        if sleeps {
            state.arm_wake();
        }
        let result =
            if sleeps || state.desk.queued > 0 { state.enter(sleeps as usize, timeout) } else { Ok(()) };
        self.unpark.awake();
        drop(state);
        result.map(|()| self.reap())
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        let woken = Arc::new(Woken { woken: AtomicBool::new(true), unpark: self.unpark.clone() });
        let waker = Waker::from(woken.clone());
        let mut context = task::Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            // A block_on within may have spent the thread's notification: `woken` is what counts.
            if woken.woken.swap(false, Ordering::SeqCst) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    // What the future has started and left to itself must not wait for another submit.
                    self.submit().unwrap_or_else(|error| broken(&error));
                    return output;
                }
            } else {
                self.wait(None).unwrap_or_else(|error| broken(&error));
            }
        }
    }

    /// Lets go of files that have been closed, now rather than with the next completion.
    pub(super) fn tidy(&self) {
        let State { uring, desk } = &mut *self.state.borrow_mut();
        desk.table.sweep(&uring.submitter());
    }

    /// Answers tickets, with nothing borrowed.
    fn deliver(&self) -> usize {
        let mut answered = mem::take(&mut self.state.borrow_mut().desk.answered);
        let count = answered.len();
        answered.drain(..).for_each(|(completer, answer)| completer.complete(answer));
        let mut state = self.state.borrow_mut();
        if state.desk.answered.capacity() == 0 {
            state.desk.answered = answered;
        }
        drop(state);
        self.announce();
        count
    }

    /// Tells an outside loop, once a submit, that there is something to submit.
    fn announce(&self) {
        let mut state = self.state.borrow_mut();
        let first = state.desk.queued > 0 && !state.desk.announced;
        state.desk.announced |= first;
        drop(state);
        let call = if first { self.on_queued.borrow().clone() } else { None };
        if let Some(call) = call {
            call();
        }
    }

    /// Waits until the kernel has nothing of ours any more.
    fn drain(&self) {
        while self.state.borrow().pending() > 0 {
            if let Err(error) = self.wait(None) {
                return self.abandon(&error);
            }
        }
        let mut state = self.state.borrow_mut();
        if state.desk.wake_armed {
            self.unpark.kick();
        }
        while state.desk.wake_armed {
            if let Err(error) = state.enter(1, None) {
                drop(state);
                return self.abandon(&error);
            }
            state.collect();
        }
        // The kernel takes a ring apart at its leisure: make it let go of the files now.
        let _ = state.uring.submitter().unregister_files();
    }

    /// The kernel does not answer any more. It may still write to the buffers, so they are leaked; whoever waits
    /// is told.
    fn abandon(&self, error: &io::Error) {
        tracing::error!(%error, "the ring has failed; the buffers of its operations are leaked");
        let mut state = self.state.borrow_mut();
        let ops = state.desk.slots.take_all();
        let backlog = mem::take(&mut state.desk.backlog);
        mem::forget(mem::replace(&mut state.desk.wake_buffer, AlignedBuffer::zeroed(8)));
        state.desk.wake_armed = false;
        drop(state);
        for Op { transfer, completer } in ops {
            mem::forget(transfer);
            drop(completer);
        }
        drop(backlog);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Has nothing left to do unless a `block_on` outlived the `LocalRing` that it drove.
        self.drain();
    }
}

impl State {
    fn pending(&self) -> usize {
        self.desk.slots.used() + self.desk.backlog.len()
    }

    /// Whether completions are ready that the kernel delivers only when it is entered.
    fn kernel_asks(&mut self) -> bool {
        let entries = self.uring.submission();
        entries.taskrun() || entries.cq_overflow()
    }

    fn arm_wake(&mut self) {
        let (_, mut entries, _) = self.uring.split();
        self.desk.arm_wake(&mut entries);
    }

    /// One system call: tells the kernel of what is queued, and waits for `want` completions. More than one only
    /// when the kernel could not take everything.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let timespec = timeout.map(Timespec::from);
        loop {
            let submitter = self.uring.submitter();
            let result = match &timespec {
                Some(timespec) => submitter.submit_with_args(want, &SubmitArgs::new().timespec(timespec)),
                None => submitter.submit_and_wait(want),
            };
            self.desk.queued = self.uring.submission().len();
            self.desk.announced = false;
            match result.as_ref().map_err(io::Error::raw_os_error) {
                Ok(_) | Err(Some(libc::ETIME | libc::EINTR)) if self.desk.queued == 0 => return Ok(()),
                Ok(_) | Err(Some(libc::ETIME | libc::EINTR)) => {}
                Err(Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM)) => thread::sleep(SHORTAGE_PAUSE),
                Err(_) => return result.map(drop),
            }
            // Completions hold the kernel's memory too: make it run its work, and take them.
            self.run_deferred();
            self.collect();
        }
    }

    /// Makes the kernel run the work that it has put off until it is asked. An enter without `GETEVENTS`, which
    /// is what a submit without a wait is, does not do that.
    fn run_deferred(&mut self) {
        // Failing, it has run nothing; the next submit or wait meets the same error and returns it.
        // SAFETY: submits nothing and passes no argument.
        let _ = unsafe { self.uring.submitter().enter::<()>(0, 0, EnterFlags::GETEVENTS.bits(), None) };
    }

    /// Takes the kernel's word on all it has done: answers go to `answered`, rests and the backlog are queued.
    fn collect(&mut self) {
        let Self { uring, desk } = self;
        let (submitter, mut entries, completions) = uring.split();
        for completion in completions {
            desk.settle(completion.user_data(), completion.result(), &submitter, &mut entries);
        }
        while !desk.slots.is_full() {
            let Some(op) = desk.backlog.pop_front() else { break };
            desk.start(op, &submitter, &mut entries);
        }
        desk.table.sweep(&submitter);
    }
}

impl Desk {
    fn start(&mut self, op: Op, submitter: &Submitter<'_>, entries: &mut SubmissionQueue<'_>) {
        let token = self.slots.insert(op);
        self.ask(token, submitter, entries);
    }

    /// Queues what is left of a slot's transfer.
    fn ask(&mut self, token: Token, submitter: &Submitter<'_>, entries: &mut SubmissionQueue<'_>) {
        let transfer = &mut self.slots.get(token).transfer;
        let (target, registered) = self.table.target(&transfer.handle, submitter, &self.unpark);
        let patience = if transfer.wants_patience() { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
        let entry = entry(transfer.rest(), target).flags(patience).user_data(token.0);
        self.push(&entry, entries);
        // A ring that has the file must hear of its closing, also when its thread sleeps in an outside loop.
        if registered {
            self.arm_wake(entries);
        }
    }

    fn settle(
        &mut self,
        word: u64,
        result: i32,
        submitter: &Submitter<'_>,
        entries: &mut SubmissionQueue<'_>,
    ) {
        if word == WAKE {
            assert!(result == 8 || result == -libc::EINTR, "the wake-up's read was refused: {result}");
            self.wake_armed = false;
            return;
        }
        let token = Token(word);
        let outcome = match self.slots.get(token).transfer.settle(result) {
            Progress::Again => return self.ask(token, submitter, entries),
            Progress::Done => Ok(()),
            Progress::Failed(cause) => Err(cause),
        };
        let Op { transfer, completer } = self.slots.remove(token);
        self.answered.push((completer, transfer.finish(outcome)));
    }

    fn arm_wake(&mut self, entries: &mut SubmissionQueue<'_>) {
        if mem::replace(&mut self.wake_armed, true) {
            return;
        }
        let buffer = self.wake_buffer.as_mut_ptr();
        let entry = opcode::Read::new(Fd(self.unpark.eventfd()), buffer, 8).build().user_data(WAKE);
        self.push(&entry, entries);
    }

    fn push(&mut self, entry: &squeue::Entry, entries: &mut SubmissionQueue<'_>) {
        // SAFETY: what the entry points at outlives the kernel's use of it. A transfer's buffer and file belong to
        // its slot until the completion, and the wake-up's buffer and eventfd to the desk, which is drained before
        // it is dropped (`drain`, `abandon`). Buffers do not move in memory when their owners do.
        unsafe { entries.push(entry) }.expect("there is a place for every slot and the wake-up");
        self.queued += 1;
    }
}

/// What to ask the kernel: `bytes` become addresses here, see `Desk::push` for why that is sound.
fn entry(rest: Rest<'_>, target: Target) -> squeue::Entry {
    macro_rules! to {
        ($fd:ident => $operation:expr) => {
            match target {
                Target::Fixed(index) => {
                    let $fd = Fixed(index);
                    $operation.build()
                }
                Target::Plain(fd) => {
                    let $fd = Fd(fd);
                    $operation.build()
                }
            }
        };
    }
    match rest {
        Rest::Read { offset, bytes } => {
            to!(fd => opcode::Read::new(fd, bytes.as_mut_ptr(), bytes.len() as u32).offset(offset))
        }
        Rest::Write { offset, bytes, durable } => {
            let flags = if durable { libc::RWF_DSYNC } else { 0 };
            to!(fd => opcode::Write::new(fd, bytes.as_ptr(), bytes.len() as u32).offset(offset).rw_flags(flags))
        }
        Rest::Flush => to!(fd => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC)),
    }
}

fn broken(error: &io::Error) -> ! {
    panic!("io_uring_enter: {error}: the ring cannot be driven any more")
}

struct Woken {
    woken: AtomicBool,
    unpark: Arc<Unpark>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.unpark.notify();
    }
}
