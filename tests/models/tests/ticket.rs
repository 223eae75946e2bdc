//! A request is answered once, whoever comes first, and whoever waits for the answer gets it.

use aerolith_engine::device::{AlignedBuffer, Cause};
use aerolith_models::explore;
use aerolith_models::handover::ticket::{Answer, Ticket};
use shuttle::future::block_on;
use shuttle::thread;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Waker};

#[derive(Clone, Copy)]
enum Ends {
    Completes,
    Drops,
}

fn a_ticket(ends: Ends) {
    let (completer, ticket) = Ticket::pair();
    let driver = thread::spawn(move || match ends {
        Ends::Completes => completer.complete(Answer::read(AlignedBuffer::zeroed(512))),
        Ends::Drops => drop(completer),
    });
    let answer = ticket.wait();
    match ends {
        Ends::Completes => assert_eq!(answer.into_buffer().unwrap().len(), 512),
        Ends::Drops => assert_eq!(answer.result.unwrap_err().cause, Cause::Unanswered),
    }
    driver.join().unwrap();
}

#[test]
fn whoever_waits_for_a_ticket_is_answered() {
    explore(2000, || a_ticket(Ends::Completes));
    explore(2000, || a_ticket(Ends::Drops));
}

#[test]
fn a_ticket_that_is_dropped_harms_nobody() {
    explore(1000, || {
        let (completer, mut ticket) = Ticket::pair();
        let driver = thread::spawn(move || completer.complete(Answer::done()));
        let _ = Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
        drop(ticket);
        driver.join().unwrap();
    });
}

#[test]
fn a_ticket_that_is_looked_at_gives_its_answer_once() {
    explore(1000, || {
        let (completer, mut ticket) = Ticket::pair();
        let driver = thread::spawn(move || completer.complete(Answer::done()));
        let early = usize::from(ticket.try_take().is_some());
        driver.join().unwrap();
        assert_eq!(early + usize::from(ticket.try_take().is_some()), 1);
        assert!(ticket.try_take().is_none());
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Registers {
    TheOneWhoWaits,
    TheOneBefore,
}

/// A ticket that was polled for somebody else first, as in a `select`, and then is awaited.
fn a_ticket_that_changes_hands(registers: Registers) {
    let (completer, mut ticket) = Ticket::pair();
    let driver = thread::spawn(move || completer.complete(Answer::done()));
    let mut poll = |context: &mut Context<'_>| Pin::new(&mut ticket).poll(context);
    let mut elsewhere = Context::from_waker(Waker::noop());
    if poll(&mut elsewhere).is_pending() {
        let mut was_asked = false;
        block_on(poll_fn(|context| {
            if registers == Registers::TheOneBefore && !std::mem::replace(&mut was_asked, true) {
                // A mistake: who waits now is not who is noted.
                return poll(&mut elsewhere).map(drop);
            }
            poll(context).map(|answer| assert!(answer.result.is_ok()))
        }));
    }
    driver.join().unwrap();
}

#[test]
fn the_last_who_asked_is_woken() {
    explore(2000, || a_ticket_that_changes_hands(Registers::TheOneWhoWaits));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_waker_that_is_not_registered_is_found() {
    explore(2000, || a_ticket_that_changes_hands(Registers::TheOneBefore));
}
