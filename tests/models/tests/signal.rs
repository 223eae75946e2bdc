//! Nobody who waits is forgotten: signals, the gate, threads that sleep in their ring.

use aerolith_models::explore;
use aerolith_models::handover::{Obeys, RingThread};
use aerolith_models::signal::{Gate, Signal};
use shuttle::future::block_on;
use shuttle::sync::atomic::{AtomicU32, Ordering::SeqCst};
use shuttle::thread;
use std::sync::Arc;
use std::task::{Wake, Waker};

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[derive(Clone, Copy)]
enum Takes {
    BeforeItLooks,
    AfterItLooked,
}

/// A job thread as `jobs/mod.rs` has it, and two that give it work.
fn a_job_and_its_signal(takes: Takes) {
    let (signal, work) = (Arc::new(Signal::default()), Arc::new(AtomicU32::new(0)));
    let job = {
        let (signal, work) = (signal.clone(), work.clone());
        thread::spawn(move || {
            signal.connect(Waker::from(Arc::new(Unpark(thread::current()))));
            let mut done = 0;
            while done < 3 {
                match takes {
                    Takes::BeforeItLooks => {
                        signal.take();
                        done += work.swap(0, SeqCst);
                    }
                    Takes::AfterItLooked => {
                        done += work.swap(0, SeqCst);
                        signal.take();
                    }
                }
                if done < 3 {
                    thread::park();
                }
            }
        })
    };
    let give = |times| {
        let (signal, work) = (signal.clone(), work.clone());
        thread::spawn(move || {
            for _ in 0..times {
                work.fetch_add(1, SeqCst);
                signal.raise();
            }
        })
    };
    let givers = [give(1), give(2)];
    givers.into_iter().for_each(|giver| giver.join().unwrap());
    job.join().unwrap();
}

#[test]
fn a_job_hears_of_all_work() {
    explore(2000, || a_job_and_its_signal(Takes::BeforeItLooks));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_job_that_takes_its_signal_too_late_is_found() {
    explore(2000, || a_job_and_its_signal(Takes::AfterItLooked));
}

#[derive(Clone, Copy)]
enum Reads {
    TheTurnFirst,
    TheTurnAfterItsTry,
}

/// Two writers who need a block each, and somebody who frees one after the other.
fn writers_at_the_gate(reads: Reads) {
    let (gate, free) = (Arc::new(Gate::default()), Arc::new(AtomicU32::new(0)));
    let writer = || {
        let (gate, free) = (gate.clone(), free.clone());
        thread::spawn(move || {
            let take = || free.fetch_update(SeqCst, SeqCst, |free| free.checked_sub(1)).is_ok();
            loop {
                let turn = gate.turn();
                if take() {
                    return;
                }
                let turn = match reads {
                    Reads::TheTurnFirst => turn,
                    Reads::TheTurnAfterItsTry => gate.turn(),
                };
                block_on(gate.wait(turn));
            }
        })
    };
    let writers = [writer(), writer()];
    for _ in 0..2 {
        free.fetch_add(1, SeqCst);
        gate.open();
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn every_writer_passes_the_gate() {
    explore(2000, || writers_at_the_gate(Reads::TheTurnFirst));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_writer_that_reads_the_turn_too_late_is_found() {
    explore(2000, || writers_at_the_gate(Reads::TheTurnAfterItsTry));
}

/// A thread that sleeps in its ring until both of two others have said something.
fn a_sleeper_in_its_ring(obeys: Obeys) {
    let (ring, said) = (Arc::new(RingThread::new()), Arc::new(AtomicU32::new(0)));
    let say = || {
        let (waker, said) = (ring.waker(), said.clone());
        thread::spawn(move || {
            said.fetch_add(1, SeqCst);
            waker.wake();
        })
    };
    let sayers = [say(), say()];
    while said.load(SeqCst) < 2 {
        ring.wait(obeys);
    }
    sayers.into_iter().for_each(|sayer| sayer.join().unwrap());
}

#[test]
fn a_thread_that_sleeps_in_its_ring_is_woken() {
    explore(1000, || a_sleeper_in_its_ring(Obeys::Yes));
}

#[test]
#[should_panic(expected = "max_steps")]
fn a_thread_that_sleeps_though_it_was_notified_is_found() {
    explore(1000, || a_sleeper_in_its_ring(Obeys::No));
}
