//! What concerns the server as a whole: SHUTDOWN, TIME, CLUSTER.

use super::command::Done;
use super::error::CommandError;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;

/// Stops the server. Like Redis it answers by closing the connection; what is acknowledged is flushed in any
/// case, so NOSAVE loses nothing.
pub(super) fn shutdown(session: &mut Session, args: Args<'_>, _: &mut Reply) -> Done {
    let words = ["nosave", "save", "now", "force"];
    let contradicts =
        (1..args.len()).any(|at| args.is(at, "save")) && (1..args.len()).any(|at| args.is(at, "nosave"));
    if contradicts || (1..args.len()).any(|at| !words.iter().any(|word| args.is(at, word))) {
        return Err(CommandError::SYNTAX);
    }
    tracing::info!(client = session.client.id, "SHUTDOWN asked for");
    session.closing = true;
    session.shared.request_stop();
    Ok(())
}

pub(super) fn time(_: &mut Session, _: Args<'_>, reply: &mut Reply) -> Done {
    let now_us = crate::clock::unix_us();
    reply.array(2);
    reply.bulk_count(now_us / 1_000_000);
    reply.bulk_count(now_us % 1_000_000);
    Ok(())
}

pub(super) fn cluster(_: &mut Session, _: Args<'_>, _: &mut Reply) -> Done {
    Err(CommandError::of("ERR This instance has cluster support disabled"))
}
