//! What is on the device, and waiting until it is: WAITAOF, WAIT, SAVE, BGSAVE, LASTSAVE.
//!
//! The log is the store, so Redis's append-only file is here what the device holds: `WAITAOF 1 0 0` answers when
//! everything that was appended before it is durable. Many that wait share one durable write. A snapshot in
//! Redis's sense is a checkpoint: it makes the next start shorter, and nothing is less durable without it.
//!
//! There are no replicas: whoever asks for some waits until the timeout, as with a Redis that has none, while
//! its connection costs a task and nobody else waits. See `run_blocking` in [`session`](super::session) for
//! how such a wait ends with its client.

use super::command::Done;
use super::error::CommandError;
use super::number::canonical_integer;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::strings::integer;
use crate::shared::Shared;
use crate::store::StoreError;
use futures_util::poll;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

/// The background save of a server: one at a time.
#[derive(Debug, Default)]
pub(crate) struct BackgroundSave {
    pub(crate) is_running: AtomicBool,
    /// Whether the last one ended without a checkpoint.
    pub(crate) has_failed: AtomicBool,
}

/// WAITAOF numlocal numreplicas timeout
pub(super) async fn waitaof<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let wants_local = match integer(args.at(1))? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::of("ERR value is out of range, must be between 0 and 1")),
    };
    let replicas = canonical_integer(args.at(2)).filter(|replicas| *replicas >= 0);
    let replicas = replicas.ok_or(CommandError::of("ERR value is out of range, must be positive"))?;
    let timeout = timeout(session, args.at(3))?;
    let mut flush = pin!(session.store().flush());
    let mut local: Option<Result<(), StoreError>> = match poll!(flush.as_mut()) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    };
    if replicas > 0 || wants_local && local.is_none() {
        let wait = async {
            if local.is_none() {
                local = Some(flush.await);
            }
            let is_hopeless = wants_local && matches!(local, Some(Err(_)));
            if replicas > 0 && !is_hopeless {
                pending::<()>().await;
            }
        };
        within(timeout, wait).await;
    }
    let is_local = match local {
        Some(Ok(())) => true,
        Some(Err(error)) if wants_local => return Err(error.into()),
        Some(Err(_)) | None => false,
    };
    reply.array(2);
    reply.count(u64::from(is_local));
    reply.count(0);
    Ok(())
}

/// WAIT numreplicas timeout
pub(super) async fn wait<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let replicas = integer(args.at(1))?;
    let timeout = timeout(session, args.at(2))?;
    if replicas > 0 {
        within(timeout, pending::<()>()).await;
    }
    reply.count(0);
    Ok(())
}

/// How long to wait, from milliseconds; `None` is without end.
fn timeout(session: &Session, text: &[u8]) -> Result<Option<Duration>, CommandError> {
    let ms =
        canonical_integer(text).ok_or(CommandError::of("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| CommandError::of("ERR timeout is negative"))?;
    if ms.checked_add(session.now_ms).is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(CommandError::of("ERR timeout is out of range"));
    }
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

async fn within(timeout: Option<Duration>, wait: impl Future<Output = ()>) {
    match timeout {
        // That time is up is an answer, not an error.
        Some(timeout) => drop(tokio::time::timeout(timeout, wait).await),
        None => wait.await,
    }
}

const IN_PROGRESS: CommandError = CommandError::of("ERR Background save already in progress");
const NO_ROOM: CommandError = CommandError::of(
    "ERR no checkpoint was written: records leave no room for one. Nothing is less durable without it, only the \
     next start takes longer",
);

pub(super) async fn save<'a>(session: &'a Session, _: Args<'a>, reply: &'a mut Reply) -> Done {
    if session.shared.background_save.is_running.load(Relaxed) {
        return Err(IN_PROGRESS);
    }
    if !session.store().checkpoint().await? {
        return Err(NO_ROOM);
    }
    reply.ok();
    Ok(())
}

/// BGSAVE [SCHEDULE]: there is nothing that it would have to be put off for.
pub(super) fn bgsave(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Done {
    if args.len() > 2 || args.len() == 2 && !args.is(1, "schedule") {
        return Err(CommandError::SYNTAX);
    }
    if session.shared.background_save.is_running.swap(true, Relaxed) {
        return Err(IN_PROGRESS);
    }
    let running = Running(session.shared.clone());
    let store = session.store().clone();
    tokio::spawn(async move {
        let saved = store.checkpoint().await;
        running.0.background_save.has_failed.store(!matches!(saved, Ok(true)), Relaxed);
        match saved {
            Ok(true) => tracing::info!("BGSAVE: a checkpoint was written"),
            Ok(false) => tracing::warn!("BGSAVE: no checkpoint was written: there is no room for one"),
            Err(error) => tracing::warn!(%error, "BGSAVE: no checkpoint was written"),
        }
    });
    reply.simple("Background saving started");
    Ok(())
}

/// A background save ends, however it does.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.background_save.is_running.store(false, Relaxed);
    }
}

pub(super) fn lastsave(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Done {
    let written_ms =
        session.shared.opening.store().map_or(0, |store| store.stats().engine.checkpoint_written_ms);
    reply.count(last_save_s(&session.shared, written_ms));
    Ok(())
}

/// When the last checkpoint was written, in seconds since the Unix epoch; before the first one, when the server
/// started: Redis has it so.
pub(super) fn last_save_s(shared: &Shared, checkpoint_written_ms: u64) -> u64 {
    match checkpoint_written_ms {
        0 => shared.started_ms / 1000,
        ms => ms / 1000,
    }
}
