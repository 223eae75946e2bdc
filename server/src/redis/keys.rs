//! Keys as such: DEL, EXISTS, TOUCH, TYPE.

use super::command::Done;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::turn::Turn;
use crate::store::{ProtocolRecord, Record, Value};

pub(super) async fn del<'a>(session: &'a Session, args: Args<'a>, reply: &'a mut Reply) -> Done {
    let mut deleted = 0;
    for key in args.from(1) {
        deleted += u64::from(session.store().delete(key).await?);
    }
    reply.count(deleted);
    Ok(())
}

/// A key named twice counts twice.
pub(super) fn exists<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    let mut found = 0;
    for key in args.from(1) {
        let is_there = turn.metadata(key)?.is_some();
        turn.count_lookup(is_there);
        found += u64::from(is_there);
    }
    turn.reply().count(found);
    Ok(())
}

pub(super) fn kind<'a>(args: Args<'a>, turn: &mut Turn<'a>) -> Done {
    let tell = |reply: &mut Reply, record: Option<&Record>, _| {
        reply.simple(match record.map(Record::value) {
            None => "none",
            Some(Value::Integer(_) | Value::Text(_)) => "string",
            Some(Value::Other(kind)) => kind,
        });
        Ok(())
    };
    turn.get(args.at(1), tell, [0; 2]);
    Ok(())
}
