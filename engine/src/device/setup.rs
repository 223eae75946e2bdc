//! What the kernel lets this process have of io_uring, and what is said when that is nothing.

use std::io;
use std::sync::Once;

use io_uring::IoUring;

use super::RingError;

/// How completions reach the ring's thread, best first. The driver works with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Run only when this thread asks for them, so never in the middle of something else: Linux 6.1.
    Deferred,
    /// Run when this thread next enters the kernel, without interrupting it: Linux 5.19.
    Cooperative,
    /// Run at once, interrupting the thread.
    Plain,
}

/// The first of these rings that this kernel gives.
pub(super) fn build(levels: &[Level], entries: u32) -> Result<IoUring, RingError> {
    let mut refused = None;
    for &level in levels {
        match build_at(level, entries) {
            // A kernel that does not know a flag says so this way.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
            Err(source) => return Err(RingError::Refused { source }),
            Ok(uring) => return sufficient(uring),
        }
    }
    let source = refused.expect("each level was refused");
    Err(RingError::Refused { source })
}

pub(super) fn build_at(level: Level, entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    match level {
        Level::Deferred => builder
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag(),
        Level::Cooperative => builder.setup_submit_all().setup_coop_taskrun().setup_taskrun_flag(),
        Level::Plain => &mut builder,
    };
    builder.build(entries)
}

fn sufficient(uring: IoUring) -> Result<IoUring, RingError> {
    match uring.params() {
        params if !params.is_feature_nodrop() => Err(RingError::TooOld("completions that are never dropped")),
        params if !params.is_feature_ext_arg() => Err(RingError::TooOld("waits with a timeout")),
        _ => Ok(uring),
    }
}

/// Whether this process may have rings at all.
pub(super) fn probe() -> Result<(), RingError> {
    build(&[Level::Plain], 2).map(drop)
}

/// Says once a process that there are no rings, and why.
pub(super) fn warn_refused(error: &RingError) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::warn!(%error, "requests block the threads that make them"));
}
