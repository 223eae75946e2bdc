//! `GET /backup`: a backup of a namespace, as a stream.
//!
//! A thread of its own takes the chunks from the engine and hands them on through a short queue; the client's pace holds it
//! up, and one who takes nothing for [`STALL`] is given up, since a snapshot keeps blocks from writers. What goes wrong after the first
//! byte is told in the stream itself (`AEROFAIL`, docs/FORMAT.md), and the stream then has no end.

use super::{Admin, Transfers, refused};
use aerolith_engine::backup::{BackupOptions, write_backup};
use aerolith_engine::{Error, LocalRing};
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, error::TrySendError};

/// How long a client may take nothing.
const STALL: Duration = Duration::from_secs(60);
/// Chunks, or parts of them, on their way.
const QUEUE: usize = 8;
/// How often a full queue is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// What may be asked for.
#[derive(Deserialize)]
pub(super) struct Asked {
    /// The only namespace, if it is not said.
    namespace: Option<String>,
    #[serde(default = "default_level")]
    level: i32,
    /// Bytes a second of records, unpacked; 0: as fast as it goes.
    #[serde(default)]
    rate: u64,
    #[serde(default)]
    skip_damaged: bool,
}

fn default_level() -> i32 {
    BackupOptions::default().level
}

/// Answers with a backup.
pub(super) async fn backup(
    State(admin): State<Arc<Admin>>,
    Extension(transfers): Extension<Transfers>,
    Query(asked): Query<Asked>,
) -> Response {
    let namespace = match admin.namespace(asked.namespace.as_deref()) {
        Ok(namespace) => namespace,
        Err((status, why)) => return refused(status, why),
    };
    if !(1..=19).contains(&asked.level) {
        return refused(StatusCode::BAD_REQUEST, format!("level is {}, 1 to 19 are allowed", asked.level));
    }
    let snapshot = match namespace.snapshot() {
        Ok(snapshot) => snapshot,
        Err(error @ Error::SnapshotRunning { .. }) => return refused(StatusCode::CONFLICT, error),
        Err(error) => return refused(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    let options =
        BackupOptions { level: asked.level, skip_damaged: asked.skip_damaged, ..BackupOptions::default() };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut out = Sender(sender);
    let guard = transfers.begin();
    let work = move || {
        let _guard = guard;
        // With a ring of its own the thread has many reads in flight; without, one at a time.
        let _ring = LocalRing::install(64).ok();
        let begun = Instant::now();
        let written = write_backup(snapshot, &mut out, options, |progress| {
            let due = Duration::from_secs_f64(progress.size as f64 / asked.rate.max(1) as f64);
            if asked.rate > 0 {
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
        });
        match written {
            Ok(done) => {
                tracing::info!(records = done.records, bytes = done.written, "a backup has been sent")
            }
            Err(error) => tracing::warn!("a backup was not sent to its end: {error}"),
        }
    };
    if let Err(error) = std::thread::Builder::new().name("aerolith-backup".into()).spawn(work) {
        return refused(StatusCode::SERVICE_UNAVAILABLE, format!("a thread cannot be started: {error}"));
    }
    let chunks = futures_util::stream::unfold(receiver, async |mut receiver| {
        let bytes: Bytes = receiver.recv().await?;
        Some((Ok::<_, io::Error>(bytes), receiver))
    });
    ([(header::CONTENT_TYPE, super::BACKUP_TYPE)], Body::from_stream(chunks)).into_response()
}

/// The thread's end of the queue.
struct Sender(mpsc::Sender<Bytes>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting = Bytes::copy_from_slice(bytes);
        let begun = Instant::now();
        // The runtime at the other end may go at any time, so its timers are of no use here.
        loop {
            waiting = match self.0.try_send(waiting) {
                Ok(()) => return Ok(bytes.len()),
                Err(TrySendError::Closed(_)) => {
                    return Err(io::Error::new(ErrorKind::BrokenPipe, "the client has gone"));
                }
                Err(TrySendError::Full(_)) if begun.elapsed() >= STALL => {
                    let text = format!("the client has taken nothing for {} s", STALL.as_secs());
                    return Err(io::Error::new(ErrorKind::TimedOut, text));
                }
                Err(TrySendError::Full(waiting)) => waiting,
            };
            std::thread::sleep(PAUSE);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
