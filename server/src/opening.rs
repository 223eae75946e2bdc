//! The opening of the data, on a thread of its own, while the ports are open already.
//!
//! ```text
//! main ── ports open ──────────────────────────── serves: INFO, CONFIG, ...; everything else: -LOADING
//!            └── opener ── engine opens ── done ─ serves everything
//!                  └── reporter: a line in the log every second
//! ```
//!
//! Clients that come before the index is whole are not left at a closed port: they are told `LOADING`, as by
//! Redis, and INFO says how far it is. [`Opening::store`] is the one place that says whether commands may use the
//! data; it is asked once a batch.
//!
//! What always holds: the store appears once and stays; an opening ends in exactly one of ready, failed and
//! cancelled, and whoever waits for that is woken; a cancelled one has changed nothing.

use crate::store::{Store, StoreConfig, StoreError};
use aerolith_engine::{OpenPhase, OpenProgress};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often the log tells how far it is.
const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// Where an opening is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The engine is at it.
    Loading,
    /// The store is there.
    Ready,
    /// There will be none: it failed, or was called off.
    Over,
}

impl State {
    /// One word for figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Loading => "loading",
            State::Ready => "ready",
            State::Over => "over",
        }
    }
}

/// See the head of this file.
pub(crate) struct Opening {
    progress: Arc<OpenProgress>,
    started: Instant,
    started_ms: u64,
    store: OnceLock<Store>,
    /// Why there is no store, until somebody takes it.
    error: Mutex<Option<StoreError>>,
    state: watch::Sender<State>,
}

/// How far an opening is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HowFar {
    /// When it began, in milliseconds since the Unix epoch.
    pub(crate) started_ms: u64,
    pub(crate) phase: OpenPhase,
    /// Bytes that the blocks to look at span, as far as known.
    pub(crate) total: u64,
    /// Bytes of them that have been looked at.
    pub(crate) done: u64,
    pub(crate) blocks: u64,
    pub(crate) blocks_done: u64,
    pub(crate) versions: u64,
    /// Seconds that it will take yet, if it goes on as it has; `None`: nothing can be said.
    pub(crate) eta_s: Option<u64>,
}

impl HowFar {
    /// Share of the bytes that has been looked at, in percent.
    pub(crate) fn percent(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.done as f64 * 100.0 / self.total as f64 }
    }
}

impl Opening {
    pub(crate) fn new(progress: Arc<OpenProgress>) -> Opening {
        Opening {
            progress,
            started: Instant::now(),
            started_ms: crate::clock::unix_ms(),
            store: OnceLock::new(),
            error: Mutex::default(),
            state: watch::Sender::new(State::Loading),
        }
    }

    /// One that has come to its end already.
    pub(crate) fn done(store: Store) -> Opening {
        let opening = Opening::new(Arc::default());
        opening.finish(Ok(store));
        opening
    }

    /// The store, once it is there.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    /// Where it is.
    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Resolves when it is at its end.
    pub(crate) async fn end(&self) -> State {
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`.
        state.wait_for(|state| *state != State::Loading).await.map_or(State::Over, |state| *state)
    }

    /// Calls it off. The store may still appear if it was through already.
    pub(crate) fn cancel(&self) {
        self.progress.cancel();
    }

    /// Why it failed, once; none if it did not, or was called off.
    pub(crate) fn take_error(&self) -> Option<StoreError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The store, for whoever ends the server.
    pub(crate) fn into_store(self) -> Option<Store> {
        self.store.into_inner()
    }

    pub(crate) fn how_far(&self) -> HowFar {
        let (progress, elapsed_s) = (&self.progress, self.started.elapsed().as_secs_f64());
        // In this order: what is done never exceeds the total of a later moment.
        let done = progress.size_done();
        let total = progress.size().max(done);
        HowFar {
            started_ms: self.started_ms,
            phase: progress.phase(),
            total,
            done,
            blocks: progress.blocks(),
            blocks_done: progress.blocks_done(),
            versions: progress.versions(),
            eta_s: (done > 0).then(|| (elapsed_s * (total - done) as f64 / done as f64) as u64),
        }
    }

    /// Opens the store. Blocks until that is done; for the thread that has nothing else to do.
    pub(crate) fn run(&self, config: &StoreConfig) {
        let _whatever_happens = EndsAnyway(self);
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let opened = std::thread::scope(|scope| {
            scope.spawn(move || {
                while ended.recv_timeout(REPORT_PERIOD) == Err(RecvTimeoutError::Timeout) {
                    self.report();
                }
            });
            let opened = Store::open(config, self.progress.clone());
            drop(done);
            opened
        });
        self.finish(opened);
    }

    fn report(&self) {
        let far = self.how_far();
        tracing::info!(
            "loading: {}, {} of {} blocks ({:.1} %), {} versions{}",
            far.phase.name(),
            far.blocks_done,
            far.blocks,
            far.percent(),
            far.versions,
            far.eta_s.map(|seconds| format!(", about {seconds} s more")).unwrap_or_default()
        );
    }

    fn finish(&self, opened: Result<Store, StoreError>) {
        let state = match opened {
            Ok(store) => {
                // Set once, here.
                let _ = self.store.set(store);
                State::Ready
            }
            Err(_) if self.progress.is_cancelled() => State::Over,
            Err(error) => {
                *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                State::Over
            }
        };
        self.state.send_replace(state);
    }
}

/// An opening that panics is over, too.
struct EndsAnyway<'a>(&'a Opening);

impl Drop for EndsAnyway<'_> {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            let is_loading = *state == State::Loading;
            if is_loading {
                *state = State::Over;
            }
            is_loading
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn config(dir: &std::path::Path) -> StoreConfig {
        StoreConfig::of(&Config {
            data_dir: dir.to_owned(),
            size: crate::config::ByteSize(128 << 20),
            ..Config::default()
        })
    }

    #[test]
    fn an_opening_ends_in_ready_failed_or_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let opening = Opening::new(Arc::default());
        assert!(opening.store().is_none());
        assert_eq!(opening.state(), State::Loading);
        opening.run(&config(dir.path()));
        assert_eq!(opening.state(), State::Ready);
        assert!(opening.store().is_some() && opening.take_error().is_none());
        let far = opening.how_far();
        assert_eq!(far.blocks_done, far.blocks);

        // The first one holds the file.
        let second = Opening::new(Arc::default());
        second.cancel();
        second.run(&config(dir.path()));
        assert_eq!(second.state(), State::Over);
        assert!(second.take_error().is_none(), "that it was called off is no failure");

        let nowhere = Opening::new(Arc::default());
        nowhere.run(&config(std::path::Path::new("/dev/null/nowhere")));
        assert_eq!(nowhere.state(), State::Over);
        let error = nowhere.take_error().unwrap();
        assert!(error.message.contains("cannot be made"), "{error}");
        assert!(nowhere.take_error().is_none());
    }
}
