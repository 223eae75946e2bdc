//! Workers on threads: all are ready before the first request is due, and their seconds come together as they are over.

use super::LoadError;
use super::clock::{Clock, SECOND};
use super::lane::Lane;
use super::recorder::Slice;
use super::schedule::Schedule;
use super::series::{Row, Series};
use super::worker::{Course, Work, Worker};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How often whoever watches is told that time goes on.
const TICK: Duration = Duration::from_millis(100);
/// From when all are ready until the first request is due, in nanoseconds.
const RUN_UP: u64 = SECOND / 100;

/// How long a load is.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Before anything is recorded, in nanoseconds.
    pub warm_up_ns: u64,
    /// What is recorded, in nanoseconds.
    pub run_ns: u64,
    /// How long what is left may take then, in nanoseconds.
    pub drain_ns: u64,
}

/// What whoever watches is told.
pub enum Event<'a> {
    /// All are ready, and it begins.
    Begun(Course),
    /// A second is over, and this was it.
    Second(&'a Row, &'a Slice),
    /// Time goes on.
    Tick,
}

/// What one worker needs, made on its own thread.
pub struct Station<W, L> {
    /// What it does.
    pub work: W,
    /// Where.
    pub lane: L,
    /// When; `None`: closed loop.
    pub schedule: Option<Schedule>,
}

/// What a load has given.
pub struct Given<W> {
    /// What the workers have found; of those that did not fail.
    pub work: Vec<W>,
    /// The seconds.
    pub series: Series,
    /// Why it ended before its time.
    pub error: Option<LoadError>,
    /// From the first recorded intended start to the last answer, in nanoseconds.
    pub elapsed_ns: u64,
}

enum Message<W> {
    Ready,
    Slice(Slice),
    Ended(Result<W, LoadError>),
}

/// Runs `count` workers and tells `watch` how it goes.
pub fn run<W: Work + Send, L: Lane<W::Request>>(
    clock: &dyn Clock,
    count: usize,
    names: &[&'static str],
    span: Span,
    make: impl Fn(usize) -> Result<Station<W, L>, LoadError> + Sync,
    watch: &mut dyn FnMut(Event<'_>),
) -> Given<W> {
    let stop = AtomicBool::new(false);
    let (say, hear) = mpsc::channel::<Message<W>>();
    let mut series = Series::new(names, count);
    let (mut done, mut error) = (Vec::new(), None);
    let mut begun_ns = clock.now_ns();
    std::thread::scope(|scope| {
        let mut starts = Vec::new();
        for id in 0..count {
            let (start, started) = mpsc::channel::<Course>();
            starts.push(start);
            let (say, make, stop) = (say.clone(), &make, &stop);
            let body = move || {
                // Sleeps end when they should, not up to 50 us later. Where that is refused, the lag shows it.
                let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
                let worked = catch_unwind(AssertUnwindSafe(|| {
                    let Station { work, lane, schedule } = make(id)?;
                    // Whoever listens is gone only after all workers.
                    let _ = say.send(Message::Ready);
                    let course = started.recv().map_err(|_| LoadError("called off".into()))?;
                    let worker = Worker { clock, work, lane, schedule, course, stop };
                    worker.run(names.len(), &mut |slice| {
                        let _ = say.send(Message::Slice(slice));
                    })
                }));
                let ended =
                    worked.unwrap_or_else(|_| Err(LoadError("a worker panicked: please report it".into())));
                let _ = say.send(Message::Ended(ended));
            };
            std::thread::Builder::new()
                .name(format!("load-{id}"))
                .spawn_scoped(scope, body)
                .expect("the system has room for a thread");
        }
        drop(say);
        let (mut ready, mut ended) = (0, 0);
        while ended < count {
            match hear.recv_timeout(TICK) {
                Ok(Message::Ready) => {
                    ready += 1;
                    if ready == count {
                        let start_ns = clock.now_ns() + RUN_UP;
                        let record_ns = start_ns.saturating_add(span.warm_up_ns);
                        let end_ns = record_ns.saturating_add(span.run_ns);
                        let course = Course { start_ns, record_ns, end_ns, drain_ns: span.drain_ns };
                        begun_ns = record_ns;
                        watch(Event::Begun(course));
                        starts.drain(..).for_each(|start| {
                            // One that has failed since is told by its own message.
                            let _ = start.send(course);
                        });
                    }
                }
                Ok(Message::Slice(slice)) => {
                    series.take(slice, &mut |row, slice| watch(Event::Second(row, slice)));
                }
                Ok(Message::Ended(Ok(work))) => {
                    ended += 1;
                    done.push(work);
                }
                Ok(Message::Ended(Err(failed))) => {
                    ended += 1;
                    stop.store(true, Ordering::Relaxed);
                    starts.clear();
                    // The first is the cause; the others were called off.
                    error.get_or_insert(failed);
                }
                Err(RecvTimeoutError::Timeout) => watch(Event::Tick),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    let elapsed_ns = clock.now_ns().saturating_sub(begun_ns);
    series.finish(&mut |row, slice| watch(Event::Second(row, slice)));
    Given { work: done, series, error, elapsed_ns }
}
