//! The two ends of a request that is under way: whoever asked holds the [`Ticket`], the driver the [`Completer`].
//!
//! A ticket is answered exactly once. The types hold this: [`Completer::complete`] takes the completer, and one
//! that is dropped instead answers with an error. Dropping a ticket is harmless: the request goes on, and its
//! answer, buffer included, is dropped when it comes.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::{AlignedBuffer, Cause, DeviceError, Operation, context};

/// What a device answers.
#[derive(Debug)]
#[must_use = "an answer may be an error"]
pub struct Answer {
    /// All bytes moved, or why not.
    pub result: Result<(), DeviceError>,
    /// A read's buffer, given back also when the read failed; None for writes and flushes.
    pub buffer: Option<AlignedBuffer>,
}

impl Answer {
    /// A write or flush that was done.
    pub fn done() -> Self {
        Self { result: Ok(()), buffer: None }
    }

    /// A read that was done.
    pub fn read(buffer: AlignedBuffer) -> Self {
        Self { result: Ok(()), buffer: Some(buffer) }
    }

    /// The bytes of a read, or why there are none. An answer to a write or flush has no bytes: it panics.
    pub fn into_buffer(self) -> Result<AlignedBuffer, DeviceError> {
        self.result.map(|()| self.buffer.expect("the answer to a read carries its buffer"))
    }
}

/// The promise of one answer. Await it, or [`wait`](Ticket::wait) for it, or drop it.
#[must_use = "without its ticket nobody learns whether the request succeeded"]
pub struct Ticket(State);

/// Gives the answer. Simulated devices use it as the real drivers do.
pub struct Completer {
    /// None once the answer is given.
    cell: Option<Arc<Mutex<Cell>>>,
}

enum State {
    /// The driver answered at once: no cell was needed.
    Answered(Answer),
    Waiting(Arc<Mutex<Cell>>),
    Taken,
}

enum Cell {
    Pending(Option<Waker>),
    Answered(Answer),
    Taken,
}

impl Ticket {
    /// A ticket and the completer that answers it.
    pub fn pair() -> (Completer, Self) {
        let cell = Arc::new(Mutex::new(Cell::Pending(None)));
        (Completer { cell: Some(cell.clone()) }, Self(State::Waiting(cell)))
    }

    /// A ticket that is answered already.
    pub fn answered(answer: Answer) -> Self {
        Self(State::Answered(answer))
    }

    /// Waits for the answer. A thread with a ring drives its ring meanwhile, any other thread sleeps.
    ///
    /// # Panics
    /// If the answer was taken before.
    pub fn wait(mut self) -> Answer {
        match self.try_take() {
            Some(answer) => answer,
            None => context::block_on(self),
        }
    }

    /// The answer, if it has come: once, and None from then on. Drives nothing: a thread with a ring must reap
    /// it for its tickets to be answered.
    pub fn try_take(&mut self) -> Option<Answer> {
        match mem::replace(&mut self.0, State::Taken) {
            State::Answered(answer) => Some(answer),
            State::Taken => None,
            State::Waiting(cell) => {
                let answer = cell.lock().take();
                if answer.is_none() {
                    self.0 = State::Waiting(cell);
                }
                answer
            }
        }
    }
}

impl Future for Ticket {
    type Output = Answer;

    /// # Panics
    /// If the answer was taken before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        if let State::Waiting(cell) = &self.0 {
            let mut cell = cell.lock();
            if let Cell::Pending(waiting) = &mut *cell {
                if !waiting.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    let before = waiting.replace(context.waker().clone());
                    drop(cell);
                    // Outside the lock: a waker may own anything, also the device that is about to answer.
                    drop(before);
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(self.try_take().expect("a ticket is not polled again after its answer"))
    }
}

impl Cell {
    fn take(&mut self) -> Option<Answer> {
        match mem::replace(self, Cell::Taken) {
            Cell::Answered(answer) => Some(answer),
            Cell::Taken => None,
            pending @ Cell::Pending(_) => {
                *self = pending;
                None
            }
        }
    }
}

impl Completer {
    /// Gives the answer and wakes whoever waits for it.
    pub fn complete(mut self, answer: Answer) {
        self.settle(answer);
    }

    fn settle(&mut self, answer: Answer) {
        let Some(cell) = self.cell.take() else { return };
        // Without a ticket nobody asks any more: the answer is dropped here, outside the lock.
        if Arc::strong_count(&cell) == 1 {
            return;
        }
        let before = mem::replace(&mut *cell.lock(), Cell::Answered(answer));
        if let Cell::Pending(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        if self.cell.is_some() {
            let error = DeviceError {
                device: "(dropped)".into(),
                operation: Operation::Read,
                offset: 0,
                length: 0,
                cause: Cause::Unanswered,
            };
            self.settle(Answer { result: Err(error), buffer: None });
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            State::Answered(_) => "Ticket(answered)",
            State::Waiting(_) => "Ticket(waiting)",
            State::Taken => "Ticket(taken)",
        })
    }
}

impl std::fmt::Debug for Completer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Completer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_answered_once_whichever_way_it_is_asked() {
        let (completer, mut ticket) = Ticket::pair();
        assert!(ticket.try_take().is_none());
        completer.complete(Answer::done());
        assert!(ticket.try_take().is_some());
        assert!(ticket.try_take().is_none());

        let mut ticket = Ticket::answered(Answer::done());
        assert!(ticket.try_take().is_some());
        assert!(ticket.try_take().is_none());
    }

    #[test]
    fn another_thread_may_answer_while_this_one_waits() {
        let (completer, ticket) = Ticket::pair();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            completer.complete(Answer::read(AlignedBuffer::zeroed(512)));
        });
        assert_eq!(ticket.wait().into_buffer().unwrap().len(), 512);
        thread.join().unwrap();
    }

    #[test]
    fn a_dropped_completer_answers_with_an_error() {
        let (completer, ticket) = Ticket::pair();
        drop(completer);
        assert_eq!(ticket.wait().result.unwrap_err().cause, Cause::Unanswered);
    }

    #[test]
    fn a_dropped_ticket_is_harmless() {
        let (completer, ticket) = Ticket::pair();
        drop(ticket);
        completer.complete(Answer::read(AlignedBuffer::zeroed(512)));
    }
}
