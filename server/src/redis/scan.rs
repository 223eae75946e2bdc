//! All keys: SCAN, KEYS, RANDOMKEY, DBSIZE, FLUSHALL.
//!
//! A walk goes page by page through the store and lets other connections run between pages. KEYS has a budget
//! of reply bytes: a set too large for it is told to use SCAN, instead of being put into RAM.

use super::command::Done;
use super::error::CommandError;
use super::glob;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::strings::integer;

/// Keys a page of KEYS asks for.
const PAGE: usize = 1024;
/// The largest page that SCAN's COUNT can ask for.
const COUNT_MAX: usize = 10_000;

pub(super) async fn scan<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let cursor = std::str::from_utf8(args.at(1)).ok().filter(|text| !text.starts_with('+'));
    let cursor: u64 =
        cursor.and_then(|text| text.parse().ok()).ok_or(CommandError::of("ERR invalid cursor"))?;
    let (mut pattern, mut count, mut kind) = (None, 10, None);
    let mut at = 2;
    while at < args.len() {
        let value = args.get(at + 1).ok_or(CommandError::SYNTAX)?;
        if args.is(at, "match") {
            pattern = Some(value).filter(|pattern| *pattern != b"*");
        } else if args.is(at, "count") {
            let asked = usize::try_from(integer(value)?).ok().filter(|count| *count > 0);
            count = asked.ok_or(CommandError::SYNTAX)?.min(COUNT_MAX);
        } else if args.is(at, "type") {
            kind = Some(value);
        } else {
            return Err(CommandError::SYNTAX);
        }
        at += 2;
    }
    let page = session.store().scan(cursor, count).await?;
    let mut keys = page.keys;
    keys.retain(|(key, found)| {
        pattern.is_none_or(|pattern| glob::matches(pattern, key))
            && kind.is_none_or(|kind| kind.eq_ignore_ascii_case(found.as_bytes()))
    });
    reply.array(2);
    reply.bulk_count(page.next);
    reply.array(keys.len());
    for (key, _) in &keys {
        reply.bulk(key);
    }
    Ok(())
}

pub(super) async fn keys<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let pattern = args.at(1);
    let mut found = Reply::default();
    let (mut count, mut cursor) = (0, 0);
    loop {
        let page = session.store().scan(cursor, PAGE).await?;
        for (key, _) in page.keys.iter().filter(|(key, _)| glob::matches(pattern, key)) {
            found.bulk(key);
            count += 1;
        }
        if found.bytes.len() > session.shared.limits.max_keys_reply {
            return Err(CommandError::of(
                "ERR too many keys match for one reply (max-keys-reply); use SCAN with MATCH",
            ));
        }
        cursor = page.next;
        if cursor == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    reply.array(count);
    reply.bytes.extend_from_slice(&found.bytes);
    Ok(())
}

/// A key near a random place of the walk: about uniform, because keys lie in the order of their hashes.
pub(super) async fn randomkey<'a>(session: &'a Session, _: Args<'a>, reply: &'a mut Reply) -> Done {
    let mut cursor: u64 = rand::random();
    let mut wrapped = false;
    loop {
        let page = session.store().scan(cursor, 16).await?;
        if !page.keys.is_empty() {
            let pick = rand::random::<u32>() as usize % page.keys.len();
            reply.bulk(&page.keys[pick].0);
            return Ok(());
        }
        if page.next == 0 && wrapped {
            reply.null();
            return Ok(());
        }
        wrapped |= page.next == 0;
        cursor = page.next;
        tokio::task::yield_now().await;
    }
}

pub(super) fn dbsize(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Done {
    reply.count(session.store().count());
    Ok(())
}

/// FLUSHALL and FLUSHDB: there is one database. Either way it costs one threshold, so ASYNC and SYNC agree.
pub(super) async fn flush<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let known = args.len() == 1 || args.len() == 2 && (args.is(1, "async") || args.is(1, "sync"));
    if !known {
        return Err(CommandError::SYNTAX);
    }
    session.store().truncate().await?;
    reply.ok();
    Ok(())
}
